"""Stages of progressive shrinking: which part of the space is trained when, and how; free of torch.

Source: Cai et al., 2020, "Once-for-All: Train One Network and Specialize it for Efficient Deployment", section 3.3, and
its published schedules: the largest network, then elastic kernels, then depths, then widths, each with what was elastic
before; depths and widths in two phases, first their two largest values, then all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nas_compress.errors import ConfigError
from nas_compress.space import SearchSpace, Value
from nas_compress.training.config import StageOptions, SupernetTrainOptions

FREE = ("r",)
"""Dimensions that are elastic from the first stage on: resolutions, which share all weights."""

KERNELS = ("ks",)


@dataclass(frozen=True)
class Stage:
    """A stage of training.

    Attributes:
        name: What became elastic with it.
        space: The architectures that it trains.
        epochs: Passes over the training examples.
        lr: Highest learning rate.
        warmup_epochs: Epochs of linear warm-up.
        subnets_per_step: Sub-networks of each step.
        sandwich: Whether the largest and the smallest of the stage are among them.
        sort: Whether channels are sorted by importance before it.
    """

    name: str
    space: SearchSpace
    epochs: int
    lr: float
    warmup_epochs: float
    subnets_per_step: int
    sort: bool
    sandwich: bool = False


@dataclass(frozen=True)
class _Phase:
    """A stage as published: its share of the epochs and its learning rate in parts of the first stage's."""

    name: str
    epochs: int
    lr: float
    subnets_per_step: int


_LARGEST = _Phase("largest", 180, 1, 1)
_KERNEL = (_Phase("kernel", 125, 1, 1),)
_DEPTH = (_Phase("depth", 25, 1 / 12, 2), _Phase("depth, all", 120, 1 / 4, 2))
_WIDTH = (_Phase("width", 25, 1 / 12, 4), _Phase("width, all", 120, 1 / 4, 4))


def stages_of(options: SupernetTrainOptions, space: SearchSpace) -> list[Stage]:
    """Return the stages that the options ask for, or Once-for-All's.

    Raises:
        ConfigError: A stage names what the space does not have, the last one leaves a part of the space out, or there
            are fewer epochs than stages.
    """
    if options.stages is None:
        return _published(options, space)
    stages = [_given(number, stage, options, space) for number, stage in enumerate(options.stages, 1)]
    if stages[-1].space.size() != space.size():
        raise ConfigError(
            f"the last stage trains {stages[-1].space.size():.4g} of {space.size():.4g} sub-networks; it must have "
            f"every dimension of {space.name!r} elastic: {', '.join(d.name for d in space.dimensions)}"
        )
    return stages


def _given(number: int, stage: StageOptions, options: SupernetTrainOptions, space: SearchSpace) -> Stage:
    known = [d.name for d in space.dimensions]
    for name in stage.elastic:
        if name not in known:
            raise ConfigError(
                f"stage {number}: {name!r} is no dimension of {space.name!r}, which has {', '.join(known)}"
            )
    allowed = {name: None if values is None else set[Value](values) for name, values in stage.elastic.items()}
    try:
        part = _restricted(space, allowed)
    except ConfigError as error:
        raise ConfigError(f"stage {number}: {error}") from error
    elastic = ", ".join(name for name in stage.elastic if name not in FREE) or "largest"
    return Stage(
        name="all" if part.size() == space.size() else elastic,
        space=part,
        epochs=stage.epochs,
        lr=stage.lr or options.peak_lr,
        warmup_epochs=stage.warmup_epochs,
        subnets_per_step=stage.subnets_per_step,
        sort=stage.sort,
        sandwich=stage.sandwich,
    )


def _published(options: SupernetTrainOptions, space: SearchSpace) -> list[Stage]:
    parts = list(_parts(space))
    if options.epochs < len(parts):
        raise ConfigError(f"{options.epochs} epochs are too few: {space.name!r} shrinks in {len(parts)} stages")
    epochs = _shares([phase.epochs for phase, _, _ in parts], options.epochs)
    return [
        Stage(
            name=phase.name,
            space=part,
            epochs=count,
            lr=phase.lr * options.peak_lr,
            warmup_epochs=options.warmup_epochs if phase.lr == 1 else 0.0,
            subnets_per_step=phase.subnets_per_step,
            sort=sort,
        )
        for (phase, part, sort), count in zip(parts, epochs, strict=True)
    ]


def _parts(space: SearchSpace) -> Iterator[tuple[_Phase, SearchSpace, bool]]:
    """Yield the stages that a space has, the part of the space that each trains, and whether channels are sorted."""
    controllers = {condition.controller[0] for condition in space.conditions}
    names = [d.name for d in space.dimensions if max(map(len, d.choices)) > 1 and d.name not in FREE]
    kernels = [name for name in names if name in KERNELS]
    depths = [name for name in names if name in controllers]
    widths = [name for name in names if name not in (*kernels, *depths)]
    allowed: dict[str, int | None] = dict.fromkeys(FREE)
    yield _LARGEST, _of_largest_values(space, allowed), False
    for group, phases in ((kernels, _KERNEL), (depths, _DEPTH), (widths, _WIDTH)):
        most = max((len(values) for d in space.dimensions if d.name in group for values in d.choices), default=0)
        wanted: tuple[_Phase, ...] = () if not most else phases[-1:] if most == 2 else phases
        for phase in wanted:
            allowed |= dict.fromkeys(group, None if phase is phases[-1] else 2)
            yield phase, _of_largest_values(space, allowed), phase is wanted[0] and group is widths


def _of_largest_values(space: SearchSpace, allowed: Mapping[str, int | None]) -> SearchSpace:
    """Return the part in which the genes of some dimensions take their n largest values (None: all), others one."""
    values: dict[str, set[Value]] = {}
    for d in space.dimensions:
        count = allowed.get(d.name, 1)
        if count is not None:
            values |= {f"{d.name}[{slot}]": set(choices[-count:]) for slot, choices in enumerate(d.choices)}
    return space.restrict(values, space.name)


def _restricted(space: SearchSpace, allowed: Mapping[str, set[Value] | None]) -> SearchSpace:
    """Return the part in which the dimensions named take the values given (None: all), others their largest."""
    values: dict[str, set[Value]] = {}
    for d in space.dimensions:
        for slot, choices in enumerate(d.choices):
            if d.name not in allowed:
                values[f"{d.name}[{slot}]"] = {choices[-1]}
    values |= {name: chosen for name, chosen in allowed.items() if chosen is not None}
    return space.restrict(values, space.name)


def _shares(weights: Sequence[int], total: int) -> list[int]:
    """Return whole shares of `total` in proportion to weights, each at least 1, by largest remainder."""
    shares = [1] * len(weights)
    for _ in range(total - len(weights)):
        quotas = [weight * total / sum(weights) - share for weight, share in zip(weights, shares, strict=True)]
        shares[quotas.index(max(quotas))] += 1
    return shares
