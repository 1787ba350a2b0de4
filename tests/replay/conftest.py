from collections.abc import Callable
from functools import lru_cache

import pytest

from nas_compress.replay import Replay, load_replay


@pytest.fixture(scope="session")
def problem(shared_data) -> Callable[[str], Replay]:
    """Problems by name, each read once."""
    return lru_cache(lambda name: load_replay(name, shared_data))
