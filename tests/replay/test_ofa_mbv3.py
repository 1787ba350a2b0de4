import csv
import gzip
import json
import re

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr
from sklearn.model_selection import KFold

from nas_compress.errors import DataError
from nas_compress.replay.ofa_mbv3 import latency_table
from nas_compress.space import Architecture
from nas_compress.supernets.mobilenet_config import OFA_MBV3_W1_0, OFA_MBV3_W1_2
from nas_compress.supernets.mobilenet_cost import MobileNetCost

LUT = "ofa/ofa_mbv3_note10_latency_lut.json.gz"


@pytest.fixture(scope="module")
def measured(shared_data):
    """Measured architectures, and their columns of numbers."""
    with gzip.open(shared_data / "ofa/ofa_mbv3_w1.0_imagenet_measured.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    architectures = [Architecture({n: map(int, row[n].split()) for n in ("ks", "e", "d", "r")}) for row in rows]
    return architectures, {n: np.array([float(row[n]) for row in rows]) for n in ("macs", "params", "imagenet_top1")}


@pytest.mark.parametrize("name", ["ofa_mbv3", "ofa_mbv3_w1.2", "ofa_mbv3_measured"])
def test_spaces_are_those_of_the_super_networks(problem, name):
    config = OFA_MBV3_W1_2 if name == "ofa_mbv3_w1.2" else OFA_MBV3_W1_0
    space = problem(name).space
    assert space.describe() == config.space(space.name).restrict({"r": 224}, space.name).describe()


@pytest.mark.parametrize("name", ["ofa_mbv3", "ofa_mbv3_measured"])
def test_costs_are_those_of_the_measured_rows(problem, measured, name):
    architectures, columns = measured
    for metric in ("macs", "params"):
        np.testing.assert_array_equal(problem(name).values(metric, architectures), columns[metric])


def test_the_predictor_ranks_measured_rows(problem, measured):
    architectures, columns = measured
    predicted = problem("ofa_mbv3").values("acc", architectures)
    assert spearmanr(predicted, columns["imagenet_top1"])[0] > 0.97
    assert 77 < predicted.min() < predicted.max() < 84


def test_the_predictor_is_the_published_perceptron(problem, shared_data):
    """Against torch, with the input laid out gene by gene."""
    import torch
    from torch import nn

    layers = [nn.Linear(128, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(400, 1))
    with np.load(shared_data / "ofa/ofa_mbv3_acc_predictor.npz") as file:
        net.load_state_dict({name: torch.from_numpy(file[name]) for name in file})
    replay = problem("ofa_mbv3")
    architectures = replay.space.sample(np.random.default_rng(2), 50)
    inputs = torch.zeros(50, 128)
    for row, architecture in zip(inputs, architectures, strict=True):
        for slot, (kernel, ratio) in enumerate(zip(architecture["ks"], architecture["e"], strict=True)):
            if kernel:
                row[3 * slot + (3, 5, 7).index(kernel)] = 1
                row[60 + 3 * slot + (3, 4, 6).index(ratio)] = 1
        row[127] = 1
    with torch.no_grad():
        expected = 100 * net(inputs)[:, 0]
    np.testing.assert_allclose(replay.values("acc", architectures), expected, rtol=1e-5)


def sum_of_layers(table, architecture):
    """The latency of an architecture, layer by layer, from the keys of the look-up table taken apart."""
    pattern = re.compile(
        r"expanded_conv-input:(\d+)x\d+x(\d+)-output:\d+x\d+x(\d+)-expand:(\d+)-kernel:(\d)-stride:(\d).*"
    )
    blocks, total = {}, 0.0
    for key, time in table.items():
        match = pattern.fullmatch(key)
        if match is None or match[4] == match[2]:  # stem, head, and the first block, which does not expand
            total += time
        else:
            blocks[tuple(map(int, match.groups()))] = time
    size, channels = 112, 24
    for stage, (width, stride) in enumerate(zip((32, 48, 96, 136, 192), (2, 2, 2, 1, 2), strict=True)):
        for position in range(architecture["d"][stage]):
            slot, step = 4 * stage + position, 1 if position else stride
            middle = architecture["e"][slot] * channels
            total += blocks[size, channels, width, middle, architecture["ks"][slot], step]
            size, channels = size // step, width
    return total


def test_latency_is_the_sum_of_the_layers(problem, shared_data):
    with gzip.open(shared_data / LUT) as file:
        table = json.load(file)["224"]
    replay = problem("ofa_mbv3_w1.2")
    space = replay.space
    architectures = [space.smallest(), space.largest(), *space.sample(np.random.default_rng(3), 50)]
    expected = [sum_of_layers(table, architecture) for architecture in architectures]
    np.testing.assert_allclose(replay.values("latency", architectures), expected, rtol=1e-12)


def test_the_look_up_table_fits_width_1_2_alone(shared_data):
    for resolution in (160, 188, 224):
        fixed, blocks = latency_table(shared_data / LUT, MobileNetCost(OFA_MBV3_W1_2, resolution))
        assert fixed > 0 and blocks.shape == (20, 3, 3) and blocks.min() > 0
        assert (np.diff(blocks, axis=1) > 0).all() and (np.diff(blocks, axis=2) > 0).all()
    with pytest.raises(DataError, match=r"note10_latency_lut.*is not the published look-up table"):
        latency_table(shared_data / LUT, MobileNetCost(OFA_MBV3_W1_0, 224))


def test_the_regression_predicts_rows_left_out(problem):
    """The figures in docs/replay.md: Kendall tau 0.970, mean absolute percentage error 0.051 %."""
    replay = problem("ofa_mbv3_measured")
    x, y = replay.features(replay.measured), replay.accuracies
    assert len(y) == 2162
    predicted = np.empty_like(y)
    for train, test in KFold(5, shuffle=True, random_state=0).split(x):
        predicted[test] = replay.regression.fit(x[train], y[train]).predict(x[test])
    assert kendalltau(predicted, y)[0] == pytest.approx(0.970, abs=2e-3)
    assert 100 * np.mean(np.abs(predicted / y - 1)) == pytest.approx(0.051, abs=3e-3)


def test_the_regression_behaves_where_nothing_was_measured(problem):
    """Random architectures: in the range of the supernet, and ranked as OFA's predictor does, which is independent."""
    replay, other = problem("ofa_mbv3_measured"), problem("ofa_mbv3")
    space = replay.space
    architectures = space.sample(np.random.default_rng(4), 2000)
    values = replay.values("acc", architectures)
    assert 70 < values.min() < values.max() < 77.6
    assert spearmanr(values, other.values("acc", architectures))[0] > 0.9
    low, high = replay.values("acc", [space.smallest(), space.largest()])
    assert 70 < low < values.min() and values.max() < high < 77.6


def test_the_regression_is_deterministic(problem, shared_data):
    replay = problem("ofa_mbv3_measured")
    architectures = replay.space.sample(np.random.default_rng(6), 20)
    again = type(replay)(shared_data)
    np.testing.assert_array_equal(again.values("acc", architectures), replay.values("acc", architectures))
