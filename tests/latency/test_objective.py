"""Predicted latency in a search: told from measured latency in the archive, and measured at the end."""

import numpy as np
import pytest
from latency_chain import Chain, Meter

from nas_compress.archive import Archive
from nas_compress.config import NASConfig
from nas_compress.constraints import parse_constraint
from nas_compress.errors import ConfigError, EvaluationError, InfeasibleError
from nas_compress.latency.build import build_table
from nas_compress.latency.finalists import finalist_errors, measure_finalists, measure_front
from nas_compress.latency.normalized import normalized_latency
from nas_compress.latency.objective import PredictedLatency
from nas_compress.objectives.base import AnalyticObjective, Measurement, Objective
from nas_compress.objectives.latency import Latency
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


def test_a_learned_table_of_a_smaller_space_is_refused_before_any_work(tmp_path, chain, meter):
    path = tmp_path / "learned.jsonl"
    part = chain.space.restrict({"d": (1, 2)})
    build_table(path, chain, part, meter, blocks=False, subnets=12, sweeps=1)
    PredictedLatency.from_table(path, chain, meter, part)
    PredictedLatency.from_table(path, chain, meter, chain.space.restrict({"d": 2, "w": (2, 8)}))
    with pytest.raises(ConfigError, match=r"learned.jsonl: .* d\[0\] = 1, 2, not 3; .*build-lut chain .*--learned 12"):
        PredictedLatency.from_table(path, chain, meter)
    wanted = chain.space.restrict({"d": (2, 3), "w[0]": 4})
    with pytest.raises(ConfigError, match=r"--restrict w\[0\]=4 .*--restrict d=2,3 \(and"):
        PredictedLatency.from_table(path, chain, meter, wanted)
    build_table(path, chain, wanted, meter, blocks=False, subnets=12, sweeps=1)
    PredictedLatency.from_table(path, chain, meter, wanted)


@pytest.mark.parametrize("subnets", [0, 12])
def test_a_table_without_all_blocks_is_refused_before_any_work(tmp_path, chain, meter, subnets):
    path = tmp_path / "lut.jsonl"
    build_table(path, chain, chain.space.restrict({"w": (2, 4)}), meter, subnets=subnets, sweeps=1)
    reason = r"lut.jsonl: .*lacks 7 of the 15 blocks of what is searched, the first .* 'linear in=5 out=8'.*build-lut"
    with pytest.raises(ConfigError, match=reason):
        PredictedLatency.from_table(path, chain, meter)
    build_table(path, chain, chain.space, meter, subnets=subnets, sweeps=1)
    PredictedLatency.from_table(path, chain, meter)


def test_an_unfinished_table_is_refused_before_any_work(tmp_path, chain):
    path, interrupted = tmp_path / "lut.jsonl", Meter(fails_after=25)
    with pytest.raises(EvaluationError):
        build_table(path, chain, chain.space, interrupted, subnets=12, sweeps=1)
    with pytest.raises(ConfigError, match=r"lut.jsonl: the latency table (is unfinished|lacks \d)"):
        PredictedLatency.from_table(path, chain, Meter())
    build_table(path, chain, chain.space, Meter(), subnets=12, sweeps=1)
    PredictedLatency.from_table(path, chain, Meter())


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


class Agent:
    """What measures the front asks of an agent."""

    def __init__(self, chain):
        self.supernet = chain


def searched(predicted, chain, archive, monkeypatch, *, factor, limit=None):
    """Return a search's result; the measured latencies are the predicted ones times what `factor` returns."""

    class Off(Measured):
        def measure(self, subnet, architecture):
            self.calls.append(architecture)
            return Measurement(factor(architecture) * float(predicted.compute([architecture])[0]), 0.1)

    measured = Off()
    monkeypatch.setattr(Latency, "measured_for", classmethod(lambda cls, agent: measured))
    limits = [] if limit is None else [parse_constraint(limit, name="latency", unit="ms")]
    problem = SearchProblem(chain.space, [Width(), predicted], constraints=limits)
    result = Study(problem, RandomSearch(problem, seed=1), archive, chain.extract, rules=StopRules(60)).run()
    before = result.hypervolumes()
    measure_front(result, problem, Agent(chain), archive)
    assert result.hypervolumes().tolist() == before.tolist()
    return result, measured


class Width(AnalyticObjective):
    """The sum of the widths in use: more of it takes longer."""

    name, direction, unit, column = "width", "maximize", "", "Width"

    def compute(self, architectures):
        return np.array([float(sum(Chain().widths(a))) for a in architectures])


def test_the_choice_goes_by_what_was_measured_on_the_front(predicted, chain, monkeypatch):
    def factor(architecture):
        return 1.5 if architecture["d"][0] == 3 else 1.0

    result, measured = searched(predicted, chain, Archive(), monkeypatch, factor=factor)
    true = {t.architecture: factor(t.architecture) * t.searched["latency"] for t in result}
    assert {t.architecture for t in result.front()} <= set(measured.calls)
    assert len(measured.calls) == len(set(measured.calls)) == len(result.provenance["finalists"]) < len(true)
    for trial in result.front():
        assert trial.values["latency"] == pytest.approx(true[trial.architecture])
    for limit in np.linspace(min(true.values()) * 1.01, max(true.values()), 7):
        best = result.best({"latency": f"<= {limit:.6f} ms"})
        assert true[best.architecture] <= limit
        widths = [t.values["width"] for t in result if true[t.architecture] <= limit]
        assert best.values["width"] == max(widths)
    assert result.to_dataframe().query("front")["latency"].tolist() == pytest.approx(
        [true[a] for a in result.to_dataframe().query("front")["architecture"]]
    )


def test_limits_of_the_search_hold_for_what_was_measured(predicted, chain, monkeypatch):
    result, _ = searched(predicted, chain, Archive(), monkeypatch, factor=lambda _: 1.2, limit="<= 12 ms")
    assert all(t.values["latency"] <= 12 and t.predicted for t in result.front())
    with pytest.raises(InfeasibleError, match=r"none of \d+ .*latency <= 12 ms: the closest has"):
        searched(predicted, chain, Archive(), monkeypatch, factor=lambda _: 100, limit="<= 12 ms")


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
    for wrong in ([], [1.0, 0.0], [-1.0], [float("nan")], [1.0, float("inf")]):
        with pytest.raises(ConfigError, match="must be finite and above 0"):
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
