"""What a recipe is given besides its options, looked at before any work: the checkpoint, and teachers in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from nas_compress.compression.state import State
from nas_compress.errors import CheckpointError, DataError, EvaluationError, NASError
from nas_compress.recipe import DistillStep, NasStep
from nas_compress.settings import Problem, config_error

if TYPE_CHECKING:
    from nas_compress.backends.onnxruntime import OnnxSession
    from nas_compress.supernets.base import ImageSupernet


def check_inputs(state: State) -> None:
    """Check that the checkpoint is of the super-network, and that teachers in files go with the data.

    Raises:
        CheckpointError: The checkpoint is of another network, is damaged, or has values that are not finite.
        ConfigError: A teacher cannot be loaded, takes none of the sub-networks' images, or has other classes.
    """
    recipe = state.recipe
    if recipe.supernet_ckpt_path is not None:
        for key, tensor in state.supernet.state_dict().items():
            if not tensor.isfinite().all():
                raise CheckpointError(f"{recipe.supernet_ckpt_path}: {key} has values that are NaN or infinite")
    problems = []
    for index, step in enumerate(recipe.steps):
        if isinstance(step.options, DistillStep) and isinstance(step.options.teacher, Path):
            try:
                _check_teacher(state, step.options.teacher)
            except NASError as error:
                problems.append(Problem(("steps", index, step.name, "teacher"), str(error)))
    if problems:
        raise config_error(problems)


def _check_teacher(state: State, path: Path) -> None:
    """Check that a teacher takes images of a size that a sub-network may have, and tells their classes apart."""
    from nas_compress.backends.onnxruntime import OnnxSession
    from nas_compress.training.trainer import try_out

    session, sizes = OnnxSession(path), _sizes(state)
    taken = next((size for size in sizes if _takes(session, state, size)), None)
    if taken is None:
        shape = f"({state.data.channels}, r, r), r of {sizes}"
        raise DataError(f"{str(path)!r} does not take the images of {state.data.name!r}, of shape {shape}")
    try_out("teacher", session, state.data, taken)


def _sizes(state: State) -> list[int]:
    """Return the resolutions that the chosen sub-network may have."""
    from nas_compress.supernets import load_supernet

    recipe, nas = state.recipe, state.recipe.step("nas")
    net = load_supernet(recipe.supernet, trained=False, num_classes=len(state.data.classes), seed=recipe.seed)
    space = net.space
    if isinstance(nas, NasStep):
        space = space if nas.precision is None else nas.precision.space(space)
        space = space.restrict(nas.search_space or {})
    elastic = [value for each in space.dimensions if each.name == "r" for value in each.choices[0]]
    return [int(r) for r in elastic] or [cast("ImageSupernet", net).resolution(space.largest())]


def _takes(session: OnnxSession, state: State, size: int) -> bool:
    import torch

    try:
        session(state.data.train.images(torch.arange(2), size))
    except EvaluationError:
        return False
    return True
