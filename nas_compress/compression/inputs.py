"""What a recipe is given besides its options, looked at before any work: weights, and teachers in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nas_compress.checks import raised_problems
from nas_compress.compression.state import CHOSEN, State
from nas_compress.errors import DataError, EvaluationError, NASError
from nas_compress.recipe import DistillStep, NasStep, Recipe
from nas_compress.recipe.checks import space_problems
from nas_compress.search_checks import registered_space
from nas_compress.settings import Problem, config_error
from nas_compress.supernets.precision_config import in_precisions

if TYPE_CHECKING:
    from nas_compress.backends.onnxruntime import OnnxSession
    from nas_compress.data.base import ImageData
    from nas_compress.supernets.base import ImageSupernet, Supernet

FIRST = 64
"""Examples of a part that are looked at before any work."""


def check_inputs(state: State) -> None:
    """Check that weights are of the super-network and go with the data, and so teachers in files.

    Where the registry does not have the super-network's space, what steps name of that is checked here.

    Raises:
        CheckpointError: The weights are of another network, are damaged, or have values that are not finite.
        DataError: The data is not for the super-network (another task, other channels, vocabulary or length), or its
            first examples have values that are not finite.
        ConfigError: A teacher cannot be loaded, takes none of the sub-networks' images, or has other classes; the space
            has no such architecture, dimension or value.
    """
    from nas_compress.data.fit import check_network

    recipe = state.recipe
    net = state.supernet if recipe.loads_weights else state.random_supernet()
    check_network(state.data, net)
    _check_values(state, net)
    if registered_space(recipe.supernet) is None and (problems := list(_space_problems(recipe, net))):
        raise config_error(problems)
    problems = []
    for index, step in enumerate(recipe.steps):
        if isinstance(step.options, DistillStep) and isinstance(step.options.teacher, Path):
            try:
                _check_teacher(state, step.options.teacher)
            except NASError as error:
                problems.append(Problem(("steps", index, step.name, "teacher"), str(error)))
    if problems:
        raise config_error(problems)


def _space_problems(recipe: Recipe, net: Supernet) -> Iterator[Problem]:
    yield from space_problems(recipe.steps, net.space)
    for index, step in enumerate(recipe.steps):
        if isinstance(step.options, NasStep) and (precision := step.options.precision) is not None:
            location = ("steps", index, step.name, "precision")
            yield from raised_problems(partial(in_precisions, net, precision.model_dump_json()), location)


def _check_values(state: State, net: Supernet) -> None:
    """Check that the first batch for training and the first for search-validation have no NaN or infinite values."""
    size = state.domain.size(net, net.space.largest())
    for part, words in (("train", "training"), ("val", "search-validation")):
        values = state.domain.values(part, size, FIRST)
        if values is not None and not values.isfinite().all():
            counted = f"first {words} {state.domain.task.counted}"
            raise DataError(f"data {state.data.name!r} has values that are NaN or infinite in its {counted}")


def _check_teacher(state: State, path: Path) -> None:
    """Check that a teacher takes images of a size that a sub-network may have, and tells their classes apart."""
    from nas_compress.backends.onnxruntime import OnnxSession
    from nas_compress.training.fit import try_out

    session, sizes, data = OnnxSession(path), _sizes(state), cast("ImageData", state.data)
    taken = _size_taken(session, data, sizes)
    if taken is None:
        shape = f"({data.channels}, r, r), r of {sizes}"
        raise DataError(f"{str(path)!r} does not take the images of {data.name!r}, of shape {shape}")
    try_out("teacher", session, data, taken)


def teacher_size(state: State, session: OnnxSession) -> int | None:
    """Return the height and width of a teacher's images: those of the chosen network, or others that it takes."""
    return _size_taken(session, cast("ImageData", state.data), [cast(int, state.resolution(CHOSEN)), *_sizes(state)])


def _sizes(state: State) -> list[int]:
    """Return the resolutions that the chosen sub-network may have."""
    nas, net = state.recipe.step("nas"), state.random_supernet()
    space = net.space
    if isinstance(nas, NasStep):
        space = space if nas.precision is None else nas.precision.space(space)
        space = space.restrict(nas.search_space or {})
    elastic = [value for each in space.dimensions if each.name == "r" for value in each.choices[0]]
    return [int(r) for r in elastic] or [cast("ImageSupernet", net).resolution(space.largest())]


def _size_taken(session: OnnxSession, data: ImageData, sizes: Sequence[int]) -> int | None:
    """Return the first of some heights and widths whose images a network takes; None where it takes none of them."""
    return next((size for size in sizes if _takes(session, data, size)), None)


def _takes(session: OnnxSession, data: ImageData, size: int) -> bool:
    import torch

    try:
        session(data.train.images(torch.arange(2), size))
    except EvaluationError:
        return False
    return True
