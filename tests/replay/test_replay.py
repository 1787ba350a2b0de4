"""What holds for every replay problem."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from nas_compress.errors import ArchitectureError, ConfigError, DataError
from nas_compress.objectives import AnalyticObjective, objectives
from nas_compress.replay import load_replay, replays
from nas_compress.space import Architecture, Dimension, SearchSpace

every_problem = pytest.mark.parametrize("name", list(replays))


def sample(space, n=300, seed=0):
    return space.sample(np.random.default_rng(seed), n)


def with_leftovers(space, architecture, rng):
    """The same sub-network, with anything legal in the genes that are not used."""
    values = {
        d.name: [v or rng.choice(c) for v, c in zip(architecture[d.name], d.choices, strict=True)]
        for d in space.dimensions
    }
    return Architecture(values)


@every_problem
def test_costs_in_a_part_of_the_space(problem, name):
    replay, rng = problem(name), np.random.default_rng(6)
    first = replay.space.dimensions[0]
    part = replay.space.restrict({first.name: first.choices[0][1:]})
    cost = replay.objectives(["macs"])[0]
    encoded = part.encode(sample(part))
    assert replay.own_rows(part, encoded) is not None
    leftovers = np.where(part.active(encoded), encoded, rng.integers(0, part.cardinalities, encoded.shape))
    for rows in (encoded, leftovers):
        assert np.allclose(cost.compute_encoded(part, rows), cost.compute(part.decode(rows)), rtol=1e-12)
    other = SearchSpace("other", [Dimension("x", first.choices, ordered=first.ordered)])
    assert replay.own_rows(other, np.zeros((1, len(other.cardinalities)), dtype=int)) is None


@every_problem
def test_values_are_finite_and_follow_from_the_sub_network(problem, name):
    replay, rng = problem(name), np.random.default_rng(5)
    architectures = sample(replay.space)
    filled = [with_leftovers(replay.space, a, rng) for a in architectures]
    if replay.space.conditions:
        assert filled != architectures
    assert set(replay.metrics) >= {"acc", "macs", "params"}
    for metric in replay.metrics:
        values = replay.values(metric, architectures)
        assert values.shape == (300,) and np.isfinite(values).all() and values.min() > 0
        if replay.space.conditions:  # elsewhere 0 is a choice like the others
            np.testing.assert_array_equal(replay.values(metric, filled), values)
        # one at a time, as a search does: matrix products round differently
        alone = [replay.values(metric, [a])[0] for a in architectures[:5]]
        np.testing.assert_allclose(alone, values[:5], rtol=1e-5 if metric == "acc" else 0)
        genes = rng.integers(0, replay.space.cardinalities, size=(50, len(replay.space.cardinalities)))
        np.testing.assert_array_equal(
            replay.encoded_values(metric, genes), replay.values(metric, replay.space.decode(genes))
        )


@every_problem
def test_no_architectures_have_no_values(problem, name):
    assert problem(name).values("acc", []).shape == (0,)


@every_problem
def test_encode_is_that_of_the_space(problem, name):
    replay = problem(name)
    architectures = sample(replay.space)
    np.testing.assert_array_equal(replay.encode(architectures), replay.space.encode(architectures))
    largest = replay.space.largest()
    dimension = replay.space.dimensions[-1].name
    for values in ([99, *largest[dimension][1:]], largest[dimension][1:], ["x"] * len(largest[dimension])):
        with pytest.raises(ArchitectureError):
            replay.values("acc", [largest, Architecture({**largest, dimension: values})])
    with pytest.raises(ArchitectureError, match="lacks"):
        replay.values("acc", [Architecture({k: v for k, v in largest.items() if k != dimension})])


@every_problem
def test_objectives_answer_with_the_values(problem, name):
    replay = problem(name)
    architecture = sample(replay.space, 1)[0]
    for objective, metric in zip(replay.objectives(replay.metrics), replay.metrics, strict=True):
        info = objectives.entry(metric).info
        assert (objective.name, objective.direction) == (metric, info["direction"])
        assert (objective.unit, objective.column) == (info["unit"], info["column"])
        assert isinstance(objective, AnalyticObjective) == (metric in ("macs", "params"))
        assert not objective.depends_on_weights
        assert objective.measure(None, architecture).value == replay.values(metric, [architecture])[0]
    accuracy, macs = replay.objectives(["accuracy_top1", "macs"])
    assert (accuracy.name, macs.name) == ("acc", "macs")


@every_problem
def test_a_metric_that_is_not_offered(problem, name):
    with pytest.raises(ConfigError, match=rf"'model_size' is not a metric of replay problem '{name}'; those are: acc"):
        problem(name).objectives(["acc", "model_size"])
    with pytest.raises(ConfigError, match="model_size"):
        problem(name).values("model_size", [])


@every_problem
def test_context_names_the_tables(problem, name):
    replay = problem(name)
    accuracy, macs = replay.objectives(["acc", "macs"])
    context = json.loads(json.dumps(accuracy.context()))
    assert context["replayed"] == name and context["files"] == list(replay.description.files)
    assert context["sha256"] == replay.fingerprint() == macs.context()["sha256"]
    assert "dataset" in context


@every_problem
def test_reference_point_leaves_room(problem, name):
    """It is dominated by a good part of the space, and cuts off another part."""
    replay = problem(name)
    inside = np.ones(2000, dtype=bool)
    architectures = sample(replay.space, 2000)
    for metric, bound in replay.reference.items():
        values = replay.values(metric, architectures)
        better = values > bound if metric == "acc" else values < bound
        assert 0.5 < better.mean() <= 1, metric
        inside &= better
    assert 0.5 < inside.mean() < 1


@every_problem
def test_missing_files_are_named(shared_data, tmp_path, name):
    with pytest.raises(DataError, match="no such folder: .*nowhere"):
        load_replay(name, tmp_path / "nowhere")
    files = replays.entry(name).info["description"].files
    for missing in files:
        folder = tmp_path / missing.replace("/", "-")
        for file in set(files) - {missing}:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(shared_data / file, folder / file)
        folder.mkdir(exist_ok=True)
        with pytest.raises(DataError, match=f"no such file: .*{missing}"):
            load_replay(name, folder)


@every_problem
@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_damaged_files_are_named(shared_data, tmp_path, name, damage):
    files = replays.entry(name).info["description"].files
    for damaged in files:
        folder = tmp_path / damaged.replace("/", "-")
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            data = (shared_data / file).read_bytes()
            if file == damaged:
                data = {"cut": data[: len(data) // 2], "empty": b"", "other": b"not,a\ntable,1\n"}[damage]
            (folder / file).write_bytes(data)
        with pytest.raises(DataError, match=damaged):
            load_replay(name, folder)


def test_names_cost_nothing_and_problems_no_torch(shared_data):
    code = """if True:
        import sys
        from nas_compress.replay import load_replay, replays
        heavy = {"pandas", "sklearn", "scipy"} & set(sys.modules)
        for name in replays:
            replay = load_replay(name, sys.argv[1])
            replay.objectives(["acc"])[0].measure(None, replay.space.largest())
        print(heavy, "torch" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code, str(shared_data)], capture_output=True, text=True)
    assert done.stdout.strip() == "set() False", done.stderr
