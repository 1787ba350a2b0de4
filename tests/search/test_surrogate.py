from __future__ import annotations

import numpy as np
import pytest

from nas_compress.objectives.base import Measurement, Objective
from nas_compress.search import SearchProblem, Trial
from nas_compress.search.problem import Limits
from nas_compress.search.surrogate import Surrogate, _fixed_genes
from nas_compress.space import mobilenet_space
from nas_compress.space.precision import with_precision
from nas_compress.space.search_space import IntMatrix

BASE = mobilenet_space("base", stages=2, depths=(1, 2))
SPACE = with_precision(BASE, "block", ("int8", "fp32"))


class Quality(Objective):
    name, direction, unit, column = "acc", "maximize", "%", "acc"

    def measure(self, subnet: object, architecture: object) -> Measurement:
        raise NotImplementedError


def value(rows: IntMatrix) -> np.ndarray:
    """Return a quality that falls a little with every group in int8."""
    genes = SPACE.own_genes
    loss = ((1 - rows) * SPACE.active(rows))[:, genes.start :].sum(axis=1)
    return 90.0 + np.asarray(SPACE.bare(rows).sum(axis=1) - 0.1 * loss, dtype=float)


def surrogate(prior: list[Trial]) -> Surrogate:
    problem = SearchProblem(SPACE, [Quality()], prior=prior)
    return Surrogate(problem, Limits(problem), {"acc": "gp"}, np.random.default_rng(0))


def fp32_trials(n: int) -> list[Trial]:
    rows = SPACE.encode(BASE.sample(np.random.default_rng(1), n))
    return [Trial(a, {"acc": v}) for a, v in zip(SPACE.decode(rows), value(rows).tolist(), strict=True)]


def test_what_a_search_in_fp32_tells_does_not_depend_on_precisions() -> None:
    rows = SPACE.encode(SPACE.sample(np.random.default_rng(2), 30))
    as_fp32 = SPACE.encode([SPACE.without(a) for a in SPACE.decode(rows)])
    warm = surrogate(fp32_trials(60))
    prior, expected = (warm._views(each)["acc"][:, -1] for each in (rows, as_fp32))
    np.testing.assert_allclose(prior, expected)
    assert np.corrcoef(prior, value(as_fp32))[0, 1] > 0.95


def test_a_search_in_fp32_makes_few_quantized_measurements_tell_more() -> None:
    rng = np.random.default_rng(3)
    known, new = (SPACE.encode(SPACE.sample(rng, n)) for n in (12, 200))
    errors = []
    for prior in ([], fp32_trials(60)):
        model = surrogate(prior)
        model.fit(known, {"acc": value(known)})
        errors.append(np.abs(-model(new)[0][:, 0] - value(new)).mean())
    assert errors[1] < 0.5 * errors[0]


def test_genes_that_never_differ_are_found_where_they_are_used() -> None:
    active = np.array([[True, True, True, False], [True, True, True, False], [True, True, False, False]])
    rows = np.array([[0, 1, 1, 0], [1, 1, 1, 0], [0, 1, 0, 0]])
    assert _fixed_genes(rows, active).tolist() == [-1, 1, 1, -1]


def test_a_prior_that_varies_in_all_genes_is_taken_as_it_is() -> None:
    architectures = SPACE.sample(np.random.default_rng(4), 60)
    rows = SPACE.encode(architectures)
    warm = surrogate([Trial(a, {"acc": v}) for a, v in zip(architectures, value(rows).tolist(), strict=True)])
    assert (warm._fixed["acc"] == -1).all()


@pytest.mark.parametrize("optimism", [0.0, 2.0])
@pytest.mark.parametrize(
    ("direction", "unit", "best", "values", "bound"),
    [
        ("maximize", "%", None, (70, 100), 100),
        ("minimize", "%", None, (0, 30), 0),
        ("maximize", "", 10.0, (3, 10), 10),
        ("maximize", "", None, (70, 100), None),
        ("maximize", "%", None, (80, 110), None),
        ("minimize", "", None, (-20, 10), None),
    ],
)
def test_nothing_is_predicted_better_than_it_can_be(direction, unit, best, values, bound, optimism) -> None:
    facts = {"direction": direction, "unit": unit, "best": best}
    problem = SearchProblem(SPACE, [type("Bounded", (Quality,), facts)()])
    rows = SPACE.encode(SPACE.sample(np.random.default_rng(5), 300))
    true = value(rows)
    true = np.interp(true, [true.min(), true.max()], values)
    middle = np.argsort(true)[100:200]
    known = np.interp(true[middle], [true[middle].min(), true[middle].max()], values)
    model = Surrogate(problem, Limits(problem), {"acc": "gp"}, np.random.default_rng(0))
    model.fit(rows[middle], {"acc": known})
    predicted = (-1 if direction == "maximize" else 1) * model(rows, optimism)[0][:, 0]
    beyond = predicted > values[1] if direction == "maximize" else predicted < values[0]
    if bound is None:
        assert beyond.any()
    else:
        assert not beyond.any() and np.isclose(predicted, bound).any()
