import os
import subprocess
import sys
from pathlib import Path

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


def test_warm_start_goes_on_for_another_batch_size(tmp_path):
    script = ROOT / "examples" / "warm_start.py"
    done = run(script, "--output", "out", "--epochs", 1, "--evaluations", 8, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("after 8 evaluations") == 2
