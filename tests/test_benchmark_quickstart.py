"""The command that repeats the quickstart: fresh folders alone, and goals that can be required."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "benchmarks" / "quickstart.py"


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module, its runs replaced by figures that reach every goal but that of seed 3."""
    spec = importlib.util.spec_from_file_location("benchmark_quickstart", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def entry(latency, accuracy):
        return {
            "name": "a", "macs": 10, "size_bytes": 10,
            "context": {"backend": "onnxruntime", "batch_size": 1, "threads": 1},
            "accuracy": {"value": accuracy, "spread": 0.4},
            "latency": {"median_ms": latency, "error_ms": 0.0, "clock": "wall"},
        }  # fmt: skip

    def run(seed, template, folder):
        chosen = entry(0.1, 97.0 if seed != 3 else 90.0)
        artefacts = {"largest fp32": {**entry(0.4, 97.5), "macs": 80}, "chosen fp32": chosen, "chosen int8": chosen}
        row = module.compare(artefacts["chosen int8"], artefacts["largest fp32"])
        return {**row, "seconds": 1.0, "artefacts": artefacts}

    monkeypatch.setattr(module, "run", run)

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["quickstart.py", *map(str, arguments)])
        module.main()

    return main


def test_a_finished_run_is_not_read_back(benchmark, tmp_path, capsys):
    (tmp_path / "seed1").mkdir()
    with pytest.raises(SystemExit) as caught:
        benchmark("--seeds", 0, 1, "--output", tmp_path)
    assert caught.value.code == 2 and "seed1 exists" in capsys.readouterr().err


def test_goals_can_be_required(benchmark, tmp_path, capsys):
    benchmark("--seeds", 0, 1, "--output", tmp_path, "--require")
    assert "accuracy >= -1.0: 2 of 2" in capsys.readouterr().out
    benchmark("--seeds", 0, 3, "--output", tmp_path)
    with pytest.raises(SystemExit) as caught:
        benchmark("--seeds", 0, 3, "--output", tmp_path, "--require")
    assert caught.value.code == 1 and "accuracy >= -1.0: 1 of 2" in capsys.readouterr().out
