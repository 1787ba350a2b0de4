"""Strategies of a user's own keep the promises of a search, whatever they know of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pymoo.algorithms.moo.nsga2 import NSGA2
from toy import Listed, Quality, Size, distinct, toy_space

from nas_compress.constraints import parse_constraint
from nas_compress.errors import ConfigError
from nas_compress.search import SearchProblem, SearchStrategy, Trial
from nas_compress.search.plug_in import Guest, check_own, describe_own, make_own
from nas_compress.search.random import RandomSearch
from nas_compress.space import Architecture

SPACE = toy_space()
PROBLEM = SearchProblem(SPACE, [Quality(), Size()])


def run(strategy: SearchStrategy, pieces: Sequence[int]) -> list[Architecture]:
    """Ask in pieces, tell all, and return what was asked for."""
    asked = []
    for n in pieces:
        batch = strategy.ask(n)
        strategy.tell([Trial(a, {"acc": float(len(asked) + i)}) for i, a in enumerate(batch)])
        asked += batch
    return asked


def test_what_the_problem_asks_for_first_comes_first() -> None:
    asks = distinct(6)
    problem = SearchProblem(SPACE, [Quality(), Size()], first=[asks[4], asks[2], asks[4]])
    own = Listed(SPACE, asks)
    assert run(Guest(problem, own), [1, 5, 6, 6, 6]) == [asks[4], asks[2], asks[0], asks[1], asks[3], asks[5]]
    told = [trial for batch in own.told for trial in batch]
    assert [trial.architecture for trial in told] == asks, "as if it had been asked for nothing else"
    assert [told[4].values["acc"], told[2].values["acc"]] == [0.0, 1.0], "answered from memory"


def test_the_largest_is_measured_where_limits_refer_to_it() -> None:
    limit = parse_constraint(">= 0.5 x largest", name="acc", unit="%")
    problem = SearchProblem(SPACE, [Quality(), Size()], constraints=[limit])
    assert run(Guest(problem, Listed(SPACE, distinct(3))), [2])[0] == SPACE.largest()


def test_a_strategy_that_repeats_itself_comes_to_its_end() -> None:
    class Again(SearchStrategy):
        def ask(self, n: int) -> list[Architecture]:
            return [SPACE.largest()] * min(n, 3)

        def tell(self, trials: Sequence[Trial]) -> None:
            assert len(trials) == 3

    assert run(make_own(Again, PROBLEM, seed=0, population=5), [3, 3, 3]) == [SPACE.largest()]


def test_a_generational_search_is_the_same_as_a_guest() -> None:
    problem = SearchProblem(SPACE, [Quality(), Size()], first=distinct(3)[1:])
    alone = run(RandomSearch(problem, seed=4, population=7), [50])
    guest = run(make_own(RandomSearch, problem, seed=4, population=7), [2, 3, 7, 1, 50, 50, 50, 50])
    assert guest[: len(alone)] == alone


@pytest.mark.parametrize(
    ("answer", "found"), [(None, "None"), (["largest"], r"\['largest'\]"), (SPACE.largest(), "Arch")]
)
def test_what_is_no_list_of_architectures_is_refused(answer: Any, found: str) -> None:
    class Odd(Listed):
        def ask(self, n: int) -> Any:
            return answer

    with pytest.raises(ConfigError, match=rf"strategy: Odd.ask\(4\) returned no list of architectures but {found}"):
        Guest(PROBLEM, Odd(SPACE, [])).ask(4)


def test_a_guest_that_asks_for_too_much_is_named() -> None:
    class Greedy(Listed):
        def ask(self, n: int) -> list[Architecture]:
            return super().ask(n) * 2

    with pytest.raises(ConfigError, match=r"strategy: Greedy.ask\(2\) returned 4 architectures; wants 2 at most"):
        Guest(PROBLEM, Greedy(SPACE, distinct(4))).ask(2)


def test_what_cannot_be_called_is_refused_before_any_work() -> None:
    class Mute(SearchStrategy):
        def ask(self, n: int) -> list[Architecture]:
            return []

    class Narrow(RandomSearch):
        def __init__(self, problem: SearchProblem) -> None:
            super().__init__(problem)

    with pytest.raises(ConfigError, match="strategy: class Mute lacks tell"):
        check_own(Mute)
    for wrong in (Narrow, lambda problem: RandomSearch(problem)):
        with pytest.raises(ConfigError, match=r"cannot be called as \(problem, seed=, population=\): .*'seed'"):
            check_own(wrong)
    check_own(lambda problem, **options: RandomSearch(problem, **options))


def test_algorithms_of_other_sizes_are_others() -> None:
    assert describe_own(NSGA2(pop_size=10)) == describe_own(NSGA2(pop_size=10)) != describe_own(NSGA2(pop_size=30))
