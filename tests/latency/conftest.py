"""Stand-ins for a super-network and for what measures it."""

import pytest
from latency_chain import Chain, Meter


@pytest.fixture
def chain():
    return Chain()


@pytest.fixture
def meter():
    return Meter()
