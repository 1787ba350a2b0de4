"""What a search optimises, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

from nas_compress.errors import ConfigError
from nas_compress.objectives.base import AnalyticObjective, Direction, Measurement, Objective
from nas_compress.registry import Entry, Registry

_COST = "nas_compress.objectives.cost"

Class = TypeVar("Class", bound=type[Objective])


class ObjectiveRegistry(Registry[type[Objective]]):
    """The objectives by name; what is registered of one is what its class says."""

    def register(self, name: str, summary: str = "", **info: Any) -> Callable[[Class], Class]:
        """Return a decorator that registers a class; `direction`, `unit` and `column` are the class's by default.

        Raises:
            ConfigError: The name is taken, the direction is none, or the class says something else.
        """
        add = super().register

        def check(target: Class) -> Class:
            facts = {"name": name, "direction": None, "unit": "", "column": name}
            own = {key: value for key in facts if isinstance(value := getattr(target, key, None), str)}
            given = facts | own | {key: info[key] for key in facts if key in info} | {"name": name}
            if given["direction"] not in get_args(Direction):
                allowed = ", ".join(get_args(Direction))
                raise ConfigError(f"objective {name!r}: direction = {given['direction']!r}; allowed: {allowed}")
            if odd := next((key for key, value in own.items() if value != given[key]), None):
                differ = f"{odd} is registered as {given[odd]!r}, the class has {own[odd]!r}"
                raise ConfigError(f"objective {name!r}: {differ}; make them agree")
            del given["name"]
            add(name, summary, **info | given)(target)
            return target

        return check


objectives = ObjectiveRegistry(
    "objective",
    {
        "acc": Entry(
            "nas_compress.objectives.quality:Accuracy",
            "top-1 accuracy on the search-validation images or sentences",
            {"direction": "maximize", "unit": "%", "column": "Top-1 Acc (%)", "quality": True},
        ),
        "f1": Entry(
            "nas_compress.objectives.answers:AnswerF1",
            "F1 of the words of answers to the search-validation questions (SQuAD)",
            {"direction": "maximize", "unit": "%", "column": "F1 (%)", "quality": True},
        ),
        "exact_match": Entry(
            "nas_compress.objectives.answers:ExactMatch",
            "share of the search-validation questions answered exactly (SQuAD)",
            {"direction": "maximize", "unit": "%", "column": "Exact Match (%)", "quality": True},
        ),
        "bleu": Entry(
            "nas_compress.objectives.translation:Bleu",
            "BLEU of the translated search-validation sentences",
            {"direction": "maximize", "unit": "", "column": "BLEU", "best": 100.0, "quality": True},
        ),
        "wer": Entry(
            "nas_compress.objectives.speech:WordErrorRate",
            "word error rate on the search-validation utterances",
            {"direction": "minimize", "unit": "%", "column": "WER (%)", "quality": True},
        ),
        "macs": Entry(
            f"{_COST}:Macs",
            "multiply-accumulates of convolutions, linear layers and attention products at batch 1",
            {"direction": "minimize", "unit": "", "column": " MACs"},
        ),
        "params": Entry(
            f"{_COST}:Params",
            "number of parameters of the extracted sub-network",
            {"direction": "minimize", "unit": "", "column": "Model Parameters"},
        ),
        "layers": Entry(
            f"{_COST}:Layers",
            "number of residual blocks, or transformer layers, of the extracted sub-network",
            {"direction": "minimize", "unit": "", "column": "Layers"},
        ),
        "model_size": Entry(
            f"{_COST}:ModelSize",
            "size of the fp32 parameters, or of the quantized file, in megabytes of 10^6 bytes",
            {"direction": "minimize", "unit": "MB", "column": "Model Size (MB)"},
        ),
        "latency": Entry(
            "nas_compress.objectives.latency:Latency",
            "measured time of one forward pass in a backend",
            {"direction": "minimize", "unit": "ms", "column": "Latency (ms)"},
        ),
        "de_score": Entry(
            "nas_compress.objectives.de_score:DEScore",
            "train-free score of the untrained sub-network, against a sample of the space",
            {"direction": "maximize", "unit": "", "column": "DE-Score", "best": 10.0},
        ),
        "de_score_original": Entry(
            "nas_compress.objectives.de_score:DEScoreOriginal",
            "DE-NAS's own formula, nothing normalised: for comparison",
            {"direction": "maximize", "unit": "", "column": "DE-Score (original)"},
        ),
    },
    {"accuracy_top1": "acc", "accuracy_sst2": "acc", "top1": "acc", "lat": "latency", "em": "exact_match"},
)
"""What can be optimised.

`Entry.info` holds `direction`, `unit`, the `column` of results tables, the `best` value where there is one and the unit
does not tell, and, for how well a network does its task, `quality`: such an objective wants trained weights and data,
and a super-network whose registered metrics name it.
"""

__all__ = ["AnalyticObjective", "Direction", "Measurement", "Objective", "objectives"]
