"""Search strategies: they propose architectures and are told what these measured."""

from nas_compress.registry import Entry, Registry
from nas_compress.search.base import SearchStrategy, Trial

__all__ = ["SearchStrategy", "Trial", "strategies"]

strategies: Registry[type[SearchStrategy]] = Registry(
    "search strategy",
    {
        "random": Entry(
            "nas_compress.search.random:RandomSearch",
            "every gene drawn uniformly, nothing asked twice: the baseline",
        ),
        "nsga2": Entry(
            "nas_compress.search.nsga2:NSGA2",
            "NSGA-II, every candidate measured",
        ),
        "dynas": Entry(
            "nas_compress.search.dynas:DyNAS",
            "NSGA-II on predictors that are fitted again after every few measurements",
        ),
    },
)
"""The search strategies by name."""
