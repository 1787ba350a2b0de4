"""The growing hypervolume: equal to the hypervolume computed anew, on a scale that the reference point alone fixes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymoo.indicators.hv import HV

from nas_compress.result import ObjectiveInfo
from nas_compress.search.volume import OPENING, VolumeCurve, natural_ideal, natural_reference

ACC, LATENCY, SIZE = (
    ObjectiveInfo("acc", "maximize", "%"),
    ObjectiveInfo("latency", "minimize", "ms"),
    ObjectiveInfo("size", "minimize"),
)
SCORE = ObjectiveInfo("score", "maximize")
AXES = (ACC, LATENCY, SIZE, SCORE)
REFERENCE = {"acc": 60.0, "latency": 8.0, "size": 900.0, "score": 2.0}


def rows(n: int, seed: int) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    table = rng.uniform([50, 0, 0, 1], [100, 10, 1000, 5], size=(n, 4)).round(1)
    return [dict(zip([o.name for o in AXES], row, strict=True)) for row in table.tolist()]


def by_hand(axes: tuple[ObjectiveInfo, ...], points: list[dict[str, float]], ideal: dict[str, float]) -> float:
    """The volume by pymoo, of points as parts of the way from the ideal to the reference point."""
    unit = [[(p[o.name] - ideal[o.name]) / (REFERENCE[o.name] - ideal[o.name]) for o in axes] for p in points]
    return float(HV(ref_point=np.ones(len(axes)))(np.array(unit))) if points else 0.0


@settings(max_examples=40)
@given(m=st.integers(1, 4), n=st.integers(1, 30), seed=st.integers(0, 1000), data=st.data())
def test_every_volume_is_that_of_all_points_so_far(m: int, n: int, seed: int, data: st.DataObject) -> None:
    axes, points = AXES[:m], rows(n, seed)
    counts = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    curve = VolumeCurve(axes, REFERENCE)
    for point, keeps in zip(points, counts, strict=True):
        curve.add(point, keeps)
    ideal = natural_ideal(axes, REFERENCE)
    expected = [
        by_hand(axes, [p for p, c in zip(points[:i], counts, strict=False) if c], ideal) for i in range(1, n + 1)
    ]
    assert curve.volumes == pytest.approx(expected, abs=1e-12)


def test_the_ideal_point_is_natural() -> None:
    assert natural_ideal(AXES, REFERENCE) == {"acc": 100.0, "latency": 0.0, "size": 0.0, "score": 4.0}
    assert natural_ideal([ACC, SIZE, SCORE], {"acc": 120, "size": -5, "score": 0}) == {
        "acc": 240,
        "size": -10,
        "score": 1,
    }


@pytest.mark.parametrize(
    ("axis", "low", "high", "found"),
    [
        (ObjectiveInfo("share", "maximize"), 0.05, 0.3, 0.8),
        (ObjectiveInfo("share", "maximize"), 0.05, 0.06, 1.0),
        (ObjectiveInfo("reward", "maximize"), -3.0, 12.0, 60.0),
        (ObjectiveInfo("loss", "minimize"), -2.0, 4.0, -40.0),
        (ObjectiveInfo("gain", "maximize"), -0.3, -0.1, 0.5),
    ],
)
def test_what_the_first_trials_reach_is_far_from_the_ideal_point(axis, low, high, found) -> None:
    curve = VolumeCurve([axis])
    for value in np.linspace(low, high, OPENING):
        curve.add({axis.name: float(value)})
    assert 0 < curve.volumes[-1] < 1
    curve.add({axis.name: found})
    assert curve.volumes[-2] < curve.volumes[-1] <= 1


def test_a_percentage_may_reach_its_ideal_point() -> None:
    curve = VolumeCurve([ACC])
    for value in (*range(81, 100), 100):
        curve.add({"acc": float(value)})
    assert curve.ideal == {"acc": 100.0} and curve.volumes[-1] == 1


def test_a_score_with_a_best_value_is_measured_against_it() -> None:
    bleu = ObjectiveInfo("bleu", "maximize", best=100.0)
    assert natural_ideal([bleu], {"bleu": -0.002}) == natural_ideal([bleu], {"bleu": 30.0}) == {"bleu": 100.0}
    curve = VolumeCurve([bleu], {"bleu": -0.002})
    curve.add({"bleu": 25.0})
    assert curve.volumes == pytest.approx([25.002 / 100.002])


def test_the_reference_point_comes_from_the_first_successful_trials() -> None:
    points = rows(OPENING + 10, 3)
    curve = VolumeCurve(AXES[:2])
    for i, point in enumerate(points):
        curve.add({}, False)
        curve.add(point, counts=i > 4)
        known = i + 1 >= OPENING
        assert (curve.reference is not None) == known and len(curve.volumes) == (2 * (i + 1) if known else 0)
    assert curve.reference == natural_reference(AXES[:2], points[:OPENING])
    acc = [p["acc"] for p in points[:OPENING]]
    assert curve.reference["acc"] == pytest.approx(min(acc) - 0.1 * (max(acc) - min(acc)))
    given = VolumeCurve(AXES[:2], curve.reference)
    for i, point in enumerate(points):
        given.add({}, False)
        given.add(point, counts=i > 4)
    assert given.volumes == curve.volumes


def test_few_trials_settle_at_the_end_and_none_never() -> None:
    curve = VolumeCurve([ACC, LATENCY])
    curve.add({})
    curve.settle()
    assert curve.reference is None and curve.volumes == [] and curve.missing == OPENING
    curve.add({"acc": 90.0, "latency": 2.0})
    curve.settle()
    assert curve.reference == {"acc": pytest.approx(89.9), "latency": pytest.approx(2.1)}
    assert curve.volumes[0] == 0.0 < curve.volumes[1]
