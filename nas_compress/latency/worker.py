"""The process that networks are measured in, apart from the one that searches: `python -m nas_compress.latency.worker`.

It is started by `isolated.Worker`, which alone speaks to it: over a socket that it was given, one job after the other,
until the other end closes. Jobs and answers are pickled by this package for itself; no file is read.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from nas_compress.errors import NASError
from nas_compress.objectives.timing import LatencyStats, TimingSettings, measure_latency

if TYPE_CHECKING:
    from torch import Tensor

    from nas_compress.backends import Session

Job = tuple["Callable[[int], Session]", "tuple[Tensor, ...]", int, TimingSettings]
"""What makes the session, the inputs, the threads, how long to measure."""

Answer = tuple[LatencyStats | None, str]
"""The figures, or None and why there are none."""


def main() -> None:
    """Pin this process to the cores that it is given, then answer jobs until there are no more."""
    descriptor, *cores = map(int, sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this decides when it ends
    os.sched_setaffinity(0, cores)
    connection = Connection(descriptor)
    while True:
        try:
            work = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(pickle.dumps(answer(work)))


def answer(work: bytes) -> Answer:
    """Return what a pickled job measures; only what is no fault of the network's escapes as an exception."""
    try:
        make, inputs, threads, settings = pickle.loads(work)
    except (AttributeError, ImportError) as error:
        return None, f"the network cannot be sent to a process of its own ({error}); its classes must be in a module"
    try:
        with make(threads).bound(*inputs) as run:
            return measure_latency(run, settings, threads=threads), ""
    except NASError as error:
        return None, str(error)


if __name__ == "__main__":
    main()
