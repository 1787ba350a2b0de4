"""Training in several processes (data parallelism): what `torchrun` starts, or one process alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from nas_compress.errors import ConfigError

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Processes:
    """The processes of a run; each computes its share of every step's examples, and gradients are averaged.

    Sub-networks, order and learning rates follow from the seed, so that processes agree on them without a word; what
    they exchange are gradients, the statistics of normalisation, and sums for the log. Losses are means over examples,
    weighted by their number, so that the averaged gradient is that of the whole step (Li et al., 2020, "PyTorch
    Distributed", section 3.2); batch normalisation sees the share of its process.

    Args:
        rank: The number of this process.
        size: How many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    def share(self, indices: Tensor) -> Tensor:
        """Return this process's part of a step's examples."""
        return indices[self.rank :: self.size]

    def average_gradients(self, module: nn.Module) -> None:
        """Replace the gradients by their averages over all processes."""
        self._average([p.grad for p in module.parameters() if p.grad is not None])

    def average_buffers(self, module: nn.Module) -> None:
        """Replace floating-point buffers (running statistics) by their averages over all processes."""
        self._average([b for b in module.buffers() if b.is_floating_point()])

    def copy_from_first(self, module: nn.Module) -> None:
        """Give all processes the weights of the first one."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, 0)

    def total(self, *values: float) -> list[float]:
        """Return the sums of values over all processes."""
        if self.size == 1:
            return list(values)
        device = torch.device("cuda") if distributed.get_backend() == "nccl" else torch.device("cpu")
        sums = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(sums)
        return [float(value) for value in sums]

    def agreed(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return the averages of figures over all processes, which then decide alike by them."""
        if self.size == 1 or not figures:
            return dict(figures)
        return {name: total / self.size for name, total in zip(figures, self.total(*figures.values()), strict=True)}

    def any(self, own: bool) -> bool:
        """Return whether something is so in any of the processes, which then all do alike."""
        return self.total(float(own))[0] > 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def _average(self, tensors: list[Tensor]) -> None:
        """Average tensors over all processes, all in one exchange."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Yield the processes that `torchrun` started (gloo on CPUs, nccl on GPUs); this one alone where it did not.

    Raises:
        ConfigError: Some of the variables of `torchrun` are set and others are missing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    if missing := [name for name in _VARIABLES if name not in os.environ]:
        raise ConfigError(f"WORLD_SIZE is set, but not {', '.join(missing)}; start several processes with torchrun")
    started = not distributed.is_initialized()
    if started:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        if started:
            distributed.destroy_process_group()
