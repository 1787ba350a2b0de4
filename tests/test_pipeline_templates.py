"""The templates for the digits run: made smaller, from the first step to the last."""

import pytest

from nas_compress import NAS, NASConfig, Recipe, compress

QUICK = {"budget_s": 0.02, "min_runs": 3, "warmup": 1}
BRIEF = {"epochs": 1, "batch_size": 256, "stop_if": []}
CHANGES = {
    "train_supernet": {"epochs": 1, "batch_size": 256, "subnets_per_step": 2, "warmup_epochs": 0},
    "nas": {"population": 4, "num_evals": 6, "calibration_images": 64, "latency": QUICK},
    "finetune": BRIEF,
    "distill": BRIEF,
    "prune": {"rounds": 1, "training": {"epochs": 1, "batch_size": 256}},
    "quantize": {"calibration_images": 32, "stop_if": []},
    "benchmark": {"latency": QUICK},
}


def smaller(name, folder):
    """Return a template with less to do; its limits on latency are ones that the largest sub-network keeps."""
    recipe = Recipe.from_yaml(name)
    recipe.output, recipe.latency = folder, QUICK
    steps = []
    for step in recipe.steps:
        options = step.options.model_dump(mode="json") | CHANGES.get(step.name, {})
        if options.get("approach") == "denas":
            options |= {"score_seeds": 1, "score_reference": 8}
        if options.get("accuracy_criterion"):
            options["tuning_criterion"] = {"max_trials": 3}
        if options.get("constraints", {}).get("latency"):
            options["constraints"] = {"latency": "<= 1 x largest"}
        steps.append({step.name: options})
    recipe.steps = steps
    return recipe


@pytest.mark.parametrize("name", ["nas_int8", "nas_prune_int8", "quantization_aware", "denas_train_int8"])
def test_a_template_runs_from_its_first_step_to_its_last(tmp_path, name):
    pytest.importorskip("torch_pruning")
    recipe = smaller(name, tmp_path)
    result = compress(recipe)
    assert result.stopped is None and list(result.outcomes) == [label for label, _ in recipe.labelled()]
    assert "chosen fp32" in [entry["name"] for entry in result.artefacts]
    assert all((tmp_path / entry["file"]).is_file() for entry in result.artefacts)
    assert (tmp_path / "report.html").is_file()


def test_the_warm_start_goes_on_from_the_quickstart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compress(smaller("quickstart", "outputs/quickstart"), until="nas")
    config = NASConfig.from_yaml("search_warm_start")
    config.dynas.population, config.dynas.num_evals, config.dynas.calibration_images = 4, 6, 64
    config.dynas.latency.budget_s = 0.02
    assert len(NAS(config).search()) == 6
    assert config.dynas.results_csv_path.is_file()
