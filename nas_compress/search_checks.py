"""Checks of what a search is asked to do; cheap, and free of any deep-learning library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nas_compress.approaches import (
    APPROACHES,
    PREDICTING,
    DenasOptions,
    SearchOptions,
    approaches_with,
    canonical,
    registered,
)
from nas_compress.checks import (
    file_problems,
    latency_problems,
    limit_problems,
    metric_problems,
    name_problems,
    needs_data,
    raised_problems,
)
from nas_compress.constraints import Limit, exclusive, limit_texts, parse_constraint
from nas_compress.denas_keys import ENGINE, children
from nas_compress.errors import NASError, suggest
from nas_compress.objectives.config import TERMS, ScoreOptions
from nas_compress.point_checks import hopeless_problems, point_problems, unkept_problems
from nas_compress.settings import Location, Problem, show
from nas_compress.supernets.asr_config import ASRS
from nas_compress.supernets.bert_config import BERTS
from nas_compress.supernets.conv_chain_config import CONV_CHAINS
from nas_compress.supernets.hat_config import HATS
from nas_compress.supernets.mobilenet_config import MOBILENETS
from nas_compress.supernets.precision_config import LATENCY_BACKENDS
from nas_compress.supernets.resnet_config import RESNETS
from nas_compress.supernets.vit_config import VITS

if TYPE_CHECKING:
    from nas_compress.compression.options import Engine
    from nas_compress.space import SearchSpace
    from nas_compress.supernets.precision_config import PrecisionConfig

COMPUTED = ("macs", "params", "layers", "model_size")
"""Metrics that are computed for every architecture, measured or not."""

TRAIN_FREE = frozenset({"de_score", "de_score_original"})
"""Metrics of untrained networks."""


def strategy_problems(
    options: SearchOptions, approach: str, algorithm: str | None, here: Location, search: Location
) -> Iterator[Problem]:
    """Check the algorithm and the options of a strategy.

    Args:
        options: The options of the approach.
        approach: Its name.
        algorithm: `search_algorithm`; None for the approach's default.
        here: Where the options stand.
        search: Where `search_algorithm` stands.
    """
    yield from _algorithm_problems(options, approach, algorithm, (*search, "search_algorithm"))
    yield from _predictor_problems(options, approach, here)
    yield from _named_problems(getattr(options, "validation_only", None), options, (*here, "validation_only"))
    if not _searched(options, approach):
        reason = f"{show(getattr(options, 'validation_only', None))} leaves no objective to search for on predictions"
        yield Problem((*here, "validation_only"), f"{reason}; metrics are {', '.join(options.metrics)}")
    if isinstance(options, DenasOptions) and not any(
        children(options.population, options.crossover_num, options.mutation_num)
    ):
        reason = f"a population of {options.population} has no children; crossover_num or mutation_num wants 1 or more"
        yield Problem((*here, "crossover_num"), reason)
    samples = getattr(options, "training_samples", None)
    if approach == "full" and (samples or 1) >= options.num_evals:
        reason = f"{show(samples)} leaves nothing of num_evals ({options.num_evals}) for what the search finds"
        yield Problem((*here, "training_samples"), f"{reason}; lower it or raise num_evals")


def _algorithm_problems(
    options: SearchOptions, approach: str, algorithm: str | None, location: Location
) -> Iterator[Problem]:
    from nas_compress.search import strategies

    if algorithm is None:
        return
    if approach == "random":
        if algorithm != "random":
            reason = f"{show(algorithm)} does not go with approach 'random'"
            yield Problem(location, f"{reason}; leave it out, or write approach: evolutionary")
        return
    if approach == "denas" and getattr(options, "search_engine", ENGINE) != ENGINE:
        yield Problem(
            location, f"{show(algorithm)} and denas.search_engine are both given; they say the same, give one"
        )
        return
    if algorithm in APPROACHES:
        yield Problem(location, f"{show(algorithm)} is an approach of its own; write approach: {algorithm}")
        return
    inner = [name for name in strategies if strategies.entry(name).info.get("inner")]
    if approach in PREDICTING and registered(algorithm) not in inner:
        reason = f"{show(algorithm)} does not go with approach {approach!r}{suggest(algorithm, inner)}"
        yield Problem(location, f"{reason}; allowed: {', '.join(inner)}")
        return
    if algorithm not in strategies:
        yield from name_problems(strategies, algorithm, location)
        return
    most = strategies.entry(algorithm).info.get("objectives")
    names = _searched(options, approach)
    if most is not None and len(names) > most:
        reason = f"{show(algorithm)} optimises {most} metric(s), and there are {len(names)}"
        yield Problem(location, f"{reason}: {', '.join(names)}; put limits on the others (constraints)")


def _searched(options: SearchOptions, approach: str) -> list[str]:
    """Return the objectives that the algorithm optimises: those that `validation_only` keeps from it are left out."""
    given = getattr(options, "validation_only", None) if approach == "concurrent" else None
    never = {canonical(name) for name in given or ()}
    return [name for name in options.metrics if canonical(name) not in never - _computed(options)]


def _computed(options: SearchOptions) -> set[str]:
    """Return the metrics that are computed in this search; files of quantized networks are measured."""
    latency = {"latency"} if options.latency.lut is not None else set()
    return {*COMPUTED} - ({"model_size"} if options.precision is not None else set()) | latency


def _predictor_problems(options: SearchOptions, approach: str, here: Location) -> Iterator[Problem]:
    from nas_compress.predictors import predictors

    named = getattr(options, "predictor", None)
    if named is None:
        return
    if isinstance(named, str):
        yield from name_problems(predictors, named, (*here, "predictor"))
        return
    for metric, name in named.items():
        yield from name_problems(predictors, name, (*here, "predictor", metric))
        if approach != "concurrent" and name in predictors and canonical(metric) in _computed(options):
            reason = f"{show(name)} has nothing to predict: {metric} is computed"
            yield Problem((*here, "predictor", metric), f"{reason}; leave it out, or write approach: concurrent")
    yield from _named_problems(named, options, (*here, "predictor"))


def _named_problems(names: Iterable[str] | None, options: SearchOptions, location: Location) -> Iterator[Problem]:
    """Check that names are those of measured metrics, each once."""
    known: dict[str, str] = {}
    for name in names or ():
        if canonical(name) not in options.measured:
            close = suggest(name, options.measured)
            yield Problem(location, f"{name!r} is not measured by this search{close}; measured: {_measured(options)}")
        elif canonical(name) in known:
            yield Problem(location, f"{name!r} is given twice (as {known[canonical(name)]!r})")
        known[canonical(name)] = name


def _measured(options: SearchOptions) -> str:
    return ", ".join(options.measured)


def search_problems(options: SearchOptions, approach: str, supernet: str | None, here: Location) -> Iterator[Problem]:
    """Check metrics, limits, numbers and files of a search, apart from the strategy.

    Args:
        options: What is searched.
        approach: Its name.
        supernet: The super-network's name; None where it is given as an object.
        here: Where the options stand.
    """
    from nas_compress.supernets import replay_of

    if approach not in ("random", "full", "dynas") and options.population > options.num_evals:
        given = "" if "population" in options.model_fields_set else ", the default,"
        reason = f"{options.population}{given} is larger than num_evals ({options.num_evals})"
        yield Problem((*here, "population"), f"{reason}; lower it or raise num_evals")
    yield from metric_problems(options.metrics, here)
    yield from constraint_problems(options, here)
    yield from relative_problems(options, approach, options.constraints, here)
    yield from score_problems(options, supernet, here)
    yield from zero_cost_problems(options, supernet, here)
    if replay_of(supernet) is None and ("latency" in options.measured or getattr(options, "latency_weight", None)):
        yield from latency_problems(options.latency, (*here, "latency"))
    elif options.latency.lut is not None:
        yield from file_problems(options.latency.lut, (*here, "latency", "lut"))
    if options.reference_point is not None:
        yield from point_problems(options.reference_point, options, (*here, "reference_point"))
        yield from hopeless_problems(options.reference_point, (*here, "reference_point"))
    if options.warm_start is not None:
        yield from file_problems(options.warm_start, (*here, "warm_start"))


def score_problems(options: SearchOptions, supernet: str | None, here: Location) -> Iterator[Problem]:
    """Check the weights of the train-free score, if it is measured.

    Args:
        options: What is searched.
        supernet: The super-network's name, if that is known.
        here: Where the options stand.
    """
    from nas_compress.proxies.de_score import DEFAULT_WEIGHTS, ORIGINAL_WEIGHTED

    measured = TRAIN_FREE.intersection(options.measured)
    if not measured or not isinstance(options, ScoreOptions):
        return
    weights, kinds = options.weights(), _kinds(supernet)
    lost = weights.keys() - {name for kind in kinds for name in ORIGINAL_WEIGHTED[kind]}
    if "latency" not in lost or "de_score" in measured:
        yield from _latency_weight_problems(options, here)
    if "de_score" not in measured:
        for name in sorted(lost):
            reason = f"{show(weights[name])} has no effect: it has no place in the formula of de_score_original"
            yield Problem((*here, f"{name}_weight"), f"{reason}; leave it out")
        return
    convolutional = kinds == ["cnn"]
    if convolutional and weights.get("diversity"):
        reason = f"does not go with {supernet!r}, which has no attention"
        yield Problem((*here, "diversity_weight"), f"{show(weights['diversity'])} {reason}; leave it out")
    if not any(any(options.weights_over(DEFAULT_WEIGHTS[kind]).values()) for kind in kinds):
        terms = [term for term in TERMS if not (convolutional and term == "diversity")]
        yield Problem(here, f"all weights of the score are 0; give one of {', '.join(terms)} more")


def _latency_weight_problems(options: ScoreOptions, here: Location) -> Iterator[Problem]:
    """Check that a latency that is part of a score can be predicted."""
    if options.latency_weight and isinstance(options, SearchOptions) and options.latency.lut is None:
        reason = "wants latency.lut, a table of nas-compress build-lut; without one, put latency among metrics"
        yield Problem((*here, "latency_weight"), reason)


def _kinds(supernet: str | None) -> list[str]:
    """Return the kinds of network, by which the score's terms differ, that a super-network may be of."""
    families = {"cnn": (CONV_CHAINS, MOBILENETS, RESNETS), "transformer": (ASRS, BERTS, HATS, VITS)}
    return [kind for kind, each in families.items() if any(supernet in names for names in each)] or list(families)


def zero_cost_problems(options: SearchOptions, supernet: str | None, here: Location) -> Iterator[Problem]:
    """Check that train-free scores have networks to be computed on, and a metric to stand in for."""
    from nas_compress.supernets import replay_of

    if not getattr(options, "zero_cost", False):
        return
    location = (*here, "zero_cost")
    if not needs_data(options.metrics):
        reason = "wants a metric of quality, such as acc, that the score stands in for"
        yield Problem(location, f"{reason}; metrics are {', '.join(options.metrics)}")
    if options.precision is not None:
        yield Problem(location, "does not go with precision: the score says nothing of quantized networks")
    if replay_of(supernet) is not None:
        yield Problem(location, "wants networks to score; this super-network has only values from published tables")


def constraint_problems(options: SearchOptions, here: Location) -> Iterator[Problem]:
    """Check that limits are on metrics that exist, in their units, and can all be kept."""
    from nas_compress.objectives import objectives

    limits = []
    for name, text in options.limits:
        location = (*here, "constraints", name)
        problems = list(
            limit_problems(name, text, location) if name in objectives else name_problems(objectives, name, location)
        )
        yield from problems
        if not problems:
            unit = objectives.entry(name).info["unit"]
            limits.append(parse_constraint(text, name=canonical(name), unit=unit))
    for limit in limits:
        yield from unkept_problems(limit, (*here, "constraints", limit.name))
    for low, high in exclusive(limits):
        yield Problem((*here, "constraints", low.name), f"{low} and {high} exclude each other")


def relative_problems(
    options: SearchOptions, approach: str, constraints: Mapping[str, Limit], here: Location
) -> Iterator[Problem]:
    """Check that no limit refers to what the largest architecture measures, where the search does not measure it.

    Args:
        options: The options of the approach.
        approach: Its name.
        constraints: Limits by metric, of the search or of what is chosen from it.
        here: Where they stand.
    """
    if approach != "denas":
        return
    computed = [*COMPUTED, *(["latency"] if options.latency.lut is not None else [])]
    for name, text in limit_texts(constraints):
        if canonical(name) not in computed and text.rstrip().endswith("largest"):
            reason = f"{show(text)} refers to the largest architecture, which approach 'denas' does not measure"
            yield Problem((*here, "constraints", name), f"{reason}; relative limits go with {', '.join(computed)} here")


def option_problems(options: SearchOptions, approach: str, here: Location) -> Iterator[Problem]:
    """Check that options which were set are ones of the approach, where a section has those of all approaches."""
    for name in sorted(options.model_fields_set):
        homes = approaches_with(name)
        if homes and approach not in homes:
            yield Problem((*here, name), f"goes with approach {' or '.join(homes)}; leave it out with {approach!r}")


def warm_start_problems(
    options: SearchOptions, whole: SearchSpace | None, allowed: Mapping[str, Any] | None, here: Location
) -> Iterator[Problem]:
    """Check that an earlier search can be used, where the super-network's space is known."""
    from nas_compress.warm_start import read_warm_start

    path = options.warm_start
    if path is None or whole is None or list(file_problems(path, here)):
        return
    try:
        if options.precision is not None:
            whole = options.precision.space(whole)
        space = whole.restrict(allowed or {})
    except NASError:  # reported where the restriction stands
        return
    try:
        read_warm_start(path, whole, space, [canonical(name) for name in options.metrics], options.limited)
    except NASError as error:
        yield Problem((*here, "warm_start"), str(error))


def precision_problems(section: SearchOptions, supernet: str | None, here: Location) -> Iterator[Problem]:
    """Check that what is measured can be measured on quantized sub-networks, and that the super-network has these.

    Args:
        section: What is searched.
        supernet: The super-network's name; None where it is given as an object.
        here: Where the section stands.
    """
    if section.precision is None:
        return
    if not needs_data(section.measured):
        reason = "wants a metric of quality, such as acc: without one, the lowest precision is always the best"
        yield Problem((*here, "metrics"), f"{list(section.metrics)} with precision {reason}")
    for name in sorted(TRAIN_FREE.intersection(section.measured)):
        reason = "does not go with precision: the score says nothing of quantized networks"
        yield Problem((*here, "metrics"), f"{name!r} {reason}")
    yield from raised_problems(section.precision.check_machine, (*here, "precision"))
    yield from _engine_problems(section, section.precision.engine, here)
    if supernet is not None:
        yield from _quantizable_problems(supernet, section.precision, (*here, "precision"))


def _engine_problems(section: SearchOptions, engine: Engine, here: Location) -> Iterator[Problem]:
    """Check that what is measured can be measured on what an engine makes."""
    reason = f"does not go with precision, whose engine is {engine!r}"
    if "latency" in section.measured:
        wanted: dict[str, Any] = {"backend": LATENCY_BACKENDS[engine], "precision": "fp32", "lut": None}
        for name, value in wanted.items():
            if (found := getattr(section.latency, name)) != value:
                yield Problem((*here, "latency", name), f"{show(found)} {reason}; wants {show(value)}")
        if engine == "inc" and section.latency.isolated:
            text = "its networks cannot be sent to a process of their own; leave it out"
            yield Problem((*here, "latency", "isolated"), f"true {reason}: {text}")
    if engine == "inc" and "model_size" in section.measured:
        location = "constraints" if "model_size" in section.limited else "metrics"
        text = "INC's files hold fp32 weights whatever the precision; take 'params', or engine: onnxruntime"
        yield Problem((*here, location), f"'model_size' {reason}: {text}")


def _quantizable_problems(supernet: str, precision: PrecisionConfig, location: Location) -> Iterator[Problem]:
    """Check that a registered super-network has sub-networks of images whose blocks can be quantized."""
    from nas_compress.supernets import replay_of, supernets

    if supernet not in supernets:  # reported where it stands
        return
    info = supernets.entry(supernet).info
    if replay_of(supernet) is not None:
        reason = "whose values come from published tables: there is no network to quantize"
    elif (task := info.get("task", "images")) != "images" or not info["metrics"]:
        reason = f"which takes {task}" if task != "images" else "which shares no weights"
        reason = f"{reason}; it is for super-networks of images"
    else:
        space = registered_space(supernet)
        try:
            if space is not None:
                precision.space(space)
        except NASError as error:
            yield Problem(location, str(error))
        return
    yield Problem(location, f"does not go with {supernet!r}, {reason}; write null")


def registered_space(supernet: str | None) -> SearchSpace | None:
    """Return the whole space of a registered super-network; None if it is not registered, or not with its space."""
    from nas_compress.supernets import supernets

    if supernet is None or supernet not in supernets:
        return None
    make = supernets.entry(supernet).info.get("space")
    space: SearchSpace | None = None if make is None else make()
    return space
