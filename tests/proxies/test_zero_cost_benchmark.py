"""The networks of `benchmarks/zero_cost` have the published sizes, and its scores are kept."""

import gzip
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

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


def chain(key: str) -> torch.nn.Module:
    """A small network of so many channels; `dead` has an output that does not depend on its input or its weights."""
    from networks_cnn import Zero

    channels = 4 if key == "dead" else int(key)
    conv = torch.nn.Sequential(torch.nn.Conv2d(3, channels, 3), torch.nn.BatchNorm2d(channels), torch.nn.ReLU())
    layers = [conv, Zero()] if key == "dead" else [conv]
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(channels, 2))


@pytest.fixture
def toy() -> object:
    import scores

    keys = ["2", "4", "dead", "8", "16", "32"]
    accuracy = {"accuracy": np.array([1.0, 2.0, 0.0, 3.0, 4.0, 5.0])}
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return scores.Problem("toy", keys, accuracy, chain, images, torch.zeros(4).long())


def command() -> ModuleType:
    spec = importlib.util.spec_from_file_location("zero_cost_command", FOLDER / "__main__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_de_scores_are_made_of_columns_that_are_kept(toy: Any, tmp_path: Path) -> None:
    import scores

    from nas_compress.proxies.de_score import de_score
    from nas_compress.proxies.initial import initialised
    from nas_compress.proxies.size import params
    from nas_compress.proxies.synflow import synflow

    kept = scores.Scores(tmp_path / "scores.json")
    wanted = ["params", "saliency", "de_score", "de_score_original"]
    found = {name: values for name, values, _ in command().rows(toy, wanted, [0, 1], kept, {"saliency": 1.0})}
    assert list(found) == [*wanted, "de_score (fitted)"]
    columns = set(json.loads((tmp_path / "scores.json").read_text())["toy batch=4 default"])
    terms = {"expressivity", "complexity", "saliency"}
    assert columns == {"params", "macs", *terms, *(f"original_{name}" for name in terms)}
    assert found["params"][0].tolist() == [params(chain(key)) for key in toy.keys]
    assert found["saliency"][1][0] == synflow(initialised(chain("2"), 1), toy.inputs)
    saliency = np.stack(found["saliency"], axis=1)
    (fitted,) = found["de_score (fitted)"]
    dead = toy.keys.index("dead")
    alive = np.arange(6) != dead
    np.testing.assert_allclose(fitted[alive], de_score({"saliency": saliency}, {"saliency": 1.0}).mean(1)[alive])
    for name in ("de_score", "de_score_original", "de_score (fitted)"):
        assert np.isnan(found[name][0]).tolist() == [key == "dead" for key in toy.keys]


def test_networks_that_choices_were_made_on_are_left_out(toy: Any) -> None:
    rest = toy.after(2)
    assert rest.keys == toy.keys[2:]
    assert rest.targets["accuracy"].tolist() == toy.targets["accuracy"].tolist()[2:]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "100", "--skip", "100"], "argument --skip: 100 leaves none of 100 networks"),
        (["--skip", "-1"], "argument --skip: -1 is not allowed; wants >= 0"),
        (["--count", "0"], "argument --count: 0 is not allowed; wants >= 1"),
    ],
)
def test_what_leaves_no_networks_is_refused(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["zero_cost", "data", *arguments])
    with pytest.raises(SystemExit) as caught:
        command().main()
    assert caught.value.code == 2 and words in capsys.readouterr().err


def test_a_problem_of_fewer_networks_is_left_out(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = command()
    monkeypatch.setattr(main, "PROBLEMS", {"toy": lambda *_: toy})
    arguments = ["--count", "100", "--skip", "6", "--proxies", "params", "--json", str(tmp_path / "scores.json")]
    monkeypatch.setattr("sys.argv", ["zero_cost", "data", *arguments])
    main.main()
    assert capsys.readouterr().out.strip() == "toy has 6 networks or fewer: none is left (--skip)"


def test_a_term_alone_computes_nothing_else(toy: Any, tmp_path: Path) -> None:
    import scores

    kept = scores.Scores(tmp_path / "scores.json")
    ((name, values, _),) = command().rows(toy, ["complexity"], [0], kept, None)
    assert name == "complexity" and (values[0][~np.isnan(values[0])] < 0).all(), "less is better"
    assert set(json.loads((tmp_path / "scores.json").read_text())["toy batch=4 default"]) == {"complexity"}


@pytest.mark.filterwarnings("error")
def test_lines_of_a_table(toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import scores

    for row in command().rows(toy, ["params", "diversity"], [0], scores.Scores(tmp_path / "scores.json"), None):
        command().print_rows(row, toy.targets, {"params": 0.5})
    params, diversity = capsys.readouterr().out.splitlines()
    assert params.split()[:2] == ["params", "accuracy"] and params.endswith(" 0.500")
    assert diversity.split() == "diversity no network has this score".split()


def test_transformers_have_terms_of_their_own(toy: Any) -> None:
    from terms import needed

    bert = replace(toy, family="bert")
    assert needed("de_score", bert) == ["diversity", "saliency", "entropy", "macs"]
    assert needed("de_score_original", bert) == ["original_diversity", "original_saliency"]
    assert needed("de_score", bert, {"complexity": 0.5, "saliency": 0.5}) == ["complexity", "saliency"]
    assert needed("synflow", bert) == ["synflow"]


def test_fitted_weights_are_those_that_rank_best() -> None:
    from terms import fitted

    rng = np.random.default_rng(0)
    terms = {name: np.exp(rng.normal(size=(60, 1))) for name in ("expressivity", "complexity", "saliency")}
    terms["diversity"] = np.full((60, 1), np.nan)
    assert fitted(terms, np.log(terms["saliency"][:, 0])) == {"expressivity": 0.1, "complexity": 0.1, "saliency": 0.8}
    assert fitted(terms, -terms["complexity"][:, 0])["complexity"] == 0.8
    both = np.log(terms["saliency"][:, 0]) - np.log(terms["complexity"][:, 0])
    found = fitted(terms, both)
    assert sum(found.values()) == pytest.approx(1) and found["expressivity"] == 0.1
    assert found["saliency"] == pytest.approx(0.45, abs=0.15)
