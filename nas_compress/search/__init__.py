"""Search strategies: they propose architectures and are told what these measured."""

from nas_compress.registry import Entry, Registry
from nas_compress.search.base import SearchStrategy
from nas_compress.search.problem import SearchProblem
from nas_compress.search.trial import Trial

__all__ = ["SearchProblem", "SearchStrategy", "Trial", "strategies"]

_VARIATION = ("crossover", "mutation")  # options of the algorithms with discrete genes

strategies: Registry[type[SearchStrategy]] = Registry(
    "search strategy",
    {
        "random": Entry(
            "nas_compress.search.random:RandomSearch",
            "every gene drawn uniformly, nothing asked twice: the baseline",
        ),
        "grid": Entry(
            "nas_compress.search.grid:GridSearch",
            "every architecture of a small space, one after the other",
        ),
        "nsga2": Entry(
            "nas_compress.search.evolutionary:NSGA2",
            "NSGA-II (any number of objectives; the default)",
            info={"inner": True, "options": _VARIATION},
        ),
        "rnsga2": Entry(
            "nas_compress.search.evolutionary:RNSGA2",
            "R-NSGA-II: NSGA-II drawn to reference points that you give",
            info={"inner": True, "options": (*_VARIATION, "references", "epsilon")},
        ),
        "age": Entry(
            "nas_compress.search.evolutionary:AGEMOEA",
            "AGE-MOEA: adapts to the curvature of the front, for two objectives and more",
            info={"inner": True, "options": _VARIATION},
        ),
        "unsga3": Entry(
            "nas_compress.search.evolutionary:UNSGA3",
            "U-NSGA-III: niches around reference directions, for three objectives and more",
            info={"inner": True, "options": _VARIATION},
        ),
        "moead": Entry(
            "nas_compress.search.evolutionary:MOEAD",
            "MOEA/D: one weighted problem per reference direction",
            info={"inner": True, "options": (*_VARIATION, "neighbours")},
        ),
        "ctaea": Entry(
            "nas_compress.search.evolutionary:CTAEA",
            "C-TAEA: two archives, for limits that are hard to meet",
            info={"inner": True, "options": _VARIATION},
        ),
        "mocmaes": Entry(
            "nas_compress.search.evolutionary:MOCMAES",
            "MO-CMA-ES: adapted covariance, for ordered choices",
            info={"inner": True, "options": ("step",)},
        ),
        "ga": Entry(
            "nas_compress.search.evolutionary:GA",
            "genetic algorithm for one objective",
            info={"inner": True, "options": _VARIATION, "objectives": 1},
        ),
        "cmaes": Entry(
            "nas_compress.search.evolutionary:CMAES",
            "CMA-ES for one objective and ordered choices",
            info={"inner": True, "options": ("step",), "objectives": 1},
        ),
        "bo": Entry(
            "nas_compress.search.bo:BayesianOptimization",
            "Bayesian optimisation: one architecture at a time, the optimistic estimate decides",
        ),
        "dynas": Entry(
            "nas_compress.search.dynas:DyNAS",
            "search on predictors that are fitted again after every few measurements",
        ),
        "concurrent": Entry(
            "nas_compress.search.concurrent:ConcurrentNAS",
            "ConcurrentNAS: whole populations found on weak predictors, measured in turn",
        ),
        "full": Entry(
            "nas_compress.search.full:FullSearch",
            "predictors trained first, then one long search on them",
        ),
        "denas": Entry(
            "nas_compress.search.denas:DeNAS",
            "DE-NAS's evolution: mutants and crossovers of the best so far, limits checked first",
        ),
    },
    aliases={"agemoea": "age"},
)
"""The search strategies by name; `info["objectives"]` is the most objectives that one takes, and `info["inner"]` marks
those whose algorithm can search on predictions as well (`nas_compress.search.algorithms.evolution`), with the options
that `info["options"]` names."""
