import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_compress.recipe.conditions import Figures, parse_condition

BEFORE = Figures(quality=90.0, latency=2.0, size=1_000_000)


@pytest.mark.parametrize(
    ("text", "after", "holds"),
    [
        ("accuracy drop > 1 %", Figures(88.9, 2, 1), True),
        ("accuracy drop > 1 points", Figures(89.1, 2, 1), False),
        ("accuracy drop>1", Figures(89.0, 2, 1), False),
        ("accuracy drop >= 1 %", Figures(89.0, 2, 1), True),
        ("accuracy < 90 %", Figures(89.99, 2, 1), True),
        ("latency > 2 ms", Figures(90, 2.01, 1), True),
        ("size > 500 kB", Figures(90, 2, 500_001), True),
        ("size > .5 MB", Figures(90, 2, 500_000), False),
        ("speed-up < 1.5 x", Figures(90, 1.5, 1), True),
        ("speed-up < 1.25", Figures(90, 1.6, 1), False),
        ("size ratio > 0.5", Figures(90, 2, 600_000), True),
        ("not faster", Figures(90, 2.0, 1), True),
        ("not  faster", Figures(90, 1.99, 1), False),
        ("not smaller", Figures(90, 2, 1_000_000), True),
        ("not smaller", Figures(90, 2, 999_999), False),
    ],
)
def test_conditions_on_figures(text, after, holds):
    assert parse_condition(text).holds(BEFORE, after) is holds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is no condition; allowed: not faster, not smaller, accuracy"),
        ("slower", "is no condition"),
        ("accuracy drop > -1 %", "is no condition"),
        ("accuracy drop = 1 %", "is no condition"),
        ("drop > 1 %", "is no condition"),
        ("latency > 2 s", "the unit of latency is ms, not s"),
        ("latency > 2", "the unit of latency is ms, not none"),
        ("accuracy > 1 points", "the unit of accuracy is %, not points"),
    ],
)
def test_what_is_no_condition(text, expected):
    with pytest.raises(ValueError, match=expected.replace("?", r"\?")):
        parse_condition(text)


@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6), st.floats(0, 1e6))
def test_a_comparison_and_its_opposite_never_agree(before, after, bound):
    figures = Figures(50, before, 1), Figures(50, after, 1)
    number = f"{bound:.6f}"
    assert parse_condition(f"latency > {number} ms").holds(*figures) != parse_condition(
        f"latency <= {number} ms"
    ).holds(*figures)
