"""Pruning in rounds: a little more is removed in each, and training makes up for it."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_compress.compression.options import PruneOptions
from nas_compress.compression.prune_channels import channel_widths, prune_channels
from nas_compress.compression.prune_weights import Layers, magnitude_masks, masked, n_of_m_masks, weight_layers
from nas_compress.compression.resize import fit_shapes
from nas_compress.compression.rounds import RoundsFolder
from nas_compress.data.base import ImageData, batches
from nas_compress.errors import CheckpointError, ConfigError, first_line
from nas_compress.objectives.modes import evaluating
from nas_compress.training.config import DistillConfig, FinetuneConfig
from nas_compress.training.fit import teacher_fingerprint, try_out
from nas_compress.training.loop import device_of
from nas_compress.training.trainer import Progress, Teacher, TrainProgress, finetune
from nas_compress.weights import hash_tensors, load_into


@dataclass(frozen=True)
class PrunedLayer:
    """What pruning came to in one place.

    Attributes:
        name: The layer; of channels that several layers give, the first one.
        before: Channels, heads or weights before.
        after: Those that are left.
    """

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class PruneOutcome:
    """A pruned network.

    Attributes:
        network: A plain module in evaluation mode; the one that was given is as it was.
        layers: What was pruned, in the order of the network; layers that are not listed were left alone.
    """

    network: nn.Module
    layers: tuple[PrunedLayer, ...]

    @property
    def sparsity(self) -> float:
        """Share of the channels and heads, or of the weights, of all listed layers that were removed, 0 to 1."""
        return 1 - sum(layer.after for layer in self.layers) / sum(layer.before for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return sparsity and layers as plain data."""
        return {"sparsity": self.sparsity, "layers": [asdict(layer) for layer in self.layers]}


def cubic_sparsity(target: float, done: int, rounds: int) -> float:
    """Return the sparsity after some rounds: it rises fast at first, when there is much to spare.

    Source: Zhu & Gupta, 2017, "To prune, or not to prune", equation 1, from an initial sparsity of 0.

    Args:
        target: Sparsity after all rounds.
        done: Rounds up to now, this one included.
        rounds: Rounds in all.
    """
    return target * (1 - (1 - done / rounds) ** 3)


def prune(
    module: nn.Module,
    data: ImageData,
    resolution: int,
    options: PruneOptions,
    *,
    seed: int,
    teacher: Teacher | None = None,
    teacher_resolution: int | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> PruneOutcome:
    """Prune an extracted sub-network in rounds, each followed by training, and recalibrate its batch norm.

    Sparsity rises over the rounds as `cubic_sparsity` says. What is removed is chosen by magnitude.

    Args:
        module: From images (N, channels, resolution, resolution) to logits (N, classes), of plain torch layers; left
            as it is.
        data: Its `train` part is used, the others are not looked at.
        resolution: Height and width of the images.
        options: Pattern, target, scope, rounds, and the training in each.
        seed: Seeds the training.
        teacher: What is learnt from besides the labels (`options.training.teacher` says whether there is one).
        teacher_resolution: Height and width of its images; those of the module by default.
        checkpoint_dir: Folder that keeps the network after each round and the training within a round. Work found
            there goes on where it stood and ends with the same network, on a CPU, as one never interrupted.
        progress: Called after every step of training; epochs are counted over all rounds.

    Raises:
        ConfigError: The options do not fit the network, or the teacher.
        DataError: The data do not fit the network, or the teacher.
        CheckpointError: `checkpoint_dir` holds other work, or is damaged.
        TrainingError: Loss, gradient or weights are not finite.
    """
    if (teacher is None) != (options.training.teacher is None):
        got = "none is given" if teacher is None else "one is given"
        raise ConfigError(f"training.teacher = {options.training.teacher!r}, but {got}; the two must agree")
    try_out("sub-network", module, data, resolution)
    size = teacher_resolution or resolution
    image = next(batches(data.train, 2, resolution))[0].to(device_of(module))
    rounds = _Rounds(module, image, options)
    run = {
        "options": options.model_dump(mode="json", include=set(PruneOptions.model_fields)),
        "seed": seed,
        "weights": hash_tensors(module.state_dict()),
        "data": f"{data.name} {data.fingerprint}",
        "teacher": None if teacher is None else teacher_fingerprint(teacher, data, size),
        "resolutions": [resolution, size],
    }
    folder = None if checkpoint_dir is None else RoundsFolder(checkpoint_dir, run)
    network = copy.deepcopy(module)
    done = 0 if folder is None else folder.restore(network)
    for number in range(done + 1, options.rounds + 1):
        training: dict[str, Any] = {
            "config": _config(options, seed, number),
            "teacher": teacher,
            "teacher_resolution": size,
            "checkpoint_dir": None if folder is None else folder.training(number),
            "progress": _over_rounds(progress, number, options.rounds),
        }
        with rounds.pruned(network, number):
            finetune(network, data, resolution, **training)
        if folder is not None:
            folder.keep(network, number)
    return PruneOutcome(network.eval(), rounds.layers(network))


def _config(options: PruneOptions, seed: int, number: int) -> FinetuneConfig | DistillConfig:
    """Return the training of one round, each with random numbers of its own."""
    own = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    values = options.training.model_dump(exclude={"teacher"})
    return FinetuneConfig(seed=own, **values) if options.training.teacher is None else DistillConfig(seed=own, **values)


def _over_rounds(progress: Progress | None, number: int, rounds: int) -> Progress | None:
    if progress is None:
        return None

    def report(step: TrainProgress) -> None:
        epoch, share = (number - 1) * step.epochs + step.epoch, (number - 1 + step.share) / rounds
        progress(replace(step, epoch=epoch, epochs=rounds * step.epochs, share=share))

    return report


class _Rounds:
    """What each round removes from a network.

    Args:
        module: The network before all rounds.
        example: What it takes.
        options: See `prune`.
    """

    def __init__(self, module: nn.Module, example: Tensor, options: PruneOptions) -> None:
        self._module, self._example, self._options = module, example, options
        self._exclude = options.excluded_op_names
        if options.pattern == "channel":
            self._before = {width.name: width.size for width in channel_widths(module, example, self._exclude)}
        else:
            self._before = {name: layer.weight.numel() for name, layer in self._weights(module).items()}

    def _weights(self, network: nn.Module) -> Layers:
        pair = self._options.n_of_m
        return weight_layers(network, self._exclude, None if pair is None else pair[1])

    def pruned(self, network: nn.Module, number: int) -> AbstractContextManager[None]:
        """Prune a network in place, and return a context in which it stays so while it is trained."""
        options = self._options
        sparsity = cubic_sparsity(options.target_sparsity, number, options.rounds)
        if options.pattern == "channel":
            prune_channels(
                network,
                self._example,
                sparsity,
                scope=options.pruning_scope,
                round_to=options.round_to,
                exclude=self._exclude,
                of=self._before,
            )
            self._check_readable(network)
            return nullcontext()
        layers = self._weights(network)
        if (pair := options.n_of_m) is None:
            return masked(layers, magnitude_masks(layers, sparsity, options.pruning_scope))
        n, m = pair
        return masked(layers, n_of_m_masks(layers, m - round(cubic_sparsity(m - n, number, options.rounds)), m))

    def _check_readable(self, network: nn.Module) -> None:
        """Check that a pruned network can be made of the module and its weights, as it will be when it is read back."""
        again, state = copy.deepcopy(self._module), network.state_dict()
        try:
            fit_shapes(again, state, "the pruned network")
            load_into(again, state, "the pruned network")
            with torch.no_grad(), evaluating(again):
                again(self._example)
        except (CheckpointError, RuntimeError) as error:
            raise ConfigError(
                f"the pruned {type(network).__name__} could not be read back ({first_line(error)}); use pattern 1x1"
            ) from error

    def layers(self, network: nn.Module) -> tuple[PrunedLayer, ...]:
        """Return what is left of each layer that could be pruned."""
        if self._options.pattern == "channel":
            left = {width.name: width.size for width in channel_widths(network, self._example, self._exclude)}
        else:
            left = {name: int(layer.weight.count_nonzero()) for name, layer in self._weights(network).items()}
        return tuple(PrunedLayer(name, size, left[name]) for name, size in self._before.items())
