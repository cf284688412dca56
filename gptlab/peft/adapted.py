"""A module with adapters on it: what a tuning method puts in place of a module that it tunes."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class Branch(nn.Module):
    """What one adapter adds at one place: its parameters, and how they change what the module there computes."""

    @abstractmethod
    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        """Return what comes out at this place.

        Args:
            x: what goes in, (..., in).
            base: the module that was there before; it calls it, or does not.
        """

    def merged(self, base: nn.Module) -> nn.Module:
        """Return one plain module that computes what branch and base compute together.

        Raises:
            ValueError: there is none.
        """
        raise ValueError("it computes something that no weight of the model can take up")


class Adapted(nn.Module):
    """A module and the branches of the adapters on it, of which at most one is active.

    Everything that it does not have itself, such as `weight` or `in_features`, is that of the module.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.adapters = nn.ModuleDict()  # name of the adapter -> its branch
        self.active: str | None = None

    def forward(self, x: Tensor, **options: Any) -> Any:
        if self.branch is None:
            return self.base(x, **options)
        return self.branch(x, partial(self.base, **options) if options else self.base)

    @property
    def branch(self) -> Branch | None:
        """The branch of the active adapter; None if it has none here."""
        return self.adapters[self.active] if self.active is not None and self.active in self.adapters else None

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base":  # not there yet: while copied or unpickled
                raise
            return getattr(self.base, name)


def device_of(module: nn.Module) -> torch.device:
    """Return where a module is, by its first parameter, or buffer: a quantised layer may have nothing else."""
    return next(iter([*module.parameters(), *module.buffers()])).device
