"""Published rank correlations (Spearman) of zero-cost scores with trained accuracy.

Sources: Abdelfattah et al., 2021, "Zero-Cost Proxies for Lightweight NAS", table 1 (NAS-Bench-201, CIFAR-10, batch 64);
for GradSign: Zhang and Jia, 2022, "GradSign", which has about .77.
"""

from __future__ import annotations

from collections.abc import Mapping

PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "nas_bench_201": {
        "grad_norm": 0.594,
        "snip": 0.596,
        "grasp": 0.514,
        "fisher": 0.360,
        "synflow": 0.737,
        "jacob_cov": 0.731,
        "gradsign": 0.77,
    }
}
"""By problem and proxy."""
