"""Which recipes go with which task, said before any work; what tasks know agrees with the registries."""

import pytest

from nas_compress.data import data_sources
from nas_compress.data import task_of as task_of_data
from nas_compress.errors import ConfigError
from nas_compress.objectives import objectives
from nas_compress.recipe import Recipe, SelectStep
from nas_compress.recipe.conditions import Figures, parse_condition
from nas_compress.supernets import supernets
from nas_compress.tasks import QUALITIES, TASKS, task_of

TEXT, TRANSLATION, SPEECH = "tiny_bert", "multi30k_hat", "fsdd_asr"
KNOWN = {"select": {"architecture": "smallest"}}


def problems(supernet, *steps):
    with pytest.raises(ConfigError) as caught:
        Recipe(supernet=supernet, steps=["train_supernet", KNOWN, *steps]).check()
    return str(caught.value)


@pytest.mark.parametrize("quality", QUALITIES.values(), ids=list(QUALITIES))
def test_figures_of_quality_are_those_of_searches(quality):
    info = objectives.entry(quality.objective).info
    assert (info["direction"], info["unit"], info["quality"]) == (quality.direction, quality.unit, True)


def test_every_supernet_and_data_source_has_a_known_task():
    for name in supernets:
        assert supernets.entry(name).info.get("task", "images") in TASKS
    assert {task_of_data(name) for name in data_sources} == set(TASKS)
    assert task_of(SPEECH).quality.objective in supernets.entry(SPEECH).info["metrics"]


@pytest.mark.parametrize(
    ("supernet", "step", "expected"),
    [
        (
            TEXT,
            "prune",
            "steps[2]: 'prune' removes channels of networks that take images; this super-network's",
        ),
        (TRANSLATION, "quantize", "steps[2]: 'quantize' quantizes ONNX files, which there are none of"),
        (
            TRANSLATION,
            "export",
            "steps[2].export.formats: 'onnx' does not go with translation: a translation",
        ),
        (TEXT, {"quantize": {"engine": "inc"}}, "steps[2].quantize.engine: 'inc' is for images"),
        (SPEECH, "quantize", "steps[2].quantize.approach: 'static' does not go with speech; allowed: dynamic"),
        (
            SPEECH,
            {"quantize": {"approach": "dynamic", "accuracy_criterion": {}}},
            "steps[2].quantize.accuracy_criterion: speech has no accuracy; write skip_if: wer rise > 1",
        ),
        (SPEECH, {"distill": {"features": 1}}, "steps[2].distill.features: 1 is for images and text; with speech"),
        (TEXT, {"distill": {"teacher": "a.onnx"}}, "steps[2].distill.teacher: an ONNX file teaches images alone"),
        (
            SPEECH,
            {"finetune": {"skip_if": ["not smaller", "accuracy drop > 1"]}},
            "steps[2].finetune.skip_if[1]: 'accuracy drop > 1' is not about a figure of speech; its own are 'wer' and",
        ),
        (TEXT, {"finetune": {"augment": {"flip": True}}}, "steps[2].finetune.augment: is for images; with text leave"),
        (TEXT, {"distill": {"ctc_weight": 0.5}}, "steps[2].distill.ctc_weight: is for speech; with text leave it out"),
        ("digits_mbv3", {"prune": {"training": {"ctc_weight": 0}}}, "steps[2].prune.training.ctc_weight: is for "),
        ("hat_iwslt_de_en", "finetune", "dataset: is not set; known: "),
    ],
)
def test_what_does_not_go_with_a_task(supernet, step, expected):
    assert expected in problems(supernet, step)


@pytest.mark.parametrize(("supernet", "steps"), [(TEXT, []), (SPEECH, []), (TRANSLATION, ["finetune"])])
def test_training_alone_is_a_recipe(supernet, steps):
    assert "dataset" in problems(supernet, *steps) and "steps" not in problems(supernet, *steps)


def test_a_format_that_is_there_is_enough():
    export = {"export": {"formats": ["safetensors"]}}
    assert "lacks 'onnx'" in problems(TEXT, export, "benchmark")
    assert "formats" not in problems(TRANSLATION, export, "benchmark")


@pytest.mark.parametrize(
    ("text", "after", "holds"),
    [
        ("wer rise > 1 %", 11.1, True),
        ("wer rise > 1 points", 10.9, False),
        ("wer rise > 0", 9.0, False),
        ("wer > 10 %", 10.1, True),
        ("bleu drop > 1", 8.9, True),
        ("bleu drop > 1 points", 11.0, False),
        ("bleu < 10", 9.9, True),
        ("f1 drop > 1 %", 8.9, True),
        ("f1 < 10 %", 10.1, False),
    ],
)
def test_conditions_know_which_way_is_worse(text, after, holds):
    assert parse_condition(text).holds(Figures(10.0, 1, 1), Figures(after, 1, 1)) is holds


@pytest.mark.parametrize("text", ["wer drop > 1 %", "bleu rise > 1", "accuracy rise > 1 %"])
def test_becoming_better_is_no_condition(text):
    with pytest.raises(ValueError, match="is no condition"):
        parse_condition(text)


def test_a_choice_is_by_the_tasks_own_figure():
    assert SelectStep().goal(["wer", "macs"]) == ("minimize", "wer")
    assert SelectStep().goal(["macs", "bleu"]) == ("maximize", "bleu")
    assert SelectStep().goal(["de_score", "macs"]) == ("maximize", "de_score")
    assert SelectStep().goal(["acc", "de_score"]) == ("maximize", "acc")
    assert SelectStep(minimize="macs").goal(["acc", "macs"]) == ("minimize", "macs")
