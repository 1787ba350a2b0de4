"""Recipes whose search is train-free: its options, and what must stand after it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_compress.errors import ConfigError
from nas_compress.recipe import STEP_NAMES, Recipe
from nas_compress.recipe.steps import NasStep

SEARCH = {"nas": {"approach": "denas"}}
KNOWN = {"select": {"architecture": "largest"}}
PLAIN = {"prune": {"training": {"teacher": None}}}


def recipe(*steps, **changes) -> Recipe:
    return Recipe(**{"supernet": "digits_resnet", "steps": list(steps), **changes})


def message(*steps, **changes) -> str:
    with pytest.raises(ConfigError) as caught:
        recipe(*steps, **changes).check()
    return str(caught.value)


def options(**changes):
    return {"nas": {"approach": "denas", **changes}}


def test_the_approachs_own_defaults_hold():
    section = recipe(SEARCH).nas_config(Path("a.csv")).denas
    assert (section.metrics, section.num_evals, section.select_num) == (["de_score"], 500, 10)
    other = NasStep()
    assert (other.approach, other.metrics, other.num_evals) == ("dynas", ["acc", "macs"], 250)


def test_the_score_is_checked_against_the_recipes_super_network():
    words = "steps[0].nas.diversity_weight: 1.0 does not go with 'digits_resnet', which has no attention"
    assert words in message(options(diversity_weight=1), "select", "finetune")
    recipe(options(diversity_weight=1), "select", "finetune", supernet="digits_vit").check()


def test_all_options_reach_the_search():
    given_options = {"select_num": 3, "score_seeds": 1, "saliency_weight": 2.0, "m_prob": 0.5}
    config = recipe(options(**given_options, metrics=["de_score", "macs"], num_evals=60)).nas_config(Path("a.csv"))
    assert {name: getattr(config.denas, name) for name in given_options} == given_options
    assert config.denas.metrics == ["de_score", "macs"] and config.denas.num_evals == 60
    assert config.strategy == "denas" and config.strategy_options()["parents"] == 3
    engine = recipe(options(search_engine="RandomSearchEngine")).nas_config(Path("a.csv"))
    assert engine.strategy == "random"


def test_denas_keys_are_understood():
    step = recipe(options(population_num=10, max_epochs=3, budget_model_size=50_000)).step("nas")
    assert (step.population, step.num_evals, step.constraints) == (10, 30, {"params": ["<= 50000"]})


def test_a_recipe_reads_back(tmp_path):
    whole = recipe(options(population_num=10, max_epochs=3, select_num=4), "select", "finetune", output=tmp_path)
    whole.to_yaml(tmp_path / "recipe.yaml")
    again = Recipe.from_yaml(tmp_path / "recipe.yaml")
    again.check()
    assert again == whole
    text = (tmp_path / "recipe.yaml").read_text()
    assert "select_num: 4" in text and "score_batch" not in text and "population_num" not in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"approach": "dynas", "select_num": 3}, "nas.select_num: goes with approach denas; leave it out with 'dynas'"),
        ({"approach": "dynas", "budget_flops": 3}, "nas.budget_flops: unknown key"),
        ({"predictor": "gp"}, "nas.predictor: goes with approach dynas or concurrent or full"),
        ({"seed": 3}, "nas.seed: unknown key here; it belongs to the top level"),
        ({"model_type": "cnn"}, "nas.model_type: unknown key"),
        ({"supernet_cfg": "a.yaml"}, "supernet_cfg is not read"),
        ({"search_engine": "RandomSearchEngine", "search_algorithm": "nsga2"}, "search_engine are both given"),
        ({"latency_weight": 1.0}, "nas.latency_weight: wants latency.lut"),
        ({"constraints": {"latency": "<= 0.5 x largest"}}, "which approach 'denas' does not measure; relative limits"),
    ],
)
def test_what_does_not_go_together(changes, expected):
    assert expected in message(options(**changes), "select", "finetune")


def test_networks_without_shared_weights_are_trained_after_the_search_alone():
    whole = [options(metrics=["de_score"]), "select", "finetune", "export"]
    refused = "supernet: 'denas_cnn' shares no weights: there is nothing to train before"
    assert refused in message("train_supernet", *whole, supernet="denas_cnn")
    assert refused not in message(*whole, supernet="denas_cnn")  # which lacks the data alone


def test_no_trained_weights_are_needed_where_a_step_trains():
    for steps in (
        ["finetune", "export"],
        ["finetune", "distill", "export"][:1],
        ["finetune", PLAIN, "quantize", "export", "benchmark"],
        [],
    ):
        whole = recipe(SEARCH, "select", *steps)
        whole.check()
        assert whole.untrained


def test_weights_that_are_there_are_taken(tmp_path):
    weights = tmp_path / "net.pth"
    weights.write_bytes(b"PK\x03\x04 and more")
    assert not recipe({"train_supernet": {}}, SEARCH, "select", "export").untrained
    given_ones = recipe(SEARCH, "select", "distill", "export", supernet_ckpt_path=weights)
    given_ones.check()
    assert not given_ones.untrained
    assert not recipe(SEARCH, "select", supernet="ofa_resnet50").untrained
    assert not recipe("nas", "select").untrained


def test_accuracy_in_a_search_wants_trained_weights():
    text = message(options(metrics=["de_score", "acc"]), "select", "finetune")
    assert "supernet_ckpt_path: is not set, and 'digits_resnet' comes without weights" in text


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["export"], "steps[2]: 'export' needs a 'finetune' step"),
        (["quantize", "export"], "steps[2]: 'quantize' needs a 'finetune' step"),
        ([PLAIN, "finetune", "export"], "steps[2]: 'prune' needs a 'finetune' step"),
        (["distill", "export"], "steps[2].distill.teacher: 'largest' was never trained; name an ONNX file"),
        (["finetune", "prune", "export"], "steps[3].prune.training.teacher: 'largest' (the default) was never trained"),
        ([{"finetune": {"skip_if": "accuracy < 90 %"}}], "steps[2].finetune.skip_if: would leave random weights"),
    ],
)
def test_random_weights_are_not_handed_on(steps, expected):
    assert expected in message(SEARCH, "select", *steps)
    assert expected in message(SEARCH, KNOWN, *steps)


@given(st.lists(st.sampled_from([*STEP_NAMES[3:], KNOWN, PLAIN, "select"]), max_size=6))
def test_no_order_exports_what_was_never_trained(steps):
    whole = recipe(SEARCH, *steps)
    try:
        whole.check()
    except ConfigError:
        return
    names = [step.name for step in whole.steps]
    if "export" in names:
        assert "finetune" in names[: names.index("export")]


def test_the_best_score_is_chosen_where_nothing_else_is_said():
    recipe(SEARCH, "select", "finetune").check()
    two = options(metrics=["de_score", "macs"])
    recipe(two, {"select": {"minimize": "macs", "constraints": {"de_score": ">= 0"}}}, "finetune").check()
    assert "'acc' is not measured by the 'nas' step" in message(SEARCH, {"select": {"maximize": "acc"}}, "finetune")


@pytest.mark.parametrize(("name", "computed"), [("macs", True), ("params", True), ("latency", False)])
def test_limits_relative_to_a_network_that_is_not_measured(name, computed):
    search = options(metrics=["de_score", name], population=10)
    steps = [search, {"select": {"constraints": {name: ["> 0", "<= 0.5 x largest"]}}}, "finetune"]
    if computed:
        recipe(*steps).check()
    else:
        assert f"steps[1].select.constraints.{name}: '<= 0.5 x largest' refers to" in message(*steps)
