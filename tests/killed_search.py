"""A program that runs a search in child processes and kills them with SIGKILL until it has done so often enough.

Usage: killed_search.py STRATEGY FOLDER KILLS SEED. It leaves `whole.*` of a search that nothing disturbed and
`killed.*` of the same search killed again and again, and prints the number of kills that hit a running search.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
from toy import Quality, Size, Speed, build, distinct, toy_space

from nas_compress.archive import Archive
from nas_compress.search import SearchProblem, strategies
from nas_compress.stopping import StopRules
from nas_compress.study import Study

EVALUATIONS = 40
DELAY = 0.004


def search(strategy: str, stem: Path) -> None:
    """Run one search to its end: two measured objectives, some failures, one computed objective."""
    space = toy_space()
    objectives = [Quality(distinct(1500, seed=7)[::5], delay=DELAY), Size(), Speed(delay=DELAY, nan=True)]
    with Archive.open(
        stem.with_suffix(".jsonl"), {"strategy": strategy, "seed": 5, "space": space.describe()}
    ) as archive:
        most = strategies.entry(strategy).info.get("objectives", len(objectives))
        problem = SearchProblem(space, objectives[:most], limited=objectives[most:])
        asking = strategies.get(strategy)(problem, seed=5, population=8)
        csv_path = stem.with_suffix(".csv")
        Study(problem, asking, archive, build, rules=StopRules(EVALUATIONS), csv_path=csv_path).run()


def start(strategy: str, stem: Path) -> int:
    """Start a search in a child process and return its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        search(strategy, stem)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def killed(pid: int, path: Path, rng: np.random.Generator) -> bool:
    """Kill a child at a random moment after it has appended 0 to 3 lines more; tell whether it still ran."""
    lines = _lines(path) + int(rng.integers(0, 4))
    while _lines(path) < lines:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        time.sleep(0.0005)
    time.sleep(float(rng.uniform(0, 3 * DELAY)))
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def finish(pid: int) -> None:
    """Wait for a child; leave with its status if it failed."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        sys.exit(status)


def main(strategy: str, folder: Path, kills: int, seed: int) -> None:
    """Run the search undisturbed, then the same one with kills."""
    finish(start(strategy, folder / "whole"))
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(kills):
        hits += killed(start(strategy, folder / "killed"), folder / "killed.jsonl", rng)
    unfinished = _lines(folder / "killed.jsonl") < _lines(folder / "whole.jsonl")
    finish(start(strategy, folder / "killed"))
    print(hits, unfinished)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
