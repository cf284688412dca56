"""Pick a device, and give its unused memory back."""

from __future__ import annotations

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
