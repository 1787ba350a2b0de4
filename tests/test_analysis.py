from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau
from typer.testing import CliRunner

from nas_compress import analysis
from nas_compress.analysis import analyse_metrics, analyse_predictors
from nas_compress.cli import app
from nas_compress.errors import ConfigError, UnknownNameError
from nas_compress.predictors.ridge import RidgeRegression
from nas_compress.space import SearchSpace, mobilenet_space
from nas_compress.supernets import supernets
from nas_compress.tables import Rows, read_results

SPACE = mobilenet_space("blocks", stages=2)
NET = "ofa_mbv3_d234_e346_k357_w1.0"


def measured(n: int, space: SearchSpace = SPACE, seed: int = 0) -> Rows:
    """Distinct architectures; accuracy grows with the expand ratios, latency with the kernels."""
    rng = np.random.default_rng(seed)
    architectures = list(dict.fromkeys(space.sample(rng, 2 * n)))[:n]
    return [
        (a, {"acc": 70 + 0.2 * sum(a["e"]) + rng.normal(0, 0.05), "latency": 1.0 + sum(a["ks"]), "macs": 1e6})
        for a in architectures
    ]


def test_table_has_every_predictor_and_size() -> None:
    found = analyse_predictors(SPACE, measured(120), "acc", ["ridge", "gp"], [20, 60], trials=3)
    table = found.table()
    assert list(zip(table["predictor"], table["size"], strict=True)) == [
        ("ridge", 20),
        ("ridge", 60),
        ("gp", 20),
        ("gp", 60),
    ]
    assert set(table["metric"]) == {"acc"} and set(table["trials"]) == {3} and set(table["test_size"]) == {60}
    assert (table["kendall_tau_mean"] > 0.7).all() and (table["mape_mean"] < 1).all()
    more, fewer = table[table["size"] == 60], table[table["size"] == 20]
    assert (more["mape_mean"].to_numpy() < fewer["mape_mean"].to_numpy()).all()


def test_metrics_go_by_their_other_names_too() -> None:
    (found,) = analyse_metrics(SPACE, measured(90), ["accuracy_top1", "acc"], ["ridge"], [30], trials=1)
    assert found.metric == "acc"


def test_mean_and_std_are_over_the_trials() -> None:
    found = analyse_predictors(SPACE, measured(90), "acc", ["ridge"], [30], trials=4)
    taus = [score.kendall_tau for score in found.scores]
    row = found.table().iloc[0]
    assert row["kendall_tau_mean"] == pytest.approx(np.mean(taus)) and len(set(taus)) > 1
    assert row["kendall_tau_std"] == pytest.approx(np.std(taus, ddof=1))
    assert math.isnan(analyse_predictors(SPACE, measured(90), "acc", ["ridge"], [30], trials=1).table()["mape_std"][0])


def test_scores_are_of_unseen_rows_the_same_for_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, asked = [], []

    class Spy(RidgeRegression):
        def fit(self, x, y):
            fitted.append({row.tobytes() for row in x})
            return super().fit(x, y)

        def predict_mean(self, x):
            asked.append({row.tobytes() for row in x})
            return super().predict_mean(x)

    rows = measured(100)
    x, y = analysis.features_of(SPACE, [a for a, _ in rows]), np.array([v["acc"] for _, v in rows])
    found = list(analysis.score_trials({"spy": Spy}, x, y, [10, 40], trials=2, seed=0))
    assert [len(seen) for seen in fitted] == [10, 10, 40, 40]
    assert all(not seen & test for seen, test in zip(fitted, asked, strict=True))
    assert asked[0] == asked[2] != asked[1] and asked[1] == asked[3]
    assert fitted[0] < fitted[2] and fitted[1] < fitted[3]
    assert [(score.size, score.trial) for score in found] == [(10, 0), (10, 1), (40, 0), (40, 1)]


def test_scores_are_scipys_and_the_percentage() -> None:
    rows = measured(60)
    x, y = analysis.features_of(SPACE, [a for a, _ in rows]), np.array([v["acc"] for _, v in rows])
    (found,) = analysis.score_trials({"ridge": RidgeRegression}, x, y, [30], trials=1, seed=5)
    order = np.random.default_rng(5).permutation(60)
    test, train = order[:30], order[30:]
    predicted = RidgeRegression().fit(x[train], y[train]).predict(x[test])[0]
    assert found.kendall_tau == pytest.approx(kendalltau(predicted, y[test]).statistic)
    assert found.mape == pytest.approx(100 * np.mean(np.abs(predicted / y[test] - 1)))


def test_repeats_are_averaged_first() -> None:
    rows = measured(60)
    noisy = [(a, {"acc": v["acc"] + shift}) for shift in (-5.0, 5.0) for a, v in rows]
    one = analyse_predictors(SPACE, rows, "acc", ["ridge"], [30], trials=2)
    assert analyse_predictors(SPACE, noisy, "acc", ["ridge"], [30], trials=2).architectures == one.architectures == 60
    again = analyse_predictors(SPACE, noisy, "acc", ["ridge"], [30], trials=2)
    assert again.table()["mape_mean"][0] == pytest.approx(one.table()["mape_mean"][0], rel=1e-6)


def test_same_seed_same_table() -> None:
    first, again, other = (
        analyse_predictors(SPACE, measured(60), "acc", ["ridge"], [20], trials=2, seed=seed).table()
        for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_sizes_by_default_leave_half_for_the_test() -> None:
    found = analyse_predictors(SPACE, measured(210), "acc", ["ridge"], trials=1)
    assert list(found.table()["size"]) == [50, 100] and found.test_size == 110


def test_metrics_by_default_are_the_measured_ones() -> None:
    rows, seen = measured(60), []
    found = analyse_metrics(
        SPACE, rows, None, ["ridge"], [20, 30], trials=2, progress=lambda done, total, _: seen.append((done, total))
    )
    assert [each.metric for each in found] == ["acc", "latency"]
    assert seen == [(i, 8) for i in range(1, 9)]
    assert analysis.measured_metrics([(a, {"macs": v["macs"]}) for a, v in rows]) == ["macs"]


def test_a_constant_metric_has_no_tau() -> None:
    table = analyse_predictors(SPACE, measured(60), "macs", ["ridge"], [20], trials=2).table()
    assert math.isnan(table["kendall_tau_mean"][0]) and table["mape_mean"][0] == pytest.approx(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["bleu"]}, "metric 'bleu': no row has a value of it; the results have acc, latency, macs"),
        ({"sizes": [20, 90]}, "90 training rows and at least 20 to test on are more than the 60.*size possible is 40"),
        ({"sizes": [1, 30]}, r"sizes = \[1, 30\]: want whole numbers of training rows, 2 or more"),
        ({"sizes": []}, "want whole numbers of training rows"),
        ({"sizes": None}, "60 architectures have a value, which is less than twice the smallest size, 50"),
        ({"trials": 0}, "at least 1 trial"),
        ({"predictors": []}, "at least 1 predictor of auto, boosting"),
    ],
)
def test_mistakes_are_named_before_any_fit(changes, message, monkeypatch) -> None:
    monkeypatch.setattr(RidgeRegression, "fit", None)
    arguments = {"metrics": ["acc"], "predictors": ["ridge"], "sizes": [20]} | changes
    with pytest.raises(ConfigError, match=message):
        analyse_metrics(SPACE, measured(60), **arguments)


def test_unknown_predictor() -> None:
    with pytest.raises(UnknownNameError, match="unknown predictor 'rigde' .did you mean 'ridge'"):
        analyse_predictors(SPACE, measured(60), "acc", ["rigde"], [20])


# -- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results table of a registered super-network's space."""
    path = tmp_path / "results.csv"
    rows = measured(70, supernets.entry(NET).info["space"]())
    lines = [f'"{a}",now,{v["latency"]},{v["macs"]},{v["acc"]}' for a, v in rows]
    path.write_text("\n".join(["Sub-network,Date,Latency (ms), MACs,Top-1 Acc (%)", *lines, ""]))
    return path


def run(*arguments: object):
    return CliRunner().invoke(app, ["analyse-predictors", *map(str, arguments)])


def test_command_prints_and_writes(results: Path, tmp_path: Path) -> None:
    output, plot = tmp_path / "table.csv", tmp_path / "curves.png"
    options = ("--predictor", "ridge", "--sizes", "20,40", "--trials", 2, "--output", output, "--plot", plot)
    done = run(results, "--supernet", NET, *options)
    assert done.exit_code == 0, done.output
    assert "acc: 70 architectures, 30 of them to test on; mean ± standard deviation of 2 trials" in done.stdout
    assert "latency: 70 architectures" in done.stdout and "40 rows" in done.stdout
    written = pd.read_csv(output)
    expected = analyse_predictors(
        supernets.entry(NET).info["space"](),
        read_results(results, supernets.entry(NET).info["space"]()),
        "acc",
        ["ridge"],
        [20, 40],
        trials=2,
    ).table()
    pd.testing.assert_frame_equal(written[written["metric"] == "acc"].reset_index(drop=True), expected)
    assert f"{expected['mape_mean'][0]:.3f} ± {expected['mape_std'][0]:.3f}" in done.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--supernet", "ofa_mbv4"], "unknown supernet 'ofa_mbv4'"),
        (["--supernet", NET, "--sizes", "20,many"], "sizes: '20,many' is not a list of whole numbers"),
        (["--supernet", NET, "--sizes", "2000"], "the largest size possible is 50"),
        (["--supernet", NET, "--metric", "bleu", "--sizes", "20"], "metric 'bleu'"),
        (["--supernet", NET, "--predictor", "lasso", "--sizes", "20"], "unknown predictor 'lasso'"),
        (["--supernet", NET, "--plot", "curves.txt"], "--plot: 'curves.txt' has no suffix of an image"),
        (["--supernet", "digits_mbv3", "--sizes", "20"], "results.csv, line 2"),
        (
            ["--supernet", NET, "--sizes", "20", "--output", "."],
            "--output: . is a folder; give the path of a file (.csv)",
        ),
        (["--sizes", "20"], "give --supernet or --config"),
        (["--supernet", NET, "--config", "search_digits"], "give --supernet or --config, not both"),
    ],
)
def test_command_names_mistakes(results: Path, options: list[str], message: str) -> None:
    done = run(results, *options)
    assert done.exit_code == 2
    assert message in done.stderr


def test_published_rows(shared_data: Path) -> None:
    """Half of the published figure's rows already give the paper's rank correlation and more."""
    space = supernets.entry(NET).info["space"]()
    rows = read_results(shared_data / "ofa" / "ofa_mbv3_w1.0_imagenet_measured.csv.gz", space)
    found = analyse_predictors(space, rows, "acc", ["gp", "ridge"], [50, 200], trials=2)
    assert found.architectures == 2162 and found.test_size == 500
    table = found.table().set_index(["predictor", "size"])
    assert table.loc[("gp", 50), "kendall_tau_mean"] > 0.88
    assert table.loc[("gp", 200), "kendall_tau_mean"] > 0.94
    assert table.loc[("gp", 200), "mape_mean"] < 0.11
