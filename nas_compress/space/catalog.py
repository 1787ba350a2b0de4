"""The published search spaces, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nas_compress.space.architecture import Value
from nas_compress.space.couplings import CoupledSpace, Coupling
from nas_compress.space.dimension import Dimension, depth_conditions
from nas_compress.space.search_space import SearchSpace


def mobilenet_space(
    name: str,
    *,
    stages: int = 5,
    kernel_sizes: Iterable[int] = (3, 5, 7),
    expand_ratios: Iterable[Value] = (3, 4, 6),
    depths: Sequence[int] = (2, 3, 4),
    resolutions: Iterable[int] = (224,),
    single_stages: int = 0,
) -> SearchSpace:
    """Return an OFA space over inverted residual stages (Cai et al., 2020, "Once-for-All", section 3.1).

    Args:
        name: Name of the space.
        stages: Number of elastic stages, each of up to `max(depths)` blocks.
        kernel_sizes: Depthwise kernel sizes of a block (`ks`).
        expand_ratios: Expand ratios of a block (`e`).
        depths: Blocks per stage (`d`); the first blocks are kept.
        resolutions: Input heights and widths in pixels (`r`).
        single_stages: Number of further stages of one block, which have no depth.
    """
    blocks = [max(depths)] * stages
    dimensions = (
        Dimension.uniform("ks", kernel_sizes, sum(blocks) + single_stages),
        Dimension.uniform("e", expand_ratios, sum(blocks) + single_stages),
        Dimension.uniform("d", depths, stages),
        Dimension.uniform("r", resolutions),
    )
    return SearchSpace(name, dimensions, depth_conditions("d", ("ks", "e"), blocks))


def compofa_space(name: str, resolutions: Iterable[int] = (224,)) -> CoupledSpace:
    """Return CompOFA's part of OFA's MobileNetV3 space: 243 networks at each resolution.

    The depth of a stage decides the expand ratio of its blocks (2 goes with 3, 3 with 4, 4 with 6), and each stage has
    MobileNetV3's own kernel size (Sahni et al., 2021, "CompOFA: Compound Once-For-All Networks", section 3, and its
    published configuration "fixed kernel").
    """
    full = mobilenet_space(name, resolutions=resolutions)
    kernels = {f"ks[{slot}]": (3, 5, 3, 3, 5)[slot // 4] for slot in range(20)}
    stages = tuple(slot // 4 for slot in range(20))
    return CoupledSpace(name, full.restrict(kernels, name), [Coupling("e", "d", stages, ((2, 3), (3, 4), (4, 6)))])


def resnet_space(
    name: str,
    *,
    base_depths: Sequence[int] = (2, 2, 4, 2),
    depths: Sequence[int] = (0, 1, 2),
    expand_ratios: Iterable[Value] = (0.2, 0.25, 0.35),
    widths: int = 3,
    resolutions: Iterable[int] = (224,),
) -> SearchSpace:
    """Return OFA's space over ResNet stages (the published configuration `ofa_resnet50`).

    Args:
        name: Name of the space.
        base_depths: Blocks of each stage that are always used.
        depths: Further blocks (`d`), one gene per stage; before them a gene for the stem's residual block, which is
            used at the largest value and left out at the smallest.
        expand_ratios: Channels between the 1x1 convolutions of a block over those of its stage (`e`).
        widths: Number of width multipliers; the genes (`w`) count from 0: the stem's first layers, its last, and each
            stage.
        resolutions: Input heights and widths in pixels (`r`).
    """
    blocks = [base + max(depths) for base in base_depths]
    stem = tuple(sorted({min(depths), max(depths)}))
    dimensions = (
        Dimension("d", (stem, *Dimension.uniform("d", depths, len(blocks)).choices)),
        Dimension.uniform("e", expand_ratios, sum(blocks)),
        Dimension.uniform("w", range(widths), len(blocks) + 2),
        Dimension.uniform("r", resolutions),
    )
    return SearchSpace(name, dimensions, depth_conditions("d", ("e",), [0, *blocks], [0, *base_depths]))


def bert_base_sst2() -> SearchSpace:
    """Return INC's and DyNAS-T's BERT-base space: 6 to 12 layers, heads and FFN width per layer."""
    dimensions = (
        Dimension.uniform("num_layers", range(6, 13)),
        Dimension.uniform("num_attention_heads", (6, 8, 10, 12), 12),
        Dimension.uniform("intermediate_size", (1024, 2048, 3072), 12),
    )
    governed = ("num_attention_heads", "intermediate_size")
    return SearchSpace("bert_base_sst2", dimensions, depth_conditions("num_layers", governed, [12]))


def nas_bench_201_space() -> SearchSpace:
    """Return the cells of NAS-Bench-201 (Dong and Yang, 2020): an operation on each of 6 edges.

    0 none, 1 skip connection, 2 convolution 1x1, 3 convolution 3x3, 4 average pooling. The largest cell is that of
    convolutions 3x3 alone.
    """
    return SearchSpace("nas_bench_201", (Dimension.uniform("op", (0, 1, 4, 2, 3), 6, ordered=False),))


def nas_bench_macro_space() -> SearchSpace:
    """Return the chains of NAS-Bench-Macro (Su et al., 2021): a block in each of 8 layers.

    0 identity, 1 MobileNet block of expand ratio 3 and kernel size 3, 2 of expand ratio 6 and kernel size 5.
    """
    return SearchSpace("nas_bench_macro", (Dimension.uniform("op", range(3), 8),))
