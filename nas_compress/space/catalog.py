"""The published search spaces, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nas_compress.space.architecture import Value
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
) -> SearchSpace:
    """Return an OFA space over inverted residual stages (Cai et al., 2020, "Once-for-All", section 3.1).

    Args:
        name: Name of the space.
        stages: Number of elastic stages, each of up to `max(depths)` blocks.
        kernel_sizes: Depthwise kernel sizes of a block (`ks`).
        expand_ratios: Expand ratios of a block (`e`).
        depths: Blocks per stage (`d`); the first blocks are kept.
        resolutions: Input heights and widths in pixels (`r`).
    """
    blocks = [max(depths)] * stages
    dimensions = (
        Dimension.uniform("ks", kernel_sizes, sum(blocks)),
        Dimension.uniform("e", expand_ratios, sum(blocks)),
        Dimension.uniform("d", depths, stages),
        Dimension.uniform("r", resolutions),
    )
    return SearchSpace(name, dimensions, depth_conditions("d", ("ks", "e"), blocks))


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

    0 none, 1 skip connection, 2 convolution 1x1, 3 convolution 3x3, 4 average pooling.
    """
    return SearchSpace("nas_bench_201", (Dimension.uniform("op", range(5), 6),))


def nas_bench_macro_space() -> SearchSpace:
    """Return the chains of NAS-Bench-Macro (Su et al., 2021): a block in each of 8 layers.

    0 identity, 1 MobileNet block of expand ratio 3 and kernel size 3, 2 of expand ratio 6 and kernel size 5.
    """
    return SearchSpace("nas_bench_macro", (Dimension.uniform("op", range(3), 8),))
