"""Small networks of each kind, with a batch for each."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nas_compress.proxies.base import leaves
from nas_compress.supernets.asr import build as build_asr
from nas_compress.supernets.asr_config import FSDD_ASR
from nas_compress.supernets.base import Inputs
from nas_compress.supernets.bert import build as build_bert
from nas_compress.supernets.bert_config import TINY_BERT
from nas_compress.supernets.randomness import seeded
from nas_compress.supernets.vit import build as build_vit
from nas_compress.supernets.vit_config import DIGITS_VIT


class Case(NamedTuple):
    """A network, a batch, its labels, and options of `score`."""

    module: nn.Module
    inputs: Inputs
    labels: Tensor
    options: dict[str, Any]


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def classes(count: int, of: int, seed: int = 2) -> Tensor:
    return torch.randint(of, (count,), generator=torch.Generator().manual_seed(seed))


def cnn(*, norm: bool = True, bias: bool = True) -> nn.Sequential:
    """A convolutional network with a strided, a depthwise and a 1x1 convolution."""

    def conv(inside: int, outside: int, size: int, **options: int) -> list[nn.Module]:
        layer = nn.Conv2d(inside, outside, size, padding=size // 2, bias=bias, **options)
        return [layer, nn.BatchNorm2d(outside)] if norm else [layer]

    with seeded(0):
        layers = [*conv(3, 8, 3), nn.ReLU(), *conv(8, 8, 3, groups=8), nn.ReLU(), *conv(8, 12, 1, stride=2), nn.ReLU()]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 5, bias=bias)]
        return nn.Sequential(*layers, *head)


def cnn_case() -> Case:
    return Case(cnn(), draw(6, 3, 8, 8), classes(6, 5), {})


def vit_case() -> Case:
    supernet = build_vit("vit", DIGITS_VIT, seed=0)
    return Case(supernet.extract(supernet.space.smallest()), draw(6, 1, 8, 8), classes(6, 10), {})


def bert_case() -> Case:
    supernet = build_bert("bert", TINY_BERT, seed=0)
    module = supernet.extract(supernet.space.smallest())
    ids = torch.randint(1, 1000, (6, 9), generator=torch.Generator().manual_seed(3))
    return Case(module, (ids, torch.ones_like(ids), torch.zeros_like(ids)), classes(6, 2), {})


def asr_case() -> Case:
    supernet = build_asr("asr", FSDD_ASR, seed=0)
    features, tokens, lengths = supernet.example_input(4)

    def loss(outputs: Any, labels: Tensor) -> Tensor:
        _, logits = leaves(outputs)
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

    return Case(supernet.extract(supernet.space.smallest()), (features, tokens, lengths), tokens, {"loss": loss})


CASES = {"cnn": cnn_case, "vit": vit_case, "bert": bert_case, "asr": asr_case}
NOT_FIT = {("cnn", "nuclear_norm_diversity")}
"""Networks that a proxy refuses."""
