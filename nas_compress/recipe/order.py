"""Which orders of steps make sense, and why others do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nas_compress.recipe.steps import DistillStep, FinetuneStep, NasStep, PruneStep, SelectStep, Step
from nas_compress.settings import Location, Problem

_NEEDS = {
    "finetune": ("select", "it trains the chosen sub-network"),
    "distill": ("select", "it trains the chosen sub-network"),
    "prune": ("select", "it prunes the chosen sub-network"),
    "quantize": ("select", "it quantizes the chosen sub-network"),
    "export": ("select", "it writes the chosen sub-network"),
    "benchmark": ("export", "it measures the exported files"),
}
"""The step that must stand before another, and the reason."""

_NO_TRAINING = "quantized weights cannot be trained"
_EXPORTED = "the exported files would not have it"
_BEFORE = {
    ("train_supernet", "nas"): "the search needs the trained weights",
    ("train_supernet", "select"): "the chosen sub-network has the trained weights",
    ("nas", "select"): "the choice is made from the search's result",
    ("finetune", "quantize"): _NO_TRAINING,
    ("distill", "quantize"): _NO_TRAINING,
    ("prune", "quantize"): "quantized weights cannot be pruned",
    ("finetune", "export"): _EXPORTED,
    ("distill", "export"): _EXPORTED,
    ("prune", "export"): _EXPORTED,
    ("quantize", "export"): _EXPORTED,
}
"""Pairs of steps of which the first must stand before the second, where both are there, and the reason."""

_REPEATABLE = ("finetune", "distill", "prune")


def order_problems(steps: Sequence[Step]) -> Iterator[Problem]:
    """Yield what is wrong with the order of a recipe's steps, one problem for each step that cannot stand there."""
    names = [step.name for step in steps]
    for index, step in enumerate(steps):
        name, before = step.name, names[:index]
        here: Location = ("steps", index)
        if name in before and name not in _REPEATABLE:
            yield Problem(here, f"a second {name!r} step (the first is steps[{before.index(name)}]); give it once")
            continue
        for (first, later), reason in _BEFORE.items():
            if name == first and later in before:
                yield Problem(here, f"{first!r} stands after {later!r}; move it before: {reason}")
        needed, reason = _needed(step)
        if needed is not None and needed not in before:
            found = "comes later" if needed in names else "is missing"
            yield Problem(here, f"{name!r} needs a {needed!r} step before it ({reason}), which {found}")
        yield from _choice_problems(steps, index)
        yield from _sparsity_problems(steps, index)


def _choice_problems(steps: Sequence[Step], index: int) -> Iterator[Problem]:
    """Yield a problem where a choice makes nothing of a search, or nothing makes what it chooses."""
    options, here = steps[index].options, ("steps", index)
    nas = next((step.options for step in steps[:index] if isinstance(step.options, NasStep)), None)
    if nas is None or not isinstance(options, SelectStep):
        return
    if options.architecture is not None:
        reason = "takes a known architecture, so that the 'nas' step is for nothing; leave one of the two out"
        yield Problem((*here, "select", "architecture"), reason)
    elif nas.precision is not None and not any(step.name == "quantize" for step in steps[index + 1 :]):
        reason = "the search has a 'precision', and without it an fp32 network is made of what it measured in int8"
        yield Problem(here, f"'select' needs a 'quantize' step after it ({reason})")


def _needed(step: Step) -> tuple[str | None, str]:
    if isinstance(step.options, SelectStep):
        return ("nas", "it chooses from the search's result") if step.options.architecture is None else (None, "")
    return _NEEDS.get(step.name, (None, ""))


def _sparsity_problems(steps: Sequence[Step], index: int) -> Iterator[Problem]:
    """Yield a problem where a step trains a network whose zeros it would fill."""
    if steps[index].name not in _REPEATABLE:
        return
    for earlier, step in enumerate(steps[:index]):
        if isinstance(step.options, PruneStep) and step.options.pattern != "channel":
            yield Problem(
                ("steps", index),
                f"{steps[index].name!r} stands after steps[{earlier}], which prunes single weights: training would "
                "fill them again; move it before, or set that step's own training",
            )
            return


_RANDOM = "the sub-network has random weights, as the train-free search found it"


def training_problems(steps: Sequence[Step]) -> Iterator[Problem]:
    """Yield what is wrong with the steps of a recipe whose sub-networks have random weights until one is trained."""
    trained = False
    for index, step in enumerate(steps):
        options, here = step.options, ("steps", index, step.name)
        if isinstance(options, DistillStep) and not isinstance(options.teacher, Path):
            reason = "'largest' was never trained; name an ONNX file, or take a 'finetune' step"
            yield Problem((*here, "teacher"), reason)
            trained = True
        elif isinstance(options, FinetuneStep | DistillStep):
            if not trained and options.skip_if:
                yield Problem((*here, "skip_if"), f"would leave random weights to later steps: {_RANDOM}; take stop_if")
            trained = True
        elif isinstance(options, PruneStep) and options.training.teacher is not None:
            yield Problem((*here, "training", "teacher"), "'largest' (the default) was never trained; write null")
        if step.name in ("prune", "quantize", "export") and not trained:
            wanted = "a 'finetune' step (or 'distill' from an ONNX file)"
            yield Problem(here[:2], f"{step.name!r} needs {wanted} before it: {_RANDOM}")
            return
