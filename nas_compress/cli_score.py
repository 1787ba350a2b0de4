"""The command line's command on train-free scores."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_compress import console
from nas_compress.config import NASConfig
from nas_compress.errors import ArchitectureError, ConfigError, EvaluationError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_compress.space import Architecture, SearchSpace
    from nas_compress.supernets.base import Inputs, Supernet

_NAMES = (
    "A name of `list proxies`, all of them by default; may be repeated. It is not de_score, which compares networks "
    "of a space: `search` computes that."
)

ArchitectureArgument = Annotated[
    str,
    typer.Argument(help="`largest`, `smallest`, or an architecture as results tables write it: {'ks': [3, ...], ...}."),
]


def score(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A search config: a template's name or a YAML file.")],
    architecture: ArchitectureArgument = "largest",
    names: Annotated[list[str] | None, typer.Option(help=_NAMES)] = None,
    batch: Annotated[int, typer.Option(min=2, help="Inputs that scores are computed on.")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of weights and labels.")] = 0,
) -> None:
    """Compute zero-cost scores of one architecture of a super-network: no data, no trained weights.

    Inputs and labels are random, and so are the weights. A score that a network has not is shown with the reason.
    Seconds are those of a second computation.
    """
    from nas_compress.proxies import proxies

    wanted = list(dict.fromkeys(proxies.canonical(name) for name in names or proxies))
    net = _supernet(NASConfig.from_yaml(config), seed)
    point = named_architecture(net.space, architecture, in_fp32=True)

    import torch

    from nas_compress.proxies.initial import initialised

    network, inputs = initialised(net.extract(point), seed), net.example_input(batch, point)
    labels = _labels(network, inputs, seed)
    console.show_names(f"{net.name}, {architecture}", {n: _row(network, inputs, labels, n, seed) for n in wanted})
    shapes = ", ".join(str(tuple(each.shape)) for each in _all(inputs))
    threads = torch.get_num_threads()
    console.say(f"random inputs of shape {shapes}, random labels and weights (seed {seed}); CPU threads: {threads}.")


def named_architecture(space: SearchSpace, text: str, *, in_fp32: bool = False) -> Architecture:
    """Return an architecture of a space by what the command line calls it, in canonical form.

    Args:
        space: The space.
        text: What it is called.
        in_fp32: Whether precisions that it may have are left out.

    Raises:
        ArchitectureError: The text is no architecture, or not one of the space.
    """
    from nas_compress.space import Architecture
    from nas_compress.space.precision import without_precision

    ends = {"largest": space.largest, "smallest": space.smallest}
    try:
        point = ends[text]() if text in ends else Architecture.parse(text)
    except ArchitectureError as error:
        raise ArchitectureError(f"ARCHITECTURE: {error}, or largest, or smallest") from None
    return space.canonicalize(without_precision(point) if in_fp32 else point)


def _supernet(config: NASConfig, seed: int) -> Supernet:
    """Return the config's super-network with random weights."""
    from nas_compress.supernets import load_supernet, replay_of, supernets

    where, name = f"nas.{config.approach}.supernet", config.section.supernet
    if name is None:
        raise ConfigError(f"{where}: is not set; known: {', '.join(supernets)}")
    if replay_of(name) is not None:
        raise ConfigError(f"{where}: {name!r} has no network to score, only values from published tables")
    return load_supernet(name, trained=False, seed=seed)


def _labels(network: nn.Module, inputs: Inputs, seed: int) -> Tensor:
    """Return random labels, one for each row of logits that the network returns."""
    import torch

    from nas_compress.objectives.modes import evaluating
    from nas_compress.proxies.base import leaves

    with torch.no_grad(), evaluating(network):
        logits = next(leaves(network(*_all(inputs))))
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(logits.shape[-1], tuple(logits.shape[:-1]), generator=generator)


def _all(inputs: Inputs) -> tuple[Tensor, ...]:
    from nas_compress.proxies.base import tensors_of

    return tensors_of(inputs)


def _row(network: nn.Module, inputs: Inputs, labels: Tensor, name: str, seed: int) -> str:
    """Return a score with its direction and CPU seconds, or why there is none."""
    from nas_compress.proxies import proxies
    from nas_compress.proxies import score as scores

    info: dict[str, Any] = dict(proxies.entry(name).info)
    try:
        scores(network, inputs, [name], labels=labels, seed=seed)  # the first call's costs are not the score's own
        before = time.process_time()
        value = scores(network, inputs, [name], labels=labels, seed=seed)[name]
    except EvaluationError as error:
        return f"{'none':>12}  {error}"
    seconds = time.process_time() - before
    better = "higher" if info["direction"] == "maximize" else "lower"
    return f"{value:12.6g}  {better} is better, {seconds:.3f} CPU s"
