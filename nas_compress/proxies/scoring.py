"""The scores by name, and all of them on one network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from nas_compress.errors import ConfigError
from nas_compress.registry import Entry, Registry

if TYPE_CHECKING:
    from torch import nn

    from nas_compress.proxies.base import Loss
    from nas_compress.supernets.base import Inputs

Proxy = Callable[..., float]

FIRST_ORDER = ("fisher", "grad_norm", "snip")
"""Scores that are computed together: they need the same gradient."""


def _entry(target: str, summary: str, needs: str = "inputs", **info: Any) -> Entry:
    facts = {"needs": needs, "direction": "maximize", "seeded": False, "weights": "initialised"}
    return Entry(f"nas_compress.proxies.{target}", summary, facts | info)


proxies: Registry[Proxy] = Registry(
    "zero-cost proxy",
    {
        "entropy": _entry(
            "entropy:entropy", "bound of the features' entropy: depth times log width", "nothing", weights="any"
        ),
        "fisher": _entry("saliency:fisher", "Fisher information of the layers' outputs", "labels"),
        "gaussian_complexity": _entry(
            "zen:gaussian_complexity",
            "change of the features with the input, Gaussian weights (expressivity in the original DE-Score)",
            "example",
            seeded=True,
            weights="its own",
        ),
        "grad_norm": _entry("saliency:grad_norm", "norm of the layers' gradients", "labels"),
        "gradsign": _entry("gradsign:gradsign", "agreement of the signs of the samples' gradients", "labels"),
        "grasp": _entry("saliency:grasp", "change of the gradient flow by each weight's removal", "labels"),
        "jacob_cov": _entry("jacob_cov:jacob_cov", "independence of the samples' input gradients"),
        "macs": _entry("size:macs", "multiply-accumulates, a baseline", "example", weights="any"),
        "naswot": _entry("naswot:naswot", "independence of the samples' activation patterns"),
        "ntk_condition_number": _entry(
            "ntk:ntk_condition_number", "condition number of the neural tangent kernel", direction="minimize"
        ),
        "nuclear_norm_diversity": _entry(
            "nuclear_norm:nuclear_norm_diversity", "nuclear norms of attention's weights and gradients", "example"
        ),
        "params": _entry("size:params", "number of parameters, a baseline", "nothing", weights="any"),
        "snip": _entry("saliency:snip", "change of the loss by each weight's removal", "labels"),
        "synflow": _entry("synflow:synflow", "share of the output that each weight carries", "example"),
        "zen_score": _entry(
            "zen:zen_score",
            "Gaussian complexity, and the scales that batch norm takes away (expressivity in DE-Score)",
            "example",
            seeded=True,
            weights="its own",
        ),
    },
    {"zen": "zen_score", "ntk": "ntk_condition_number", "jacov": "jacob_cov", "flops": "macs"},
)
"""The scores by name.

`Entry.info` holds `needs`: `"nothing"`, `"example"` (inputs of which only the shape counts, or the shape), `"inputs"`
or `"labels"` (inputs and labels); `direction`: `"maximize"` or `"minimize"`; `seeded`: whether it draws random numbers;
`weights`: `"initialised"` (see `initialised`), `"its own"` or `"any"`.
"""


def score(
    module: nn.Module,
    inputs: Inputs,
    names: Iterable[str],
    *,
    labels: Any = None,
    loss: Loss | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Return scores of one network by name, in the order of `names`.

    Args:
        module: The network; those scores that want initialised weights take it as it is, see `initialised`.
        inputs: A batch; data-free scores take its shape.
        names: Registered names or their aliases; `FIRST_ORDER` together cost as much as one of them.
        labels: Labels of the batch, for those that need them.
        loss: Maps outputs and labels to the mean loss; cross entropy by default.
        seed: Seed of those that draw random numbers.

    Raises:
        UnknownNameError: No proxy has that name.
        ConfigError: A proxy needs labels, and there are none.
        EvaluationError: The network is not fit for a proxy; the message says which and why.
    """
    names = [proxies.canonical(name) for name in names]
    for name in names:
        if labels is None and proxies.entry(name).info["needs"] == "labels":
            raise ConfigError(f"{name} needs labels; give some, or leave it out")
    shared = [name for name in names if name in FIRST_ORDER]
    found = {name: _one(name, module, inputs, labels, loss, seed) for name in names if name not in shared}
    if shared:
        found |= _together(shared, module, inputs, labels, loss)
    return {name: found[name] for name in names}


def _together(names: list[str], module: nn.Module, inputs: Inputs, labels: Any, loss: Loss | None) -> dict[str, float]:
    """Return the scores that one gradient gives."""
    from nas_compress.proxies.saliency import saliencies

    return saliencies(module, inputs, labels, names, **({} if loss is None else {"loss": loss}))


def _one(name: str, module: nn.Module, inputs: Inputs, labels: Any, loss: Loss | None, seed: int) -> float:
    info = proxies.entry(name).info
    arguments: list[Any] = [] if info["needs"] == "nothing" else [inputs]
    options: dict[str, Any] = {"seed": seed} if info["seeded"] else {}
    if info["needs"] == "labels":
        arguments.append(labels)
        options |= {} if loss is None else {"loss": loss}
    return proxies.get(name)(module, *arguments, **options)
