"""Recipes: the steps, their order, round trips, and what is said about mistakes."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from nas_compress.backends import backends
from nas_compress.compression import inc_version, packages
from nas_compress.documents import template_names, template_text
from nas_compress.errors import ConfigError, MissingExtraError
from nas_compress.recipe import STEP_NAMES, FinetuneStep, Recipe, TrainSupernetStep
from nas_compress.recipe import checks as recipe_checks
from nas_compress.recipe.steps import Conditional, SelectStep
from nas_compress.training.config import DistillConfig, FinetuneConfig, SupernetTrainConfig

TRAIN, SEARCH = {"train_supernet": {"epochs": 3}}, {"nas": {"metrics": ["acc", "macs"], "num_evals": 60}}
WHOLE = [TRAIN, SEARCH, "select", "finetune", "prune", "distill", "quantize", "export", "benchmark"]


def recipe(*steps, **changes) -> Recipe:
    return Recipe(**{"supernet": "digits_mbv3", "steps": list(steps), **changes})


def message(function, *arguments, **keywords) -> str:
    with pytest.raises(ConfigError) as caught:
        function(*arguments, **keywords)
    return str(caught.value)


def test_a_whole_recipe():
    whole = recipe(*WHOLE)
    whole.check()
    assert {step.name for step in whole.steps} == set(STEP_NAMES)
    assert whole.folder == Path("outputs/recipe")
    assert whole.step("quantize").engine == "onnxruntime"
    assert recipe(SEARCH).step("quantize") is None


def test_bare_names_empty_options_and_mappings_are_the_same():
    assert (
        recipe(TRAIN, SEARCH, "select")
        == recipe(TRAIN, SEARCH, {"select": None})
        == recipe(TRAIN, SEARCH, {"select": {}})
    )


def test_round_trip(tmp_path):
    whole = recipe(*WHOLE, seed=7, output=tmp_path)
    whole.to_yaml(tmp_path / "recipe.yaml")
    assert Recipe.from_yaml(tmp_path / "recipe.yaml") == whole


def test_every_template_reads_back_the_same_text(tmp_path):
    for name in (n for n in template_names() if "steps" in yaml.safe_load(template_text(n))):
        (tmp_path / "one.yaml").write_text(template_text(name))
        texts = []
        for written in ("two.yaml", "three.yaml"):
            Recipe.from_yaml(tmp_path / "one.yaml").to_yaml(tmp_path / written)
            texts.append((tmp_path / written).read_text())
            (tmp_path / "one.yaml").write_text(texts[-1])
        assert texts[0] == texts[1], name


def test_a_short_search_is_checked_as_it_is_run_and_reads_back(tmp_path):
    short = recipe(TRAIN, {"nas": {"metrics": ["acc", "macs"], "num_evals": 30}}, output=tmp_path)
    short.check()
    assert "population" not in message(short.nas_config(tmp_path / "a.csv").check)  # but weights are lacking
    short.to_yaml(tmp_path / "recipe.yaml")
    Recipe.from_yaml(tmp_path / "recipe.yaml").check()


def test_stages_are_written_and_read(tmp_path):
    stages = [{"epochs": 3}, {"elastic": dict.fromkeys(("ks", "e", "d", "r")), "epochs": 2, "sort": True}]
    whole = recipe({"train_supernet": {"algorithm": "progressive_shrinking", "stages": stages}}, output=tmp_path)
    whole.check()
    whole.to_yaml(tmp_path / "recipe.yaml")
    again = Recipe.from_yaml(tmp_path / "recipe.yaml").step("train_supernet")
    assert again == whole.step("train_supernet")
    assert again.epochs == 5


def test_options_of_other_approaches_are_not_written(tmp_path):
    whole = recipe(TRAIN, {"nas": {"approach": "full", "training_samples": 9}}, output=tmp_path)
    whole.to_yaml(tmp_path / "recipe.yaml")
    again = Recipe.from_yaml(tmp_path / "recipe.yaml")
    again.check()
    assert again == whole and again.nas_config(Path("a.csv")).full.training_samples == 9
    text = (tmp_path / "recipe.yaml").read_text()
    assert "batch:" not in text and "algorithm_options" not in text


def test_options_of_the_algorithm_are_checked_and_written(tmp_path):
    step = {"search_algorithm": "moead", "algorithm_options": {"neighbours": 5, "mutation": 0.1}}
    whole = recipe(TRAIN, {"nas": step}, output=tmp_path)
    whole.to_yaml(tmp_path / "recipe.yaml")
    again = Recipe.from_yaml(tmp_path / "recipe.yaml")
    again.check()
    options = again.nas_config(Path("a.csv")).strategy_options()
    assert again == whole and options["algorithm_options"] == {"mutation": 0.1, "neighbours": 5}
    with pytest.raises(
        ConfigError, match=r"steps\[1\].nas.algorithm_options.neighbours: goes with search_algorithm moead"
    ):
        recipe(TRAIN, {"nas": {"algorithm_options": {"neighbours": 5}}}).check()
    with pytest.raises(
        ConfigError, match="algorithm_options: goes with approach dynas or .*; leave it out with 'random'"
    ):
        recipe(TRAIN, {"nas": {"approach": "random", "algorithm_options": {"mutation": 0.1}}}).check()


def test_limits_of_the_search_alone_can_be_selected_by():
    limited = {"nas": {"metrics": ["acc"], "num_evals": 60, "constraints": {"macs": "<= 1M"}}}
    recipe(
        TRAIN, limited, {"select": {"minimize": "macs", "constraints": {"macs": [">= 1k", "<= 0.5 x largest"]}}}
    ).check()


def test_what_an_engine_does_not_know_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_checks, "inc_version", dict)  # as if it were installed
    whole = recipe(TRAIN, SEARCH, "select", {"quantize": {"engine": "inc"}}, output=tmp_path)
    whole.to_yaml(tmp_path / "recipe.yaml")
    again = Recipe.from_yaml(tmp_path / "recipe.yaml")
    again.check()
    assert again == whole
    assert "per_channel" not in (tmp_path / "recipe.yaml").read_text()
    assert recipe(TRAIN, SEARCH, "select", "quantize").step("quantize").model_dump()["per_channel"] is True


def test_the_recipes_seed_serves_all_steps():
    assert not {"seed"} & {*TrainSupernetStep.model_fields, *FinetuneStep.model_fields}
    text = message(recipe, {"train_supernet": {"seed": 1}})
    assert text == "steps[0].train_supernet.seed: unknown key here; it belongs to the top level"


def test_training_options_fit_the_trainers_configs():
    training, tuning = recipe(*WHOLE).step("train_supernet"), recipe(*WHOLE).step("finetune")
    conditions = set(Conditional.conditions)
    assert SupernetTrainConfig(seed=1, **training.model_dump()).epochs == 3
    assert FinetuneConfig(seed=1, **tuning.model_dump(exclude=conditions)).epochs == 10
    distill = recipe(TRAIN, SEARCH, "select", "distill").step("distill")
    assert DistillConfig(seed=1, **distill.model_dump(exclude={*conditions, "teacher"})).distillation == 0.5


def test_the_search_step_as_a_search_config():
    options = {"approach": "random", "num_evals": 9, "metrics": ["macs"], "search_space": {"ks": [3]}, "batch_size": 4}
    config = recipe(TRAIN, {"nas": options}, seed=5, dataset="digits").nas_config(Path("out/results.csv"))
    assert (config.approach, config.seed, config.search_space) == ("random", 5, {"ks": [3]})
    assert (config.section.num_evals, config.section.batch_size) == (9, 4)
    assert (config.section.supernet, config.section.dataset) == ("digits_mbv3", "digits")
    assert config.section.results_csv_path == Path("out/results.csv")
    assert recipe(TRAIN, {"nas": {"predictor": "svr"}}).nas_config(Path("a.csv")).dynas.predictor == "svr"
    options = {"approach": "concurrent", "generations": 9, "patience": 30, "constraints": {"params": "<= 1M"}}
    config = recipe(TRAIN, {"nas": options}).nas_config(Path("a.csv"))
    assert (config.approach, config.concurrent.generations, config.concurrent.patience) == ("concurrent", 9, 30)
    assert config.concurrent.predictor is None and config.section.limited == ["params"]
    assert "no 'nas' step" in message(recipe(TRAIN).nas_config, Path("a.csv"))


def test_a_name_comes_from_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("supernet: digits_mbv3\nsteps: [train_supernet]\n")
    assert Recipe.from_yaml(path).name == "mine"


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            [{"train_supernet": {"subnets_per_step": 1}}],
            "steps[0].train_supernet: subnets_per_step = 1 is not allowed; the sandwich rule wants at least 2",
        ),
        (["quantise"], "steps[0]: unknown step 'quantise' (did you mean 'quantize'?); known: train_supernet, nas"),
        ([{"quantise": {}}], "steps[0]: unknown step 'quantise' (did you mean 'quantize'?)"),
        ([{"nas": {}, "select": {}}], "steps[0]: a step has one name, got nas, select; start each with '- '"),
        ([{}], "steps[0]: a step has one name, got none"),
        ([3], "steps[0]: 3 is not a mapping"),
        ([], "steps: [] is too short"),
        ([{"nas": {"populaton": 3}}], "steps[0].nas.populaton: unknown key (did you mean 'population'?)"),
        ([{"nas": 3}], "steps[0].nas: 3 is not a mapping"),
        ([{"train_supernet": {"epochs": 0}}], "steps[0].train_supernet.epochs: 0 is not allowed; wants >= 1"),
        ([{"train_supernet": {"epochs": True}}], "steps[0].train_supernet.epochs: true is not a number"),
        ([{"train_supernet": {"augment": {"flp": True}}}], "steps[0].train_supernet.augment.flp: unknown key (did"),
        ([{"select": {"constraints": {"latency": 2}}}], "steps[0].select.constraints.latency: 2 is not a limit; write"),
        ([{"quantize": {"engine": "ort"}}], "steps[0].quantize.engine: 'ort' is not allowed"),
        (
            [{"export": {"formats": ["onxx"]}}],
            "steps[0].export.formats[0]: 'onxx' is not allowed (did you mean 'onnx'?)",
        ),
        (
            [{"benchmark": {"latency": {"backend": "torch"}}}],
            "steps[0].benchmark.latency.backend: unknown key here; it belongs to steps.nas.latency",
        ),
        ([{"nas": {"steps": []}}], "steps[0].nas.steps: unknown key"),
        ([{"benchmark": {"batch_size": [1, 1]}}], "steps[0].benchmark.batch_size: [1, 1] has a number twice"),
        ([{"benchmark": {"batch_size": [1, 0]}}], "steps[0].benchmark.batch_size[1]: 0 is not allowed; wants >= 1"),
        ([{"benchmark": {"batch_size": "all"}}], "steps[0].benchmark.batch_size[0]: 'all' is not a whole number"),
        (
            [{"finetune": {"distillation": 0.5}}],
            "steps[0].finetune.distillation: unknown key here; it belongs to steps.distill",
        ),
        ([{"quantize": {"skip_if": "not quicker"}}], "steps[0].quantize.skip_if[0]: 'not quicker' is no condition"),
        (
            [{"quantize": {"stop_if": ["accuracy drop > 1 ms"]}}],
            "steps[0].quantize.stop_if[0]: 'accuracy drop > 1 ms': the unit of accuracy drop is % or points, not ms",
        ),
        ([{"prune": {"pattern": "2x4"}}], "steps[0].prune.pattern: '2x4' is not allowed; wants channel, 1x1, or N:M"),
        ([{"distill": {"teacher": None}}], "steps[0].distill.teacher: null is not allowed; wants largest, or the path"),
        ([{"distill": {"teacher": ""}}], "steps[0].distill.teacher: '' is not allowed; wants largest, or the path"),
        (
            [{"quantize": {"calibration_images": 9, "calibration_sampling_size": 9}}],
            "steps[0].quantize: calibration_images and calibration_sampling_size are the same; give one of the two",
        ),
        (
            [{"quantize": {"accuracy_criterion": {"tolerable_loss": 1}}}],
            "steps[0].quantize.accuracy_criterion: tolerable_loss = 1 is 100 % of the accuracy with criterion 'relat",
        ),
        (
            [{"quantize": {"accuracy_criterion": {"criterion": "total"}}}],
            "steps[0].quantize.accuracy_criterion.criterion: 'total' is not allowed",
        ),
        (
            [{"quantize": {"accuracy_criterion": {"criterion": "absolute", "tolerable_loss": 200}}}],
            "steps[0].quantize.accuracy_criterion: tolerable_loss = 200 points is all of any accuracy; wants less than",
        ),
        (
            [{"quantize": {"skip_if": ["accuracy < 9 %", "not  faster"], "stop_if": "speed-up <= 1"}}],
            "steps[0].quantize: 'not  faster' stands in skip_if and in stop_if, which would stop; leave it out of one",
        ),
        ([{"prune": {"pattern": "4:2"}}], "steps[0].prune: pattern = '4:2' removes nothing"),
        ([{"select": {"architecture": "median"}}], "steps[0].select.architecture"),
    ],
)
def test_a_wrong_step_says_where_what_and_what_is_allowed(steps, expected):
    assert message(recipe, *steps).startswith(expected)


def test_what_is_missing_is_named():
    assert message(Recipe, steps=["train_supernet"]) == "supernet: is required"


def test_assignment_to_a_training_step_is_validated():
    step = TrainSupernetStep()
    step.epochs = 5
    assert step.epochs == 5
    assert "train_supernet.epochs: 'x' is not a whole number" in message(setattr, step, "epochs", "x")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            [TRAIN, {"nas": {"approach": "concurrent", "num_evals": 9, "population": 10}}],
            "steps[1].nas.population: 10 is larger than num_evals (9)",
        ),
        ([TRAIN, {"nas": {"search_algorithm": "grid"}}], "steps[1].nas.search_algorithm: 'grid' does not go with"),
        (
            [TRAIN, {"nas": {"generations": 9}}],
            "steps[1].nas.generations: goes with approach concurrent or full; leave it out with 'dynas'",
        ),
        (
            [TRAIN, {"nas": {"constraints": {"macs": "<= 3 ms"}}}],
            "steps[1].nas.constraints.macs: constraint on macs: unit 'ms'",
        ),
        (
            [TRAIN, {"nas": {"approach": "full", "training_samples": 250}}],
            "steps[1].nas.training_samples: 250 leaves nothing of num_evals (250)",
        ),
        ([TRAIN, {"nas": {"latency": {"lut": "nope.jsonl"}}}], "steps[1].nas.latency.lut: no such file: 'nope.jsonl'"),
        ([TRAIN, {"nas": {"metrics": ["bleu"]}}], "steps[1].nas.metrics: 'bleu' is not a metric of supernet"),
        ([TRAIN, {"nas": {"metrics": ["bleus"]}}], "steps[1].nas.metrics[0]: unknown objective 'bleus'"),
        (
            [TRAIN, SEARCH, {"select": {"maximize": "macs"}}],
            "steps[2].select.maximize: 'macs' is an objective to minimize",
        ),
        ([TRAIN, SEARCH, {"select": {"minimize": "latency"}}], "'latency' is not measured by the 'nas' step; add it"),
        ([TRAIN, SEARCH, {"select": {"maximize": "acc", "minimize": "macs"}}], "maximize and minimize are both given"),
        ([TRAIN, SEARCH, {"select": {"constraints": {"macs": "under 3"}}}], "steps[2].select.constraints.macs: "),
        ([TRAIN, SEARCH, {"select": {"constraints": {"acc": ">= 97 ms"}}}], "unit 'ms'"),
        ([TRAIN, SEARCH, "select", {"export": {"formats": ["safetensors"]}}, "benchmark"], "lacks 'onnx'"),
        (
            [TRAIN, SEARCH, "select", {"quantize": {"engine": "inc", "per_channel": True, "method": "minmax"}}],
            "steps[3].quantize.method: goes with engine 'onnxruntime' alone; leave it out with engine 'inc'",
        ),
        (
            [TRAIN, SEARCH, "select", {"quantize": {"approach": "smoothquant"}}],
            "steps[3].quantize.approach: 'smoothquant' goes with engine 'inc'; allowed here: static, dynamic",
        ),
        (
            [TRAIN, SEARCH, "select", {"quantize": {"approach": "dynamic", "method": "entropy"}}],
            "steps[3].quantize.method: has no effect with approach 'dynamic', which has no calibration",
        ),
        (
            [TRAIN, SEARCH, "select", {"quantize": {"approach": "dynamic", "calibration_sampling_size": 64}}],
            "steps[3].quantize.calibration_images: has no effect with approach 'dynamic', which has no calibration",
        ),
        (
            [TRAIN, SEARCH, "select", {"quantize": {"tuning_criterion": {"max_trials": 3}}}],
            "steps[3].quantize.tuning_criterion: says when to give up on 'accuracy_criterion', which is not given",
        ),
        (
            [TRAIN, SEARCH, "select", {"distill": {"teacher": "nowhere.onnx"}}],
            "steps[3].distill.teacher: no such file: 'nowhere.onnx'",
        ),
        (
            [TRAIN, {"select": {"architecture": "largest", "maximize": "acc"}}],
            "steps[1].select.maximize: chooses from a search; leave it out where 'architecture' is given",
        ),
        (
            [TRAIN, {"select": {"architecture": {"ks": [9], "e": [2], "d": [1], "r": [8]}}}],
            "steps[1].select.architecture: ",
        ),
        (
            [{**TRAIN}, SEARCH, "select", {"prune": {"pattern": "1x1"}}, "finetune"],
            "steps[4]: 'finetune' stands after steps[3], which prunes single weights: training would fill them again",
        ),
        (
            [*WHOLE[:-1], {"benchmark": {"latency": {"min_runs": 9, "max_runs": 4}}}],
            "steps[8].benchmark.latency.min_runs: 9 is larger than max_runs (4)",
        ),
        (
            [*WHOLE[:-1], {"benchmark": {"latency": {"threads": [1, 9999]}}}],
            "steps[8].benchmark.latency.threads: 9999 is more than this machine's",
        ),
        (
            [{"train_supernet": {"algorithm": "progressive_shrinking", "epochs": 5}}],
            "steps[0].train_supernet.epochs: 5 epochs are too few: 'digits_mbv3' shrinks in 6 stages",
        ),
        (
            [{"train_supernet": {"algorithm": "progressive_shrinking", "stages": [{"epochs": 5}]}}],
            "steps[0].train_supernet.stages: the last stage trains 1 of ",
        ),
    ],
)
def test_check_finds_what_does_not_fit_together(steps, expected):
    assert expected in message(recipe(*steps).check)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"supernet": "digits"}, "supernet: unknown supernet 'digits'"),
        ({"dataset": "cifar10", "dataset_path": "/nowhere"}, "dataset_path: '/nowhere' does not exist"),
        ({"supernet_ckpt_path": "a.pth"}, "supernet_ckpt_path: is given, and a step trains the weights"),
        (
            {"dataset": "cifar10"},
            "dataset: 'cifar10' has images of 3 channels (colour), supernet 'digits_mbv3' takes 1 channel (grey)",
        ),
        ({"output": "/dev/null/out"}, "output: '/dev/null/out/report.json' cannot be written"),
    ],
)
def test_check_finds_wrong_names_and_paths(changes, expected):
    assert expected in message(recipe(*WHOLE, **changes).check)


def test_json_schema_describes_steps_as_names_or_mappings_of_one_key():
    name, mapping = Recipe.json_schema()["$defs"]["Step"]["anyOf"]
    assert name["enum"] == list(STEP_NAMES)
    assert mapping["maxProperties"] == 1 and set(mapping["properties"]) == set(STEP_NAMES)


@pytest.mark.parametrize("name", [n for n in template_names() if "steps" in yaml.safe_load(template_text(n))])
def test_templates_load_and_fit_the_schema(name):
    assert Recipe.from_yaml(name).name == name
    jsonschema.validate(yaml.safe_load(template_text(name)), Recipe.json_schema())


@pytest.mark.parametrize(
    "step",
    [
        {"nas": {"approach": "denas", "population_num": 20, "max_epochs": 5, "budget_model_size": 2e6}},
        {"nas": {"reference_point": {"acc": 80, "macs": "2M"}}},
        {"quantize": {"calibration_sampling_size": 64, "skip_if": "not faster"}},
        {"prune": {"target_sparsity": 0.3, "stop_if": ["accuracy drop > 1 %"]}},
    ],
)
def test_whatever_is_read_fits_the_schema(step):
    data = {"supernet": "digits_mbv3", "steps": [step]}
    jsonschema.validate(data, Recipe.json_schema())
    assert Recipe.model_validate(data).steps[0].name in step


@pytest.mark.parametrize("step", [{"nas": {"popsize": 3}}, {"quantize": {"calibration_sampling_size": "x"}}])
def test_what_is_not_read_does_not_fit_the_schema(step):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"supernet": "digits_mbv3", "steps": [step]}, Recipe.json_schema())


def test_a_search_config_is_told_apart(tmp_path):
    assert "inc_dynas.yaml is a search config" in message(Recipe.from_yaml, "inc_dynas")


@pytest.mark.parametrize(("file", "name"), [("my recipe.yaml", "my-recipe"), ("..x.yaml", "x"), ("ü.yaml", "recipe")])
def test_the_name_of_a_recipe_without_one_is_that_of_its_file(tmp_path, file, name):
    path = tmp_path / file
    path.write_text("supernet: digits_mbv3\nsteps: [nas]\n")
    assert Recipe.from_yaml(path).name == name


@pytest.mark.parametrize("name", ["..", "a/b", "", "-x"])
def test_names_that_are_no_folder_names(name):
    with pytest.raises(ConfigError, match="wants letters, digits"):
        Recipe(name=name, supernet="digits_mbv3", steps=["nas"])


def test_a_wrong_search_space_is_found_before_any_training():
    steps = [{"train_supernet": {}}, {"nas": {"search_space": {"kss": [3]}}}]
    with pytest.raises(ConfigError, match=r"steps\[1\]\.nas\.search_space: .*did you mean 'ks'"):
        Recipe(supernet="digits_mbv3", steps=steps).check()


def test_a_pattern_wants_no_quotes(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("supernet: digits_mbv3\nsteps:\n  - prune: {pattern: 2:4}\n")
    assert Recipe.from_yaml(path).step("prune").pattern == "2:4"


@pytest.mark.parametrize(
    ("step", "where", "reason"),
    [
        (
            {"prune": {}},
            "steps[3].prune.pattern",
            "torch-pruning is not installed; install it with: pip install . (in nas-compress",
        ),
        ({"quantize": {"engine": "inc"}}, "steps[3].quantize.engine", "no-inc is not installed; install it with: pip"),
        (
            {"quantize": {"engine": "inc", "approach": "mixed_precision"}},
            "steps[3].quantize.approach",
            "mixed_precision: this processor does not compute in bf16",
        ),
    ],
)
def test_what_is_not_there_is_said_before_any_work(monkeypatch, step, where, reason):
    monkeypatch.setattr(inc_version, "DISTRIBUTIONS", ("no-inc",))
    monkeypatch.setattr(packages.util, "find_spec", lambda name: None)
    monkeypatch.setattr(packages, "has_bf16_dot_product", lambda: False)
    text = message(recipe(TRAIN, SEARCH, "select", step).check)
    assert f"{where}: {reason}" in text


def test_weights_are_zeroed_without_other_packages(monkeypatch):
    monkeypatch.setattr(packages.util, "find_spec", lambda name: None)
    recipe(TRAIN, SEARCH, "select", {"prune": {"pattern": "1x1"}}).check()


def test_onnx_runtime_is_looked_for_before_any_work(monkeypatch):
    def missing(backend):
        raise MissingExtraError("onnxruntime", "")

    monkeypatch.setattr(backends.get("onnxruntime"), "check", classmethod(missing))
    text = message(recipe(TRAIN, SEARCH, "select").check)
    assert "steps[2].select: onnxruntime is not installed; install it with: pip install ." in text


def test_precisions_can_be_restricted():
    options = {"metrics": ["acc"], "precision": {"by": "network"}, "search_space": {"precision": ["int8"]}}
    recipe(TRAIN, {"nas": options}).check()


def test_options_of_quantize_are_not_refused_for_a_search_that_nothing_is_chosen_from():
    searched, known = {"nas": {"precision": {"by": "stage"}}}, {"select": {"architecture": "largest"}}
    text = message(recipe(TRAIN, searched, known, {"quantize": {"approach": "dynamic"}}, "export").check)
    assert text == (
        "steps[2].select.architecture: takes a known architecture, so that the 'nas' step is for nothing; "
        "leave one of the two out"
    )


def test_files_of_another_engine_want_no_onnx():
    searched = {"nas": {"metrics": ["acc"], "precision": {"engine": "inc"}}}
    recipe(TRAIN, searched, "select", "quantize", {"export": {"formats": ["safetensors"]}}).check()


def test_a_known_architecture_may_have_texts_for_values():
    genes = {"act": ["relu", "gelu"], "w": [8, 4.5]}
    assert SelectStep(architecture=genes).architecture == genes
