"""What a search optimises, and how it is measured."""

from __future__ import annotations

from nas_compress.objectives.base import AnalyticObjective, Direction, Measurement, Objective
from nas_compress.registry import Entry, Registry

_COST = "nas_compress.objectives.cost"

objectives: Registry[type[Objective]] = Registry(
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
