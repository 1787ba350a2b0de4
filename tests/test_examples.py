import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_quickstart_in_python(tmp_path):
    script = ROOT / "examples" / "quickstart.py"
    done = run(script, "--output", "out", "--epochs", 1, "--evaluations", 20, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("largest_fp32", "chosen_fp32", "chosen_int8"))
    assert {p.suffix for p in (tmp_path / "out").iterdir()} >= {".onnx", ".png", ".csv", ".jsonl"}


def test_inc_blog_example_says_what_is_missing(tmp_path):
    done = run(ROOT / "examples" / "inc_blog.py", tmp_path / "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert "nas.dynas.dataset_path" in done.stderr and "Traceback" not in done.stderr


def test_basic_nas_trains_goes_on_and_answers_from_the_record(tmp_path):
    script = ROOT / "examples" / "basic_nas.py"
    first, again = (run(script, "--output", "out", "--trials", 4, "--algorithm", "random", cwd=tmp_path) for _ in "12")
    assert first.returncode == 0, first.stderr
    assert again.stdout == first.stdout and "% of 360 test images" in first.stdout
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 5
    assert (tmp_path / "out" / "front.png").exists()


def test_recipe_in_python(tmp_path):
    done = run(ROOT / "examples" / "recipe.py", "--output", "out", "--epochs", 1, "--evaluations", 8, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(f"{step}: done" in done.stdout for step in ("nas", "select", "distill", "export", "benchmark"))
    assert "largest fp32" in done.stdout and "models/chosen_fp32.onnx" in done.stdout


def test_train_free_search_then_training(tmp_path):
    script = ROOT / "examples" / "train_free.py"
    done = run(script, "--output", "out", "--epochs", 2, "--evaluations", 6, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "train-free score" in done.stdout and "models/chosen_int8.onnx" in done.stdout
    assert "largest" not in done.stdout


def test_warm_start_goes_on_for_another_batch_size(tmp_path):
    script = ROOT / "examples" / "warm_start.py"
    done = run(script, "--output", "out", "--epochs", 1, "--evaluations", 8, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("after 8 evaluations") == 2


def test_joint_and_sequential_quantization_are_compared_at_equal_evaluations(tmp_path):
    script = ROOT / "examples" / "quantization_aware.py"
    done = run(script, "--output", "out", "--epochs", 1, "--evaluations", 8, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counted = int(re.search(r"(\d+) evaluations each", done.stdout)[1])
    joint, fp32 = (len((tmp_path / "out" / f"{n}.csv").read_text().splitlines()) - 1 for n in ("joint", "fp32"))
    assert fp32 == 8 < joint == counted
    volumes = re.findall(r"images: (.+): hypervolume ([\d.]+) %", done.stdout)
    assert len(volumes) == 4 and all(0 <= float(volume) <= 100 for _, volume in volumes)
    assert (tmp_path / "out" / "fronts.png").exists()


@pytest.mark.parametrize(
    ("name", "option", "expected"),
    [
        ("recipe", "--epochs", "steps[0].train_supernet.epochs: 0 is not allowed"),
        ("quickstart", "--epochs", "epochs: 0 is not allowed"),
        ("warm_start", "--epochs", "epochs: 0 is not allowed"),
        ("quantization_aware", "--epochs", "epochs: 0 is not allowed"),
        ("train_free", "--evaluations", "nas.population: 0 is not allowed"),
        ("basic_nas", "--trials", "0"),
    ],
)
def test_a_users_mistake_is_told_in_words(tmp_path, name, option, expected):
    done = run(ROOT / "examples" / f"{name}.py", "--output", "out", option, 0, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and expected in done.stderr
    assert "Traceback" not in done.stderr
