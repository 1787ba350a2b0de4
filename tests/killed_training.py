"""A program that trains in child processes and stops them by signals until it has done so often enough.

Usage: killed_training.py FOLDER KILLS SEED. It leaves `whole/` of a run that nothing disturbed, `killed/` of the same
run stopped again and again (by SIGKILL, and in the end by SIGINT), their last weights, and prints how many signals hit
a run at work, and whether it was unfinished after the last one.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import torch
from squares import squares, tiny_supernet

from nas_compress.training import loop
from nas_compress.training.config import SupernetTrainConfig
from nas_compress.training.trainer import TrainProgress, train_supernet
from nas_compress.weights import write_state

DELAY = 0.02
CONFIG = SupernetTrainConfig(
    algorithm="progressive_shrinking",
    epochs=4,
    batch_size=36,
    lr=0.01,
    accumulate=2,
    ema=0.9,
    max_norm=1.0,
    curve=0,
)


def slow(progress: TrainProgress) -> None:
    """Make steps longer, for signals to hit more places than the start of Python."""
    time.sleep(DELAY)


def train(folder: Path) -> None:
    """Go on with the run in a folder; every step is stored."""
    loop.SAVE_EVERY = -1.0
    net = tiny_supernet()
    log = train_supernet(net, squares(), CONFIG, checkpoint_dir=folder, progress=slow)
    write_state(folder.with_suffix(".safetensors"), net.state_dict())
    folder.with_suffix(".log").write_text("\n".join(map(str, log)))


def start(folder: Path) -> int:
    """Start a run in a child process and return its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        train(folder)
    except KeyboardInterrupt:
        os._exit(130)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def stopped(pid: int, folder: Path, rng: np.random.Generator, number: int) -> bool:
    """Send a signal at a random moment after up to one more state was stored; tell whether it stopped the run."""
    states, last = int(rng.integers(0, 2)), _state(folder)
    while states:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        if (state := _state(folder)) != last:
            states, last = states - 1, state
        time.sleep(0.0005)
    time.sleep(float(rng.uniform(0, 3 * DELAY)))
    os.kill(pid, number)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code == (130 if number == signal.SIGINT else -signal.SIGKILL)


def _state(folder: Path) -> float:
    index = folder / "training.json"
    return index.stat().st_mtime_ns if index.exists() else 0


def finish(pid: int) -> None:
    """Wait for a child; leave with its status if it failed."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        sys.exit(status)


def main(folder: Path, kills: int, seed: int) -> None:
    """Train undisturbed, then the same with signals."""
    torch.set_num_threads(1)
    finish(start(folder / "whole"))
    rng = np.random.default_rng(seed)
    hits = sum(stopped(start(folder / "killed"), folder / "killed", rng, signal.SIGKILL) for _ in range(kills))
    hits += stopped(start(folder / "killed"), folder / "killed", rng, signal.SIGINT)
    unfinished = not (folder / "killed.log").exists()
    finish(start(folder / "killed"))
    print(hits, unfinished)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
