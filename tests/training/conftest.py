"""A super-network and a data set small enough to train in a second."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from squares import squares, tiny_supernet

from nas_compress.data.base import ImageData
from nas_compress.supernets.mobilenet import MobileNetSupernet


@pytest.fixture
def data() -> ImageData:
    """Three classes of 8x8 images, told apart by the place of a bright square."""
    return squares()


@pytest.fixture
def make_supernet() -> Callable[[], MobileNetSupernet]:
    """Builds the same small net at every call; it has dropout, so that its randomness is tested too."""
    return tiny_supernet
