"""What is known of the replay problems without reading a table: cheap to import, for checks and lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from nas_compress.space import SearchSpace, bert_base_sst2, mobilenet_space
from nas_compress.space.catalog import nas_bench_201_space, nas_bench_macro_space


@dataclass(frozen=True)
class Description:
    """One problem.

    Attributes:
        name: Its name.
        summary: One line.
        space: Returns the search space.
        files: What it reads, relative to the folder of published tables.
        reference: By metric that it offers, the reference point of the hypervolume in natural units: a little worse
            than the ends of the part of the front that is of use.
    """

    name: str
    summary: str
    space: Callable[[], SearchSpace]
    files: tuple[str, ...]
    reference: Mapping[str, float]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the objectives that the problem offers."""
        return tuple(self.reference)


NAS_BENCH_201 = Description(
    "nas_bench_201",
    "NAS-Bench-201 on CIFAR-10, the whole table, with latencies of a Xeon",
    nas_bench_201_space,
    ("nasbench201/nb201_cifar10.csv.gz", "nasbench201/nb201_latency.npz"),
    {"acc": 86.0, "macs": 160e6, "params": 1.1e6, "latency": 17.0},
)

NAS_BENCH_MACRO = Description(
    "nas_bench_macro",
    "NAS-Bench-Macro on CIFAR-10, the whole table",
    nas_bench_macro_space,
    ("nas_bench_macro/nas_bench_macro_cifar10.csv.gz",),
    {"acc": 86.0, "macs": 90e6, "params": 2e6},
)

_OFA_W1_0, _OFA_W1_2 = (f"ofa_mbv3_d234_e346_k357_{width} at 224 pixels" for width in ("w1.0", "w1.2"))

OFA_MBV3 = Description(
    "ofa_mbv3",
    "OFA MobileNetV3 w1.0 on ImageNet, by OFA's accuracy predictor",
    partial(mobilenet_space, _OFA_W1_0),
    ("ofa/ofa_mbv3_acc_predictor.npz",),
    {"acc": 79.0, "macs": 450e6, "params": 6.8e6},
)

OFA_MBV3_W1_2 = Description(
    "ofa_mbv3_w1.2",
    "OFA MobileNetV3 w1.2 on ImageNet, by OFA's accuracy predictor, with latencies of a phone",
    partial(mobilenet_space, _OFA_W1_2),
    ("ofa/ofa_mbv3_acc_predictor.npz", "ofa/ofa_mbv3_note10_latency_lut.json.gz"),
    {"acc": 79.0, "macs": 700e6, "params": 9.5e6, "latency": 77.0},
)

OFA_MBV3_MEASURED = Description(
    "ofa_mbv3_measured",
    "OFA MobileNetV3 w1.0 on ImageNet, by a regression on 2,162 measured sub-networks",
    partial(mobilenet_space, _OFA_W1_0),
    ("ofa/ofa_mbv3_w1.0_imagenet_measured.csv.gz",),
    {"acc": 72.0, "macs": 450e6, "params": 6.8e6},
)

BERT_SST2 = Description(
    "bert_sst2",
    "BERT-base on SST-2, by a regression on INC's published results",
    bert_base_sst2,
    ("inc/results_bertbase_sst2_macs.csv.gz",),
    {"acc": 87.0, "macs": 9e9, "params": 95e6},
)
