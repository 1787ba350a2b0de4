"""Options of the search for precisions, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from nas_compress.compression.options import CalibrationMethod
from nas_compress.settings import Count, Location, Settings
from nas_compress.space import SearchSpace
from nas_compress.space.precision import FULL, By, PrecisionSpace, with_precision

if TYPE_CHECKING:
    from nas_compress.supernets.base import Supernet
    from nas_compress.supernets.precision import PrecisionSupernet

Precision = Literal["fp32", "int8"]
INT8: Precision = "int8"

BY_ARCHITECTURE = "by architecture"
"""Stands for the precision in the conditions of a measurement where the architecture says it."""


def _all_precisions() -> list[Precision]:
    return ["fp32", "int8"]


def _plain_ranges() -> list[CalibrationMethod]:
    return ["minmax"]


class PrecisionConfig(Settings):
    """Precisions of block groups as a part of the search space; sub-networks are then measured as they are quantized.

    Mixed precision as a part of the space follows DyNAS-T (Intel Labs), which searched it for ResNet50 and BERT.
    """

    where: ClassVar[Location] = ("precision",)

    by: By = Field(
        "stage",
        description="What has a precision of its own: `stage` or `block` (the stem and the head are one each), or the "
        "whole `network`.",
    )
    values: list[Precision] = Field(default_factory=_all_precisions, description="The precisions to choose from.")
    engine: Literal["onnxruntime"] = Field("onnxruntime", description="What quantizes and runs the sub-networks.")
    schemes: list[CalibrationMethod] = Field(
        default_factory=_plain_ranges,
        description="How ranges of int8 activations are found; with several, that is a part of the search too.",
    )
    calibration_images: Count = Field(64, description="Training images that the ranges are found on, at most.")

    @model_validator(mode="after")
    def _worth_a_search(self) -> Self:
        for name in ("values", "schemes"):
            given: list[str] = getattr(self, name)
            if len(set(given)) < len(given):
                raise ValueError(f"{name} holds {given}; wants each once")
        if INT8 not in self.values:
            raise ValueError(f"values holds {self.values}; wants int8 among them, or write precision: null")
        if not self.schemes:
            raise ValueError("schemes is empty; wants at least one entry")
        return self

    @property
    def methods(self) -> dict[str, str | None]:
        """How ranges are found, by the value of a precision gene; None for fp32, which comes last."""
        alone = len(self.schemes) == 1
        found: dict[str, str | None] = {INT8 if alone else f"{INT8}_{scheme}": scheme for scheme in self.schemes}
        return found | {FULL: None} if FULL in self.values else found

    def space(self, base: SearchSpace) -> PrecisionSpace:
        """Return the space of a super-network with these precisions.

        Raises:
            ConfigError: The super-network has no blocks of elastic depth.
        """
        return with_precision(base, self.by, list(self.methods))

    def describe(self) -> dict[str, Any]:
        """Return what the values of sub-networks depend on, as plain data."""
        return self.model_dump(exclude={"values"})


def in_precisions(net: Supernet, options: str) -> PrecisionSupernet:
    """Return a super-network with precisions in its space.

    Args:
        net: A super-network of images.
        options: A `PrecisionConfig` as JSON, so that the call can be remembered.

    Raises:
        ConfigError: Another kind of super-network, or one that cannot be quantized by block.
    """
    from nas_compress.supernets.precision import PrecisionSupernet

    return PrecisionSupernet(net, PrecisionConfig.model_validate_json(options))
