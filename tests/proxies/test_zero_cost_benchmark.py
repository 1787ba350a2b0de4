"""The networks of `benchmarks/zero_cost` have the published sizes, and its scores are kept."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from nas_compress.proxies.size import macs, params

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "zero_cost"
CLASSIFIER = 10
"""The published counts hold the biases of the classifier as operations."""


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.parametrize("row", [0, 1, 7777, 15624])
def test_cells_have_the_published_sizes(shared_data: Path, row: int) -> None:
    from networks_cnn import nas_bench_201

    table = pd.read_csv(shared_data / "nasbench201" / "nb201_cifar10.csv.gz", dtype={"ops": str}).iloc[row]
    network = nas_bench_201(table["ops"])
    assert params(network) == table["cifar10_params"]
    assert macs(network, (1, 3, 32, 32)) == table["cifar10_flops"] - CLASSIFIER


@pytest.mark.parametrize("row", [0, 3000, 6560])
def test_chains_have_the_published_sizes(shared_data: Path, row: int) -> None:
    from networks_cnn import nas_bench_macro

    path = shared_data / "nas_bench_macro" / "nas_bench_macro_cifar10.csv.gz"
    table = pd.read_csv(path, dtype={"arch": str}).iloc[row]
    network = nas_bench_macro(table["arch"])
    assert params(network) == table["params"]
    assert macs(network, (1, 3, 32, 32)) == table["flops"]


def test_encoders_have_the_published_numbers_of_parameters(shared_data: Path) -> None:
    from networks_bert import nas_bench_bert

    path = shared_data / "bert_bench" / "nas_bench_bert_glue.json.gz"
    for row in json.loads(gzip.decompress(path.read_bytes()))[::25]:
        network = nas_bench_bert(row["encoder_layers"], 256, intermediate=1024)
        assert params(network) - params(network[-1]) == row["params"]


def test_a_cosine_transform_is_scipys() -> None:
    from networks_bert import cosine
    from scipy.fft import dctn

    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)).double()
    np.testing.assert_allclose(cosine(x).numpy(), dctn(x.numpy(), axes=(-2, -1)), atol=1e-10)


def test_what_is_scored_is_not_scored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import scores

    built = []

    def build(key: str) -> torch.nn.Module:
        built.append(key)
        return torch.nn.Linear(4, int(key))

    accuracy = {"accuracy": np.arange(3.0)}
    problem = scores.Problem("toy", ["1", "2", "3"], accuracy, build, torch.ones(2, 4), torch.zeros(2).long())
    for proxies in (["params"], ["params", "naswot"]):
        scores.compute(problem, "toy", proxies, [0], scores.Scores(tmp_path / "scores.json"))
    assert built == [*problem.keys, *problem.keys]
    scores.compute(problem, "toy", ["naswot", "params"], [0], kept := scores.Scores(tmp_path / "scores.json"))
    assert len(built) == 6
    ((values, seconds),) = scores.columns(kept, problem, "toy", "params", [0])
    assert values.tolist() == [5, 10, 15] and (seconds >= 0).all()
    ((values, _),) = scores.columns(kept, problem, "toy", "naswot", [0])
    assert np.isnan(values).all()


def test_networks_without_a_score_are_the_worst() -> None:
    from correlation import correlations, ranks

    assert ranks(np.array([-5.0, np.nan, 2.0, np.nan])).tolist() == [3, 1.5, 4, 1.5]
    scores = np.array([np.nan, 1.0, 2.0, 3.0, 9.0])
    result = correlations([scores], np.array([10.0, 20.0, 30.0, 40.0, np.nan]))
    assert result.spearman.value == pytest.approx(1) and result.kendall.value == pytest.approx(1)
    assert result.failed == 1
