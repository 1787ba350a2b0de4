"""Predictors on published tables: Kendall's tau and MAPE against the number of rows they are fitted to.

    python benchmarks/predictors.py ../shared/data --trials 10

The peers are the weak predictors as DyNAS-T 1.6 sets them: ridge with alpha from 0.1 to 10 and an RBF support vector
machine with C from 1 to 100 (epsilon 0, gamma 1 / features), by grid search on MAPE in 5 folds, on one-hot genes (on
the standardised numbers where a table has no genes). Every trial has the same 500 test rows for all sizes and
predictors. A star marks a mean that is worse than that of the better peer; the last line of a table counts the trials
(out of all, over the sizes) in which a predictor's tau is at least the better peer's.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVR

from nas_compress.analysis import TrialScore, averaged, features_of, score_trials
from nas_compress.predictors import Predictor, predictors
from nas_compress.predictors.base import FloatMatrix, FloatVector
from nas_compress.space import Architecture, Dimension, SearchSpace, bert_base_sst2, mobilenet_space
from nas_compress.tables import read_results

SIZES = (50, 100, 200, 500)
PEERS = ("peer ridge", "peer svr")
OURS = ("gp", "ridge", "svr", "boosting", "ensemble", "auto")
HAT_FEATURES = slice(2, 12)


class Peer(Predictor):
    """A regression of scikit-learn with one setting, by grid search on MAPE; targets scaled to two digits."""

    def __init__(self, model: Ridge | SVR, grid: Mapping[str, Sequence[float]]) -> None:
        self._search = GridSearchCV(model, grid, scoring="neg_mean_absolute_percentage_error")

    def fit(self, x: FloatMatrix, y: FloatVector) -> Peer:
        """Fit to the values as they are, but for a power of ten."""
        self._unit = 10 ** (np.floor(np.log10(np.max(np.abs(y)))) - 1)
        self._fit(x, y / self._unit)
        return self

    def predict_mean(self, x: FloatMatrix) -> FloatVector:
        """Return predictions in the unit of the values."""
        return np.asarray(self._search.predict(x) * self._unit, dtype=np.float64)

    def _fit(self, x: FloatMatrix, y: FloatVector) -> None:
        self._search.fit(x, y)

    def _predict(self, x: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        return self.predict_mean(x), np.zeros(len(x))


def peers() -> dict[str, Callable[[], Predictor]]:
    """Return what makes the peers; the grid of C has 12 values where DyNAS-T's has 100, with the same ends."""
    return {
        "peer ridge": lambda: Peer(Ridge(), {"alpha": np.arange(0.1, 10.1, 0.1).tolist()}),
        "peer svr": lambda: Peer(SVR(gamma="auto", epsilon=0.0), {"C": np.geomspace(1, 100, 12).tolist()}),
    }


@dataclass(frozen=True)
class Table:
    """A published table: features for us, features for the peers, values."""

    name: str
    ours: FloatMatrix
    theirs: FloatMatrix
    y: FloatVector


def from_architectures(name: str, space: SearchSpace, architectures: Sequence[Architecture], y: FloatVector) -> Table:
    """Return a table of architectures; the peers see the one-hot genes, inactive ones at their lowest value."""
    encoded = space.encode(architectures)
    one_hot = [encoded[:, [g]] == np.arange(n) for g, n in enumerate(space.cardinalities) if n > 1]
    return Table(name, features_of(space, architectures), np.hstack(one_hot).astype(np.float64), y)


def tables(data: Path) -> Iterator[Table]:
    """Yield the tables of a folder of published results."""
    results: tuple[tuple[str, SearchSpace, str], ...] = (
        ("OFA MobileNetV3, top-1", mobilenet_space("ofa"), "ofa/ofa_mbv3_w1.0_imagenet_measured.csv.gz"),
        ("BERT SST-2, accuracy", bert_base_sst2(), "inc/results_bertbase_sst2_macs.csv.gz"),
    )
    for name, space, path in results:
        yield from_architectures(name, space, *averaged(read_results(data / path, space), "acc"))
    yield hat(data / "hat" / "hat_wmt14ende_latency.csv.gz", "cpu_xeon")
    yield nas_bench_201(data / "nasbench201" / "nb201_cifar10.csv.gz")


def hat(path: Path, device: str) -> Table:
    """Return latencies of HAT's transformers, encoder and decoder, in ms; the features are numbers, not genes."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [row for row in csv.reader(stream) if row[1] == device]
    x = np.array([row[HAT_FEATURES] for row in rows], dtype=np.float64)
    x = x[:, x.std(axis=0) > 0]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    latencies = np.array([[float(cell) for cell in row[12:14]] for row in rows]).sum(axis=1)
    return Table("HAT WMT14 en-de, Xeon latency", x, x, latencies)


def nas_bench_201(path: Path, rows: int = 3000) -> Table:
    """Return CIFAR-10 accuracies after 200 epochs of a sample of NAS-Bench-201."""
    space = SearchSpace("nas_bench_201", [Dimension.uniform("op", range(5), 6)])
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        found = [(row["ops"], float(row["cifar10_test_acc_200ep"])) for row in csv.DictReader(stream)]
    some = [found[i] for i in np.random.default_rng(0).choice(len(found), rows, replace=False)]
    architectures = [Architecture({"op": [int(digit) for digit in ops]}) for ops, _ in some]
    return from_architectures("NAS-Bench-201, accuracy", space, architectures, np.array([y for _, y in some]))


@dataclass(frozen=True)
class Scores:
    """Taus and MAPEs of a predictor, shape (sizes, trials) both; the CPU seconds of a fit and 500 predictions."""

    tau: FloatMatrix
    mape: FloatMatrix
    seconds: float


def compare(table: Table, names: Sequence[str], trials: int, seed: int) -> dict[str, Scores]:
    """Return the scores of the peers and of the named predictors."""
    jobs = [(name, make, table.theirs) for name, make in peers().items()]
    jobs += [(name, predictors.get(name), table.ours) for name in names]
    found = {}
    for name, make, x in jobs:
        start = time.process_time()
        each = list(score_trials({name: make}, x, table.y, SIZES, trials, seed))
        seconds = (time.process_time() - start) / len(each)
        found[name] = Scores(_matrix(each, "kendall_tau"), _matrix(each, "mape"), seconds)
    return found


def _matrix(found: Sequence[TrialScore], score: str) -> FloatMatrix:
    return np.array([getattr(each, score) for each in found]).reshape(len(SIZES), -1)


def show(table: Table, found: Mapping[str, Scores]) -> None:
    """Print tau and MAPE, mean ± standard deviation, of each predictor."""
    print(
        f"\n{table.name}: {len(table.y)} rows, {table.ours.shape[1]} features ({table.theirs.shape[1]} for the peers)"
    )
    _show_score("Kendall tau", {name: score.tau for name, score in found.items()}, 1)
    _show_score("MAPE (%)", {name: score.mape for name, score in found.items()}, -1)
    best = np.max([found[peer].tau for peer in PEERS], axis=0)
    ours = {name: score for name, score in found.items() if name not in PEERS}
    wins = (f"{name} {np.sum(score.tau >= best)}" for name, score in ours.items())
    print(f"at least the better peer's tau, of {best.size}: {', '.join(wins)}")
    print(f"CPU s of a fit: {', '.join(f'{name} {score.seconds:.2f}' for name, score in found.items())}", flush=True)


def _show_score(label: str, found: Mapping[str, FloatMatrix], sign: int) -> None:
    """Print a line per predictor; `sign` is 1 where more is better, -1 where less is."""
    print(f"{label:<12}" + "".join(f"{size:>15} rows" for size in SIZES))
    goal = np.max([sign * found[peer].mean(axis=1) for peer in PEERS], axis=0)
    for name, values in found.items():
        mean, std = values.mean(axis=1), values.std(axis=1, ddof=1)
        stars = ["*" if flag and name not in PEERS else " " for flag in sign * mean < goal]
        cells = (f"{m:>11.3f} ± {s:<5.3f}{star} " for m, s, star in zip(mean, std, stars, strict=True))
        print(f"{name:<12}{''.join(cells)}")


def main() -> None:
    """Print a table of tau and a table of MAPE per published table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of published results")
    parser.add_argument("--trials", type=int, default=10, help="splits of each table (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the splits (default 0)")
    parser.add_argument("--predictor", action="append", choices=list(predictors), help="one of ours; may be repeated")
    parser.add_argument("--table", default="", help="part of a table's name")
    arguments = parser.parse_args()
    if arguments.trials < 2:
        parser.error("--trials: want 2 or more")
    start = time.monotonic()
    for table in tables(arguments.data):
        if arguments.table.lower() in table.name.lower():
            show(table, compare(table, arguments.predictor or OURS, arguments.trials, arguments.seed))
    print(f"\n{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
