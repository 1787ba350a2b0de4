"""Recipes: ordered lists of compression steps around a super-network."""

from nas_compress.recipe.recipe import Recipe
from nas_compress.recipe.steps import (
    STEP_NAMES,
    BenchmarkStep,
    DistillStep,
    ExportStep,
    FinetuneStep,
    NasStep,
    PruneStep,
    QuantizeStep,
    SelectStep,
    Step,
    StepOptions,
    TrainSupernetStep,
)

__all__ = [
    "STEP_NAMES",
    "BenchmarkStep",
    "DistillStep",
    "ExportStep",
    "FinetuneStep",
    "NasStep",
    "PruneStep",
    "QuantizeStep",
    "Recipe",
    "SelectStep",
    "Step",
    "StepOptions",
    "TrainSupernetStep",
]
