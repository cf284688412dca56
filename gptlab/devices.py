"""Pick a device, choose its precision, and look after its memory."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path

import torch


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called `name`, or with "auto" the GPU if there is a CUDA one and else the CPU.

    Apple's GPU is never picked by itself: "mps" has to be asked for, because its results have differed from the CPU's
    in several releases of PyTorch.

    Raises:
        ValueError: the name is not a device's, or this machine does not have that device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', got {name!r}") from None
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type):
        raise ValueError(
            f"device {name!r} is not available here; available: {[d for d, on in available.items() if on]}"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not available here; there are {torch.cuda.device_count()} CUDA devices")
    return device


def empty_cache(device: torch.device | str) -> None:
    """Give back memory that PyTorch keeps for reuse on `device`; on the CPU there is nothing to give back."""
    kind = torch.device(device).type
    if kind == "mps":
        torch.mps.empty_cache()
    elif kind == "cuda":
        torch.cuda.empty_cache()


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(device: torch.device | str, precision: str = "float32") -> AbstractContextManager:
    """Return a context in which matrix products compute in `precision` while the weights stay as they are.

    Args:
        device: "cpu", "cuda" or "mps".
        precision: "float32" changes nothing. "bfloat16" needs a processor or card that has it to be fast. "float16"
            needs a gradient scaler in training.

    Raises:
        ValueError: `precision` is another word.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {list(PRECISIONS)}, got {precision!r}")
    if precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, PRECISIONS[precision])


def peak_memory(device: torch.device | str) -> int | None:
    """Return the most bytes that this process has held so far, on the GPU if `device` is one; None if nobody knows."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, Linux KiB


def available_memory(device: torch.device | str) -> int | None:
    """Return how many bytes can still be taken, from the GPU if `device` is one; None if nobody knows."""
    device = torch.device(device)
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by PyTorch, for reuse
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type == "mps":
        most = getattr(torch.mps, "recommended_max_memory", None)  # since PyTorch 2.5
        return None if most is None else most() - torch.mps.current_allocated_memory()
    if sys.platform == "linux":
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        return min([free, *_container_room()])
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:  # macOS: what there is, not what is free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


@contextmanager
def reused_memory() -> Iterator[None]:
    """Let memory that is freed meanwhile be used again instead of going back to the system after every tensor.

    Linux's C library (glibc) gives memory back whenever 64 MiB at the end of the heap are unused, and fetches fresh
    pages for the next tensor, which cost more than many an operation on it. Here it keeps up to 2 GiB, for tensors of
    up to 32 MiB; larger ones would leave holes. In the end all that is unused goes back. Elsewhere this does nothing.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc takes, and comes to by itself
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        if libc is not None:
            libc.mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)
            libc.malloc_trim(0)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


@cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None  # not musl


CONTAINER = Path("/sys/fs/cgroup")


def _container_room() -> list[int]:
    """Return what a container's limit leaves, if there is one; files that are only kept in memory do not count."""
    try:
        limit, used = (int((CONTAINER / name).read_text()) for name in ("memory.max", "memory.current"))
        statistics = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
        return [limit - used + int(statistics["inactive_file"])]
    except (OSError, ValueError, KeyError):  # no container, or its limit is "max"
        return []
