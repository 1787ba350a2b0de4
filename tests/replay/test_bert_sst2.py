import ast
import csv
import gzip
from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.model_selection import KFold

from nas_compress.errors import DataError
from nas_compress.replay.bert_sst2 import BertSst2
from nas_compress.space import Architecture

FILE = "inc/results_bertbase_sst2_macs.csv.gz"


@pytest.fixture(scope="module")
def rows(shared_data):
    with gzip.open(shared_data / FILE, "rt", newline="") as file:
        return list(csv.DictReader(file))


def test_macs_are_those_of_the_table(problem, rows):
    architectures = [Architecture(ast.literal_eval(row["Sub-network"])) for row in rows]
    assert len(architectures) == 2000
    np.testing.assert_array_equal(
        problem("bert_sst2").values("macs", architectures), [float(row["MACS"]) for row in rows]
    )


def test_params_of_the_largest_are_those_of_bert_base(problem):
    """BERT-base with a classifier of two classes has 109,483,778 parameters."""
    replay = problem("bert_sst2")
    assert replay.values("params", [replay.space.largest()])[0] == 109_483_778


def test_params_are_those_of_the_layers(problem):
    """Against torch layers of the sizes of a sub-network."""
    import torch
    from torch import nn

    replay = problem("bert_sst2")
    for architecture in replay.space.sample(np.random.default_rng(1), 10):
        with torch.device("meta"):
            parts = [nn.Embedding(n, 768) for n in (30522, 512, 2)]
            parts += [nn.LayerNorm(768), nn.Linear(768, 768), nn.Linear(768, 2)]
            for layer in range(architecture["num_layers"][0]):
                heads, units = (architecture[n][layer] for n in ("num_attention_heads", "intermediate_size"))
                parts += [nn.Linear(768, 64 * heads) for _ in "qkv"]
                parts += [nn.Linear(64 * heads, 768), nn.Linear(768, units), nn.Linear(units, 768)]
                parts += [nn.LayerNorm(768), nn.LayerNorm(768)]
        count = sum(p.numel() for part in parts for p in part.parameters())
        assert replay.values("params", [architecture])[0] == count


def test_repeats_are_averaged(problem, rows):
    replay = problem("bert_sst2")
    seen = defaultdict(list)
    for row in rows:
        architecture = Architecture(ast.literal_eval(row["Sub-network"]))
        seen[replay.space.canonicalize(architecture)].append(100 * float(row["SST-2 Acc"]))
    known = dict(zip(replay.space.decode(replay.measured), replay.accuracies, strict=True))
    assert len(known) == 1457
    assert known == pytest.approx({a: np.mean(values) for a, values in seen.items()})


def test_the_regression_predicts_rows_left_out(problem):
    """The figures in docs/replay.md: Kendall tau 0.892, mean absolute percentage error 0.214 %."""
    replay = problem("bert_sst2")
    x, y = replay.features(replay.measured), replay.accuracies
    predicted = np.empty_like(y)
    for train, test in KFold(5, shuffle=True, random_state=0).split(x):
        predicted[test] = replay.regression.fit(x[train], y[train]).predict(x[test])
    assert kendalltau(predicted, y)[0] == pytest.approx(0.892, abs=3e-3)
    assert 100 * np.mean(np.abs(predicted / y - 1)) == pytest.approx(0.214, abs=5e-3)


def test_the_regression_behaves_where_nothing_was_measured(problem):
    replay = problem("bert_sst2")
    values = replay.values("acc", replay.space.sample(np.random.default_rng(4), 2000))
    assert 85 < values.min() < values.max() < 93.2  # 86.1 to 93.1 were measured


def test_architectures_of_another_space(tmp_path, rows):
    path = tmp_path / FILE
    path.parent.mkdir()
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        other = rows[0]["Sub-network"].replace("'num_layers': [11]", "'num_layers': [14]")
        writer.writerows([{**rows[0], "Sub-network": other}, *rows[1:]])
    with pytest.raises(DataError, match=r"num_layers\[0\] = 14 is not legal") as error:
        BertSst2(tmp_path)
    assert str(path) in str(error.value)
