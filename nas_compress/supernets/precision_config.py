"""Options of the search for precisions, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from nas_compress.backends.hardware import has_bf16_dot_product
from nas_compress.compression.inc_version import inc_version
from nas_compress.compression.options import Engine
from nas_compress.errors import ConfigError
from nas_compress.settings import Count, Location, Settings
from nas_compress.space import SearchSpace
from nas_compress.space.precision import FULL, By, PrecisionSpace, with_precision

if TYPE_CHECKING:
    from nas_compress.supernets.base import Supernet
    from nas_compress.supernets.precision import PrecisionSupernet

Precision = Literal["fp32", "bf16", "int8"]
INT8: Precision = "int8"
BF16: Precision = "bf16"

Ranges = Literal["minmax", "entropy", "percentile", "kl"]
"""Ways to find ranges of activations."""

METHODS: Mapping[Engine, tuple[Ranges, ...]] = {
    "onnxruntime": ("minmax", "entropy", "percentile"),
    "inc": ("minmax", "kl"),
}
"""The ways that each engine has; `kl` is what INC calls its histograms."""

LATENCY_BACKENDS: Mapping[Engine, str] = {"onnxruntime": "onnxruntime", "inc": "torch_compile"}
"""The backend that runs what an engine makes."""

BY_ARCHITECTURE = "by architecture"
"""Stands for the precision in the conditions of a measurement where the architecture says it."""


def _all_precisions() -> list[Precision]:
    return ["fp32", "int8"]


def _plain_ranges() -> list[Ranges]:
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
    values: list[Precision] = Field(
        default_factory=_all_precisions,
        description="The precisions to choose from; `bf16` with engine `inc`, where the processor has it.",
    )
    engine: Engine = Field(
        "onnxruntime",
        description="What quantizes and runs the sub-networks: `onnxruntime`, or `inc` (Intel Neural Compressor, in "
        "PyTorch). With `inc`, each takes 10 to 60 s to compile where latency is measured (backend `torch_compile`); "
        "accuracy is that of the graph before it is compiled, and `model_size` cannot be measured.",
    )
    schemes: list[Ranges] = Field(
        default_factory=_plain_ranges,
        description="How ranges of int8 activations are found: `minmax`, `entropy`, `percentile` (engine "
        "`onnxruntime`), `minmax`, `kl` (engine `inc`); with several, that is a part of the search too.",
    )
    calibration_images: Count = Field(64, description="Training images that the ranges are found on, at most.")

    @model_validator(mode="after")
    def _worth_a_search(self) -> Self:
        for name in ("values", "schemes"):
            given: list[str] = getattr(self, name)
            if len(set(given)) < len(given):
                raise ValueError(f"{name} holds {given}; wants each once")
        if BF16 in self.values and self.engine != "inc":
            raise ValueError(f"values holds bf16, which goes with engine 'inc' alone; engine is {self.engine!r}")
        if INT8 not in self.values and BF16 not in self.values:
            wanted = "int8 or bf16" if self.engine == "inc" else "int8"
            raise ValueError(f"values holds {self.values}; wants {wanted} among them, or write precision: null")
        if not self.schemes:
            raise ValueError("schemes is empty; wants at least one entry")
        allowed = METHODS[self.engine]
        if other := next((scheme for scheme in self.schemes if scheme not in allowed), None):
            reason = f"schemes holds {other}, which engine {self.engine!r} does not have"
            raise ValueError(f"{reason}; allowed: {', '.join(allowed)}")
        return self

    def check_machine(self) -> None:
        """Look up, without importing it, whether what makes these precisions is there.

        Raises:
            MissingExtraError: INC is not installed.
            ConfigError: The processor does not compute in bf16.
        """
        if self.engine == "inc":
            inc_version()
        if BF16 in self.values and not has_bf16_dot_product():
            raise ConfigError("values holds bf16, and this processor does not compute in bf16 (AVX512-BF16, AMX)")

    @property
    def methods(self) -> dict[str, str | None]:
        """How modules are lowered, by the value of a precision gene, the lowest precision first.

        For int8, how ranges are found; for bf16 its name; for fp32 None.
        """
        alone = len(self.schemes) == 1
        found: dict[str, str | None] = {}
        if INT8 in self.values:
            found |= {INT8 if alone else f"{INT8}_{scheme}": scheme for scheme in self.schemes}
        if BF16 in self.values:
            found[BF16] = BF16
        return found | {FULL: None} if FULL in self.values else found

    def space(self, base: SearchSpace) -> PrecisionSpace:
        """Return the space of a super-network with these precisions.

        Raises:
            ConfigError: The super-network has no blocks of elastic depth.
        """
        return with_precision(base, self.by, list(self.methods))

    def describe(self) -> dict[str, Any]:
        """Return what the values of sub-networks depend on, as plain data: with INC also its version."""
        described = self.model_dump(exclude={"values"})
        return {**described, "quantizer": inc_version()} if self.engine == "inc" else described


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
