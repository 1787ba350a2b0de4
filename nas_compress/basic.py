"""INC's basic search: each architecture is a model that functions of the user's own build, train and evaluate."""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import marshal
import math
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nas_compress import checks
from nas_compress.constraints import parse_constraint
from nas_compress.errors import ConfigError, EvaluationError, NASError
from nas_compress.objectives import Direction, Measurement, Objective
from nas_compress.objectives import objectives as registry
from nas_compress.settings import Location, Problem, show
from nas_compress.space import Architecture, Dimension, SearchSpace, Value

if TYPE_CHECKING:
    from nas_compress.config import NASConfig
    from nas_compress.search import SearchProblem

logger = logging.getLogger(__name__)

Params = dict[str, Value]

ALGORITHMS = ("bo", "grid", "random")
"""The strategies of the basic search; INC's default is the first."""

MAX_TRIALS = 3
"""Architectures to evaluate where `max_trials` is not set, as in INC."""

RESERVED = ("Sub-network", "Date", "Hypervolume", "architecture", "front", "error", "hypervolume", "feasible")
"""Columns of results tables and data frames, which no metric may be named after."""

POPULATION = 5
"""Architectures that a strategy asks for at once, or draws at random before it trusts what it has learnt."""


def params_of(architecture: Architecture) -> Params:
    """Return an architecture of a basic search as INC's model builders take it: one plain value per name."""
    return {name: values[0] for name, values in architecture.items()}


def basic_space(search_space: Mapping[str, Sequence[Value]]) -> SearchSpace:
    """Return the space of all combinations of values, one gene per name.

    Args:
        search_space: Values by name. Numbers are put in ascending order; texts stay as they are ordered, which then
            counts as from small to large.

    Raises:
        ConfigError: A name has no values.
    """
    return SearchSpace("basic", [Dimension.uniform(name, values) for name, values in search_space.items()])


class UserMetric(Objective):
    """One of the values that `eval_func` returns, in whatever unit it has there.

    Args:
        name: Its name; also the header of its column in results tables.
        direction: `"maximize"` or `"minimize"`.
    """

    unit = ""

    def __init__(self, name: str, direction: Direction) -> None:
        self.name = self.column = name
        self.direction = direction

    def measure(self, subnet: Any, architecture: Architecture) -> Measurement:
        """Return the value among those of the evaluated model.

        Args:
            subnet: Values by metric, as `ModelFunctions.evaluate` returns them.
            architecture: Not looked at.
        """
        return Measurement(subnet[self.name])


def user_metrics(metrics: Sequence[str], higher_is_better: Sequence[bool] | None) -> list[UserMetric]:
    """Return the objectives of a basic search, in order.

    Args:
        metrics: Their names.
        higher_is_better: Their directions; where None, the names must be registered ones (`acc`, `latency`).
    """
    if higher_is_better is None:
        directions: list[Direction] = [registry.entry(name).info["direction"] for name in metrics]
    else:
        directions = ["maximize" if higher else "minimize" for higher in higher_is_better]
    return [UserMetric(name, direction) for name, direction in zip(metrics, directions, strict=True)]


class ModelFunctions:
    """The functions of a basic search.

    Args:
        model_builder: Returns a model for plain values by name (`{"channels": 16, "activation": "relu"}`).
        eval_func: Returns what a model is worth: a number, a list of numbers in the order of the metrics, or a mapping
            from their names.
        train_func: Trains a model in place; what it returns is not looked at. None where `eval_func` trains, or
            nothing is to be trained.

    Raises:
        ConfigError: A function is missing, or cannot be called.

    Attributes:
        failure: The first error in one of the functions, if there was any.
    """

    def __init__(
        self,
        model_builder: Callable[[Params], Any] | None,
        eval_func: Callable[[Any], Any] | None,
        train_func: Callable[[Any], Any] | None = None,
    ) -> None:
        self.failure: EvaluationError | None = None
        self._functions: dict[str, Any] = {
            "model_builder": model_builder,
            "train_func": train_func,
            "eval_func": eval_func,
        }
        for name, function in self._functions.items():
            if function is None and name != "train_func":
                where = f"approach basic is run from Python, with agent.{name} = a function"
                raise ConfigError(f"{name} is not set; {where}, {_WANTED[name]}")
            if function is not None and not callable(function):
                raise ConfigError(f"{name}: {show(function)} is no function; wants one, {_WANTED[name]}")

    def build(self, architecture: Architecture) -> Any:
        """Return the model of an architecture, trained.

        Raises:
            EvaluationError: A function raised an exception, which is this one's cause, or there is no model.
        """
        model = self._call("model_builder", params_of(architecture))
        if model is None:
            raise EvaluationError("model_builder returned None; it must return the model")
        if self._functions["train_func"] is not None:
            self._call("train_func", model)
        return model

    def evaluate(self, architecture: Architecture, metrics: Sequence[str]) -> dict[str, float]:
        """Return the values of an architecture's model, built and trained for it, by metric.

        Raises:
            EvaluationError: As `build`, or `eval_func` returned something else than a number for each metric.
        """
        try:
            return values_by_metric(self._call("eval_func", self.build(architecture)), metrics)
        except EvaluationError as error:
            if self.failure is None:
                self.failure = error
                _forget_locals(error)
            raise

    def _call(self, name: str, argument: Any) -> Any:
        try:
            return self._functions[name](argument)
        except Exception as error:
            logger.debug("%s failed", name, exc_info=True)
            raise EvaluationError(f"{name} raised {_told(error)}") from error

    def context(self) -> dict[str, Any]:
        """Return what values depend on besides the architecture: the functions, with a hash of their source.

        What they call, and values that they take from outside, is not seen.
        """
        return {name: _fingerprint(function) for name, function in self._functions.items() if function is not None}


_WANTED = {
    "model_builder": "(params) -> model",
    "train_func": "(model) -> None",
    "eval_func": "(model) -> a number, a list of numbers or a dict of them",
}


def _forget_locals(error: BaseException | None) -> None:
    """Let go of what the frames of a kept error hold, models above all; the traceback can still be read."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__


def _told(error: Exception) -> str:
    """Return an exception as the last line of its traceback has it, its first line alone."""
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def values_by_metric(returned: Any, metrics: Sequence[str]) -> dict[str, float]:
    """Return what `eval_func` returned as one number per metric; numbers that are not finite are kept.

    Args:
        returned: A number for a single metric, a list or an array in the order of the metrics, or a mapping from their
            names, in which other names are ignored.
        metrics: The names.

    Raises:
        EvaluationError: It is something else; the message says what.
    """
    values = returned.tolist() if hasattr(returned, "tolist") else returned
    if isinstance(values, Mapping):
        missing = [name for name in metrics if name not in values]
        if missing:
            raise EvaluationError(
                f"eval_func returned no value for {', '.join(missing)}; its names are {', '.join(map(str, values))}"
            )
        values = [values[name] for name in metrics]
    elif not isinstance(values, (list, tuple)):
        values = [values]
    if len(values) != len(metrics):
        raise EvaluationError(
            f"eval_func returned {len(values)} value{'s' * (len(values) != 1)}, "
            f"there are {len(metrics)} metrics ({', '.join(metrics)})"
        )
    return {name: _number(name, value) for name, value in zip(metrics, values, strict=True)}


def _number(metric: str, value: Any) -> float:
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise EvaluationError(f"eval_func returned {show(value)} for {metric}, which is not a number") from None


def _fingerprint(function: Callable[..., Any]) -> dict[str, str]:
    """Return a function's name, the arguments that it is bound to, and a hash of its source.

    Comments and blank lines are left out. Where there is no source to read, as in a terminal, the compiled code serves.
    """
    if isinstance(function, functools.partial):
        from nas_compress.search.plug_in import describe_arguments

        found = _fingerprint(function.func)
        return {**found, "arguments": describe_arguments(function) + found.get("arguments", "")}
    named: Any = function if hasattr(function, "__qualname__") else type(function)
    found = {"name": str(named.__qualname__)}
    try:
        source = inspect.getsource(named)
    except (OSError, TypeError):
        if not hasattr(function, "__code__"):
            return found
        return {**found, "code": hashlib.sha256(marshal.dumps(function.__code__)).hexdigest()[:12]}
    lines = (line.rstrip() for line in textwrap.dedent(source).splitlines())
    code = "\n".join(line for line in lines if line and not line.lstrip().startswith("#"))
    return {**found, "source": hashlib.sha256(code.encode()).hexdigest()[:12]}


# -- the search ------------------------------------------------------------------------------------------------


def basic_problem(config: NASConfig) -> SearchProblem:
    """Return what the basic search of a checked config is about."""
    from nas_compress.search import SearchProblem

    return SearchProblem(
        basic_space(config.search_space or {}),
        user_metrics(config.metrics, config.higher_is_better),
        constraints=[parse_constraint(text, name=name, unit="") for name, text in config.basic.limits],
    )


def basic_identity(config: NASConfig, problem: SearchProblem) -> dict[str, Any]:
    """Return what makes a basic search the one it is: an archive of another is refused."""
    identity: dict[str, Any] = {
        "approach": "basic",
        "algorithm": config.strategy,
        "metrics": [o.name for o in problem.objectives],
        "directions": [o.direction for o in problem.objectives],
        "seed": config.seed,
        "space": problem.space.describe(),
    }
    return identity | ({"constraints": config.basic.constraints} if problem.constraints else {})


def trials_of(config: NASConfig) -> int:
    """Return how many architectures a basic search evaluates."""
    if config.max_trials is None:
        logger.warning("max_trials is not set: %d architectures are evaluated, as in INC", MAX_TRIALS)
    return config.max_trials or MAX_TRIALS


# -- checks ----------------------------------------------------------------------------------------------------


def basic_problems(config: NASConfig, *, own_strategy: bool = False) -> Iterator[Problem]:
    """Check what no single field of a basic search shows; cheap, and free of any deep-learning library.

    Args:
        config: The settings.
        own_strategy: A strategy is given as an object; the algorithm is not looked at.
    """
    search: Location = ("nas", "search")
    yield from _space_problems(config.search_space or {}, (*search, "search_space"))
    if not own_strategy:
        yield from _algorithm_problems(config, (*search, "search_algorithm"))
    yield from _metric_problems(config.metrics, (*search, "metrics"))
    yield from _direction_problems(config.metrics, config.higher_is_better, (*search, "higher_is_better"))
    yield from _goal_problems(config, ("nas", "basic"))
    yield from checks.results_path_problems(config.basic.results_csv_path, ("nas", "basic", "results_csv_path"))


def _algorithm_problems(config: NASConfig, location: Location) -> Iterator[Problem]:
    from nas_compress.search import strategies

    if config.strategy not in ALGORITHMS:
        reason = f"{show(config.strategy)} does not go with approach basic; allowed: {', '.join(ALGORITHMS)}"
        yield Problem(location, reason)
        return
    yield from checks.name_problems(strategies, config.strategy, location)


def _metric_problems(metrics: Sequence[str], location: Location) -> Iterator[Problem]:
    if not metrics:
        yield Problem(location, "is not set; wants the names of what eval_func returns, such as [acc, macs]")
    for index, name in enumerate(metrics):
        if not name.strip() or name in RESERVED:
            yield Problem((*location, index), f"{show(name)} cannot be a metric's name; choose another one")
        elif name in metrics[:index]:
            yield Problem((*location, index), f"{show(name)} is given twice")


def _goal_problems(config: NASConfig, here: Location) -> Iterator[Problem]:
    """Check that limits and reference point are about the metrics."""
    metrics = config.metrics
    for name, text in config.basic.limits:
        if name not in metrics:
            yield Problem((*here, "constraints", name), f"is not among metrics: {', '.join(metrics)}")
            continue
        try:
            parse_constraint(text, name=name, unit="")
        except NASError as error:
            yield Problem((*here, "constraints", name), str(error))
    point = config.basic.reference_point
    if point is not None and set(point) != set(metrics):
        reason = f"has values for {', '.join(point)}; wants one for each of metrics: {', '.join(metrics)}"
        yield Problem((*here, "reference_point"), reason)


def _space_problems(search_space: Mapping[str, Sequence[Value]], location: Location) -> Iterator[Problem]:
    if not search_space:
        yield Problem(location, "is not set; wants lists of values by name, such as {channels: [16, 32]}")
    for name, values in search_space.items():
        if not values:
            yield Problem((*location, name), "has no values; wants at least one")
        elif odd := next((v for v in values if isinstance(v, float) and not math.isfinite(v)), None):
            yield Problem((*location, name), f"{odd} is not allowed; wants finite numbers, texts, true or false")
        elif len(set(values)) < len(values):
            twice = next(v for i, v in enumerate(values) if v in values[:i])
            yield Problem((*location, name), f"{show(twice)} is given twice (1, 1.0 and true are equal)")


def _direction_problems(metrics: Sequence[str], higher: Sequence[bool] | None, location: Location) -> Iterator[Problem]:
    if higher is None:
        unknown = [name for name in metrics if name not in registry]
        if unknown:
            reason = f"is not set, and {', '.join(unknown)} may be either; wants true or false for each metric"
            yield Problem(location, reason)
    elif len(higher) != len(metrics):
        yield Problem(location, f"has {len(higher)} values for {len(metrics)} metrics ({', '.join(metrics)})")
