"""Hardware-aware neural architecture search for model compression on CPUs."""

from nas_compress.agent import NAS
from nas_compress.config import NASConfig
from nas_compress.errors import NASError
from nas_compress.pipeline import CompressionResult, compress
from nas_compress.recipe import Recipe
from nas_compress.result import SearchResult
from nas_compress.space import Architecture, SearchSpace
from nas_compress.structure import best_structure, load_best_structure

__all__ = [
    "NAS",
    "Architecture",
    "CompressionResult",
    "NASConfig",
    "NASError",
    "Recipe",
    "SearchResult",
    "SearchSpace",
    "best_structure",
    "compress",
    "load_best_structure",
]
