"""The evolutionary algorithms by name, ready to run on encoded architectures."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from pymoo.algorithms.moo.ctaea import CTAEA
from pymoo.algorithms.moo.moead import NeighborhoodSelection, ParallelMOEAD
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.rnsga2 import RankAndModifiedCrowdingSurvival
from pymoo.algorithms.moo.unsga3 import UNSGA3
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.algorithm import Algorithm
from pymoo.core.duplicate import NoDuplicateElimination
from pymoo.core.survival import Survival

from nas_compress.errors import ConfigError, first_line, suggest
from nas_compress.search import operators, strategies
from nas_compress.search.age import GeometrySurvival
from nas_compress.search.directions import directions
from nas_compress.search.evolver import Evolver, Scale
from nas_compress.search.nsga2 import NSGA2Evolver
from nas_compress.search.operators import Genes
from nas_compress.search.problem import SearchProblem
from nas_compress.search.pymoo_evolution import PymooEvolution
from nas_compress.space import SearchSpace
from nas_compress.space.search_space import FloatMatrix

DEFAULT_REFERENCES = 5
"""Reference points of R-NSGA-II where none are given, spread evenly over the plane between the extremes known."""


def evolution(
    name: str | Algorithm,
    space: SearchSpace,
    objectives: int,
    population: int = 50,
    rng: np.random.Generator | int = 0,
    **options: Any,
) -> Evolver:
    """Return an evolutionary algorithm by its name, or a user's own.

    Args:
        name: A registered search strategy that says `inner`, or an algorithm object of pymoo: it is copied, never
            changed.
        space: Where to search.
        objectives: Number of costs to minimise.
        population: Number of individuals.
        rng: A generator, or a seed.
        options: The algorithm's own: `crossover` and `mutation` (those with discrete genes), `references` and
            `epsilon` (rnsga2; costs, shape (k, objectives)), `neighbours` (moead), `step` (cmaes, mocmaes).

    Raises:
        ConfigError: An unknown name or option, a value out of range, or an algorithm for one objective with several.
    """
    rng = np.random.default_rng(rng)
    if isinstance(name, Algorithm):
        _check_options(type(name).__name__, options, ())
        return _users(name, space, objectives, population, rng)
    name = check_objectives(name, objectives)
    if name not in ALGORITHMS:
        raise ConfigError(f"search strategy {name!r} is no evolutionary algorithm; want one of {', '.join(ALGORITHMS)}")
    _check_options(name, options, strategies.entry(name).info["options"])
    if name in ("cmaes", "mocmaes"):
        from nas_compress.search import covariance

        engine = covariance.CMAES if name == "cmaes" else covariance.MOCMAES
        return engine(space, objectives, population, rng, **options)
    if name == "nsga2":
        return NSGA2Evolver(space, objectives, population, rng, **options)
    maker, traits = _MAKERS[name]
    maker(Genes(space), objectives, population, Scale(np.zeros(objectives), np.ones(objectives)), **options)
    return PymooEvolution(space, objectives, population, rng, lambda *args: maker(*args, **options), **traits)


def _check_options(name: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Check that an algorithm takes the options, and that all but points are numbers."""
    for option, value in options.items():
        if option not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none but its own"
            raise ConfigError(f"search algorithm {name!r} has no option {option!r}{suggest(option, known)}; {takes}")
        if option == "references" or (option == "mutation" and value is None):
            continue
        if not isinstance(value, Integral if option == "neighbours" else Real) or isinstance(value, bool):
            raise ConfigError(f"{option}: {value!r} is no {'whole ' if option == 'neighbours' else ''}number")


def check_objectives(name: str, objectives: int) -> str:
    """Return the registered spelling of a strategy's name; raise `ConfigError` if it cannot do that many objectives."""
    name = strategies.canonical(name)
    most = strategies.entry(name).info.get("objectives")
    if most is not None and objectives > most:
        raise ConfigError(f"search algorithm {name!r} optimises {most} objective, not {objectives}; take nsga2, say")
    return name


def in_costs(options: Mapping[str, Any], problem: SearchProblem) -> dict[str, Any]:
    """Return options whose reference points, given in natural units by metric, are costs, shape (k, objectives).

    Raises:
        ConfigError: The options are no mapping, or a point lacks an objective, or has something else.
    """
    if not isinstance(options, Mapping):
        raise ConfigError(f"algorithm_options: {options!r} wants values by name")
    references = options.get("references")
    if references is None:
        return dict(options)
    names = [o.name for o in problem.objectives]
    for i, point in enumerate(references):
        whole = isinstance(point, Mapping) and set(point) == set(names)
        if not whole or not all(isinstance(value, Real) and math.isfinite(value) for value in point.values()):
            raise ConfigError(f"references[{i}]: {point!r} wants a number for each of {', '.join(names)}")
    costs = problem.costs({name: np.array([float(point[name]) for point in references]) for name in names})
    return {**options, "references": costs}


def _users(
    algorithm: Algorithm, space: SearchSpace, objectives: int, population: int, rng: np.random.Generator
) -> PymooEvolution:
    """Return the engine of a user's algorithm: any operators, constraints as a penalty, its own population size."""
    size = getattr(algorithm, "pop_size", None)

    def engine(rng: np.random.Generator) -> PymooEvolution:
        return PymooEvolution(
            space,
            objectives,
            size or population,
            rng,
            lambda *_: copy.deepcopy(algorithm),
            native=False,
            aligned=True,
            full=size is not None,
            discrete=False,
        )

    try:
        _try(engine(np.random.default_rng(0)))
    except Exception as error:
        raise ConfigError(
            f"algorithm: pymoo's {type(algorithm).__name__} does not run on {objectives} objectives and the "
            f"{len(space.cardinalities)} genes of space {space.name!r}: {first_line(error)}"
        ) from error
    return engine(rng)


def _try(evolver: Evolver) -> None:
    """Run two generations on made-up costs: an algorithm that does not fit the problem fails at once."""
    for _ in range(3):
        rows = evolver.ask()
        evolver.tell(evolver.rng.random((len(rows), evolver.objectives)))


def _crowded(genes: Genes, size: int, survival: Survival, **variation: Any) -> Algorithm:
    """Return an NSGA-II with another survival."""
    mating = operators.mating(genes, operators.crowded_tournament(), **variation)
    return NSGA2(pop_size=size, mating=mating, survival=survival)


def _age(genes: Genes, objectives: int, size: int, scale: Scale, **variation: Any) -> Algorithm:
    return _crowded(genes, size, GeometrySurvival(), **variation)


def _rnsga2(
    genes: Genes,
    objectives: int,
    size: int,
    scale: Scale,
    *,
    references: FloatMatrix | None = None,
    epsilon: float = 0.01,
    **variation: Any,
) -> Algorithm:
    if epsilon < 0:
        raise ConfigError(f"epsilon: {epsilon} is no distance; want 0 or more")
    if references is None:
        points = directions(objectives, DEFAULT_REFERENCES)
    else:
        given = np.asarray(references, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != objectives or not len(given):
            raise ConfigError(f"references: shape {given.shape} is not (points, {objectives}) with at least one point")
        points = scale(given)
    survival = RankAndModifiedCrowdingSurvival(
        points, epsilon, None, normalization="no", extreme_points_as_reference_points=False
    )
    return _crowded(genes, size, survival, **variation)


def _unsga3(genes: Genes, objectives: int, size: int, scale: Scale, **variation: Any) -> Algorithm:
    mating = operators.mating(genes, operators.niche_tournament(), **variation)
    return UNSGA3(directions(objectives, size), pop_size=size, mating=mating)


def _moead(
    genes: Genes, objectives: int, size: int, scale: Scale, *, neighbours: int = 20, **variation: Any
) -> Algorithm:
    if neighbours < 2:
        raise ConfigError(f"neighbours: {neighbours} cannot be paired; want at least 2")
    mating = operators.mating(genes, NeighborhoodSelection(prob=0.9), **variation)
    mating.eliminate_duplicates = NoDuplicateElimination()
    return ParallelMOEAD(directions(objectives, size), n_neighbors=min(neighbours, size), mating=mating)


def _ctaea(genes: Genes, objectives: int, size: int, scale: Scale, **variation: Any) -> Algorithm:
    mating = operators.mating(genes, operators.ArchiveSelection(), **variation)
    return CTAEA(directions(objectives, size), mating=mating)


def _ga(genes: Genes, objectives: int, size: int, scale: Scale, **variation: Any) -> Algorithm:
    return GA(pop_size=size, mating=operators.mating(genes, operators.cost_tournament(), **variation))


_MAKERS: dict[str, tuple[Callable[..., Algorithm], dict[str, bool]]] = {
    "rnsga2": (_rnsga2, {}),
    "age": (_age, {}),
    "unsga3": (_unsga3, {}),
    "moead": (_moead, {"native": False, "aligned": True, "full": True, "doubled": True}),
    "ctaea": (_ctaea, {"full": True, "doubled": True}),
    "ga": (_ga, {}),
}

ALGORITHMS = ("nsga2", *_MAKERS, "mocmaes", "cmaes")
"""The names that `evolution` takes, aliases apart."""
