"""Fixtures shared by all tests."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine takes seconds for what takes milliseconds.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: each has one
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# Tests send Ctrl-C, which a shell has the processes ignore that it starts in the background.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of published search results and datasets; tests that need it skip where it is missing."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("NAS_COMPRESS_SHARED", default)) / "data"
    if not folder.is_dir():
        pytest.skip(f"no published data at {folder} (set NAS_COMPRESS_SHARED to the folder that holds data/)")
    return folder


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what the command line does to the package's logger: other tests look at its records."""
    logger = logging.getLogger("nas_compress")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)
