import csv
import gzip
from collections import defaultdict

import numpy as np
import pytest

from nas_compress.errors import ConfigError, DataError
from nas_compress.replay.nas_bench import NasBench201, NasBenchMacro
from nas_compress.space import Architecture


def rows(path):
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def cells(shared_data):
    return rows(shared_data / "nasbench201/nb201_cifar10.csv.gz")


@pytest.fixture(scope="module")
def chains(shared_data):
    return rows(shared_data / "nas_bench_macro/nas_bench_macro_cifar10.csv.gz")


def architectures(texts):
    return [Architecture({"op": map(int, text)}) for text in texts]


def test_nas_bench_201_is_the_table(problem, cells):
    replay = problem("nas_bench_201")
    points = architectures(row["ops"] for row in cells)
    assert replay.space.size() == len(set(points)) == 15625
    for metric, column in (
        ("acc", "cifar10_test_acc_200ep"),
        ("macs", "cifar10_flops"),
        ("params", "cifar10_params"),
    ):
        np.testing.assert_array_equal(replay.values(metric, points), [float(row[column]) for row in cells])


@pytest.mark.parametrize("device", ["gold_6226", "raspi4", "pixel3", "titan_rtx_32"])
def test_nas_bench_201_latencies_are_the_devices(shared_data, cells, device):
    replay = NasBench201(shared_data, device)
    with np.load(shared_data / "nasbench201/nb201_latency.npz") as file:
        published = file["latency_ms"][file["devices"].tolist().index(device)]
    values = replay.values("latency", architectures(row["ops"] for row in cells))
    np.testing.assert_array_equal(values, [published[int(row["index"])] for row in cells])
    (latency,) = replay.objectives(["latency"])
    assert latency.context()["device"] == device
    assert "device" not in replay.objectives(["acc"])[0].context()
    assert np.quantile(values, 0.4) < replay.reference["latency"] < values.max()


def test_the_largest_cell_of_nas_bench_201_has_the_most_macs(problem, cells):
    replay = problem("nas_bench_201")
    largest = replay.space.largest()
    assert set(largest["op"]) == {3}
    assert replay.values("macs", [largest])[0] == max(float(row["cifar10_flops"]) for row in cells)


def test_nas_bench_201_costs_and_latencies_agree(problem, cells):
    """Latencies are stored apart from the cells: were they matched wrongly, they would not follow the MACs."""
    replay = problem("nas_bench_201")
    points = architectures(row["ops"] for row in cells)
    assert np.corrcoef(replay.values("latency", points), replay.values("macs", points))[0, 1] > 0.5


def test_isomorphic_cells_stay_apart(problem, cells):
    replay = problem("nas_bench_201")
    groups = defaultdict(list)
    for row in cells:
        groups[row["unique_str"]].append(row["ops"])
    twins = architectures(next(group for group in groups.values() if len(group) > 5))
    assert len(set(replay.encode(twins) @ 5 ** np.arange(6))) == len(twins)


def test_unknown_device(shared_data):
    with pytest.raises(ConfigError, match="device = 'abacus' is not known; allowed: gold_6226, raspi4"):
        NasBench201(shared_data, "abacus")


def test_nas_bench_macro_is_the_table(problem, chains):
    replay = problem("nas_bench_macro")
    points = architectures(row["arch"] for row in chains)
    assert replay.space.size() == len(set(points)) == 6561
    runs = np.array([[float(row[f"acc_{i}"]) for i in range(3)] for row in chains])
    np.testing.assert_allclose(replay.values("acc", points), runs.mean(axis=1), rtol=1e-12)
    for metric, column in (("macs", "flops"), ("params", "params")):
        np.testing.assert_array_equal(replay.values(metric, points), [float(row[column]) for row in chains])


def test_nas_bench_macro_has_the_spread_of_its_runs(problem, chains):
    replay = problem("nas_bench_macro")
    points = architectures(row["arch"] for row in chains)
    np.testing.assert_allclose(replay.spread("acc", points), [float(row["acc_std"]) for row in chains], atol=1e-3)
    accuracy, macs = replay.objectives(["acc", "macs"])
    assert accuracy.measure(None, points[9]).spread == pytest.approx(float(chains[9]["acc_std"]), abs=1e-3)
    assert macs.measure(None, points[9]).spread is None


def write(path, table):
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table[:-1], "has 6560 rows; the published table has 6561"),
        (lambda table: [*table[:-1], table[0]], "holds 6560 of the 6561 architectures"),
        (
            lambda table: [*table[:-1], {**table[-1], "arch": "22222223"}],
            "'22222223' is not an architecture of 8 digits",
        ),
        (lambda table: [*table[:-1], {**table[-1], "arch": "2222222"}], "'2222222' is not an architecture of 8 digits"),
        (lambda table: [*table[:-1], {**table[-1], "acc_1": ""}], "is not the published table"),
        (lambda table: [*table[:-1], {**table[-1], "acc_1": "inf"}], "has values that are not finite"),
        (lambda table: [{k: v for k, v in row.items() if k != "flops"} for row in table], "flops"),
    ],
)
def test_tables_that_are_not_the_published_one(chains, tmp_path, change, message):
    path = tmp_path / "nas_bench_macro/nas_bench_macro_cifar10.csv.gz"
    write(path, change(chains))
    with pytest.raises(DataError, match=message) as error:
        NasBenchMacro(tmp_path)
    assert str(path) in str(error.value)
