"""Several processes that train one model: what number this one has, and what they add up to.

PyTorch's distributed engine does the work. Started by `torchrun --nproc-per-node N`, each process runs the same
program; started plainly there is one process, and every function here is as good as not called.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import distributed

from gptlab.devices import pick_device


@contextmanager
def joined_processes(device: str = "auto") -> Iterator[torch.device]:
    """Join the other processes if torchrun started this one, give the device to use, and leave them at the end.

    With "auto" or "cuda" each process gets a CUDA device of its own.

    Raises:
        ValueError: the device is not here or is MPS, or there are more processes than CUDA devices.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield pick_device(device)
        return
    chosen = pick_device(device)
    if chosen.type == "mps":
        raise ValueError("several processes compute on CPUs or on CUDA devices, not on MPS")
    if chosen.type == "cuda":
        chosen = pick_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield chosen
    finally:
        distributed.destroy_process_group()


def process_count() -> int:
    """Return how many processes train together; 1 without torchrun."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def process_number() -> int:
    """Return this process's number from 0; number 0 is the one that writes files."""
    return distributed.get_rank() if process_count() > 1 else 0


def sum_over_processes(values: Sequence[float], device: torch.device | str = "cpu") -> list[float]:
    """Return the sums of these numbers over all processes, which must all call this."""
    if process_count() == 1:
        return list(values)
    exact = torch.float32 if torch.device(device).type == "mps" else torch.float64
    summed = torch.tensor(list(values), dtype=exact, device=device)
    distributed.all_reduce(summed)
    return summed.tolist()


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if process_count() > 1:
        distributed.barrier()
