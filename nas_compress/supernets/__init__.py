"""Super-networks by name.

The registry maps a name to a factory `(num_classes=..., seed=...) -> Supernet`; `Entry.info` holds what must be
known without importing torch: the metrics the net supports, the dataset it is meant for, and where its
published weights are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nas_compress.registry import Entry, Registry

if TYPE_CHECKING:
    from nas_compress.supernets.base import Supernet

_OFA = "https://raw.githubusercontent.com/han-cai/files/master/ofa/ofa_nets/"
_IMAGE_METRICS = ("acc", "latency", "macs", "model_size", "params")
_MODULE = "nas_compress.supernets.mobilenet:"

supernets: Registry[Callable[..., Supernet]] = Registry(
    "supernet",
    {
        "ofa_mbv3_d234_e346_k357_w1.0": Entry(
            _MODULE + "ofa_mbv3_w1_0",
            "OFA MobileNetV3, width 1.0, ImageNet, 128 to 224 pixels (Cai et al., 2020)",
            {"metrics": _IMAGE_METRICS, "dataset": "imagenet", "weights": _OFA + "ofa_mbv3_d234_e346_k357_w1.0"},
        ),
        "ofa_mbv3_d234_e346_k357_w1.2": Entry(
            _MODULE + "ofa_mbv3_w1_2",
            "OFA MobileNetV3, width 1.2, ImageNet, 160 to 224 pixels (Cai et al., 2020)",
            {"metrics": _IMAGE_METRICS, "dataset": "imagenet", "weights": _OFA + "ofa_mbv3_d234_e346_k357_w1.2"},
        ),
        "digits_mbv3": Entry(
            _MODULE + "digits_mbv3",
            "small MobileNetV3-style net for scikit-learn's digits",
            {"metrics": _IMAGE_METRICS, "dataset": "digits", "weights": None},
        ),
    },
)

__all__ = ["supernets"]
