"""Measuring in a process of its own, with threads pinned to cores: what goes wrong there costs one measurement."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from socket import socketpair
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Self

from nas_compress.backends.hardware import pick_cores
from nas_compress.errors import EvaluationError
from nas_compress.objectives.timing import LatencyStats, TimingSettings

if TYPE_CHECKING:
    from torch import Tensor

    from nas_compress.backends import Session
    from nas_compress.latency.worker import Answer

TIMEOUT_S = 900.0
_GRACE_S = 5.0


class Worker:
    """A process that measures networks, one after the other, on cores that it keeps to.

    It starts with the first measurement, serves until it is closed, and is started again after it died. Scripts need
    no `if __name__ == "__main__"` for it: it does not import the program that started it.

    Args:
        threads: Threads within one operation; each has a core.
        timeout_s: Seconds after which a measurement, building the network included, is given up.

    Attributes:
        cores: The logical cores.

    Raises:
        ConfigError: The system cannot pin threads to cores, or has too few cores.
    """

    def __init__(self, threads: int = 1, timeout_s: float = TIMEOUT_S) -> None:
        self.cores = pick_cores(threads)
        self._threads = threads
        self._timeout_s = timeout_s
        self._process: _Process | None = None

    def measure(
        self, make: Callable[[int], Session], inputs: Sequence[Tensor], settings: TimingSettings
    ) -> LatencyStats:
        """Build a session there and time it.

        Args:
            make: Returns the session for a number of threads; `Backend.portable` gives such a function.
            inputs: The inputs by position.
            settings: How long to measure.

        Raises:
            EvaluationError: The network cannot be sent or run, or the process died or took too long.
        """
        try:
            work = pickle.dumps((make, tuple(inputs), self._threads, settings))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise EvaluationError(f"the network cannot be sent to a process of its own: {error}") from error
        try:
            stats, reason = self._running().ask(work, self._timeout_s)
        except BaseException:  # an interrupted job's answer must not be taken for that of the next
            self.close()
            raise
        if stats is None:
            raise EvaluationError(reason)
        return stats

    def _running(self) -> _Process:
        if self._process is None:
            self._process = _Process(self.cores)
            self._end = weakref.finalize(self, self._process.end)
        return self._process

    def close(self) -> None:
        """End the process, if it runs; a later measurement starts another."""
        if self._process is not None:
            self._end()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Process:
    """The running process and the line to it."""

    def __init__(self, cores: Sequence[int]) -> None:
        ours, theirs = socketpair()
        command = [sys.executable, "-P", "-m", "nas_compress.latency.worker", str(theirs.fileno()), *map(str, cores)]
        search = os.pathsep.join(path or os.getcwd() for path in sys.path)
        environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": str(len(cores))}
        self._said: IO[bytes] = TemporaryFile()
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=[theirs.fileno()],
                env=environment,
            )
        self._connection = Connection(ours.detach())

    def ask(self, work: bytes, timeout_s: float) -> Answer:
        try:
            self._connection.send_bytes(work)
            if not self._connection.poll(timeout_s):
                raise EvaluationError(f"the measurement took more than {timeout_s:g} s and was given up")
            answer: Answer = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise EvaluationError(f"the process that measures died ({self._last_words()})") from error
        return answer

    def _last_words(self) -> str:
        """Return how the process ended, and the last line it wrote."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        code = self._process.returncode
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = f"signal {signal.Signals(-code).name}"
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f"{how}: {lines[-1]}" if lines else how

    def end(self) -> None:
        """Close the line, and kill the process: it holds nothing worth saving."""
        self._connection.close()
        self._process.kill()
        self._process.wait()
        self._said.close()
