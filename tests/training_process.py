"""A program that trains in one of several processes, or starts two of them.

Usage: training_process.py NETWORK FOLDER STEPS. It stops by a crash after STEPS steps (0: never; negative: by Ctrl-C in
the second process after so many) and leaves the last weights of each process and its log,
`FOLDER/NETWORK.RANK.safetensors` and `.json`. `torchrun` starts it as one of several; without it, the program forks,
which is quicker.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from squares import plain_network, squares, tiny_supernet

from nas_compress.training import loop
from nas_compress.training.checkpoint import EpochLog
from nas_compress.training.config import FinetuneConfig, SupernetTrainConfig
from nas_compress.training.trainer import TrainProgress, finetune, train_supernet
from nas_compress.weights import write_state

PLAIN = FinetuneConfig(epochs=3, batch_size=35, lr=0.02, augment=None, max_norm=1.0, ema=0.8, accumulate=2, curve=12)
STAGES = [{"epochs": 3}, {"elastic": dict.fromkeys(("ks", "e", "d", "r")), "epochs": 3, "sort": True}]
SHRINKING = SupernetTrainConfig(
    algorithm="progressive_shrinking", stages=STAGES, batch_size=36, lr=0.02, augment=None, curve=12
)


def train(network: str, folder: Path | None, progress: Any = None) -> tuple[torch.nn.Module, list[EpochLog]]:
    """Train a network; return it and its log."""
    if network == "plain":
        net = plain_network()
        return net, finetune(net, squares(), 8, PLAIN, checkpoint_dir=folder, progress=progress)
    supernet = tiny_supernet(dropout=0.0)
    if os.environ.get("RANK", "0") != "0":  # all start from the weights of the first one
        next(supernet.parameters()).data.zero_()
    return supernet, train_supernet(supernet, squares(), SHRINKING, checkpoint_dir=folder, progress=progress)


def fork(network: str, folder: Path, steps: int) -> int:
    """Train in two children; return the largest of their exit codes."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        if not (pid := os.fork()):
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            try:
                main(network, folder, steps)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(pid)
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children)


def main(network: str, folder: Path, steps: int) -> None:
    """Train, and write what came of it."""
    torch.set_num_threads(1)
    loop.SAVE_EVERY = -1.0 if steps >= 0 else 1e9
    rank, left = os.environ["RANK"], [abs(steps)]

    def crash(progress: TrainProgress) -> None:
        left[0] -= 1
        if left[0] == 0 and steps > 0:
            os._exit(3)
        if left[0] == 0 and steps < 0 and rank == "1":
            signal.raise_signal(signal.SIGINT)

    try:
        net, log = train(network, folder / "state", crash)
    except KeyboardInterrupt:
        os._exit(3)
    write_state(folder / f"{network}.{rank}.safetensors", net.state_dict())
    (folder / f"{network}.{rank}.json").write_text(json.dumps([asdict(entry) for entry in log]))


if __name__ == "__main__":
    arguments = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    sys.exit(main(*arguments) if "RANK" in os.environ else fork(*arguments))
