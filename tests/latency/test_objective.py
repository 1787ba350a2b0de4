"""Predicted latency in a search: told from measured latency in the archive, and measured at the end."""

import numpy as np
import pytest
from latency_chain import Chain, Meter

from nas_compress.archive import Archive
from nas_compress.config import NASConfig
from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.latency.build import build_table
from nas_compress.latency.finalists import finalist_errors, measure_finalists
from nas_compress.latency.normalized import normalized_latency
from nas_compress.latency.objective import PredictedLatency
from nas_compress.objectives.base import Measurement, Objective
from nas_compress.search import SearchProblem
from nas_compress.search.random import RandomSearch
from nas_compress.stopping import StopRules
from nas_compress.study import Study


@pytest.fixture
def predicted(tmp_path, chain, meter):
    build_table(tmp_path / "lut.jsonl", chain, chain.space, meter, subnets=12, sweeps=1)
    return PredictedLatency.from_table(tmp_path / "lut.jsonl", chain, meter)


class Measured(Objective):
    """Stands in for the measured latency."""

    name, direction, unit, column = "latency", "minimize", "ms", "Latency (ms)"
    depends_on_weights = False

    def __init__(self):
        self.calls = []

    def measure(self, subnet, architecture):
        self.calls.append(architecture)
        if architecture == self.broken:
            raise EvaluationError("it cannot be built")
        return Measurement(2 * Meter().of(subnet), 0.1, {"runs": 3})

    broken = None

    def context(self):
        return {"backend": "torch"}


def test_it_is_computed_like_a_count_and_carries_its_error(predicted, chain):
    largest = chain.space.largest()
    found = predicted.measure(None, largest)
    assert found.value == pytest.approx(Meter().of(chain.extract(largest)))
    assert found.spread == pytest.approx(predicted.predictor.errors.std * found.value)
    rows = chain.space.encode(chain.space.sample(np.random.default_rng(0), 5))
    assert np.allclose(predicted.compute_encoded(chain.space, rows), predicted.compute(chain.space.decode(rows)))


def test_what_was_predicted_is_not_predicted_again(predicted, chain, monkeypatch):
    space, seen = chain.space, []
    part = space.restrict({"w": (4, 8)})
    rows = space.encode(space.sample(np.random.default_rng(0), 30))
    wanted = predicted.compute(space.decode(rows))
    compute = predicted.compute
    monkeypatch.setattr(predicted, "compute", lambda each: seen.extend(each) or compute(each))
    for some in (rows[:20], rows[10:], rows):
        assert np.allclose(
            predicted.compute_encoded(space, some), wanted[[rows.tolist().index(r) for r in some.tolist()]]
        )
    assert len(seen) == len(set(seen)) == len({r.tobytes() for r in rows})
    zeros = np.zeros((1, rows.shape[1]), dtype=np.int64)
    both = [predicted.compute_encoded(each, zeros)[0] for each in (space, part)]
    assert both == pytest.approx(compute([space.smallest(), part.smallest()])) and both[0] < both[1]
    assert predicted.compute_encoded(space, rows[:0]).shape == (0,)


def test_its_context_says_that_it_is_predicted_and_from_what(predicted, meter):
    context = predicted.context()
    assert context["predicted"].startswith("from measured blocks; torch") and "Kendall tau" in context["error"]
    assert context["table"]["measured_on"] == meter.describe()
    assert context["supernet"] == Chain().describe()


def test_a_table_of_other_conditions_is_refused(predicted, tmp_path, chain):
    with pytest.raises(ConfigError, match="lut.jsonl was measured on something else .threads: 1 there, 2 now"):
        PredictedLatency.from_table(tmp_path / "lut.jsonl", chain, Meter(threads=2))


def test_a_search_goes_by_predictions_and_its_front_is_measured(predicted, chain, tmp_path):
    measured, path = Measured(), tmp_path / "search.jsonl"

    def search():
        with Archive.open(path, {}) as archive:
            problem = SearchProblem(chain.space, [predicted])
            study = Study(problem, RandomSearch(problem, seed=1), archive, chain.extract, rules=StopRules(20))
            result = study.run()
            return measure_finalists(result.trials[:5], measured, chain.extract, archive), archive.records

    finalists, records = search()
    assert len(measured.calls) == 5 and len(records) == 25
    assert len({record.context for record in records}) == 2
    for finalist in finalists:
        assert finalist.measured_ms == pytest.approx(2 * finalist.predicted_ms) and finalist.spread_ms == 0.1
    assert finalist_errors(finalists).mape == pytest.approx(50)
    again, _ = search()
    assert again == finalists and len(measured.calls) == 5


def test_a_finalist_that_cannot_be_measured_is_told(predicted, chain):
    archive, measured = Archive(), Measured()
    problem = SearchProblem(chain.space, [predicted])
    result = Study(problem, RandomSearch(problem, seed=1), archive, chain.extract, rules=StopRules(3)).run()
    measured.broken = result.trials[1].architecture
    finalists = measure_finalists(result.trials, measured, chain.extract, archive)
    assert [f.error for f in finalists] == [None, "it cannot be built", None]
    assert finalists[1].measured_ms is None and finalist_errors(finalists).subnets == 2
    assert finalist_errors(finalists[:2]) is None


def test_normalized_latencies():
    assert normalized_latency([2.0, 4.0, 3.0]).tolist() == [0, 0.5, 0.25]
    assert normalized_latency([5.0]).tolist() == [0]
    for wrong in ([], [1.0, 0.0], [-1.0], [float("nan")]):
        with pytest.raises(ConfigError, match="must be above 0"):
            normalized_latency(wrong)


def test_a_config_checks_the_table_and_the_precision(tmp_path, chain, meter):
    path = tmp_path / "lut.jsonl"
    build_table(path, chain, chain.space, meter, subnets=0, sweeps=1)
    config = NASConfig(approach="random", metrics=["macs", "latency"])
    config.random.supernet, config.random.results_csv_path = "digits_mbv3", tmp_path / "results.csv"
    config.random.latency.backend, config.random.latency.lut = "torch", path
    config.check()
    config.random.latency.precision = "bf16"
    with pytest.raises(ConfigError, match="was measured with precision 'fp32', and precision is 'bf16' here"):
        config.check()
    config.random.latency.lut = tmp_path / "absent.jsonl"
    with pytest.raises(ConfigError, match=r"latency\.lut: no such file"):
        config.check()
    config.random.latency.lut, config.random.latency.backend = None, "onnxruntime"
    with pytest.raises(ConfigError, match="nas.random.latency: precision = 'bf16' does not go with backend 'onnxrun"):
        config.check()
