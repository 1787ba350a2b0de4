"""What single steps of a recipe must keep to besides their own fields: names, metrics, files, engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from nas_compress import checks, search_checks
from nas_compress.backends import backends
from nas_compress.compression import packages
from nas_compress.compression.inc_version import inc_version
from nas_compress.constraints import limit_texts
from nas_compress.recipe.conditions import parse_condition
from nas_compress.recipe.steps import (
    BenchmarkStep,
    Conditional,
    DistillStep,
    ExportStep,
    NasStep,
    PruneStep,
    QuantizeStep,
    SelectStep,
    Step,
    StepOptions,
    TrainSupernetStep,
)
from nas_compress.settings import Location, Problem
from nas_compress.space import Architecture, SearchSpace, Value
from nas_compress.strategy_checks import algorithm_option_problems
from nas_compress.tasks import Task
from nas_compress.training.config import TrainOptions
from nas_compress.training.stages import stages_of

INC_ONLY = ("smoothquant", "mixed_precision")


def step_problems(options: StepOptions, here: Location, supernet: str, nas: NasStep | None) -> Iterator[Problem]:
    """Check one step.

    Args:
        options: The step.
        here: Where it stands.
        supernet: Name of the recipe's super-network.
        nas: The search; None if there is none.
    """
    if isinstance(options, NasStep):
        yield from _nas_problems(options, here, supernet)
    elif isinstance(options, SelectStep):
        yield from select_problems(options, nas, here)
        yield from checks.raised_problems(backends.get("onnxruntime").check, here)
    elif isinstance(options, BenchmarkStep):
        for threads in sorted(options.latency.threads)[-1:]:
            most = options.latency.model_copy(update={"threads": threads})
            yield from checks.timing_problems(most, (*here, "latency"))
    elif isinstance(options, QuantizeStep):
        yield from quantize_problems(options, here)
        yield from _engine_problems(options, here)
        if nas is not None and nas.precision is not None:
            yield from _searched_problems(options, here)
    elif isinstance(options, DistillStep):
        yield from _teacher_problems(options.teacher, (*here, "teacher"))
    elif isinstance(options, PruneStep):
        if options.pattern == "channel":
            yield from checks.raised_problems(packages.check_torch_pruning, (*here, "pattern"))


def space_problems(steps: Sequence[Step], space: SearchSpace) -> Iterator[Problem]:
    """Check what steps name of the super-network's space: stages, restrictions, earlier searches, architectures."""
    for index, step in enumerate(steps):
        options, here = step.options, ("steps", index, step.name)
        if isinstance(options, TrainSupernetStep) and options.algorithm == "progressive_shrinking":
            location = (*here, "epochs" if options.stages is None else "stages")
            yield from checks.raised_problems(partial(stages_of, options, space), location)
        elif isinstance(options, NasStep):
            yield from checks.space_problems(space, options.search_space, (*here, "search_space"), options.precision)
            yield from search_checks.warm_start_problems(options, space, options.search_space, here)
        elif isinstance(options, SelectStep) and isinstance(options.architecture, Mapping):
            yield from checks.raised_problems(partial(_validate, space, options.architecture), (*here, "architecture"))


def _validate(space: SearchSpace, values: Mapping[str, list[Value]]) -> None:
    space.validate(Architecture(values))


def _nas_problems(options: NasStep, here: Location, supernet: str) -> Iterator[Problem]:
    metrics = checks.supernet_problems(supernet, options.measured, here, options.limited)
    yield from (problem for problem in metrics if problem.location[-1] != "supernet")
    yield from search_checks.option_problems(options, options.approach, here)
    yield from search_checks.strategy_problems(options, options.approach, options.search_algorithm, here, here)
    yield from algorithm_option_problems(options, options.approach, options.search_algorithm, here)
    yield from search_checks.search_problems(options, options.approach, supernet, here)
    yield from search_checks.precision_problems(options, supernet, here)


def task_problems(task: Task, steps: Sequence[Step]) -> Iterator[Problem]:
    """Check that the steps are ones that the super-network's task allows, and are about its figure of quality."""
    for index, step in enumerate(steps):
        here: Location = ("steps", index, step.name)
        if step.name in task.refused:
            reason = f"{step.name!r} {task.refused[step.name]}; this super-network's task is {task.name}"
            yield Problem(here[:2], f"{reason}: leave it out")
            continue
        options = step.options
        if isinstance(options, Conditional):
            yield from _condition_problems(task, options, here)
        if isinstance(options, ExportStep) and task.no_onnx is not None and "onnx" in options.formats:
            reason = f"'onnx' does not go with {task.name}: {task.no_onnx}"
            yield Problem((*here, "formats"), f"{reason}; write [safetensors]")
        if isinstance(options, TrainOptions):
            yield from _training_problems(options, task, here)
        elif isinstance(options, PruneStep):
            yield from _training_problems(options.training, task, (*here, "training"))
        if task.name != "images":
            yield from _image_options_problems(options, task, here)


def _condition_problems(task: Task, options: Conditional, here: Location) -> Iterator[Problem]:
    for name in sorted(Conditional.conditions):
        for place, text in enumerate(getattr(options, name)):
            quality = parse_condition(text).quality
            if quality is not None and quality is not task.quality:
                own = f"{task.quality.name!r} and {task.quality.loss!r}"
                reason = f"{text!r} is not about a figure of {task.name}; its own are {own}"
                yield Problem((*here, name, place), reason)


def _training_problems(options: TrainOptions, task: Task, here: Location) -> Iterator[Problem]:
    """Check that training is not asked for what only other tasks have; defaults stand in every written recipe."""
    own = {"augment": ("images",), "ctc_weight": ("speech",)}
    for name, tasks in own.items():
        value = getattr(options, name)
        usual = type(options).model_fields[name].get_default(call_default_factory=True)
        if task.name not in tasks and value is not None and value != usual:
            yield Problem((*here, name), f"is for {', '.join(tasks)}; with {task.name} leave it out")


def _image_options_problems(options: StepOptions, task: Task, here: Location) -> Iterator[Problem]:
    """Check that networks of other tasks are not asked for what is there for images alone."""
    if isinstance(options, DistillStep):
        if isinstance(options.teacher, Path):
            yield Problem((*here, "teacher"), f"an ONNX file teaches images alone; with {task.name} write largest")
        for name in ("features", "feature_epochs"):
            if getattr(options, name) and task.name not in ("text", "questions"):
                reason = f"{getattr(options, name):g} is for images and text; with {task.name} leave it at 0"
                yield Problem((*here, name), reason)
    if isinstance(options, QuantizeStep):
        yield from _quantized_problems(options, task, here)


def _quantized_problems(options: QuantizeStep, task: Task, here: Location) -> Iterator[Problem]:
    if options.engine == "inc":
        yield Problem((*here, "engine"), f"'inc' is for images; with {task.name} take onnxruntime")
    elif options.approach not in task.quantized:
        allowed = ", ".join(task.quantized)
        yield Problem((*here, "approach"), f"{options.approach!r} does not go with {task.name}; allowed: {allowed}")
    if options.accuracy_criterion is not None and task.quality.direction == "minimize":
        instead = f"skip_if: {task.quality.loss} > 1"
        yield Problem((*here, "accuracy_criterion"), f"{task.name} has no accuracy; write {instead}, say")


def quantize_problems(options: QuantizeStep, here: Location) -> Iterator[Problem]:
    """Check that an engine is not given the options, or the approach, of another."""
    if options.engine == "inc":
        for name in sorted(options.onnxruntime_only & options.model_fields_set):
            yield Problem((*here, name), "goes with engine 'onnxruntime' alone; leave it out with engine 'inc'")
    elif options.approach in INC_ONLY:
        yield Problem(
            (*here, "approach"), f"{options.approach!r} goes with engine 'inc'; allowed here: static, dynamic"
        )
    for name in sorted(options.of_calibration & options.model_fields_set):
        if options.approach == "dynamic" or (options.approach == "mixed_precision" and name != "method"):
            yield Problem((*here, name), f"has no effect with approach {options.approach!r}, which has no calibration")
    if options.accuracy_criterion is None and "tuning_criterion" in options.model_fields_set:
        yield Problem((*here, "tuning_criterion"), "says when to give up on 'accuracy_criterion', which is not given")


def _engine_problems(options: QuantizeStep, here: Location) -> Iterator[Problem]:
    """Check that what an engine needs is there: its packages and, for bf16, the processor."""
    if options.engine != "inc":
        return
    yield from checks.raised_problems(inc_version, (*here, "engine"))
    if options.approach == "smoothquant":
        yield from checks.raised_problems(backends.get("ipex").check, (*here, "approach"))
    elif options.approach == "mixed_precision":
        yield from checks.raised_problems(packages.check_bf16, (*here, "approach"))


def _searched_problems(options: QuantizeStep, here: Location) -> Iterator[Problem]:
    """Check that a quantization is what the search measured, where precisions were a part of it."""
    for name in ("engine", "approach", "method", "per_channel", "exclude", "accuracy_criterion"):
        if getattr(options, name) != type(options).model_fields[name].get_default(call_default_factory=True):
            yield Problem((*here, name), "is decided by the search, which has a 'precision'; leave it out")


def _teacher_problems(teacher: Path | str | None, location: Location) -> Iterator[Problem]:
    if not isinstance(teacher, Path):
        return
    if teacher.suffix == ".onnx":
        yield from checks.file_problems(teacher, location)
    else:
        yield Problem(location, f"{str(teacher)!r} is no ONNX file; allowed: largest, or the path of an .onnx file")


def select_problems(options: SelectStep, nas: NasStep | None, here: Location) -> Iterator[Problem]:
    """Check that a selection is about metrics that the search measures, in their units, or names an architecture.

    Args:
        options: The step.
        nas: The search; None if there is none, which is reported elsewhere.
        here: Where the step stands.
    """
    if options.architecture is not None:
        for name in ("constraints", "maximize", "minimize"):
            if getattr(options, name):
                yield Problem((*here, name), "chooses from a search; leave it out where 'architecture' is given")
        return
    from nas_compress.objectives import objectives

    if options.maximize is not None and options.minimize is not None:
        yield Problem(here, "maximize and minimize are both given; choose by one metric, put limits on the others")
    metrics = None if nas is None else nas.measured
    direction, goal = options.goal(metrics or ())
    yield from _measured_problems(goal, metrics, (*here, direction))
    if goal in objectives and (right := objectives.entry(goal).info["direction"]) != direction:
        yield Problem((*here, direction), f"{goal!r} is an objective to {right}")
    for name, text in limit_texts(options.constraints):
        location = (*here, "constraints", name)
        if unmeasured := list(_measured_problems(name, metrics, location)):
            yield from unmeasured
        else:
            yield from checks.limit_problems(name, text, location)
    if nas is not None:
        yield from search_checks.relative_problems(nas, nas.approach, options.constraints, here)


def _measured_problems(name: str, metrics: Sequence[str] | None, location: Location) -> Iterator[Problem]:
    """Check that a metric exists and is one of the search's."""
    from nas_compress.objectives import objectives

    if name not in objectives:
        yield from checks.name_problems(objectives, name, location)
    elif metrics is not None and objectives.canonical(name) not in checks.canonical_metrics(metrics):
        yield Problem(location, f"{name!r} is not measured by the 'nas' step; add it to its metrics {list(metrics)}")
