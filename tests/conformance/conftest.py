from __future__ import annotations

import pytest
from problems import Make, maker

from nas_compress.search import strategies


@pytest.fixture(params=list(strategies))
def name(request: pytest.FixtureRequest) -> str:
    """The name of each registered strategy."""
    return str(request.param)


@pytest.fixture
def make(name: str) -> Make:
    """Makes a strategy of that name on one of the test problems."""
    return maker(name)
