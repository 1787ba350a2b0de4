from __future__ import annotations

import pytest
from problems import Make, maker

from nas_compress.search import dynas, strategies


@pytest.fixture(params=list(strategies))
def name(request: pytest.FixtureRequest) -> str:
    """The name of each registered strategy."""
    return str(request.param)


@pytest.fixture(autouse=True)
def _short_inner_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """What strategies promise does not depend on how well they search between measurements."""
    monkeypatch.setattr(dynas, "INNER_POPULATION", 20)
    monkeypatch.setattr(dynas, "INNER_GENERATIONS", 5)


@pytest.fixture
def make(name: str) -> Make:
    """Makes a strategy of that name on one of the test problems."""
    return maker(name)
