"""Users' mistakes through the real command line: one clear message, exit code 2, quickly, no traceback."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

CONFIG = """nas:
  approach: dynas
  search:
    seed: 42
  dynas:
    supernet: digits_mbv3
    metrics: [macs, params]
    population: 10
    num_evals: 20
"""
RECIPE = """supernet: digits_mbv3
dataset: digits
steps:
- train_supernet: {epochs: 2}
- nas: {metrics: [acc, macs], population: 10, num_evals: 20}
- select: {maximize: acc, constraints: {macs: <= 0.5 x largest}}
- quantize
- export
- benchmark
"""
CPU_SECONDS = 3.0


def run(folder, *arguments, **files):
    """Run a command in a folder that holds the given files (`name__yaml` stands for `name.yaml`)."""
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    command = [sys.executable, "-m", "nas_compress.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300)


def environment():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return {**os.environ, "PYTHONPATH": root, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def config(old, new):
    assert old in CONFIG
    return {"a__yaml": CONFIG.replace(old, new)}


def recipe(old, new):
    assert old in RECIPE
    return {"a__yaml": RECIPE.replace(old, new)}


METRICS = "metrics: [macs, params]"
SEARCHES = {
    "misspelt key": (config("population:", "populaton:"), "a.yaml, line 8: nas.dynas.populaton: unknown key (did you"),
    "misspelt section": (
        config("  dynas:", "  dynsa:"),
        "a.yaml, line 5: nas.dynsa: unknown key (did you mean 'dynas'?)",
    ),
    "key in the wrong section": (
        config("    seed: 42", "    population: 5"),
        "unknown key here; it belongs to nas.dynas",
    ),
    "no nas at the top": (config("nas:", "nsa:"), "a.yaml, line 1: nsa: unknown key (did you mean 'nas'?)"),
    "wrong type": (
        config("num_evals: 20", "num_evals: many"),
        "line 9: nas.dynas.num_evals: 'many' is not a whole number",
    ),
    "out of range": (config("seed: 42", "seed: -1"), "line 4: nas.search.seed: -1 is not allowed; wants >= 0"),
    "text for a list": (config(METRICS, "metrics: acc"), "nas.dynas.metrics: 'acc' is not a list; write [acc]"),
    "unknown approach": (config("dynas\n", "dynamic\n"), "nas.approach: 'dynamic' is not allowed"),
    "INC's basic approach": (
        {"a__yaml": "nas:\n  approach:\n  search: {search_space: {width: [1, 2]}, metrics: [acc]}\n"},
        "model_builder is not set; approach basic is run from Python",
    ),
    "unknown algorithm": (config("seed: 42", "search_algorithm: grid"), "'grid' does not go with approach 'dynas'"),
    "unknown supernet": (
        config("digits_mbv3", "digits_mbv2"),
        "unknown supernet 'digits_mbv2' (did you mean 'digits_mbv3'",
    ),
    "unknown metric": (
        config(METRICS, "metrics: [macs, energy]"),
        "nas.dynas.metrics[1]: unknown objective 'energy'; known: acc",
    ),
    "population larger than num_evals": (
        {"a__yaml": CONFIG.replace("dynas", "concurrent").replace("num_evals: 20", "num_evals: 9")},
        "10 is larger than num_evals (9)",
    ),
    "no weights": (
        config(METRICS, "metrics: [acc]\n    dataset: digits\n    supernet_ckpt_path: no.pth"),
        "no such file",
    ),
    "missing data set": (
        config(METRICS, METRICS + "\n    dataset: image_folder\n    dataset_path: /nowhere"),
        "nas.dynas.dataset_path: '/nowhere' does not exist",
    ),
    "unknown data set": (
        config(METRICS, METRICS + "\n    dataset: digit"),
        "unknown data source 'digit' (did you mean",
    ),
    "unknown backend": (
        config(METRICS, "metrics: [macs, lat]\n    latency: {backend: tensorrt}"),
        "nas.dynas.latency.backend: unknown backend 'tensorrt'; known: ipex, onnxruntime, openvino",
    ),
    "missing extra": (
        config(METRICS, "metrics: [latency]\n    latency: {backend: ipex}"),
        "pip install '.[ipex]' (in nas-compress's source folder)",
    ),
    "results path is a folder": (
        config(METRICS, METRICS + "\n    results_csv_path: ."),
        "'.' is a folder; wants a file",
    ),
    "directions that are none": (config("seed: 42", "higher_is_better: [true, false]"), "does not fit the metrics"),
    "not YAML": ({"a__yaml": "nas: {approach: dynas\n  x"}, "a.yaml is not YAML: line 2"),
    "a binary file": ({"a__yaml": b"\x80\x02\xff\x00PK"}, "a.yaml is not YAML: it is not UTF-8 text"),
    "an empty file": ({"a__yaml": ""}, "a.yaml is empty; wants a YAML mapping"),
    "a text file": ({"a__yaml": "Dear all,"}, "a.yaml holds 'Dear all,'; wants a YAML mapping"),
    "a key given twice": (
        config("    seed: 42", "    seed: 42\n    seed: 7"),
        "line 5: 'seed' is given twice (first in line 4)",
    ),
    "a missing file": ({}, "no such file or template: a.yaml; templates: "),
    "a recipe": (
        {"a__yaml": RECIPE},
        "a.yaml is a recipe (it has 'steps'), not a search config; nas-compress compress runs",
    ),
    "a checkpoint of something else": (
        {**config(METRICS, "metrics: [acc, macs]\n    supernet_ckpt_path: net.pth"), "net__pth": "<html>404</html>"},
        "nas.dynas.supernet_ckpt_path: 'net.pth' is not a whole safetensors or torch file",
    ),
}
RECIPES = {
    "unknown step": (
        recipe("- quantize", "- quantise"),
        "line 7: steps[3]: unknown step 'quantise' (did you mean 'quantize'?)",
    ),
    "steps in the wrong order": (
        recipe("- quantize\n- export", "- export\n- quantize"),
        "the exported files would not have it",
    ),
    "a step too few": (recipe("- export\n", ""), "'benchmark' needs a 'export' step before it"),
    "two steps in one": (
        recipe("- select:", "  select:"),
        "a.yaml, line 5: steps[1]: a step has one name, got nas, select",
    ),
    "wrong option": (
        recipe("epochs: 2", "epoch: 2"),
        "line 4: steps[0].train_supernet.epoch: unknown key (did you mean",
    ),
    "a limit in a wrong unit": (
        recipe("macs: <= 0.5 x largest", "acc: <= 5 ms"),
        "unit 'ms' in '<= 5 ms' is not that of acc",
    ),
    "a limit on what is not measured": (
        recipe("macs: <=", "latency: <="),
        "'latency' is not measured by the 'nas' step",
    ),
    "untrained supernet": (
        recipe("- train_supernet: {epochs: 2}\n", ""),
        "'digits_mbv3' comes without weights; train it",
    ),
    "a search config": ({"a__yaml": CONFIG}, "a.yaml is a search config (it has 'nas' at the top), not a recipe"),
}
CASES = [("search", name, *case) for name, case in SEARCHES.items()]
CASES += [("compress", name, *case) for name, case in RECIPES.items()]


@pytest.mark.parametrize(("command", "mistake", "files", "expected"), CASES, ids=[case[1] for case in CASES])
def test_a_mistake_gives_one_message_and_exit_code_2(tmp_path, command, mistake, files, expected):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(tmp_path, command, "a.yaml", **files)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < CPU_SECONDS
    assert {path.name for path in tmp_path.iterdir()} == {name.replace("__", ".") for name in files}


def test_several_mistakes_come_in_one_message(tmp_path):
    text = CONFIG.replace("seed", "sed").replace("population: 10", "population: ten")
    lines = run(tmp_path, "search", "a.yaml", a__yaml=text).stderr.splitlines()
    assert lines[0] == "error: a.yaml has 2 problems:"
    assert lines[1].startswith("  line 4: nas.search.sed") and lines[2].startswith("  line 8: nas.dynas.population")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["serach", "a.yaml"], "No such command 'serach'. Did you mean 'search'?"),
        (["search"], "Missing argument 'CONFIG'"),
        (["search", "a.yaml", "--sed", "3"], "No such option"),
        (["report", "nowhere"], "no such folder: nowhere"),
        (["report", "."], "error: "),
        (["init", "quickstrt"], "no template 'quickstrt' (did you mean 'quickstart'?)"),
        (["list", "supernet"], "'supernet' is not one of"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, expected):
    done = run(tmp_path, *arguments)
    assert done.returncode == 2 and expected in done.stderr and "Traceback" not in done.stderr


def test_mistakes_that_only_the_network_shows(tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"stem.weight": np.zeros((3, 3), dtype=np.float32)}, tmp_path / "net.safetensors")
    for files, expected in [
        (
            config(METRICS, METRICS + "\n    supernet_ckpt_path: net.safetensors"),
            "net.safetensors is of another network",
        ),
        (config("seed: 42", "search_space: {kernel: [3]}"), "has no gene 'kernel'"),
    ]:
        done = run(tmp_path, "search", "a.yaml", **files)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: ") and expected in done.stderr


def test_an_interrupted_search_says_how_to_go_on(tmp_path):
    (tmp_path / "a.yaml").write_text(CONFIG.replace("num_evals: 20", "num_evals: 100000").replace("dynas", "random"))
    command = [sys.executable, "-m", "nas_compress.cli", "search", "a.yaml"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not (tmp_path / "search_results.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert "the same command goes on from there" in err and "Traceback" not in err


def test_importing_the_config_loads_no_heavy_library():
    heavy = "torch pandas sklearn pymoo matplotlib onnx onnxruntime scipy"
    code = (
        f"import nas_compress.cli, nas_compress.config, sys; print([m for m in '{heavy}'.split() if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]", done.stderr
