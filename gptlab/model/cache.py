"""The keys and values of tokens that the model has already read, kept so that they are computed once."""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """One layer's keys and values, (B, H, S, head_dim) each, in a room that is larger than what it holds."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.length = 0  # S, the tokens it holds
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of new tokens, (B, H, T, head_dim), and return all, the past first.

        Raises:
            ValueError: the batch is not the one that the cache holds.
        """
        end = self.length + keys.shape[2]
        if self._keys is None:
            self._keys, self._values = self._room(keys, end), self._room(values, end)
        if keys.shape[0] != self._keys.shape[0]:
            raise ValueError(f"the cache holds a batch of {self._keys.shape[0]}, got {keys.shape[0]}")
        if end > self._keys.shape[2]:
            self._keys, self._values = self._grown(self._keys, end), self._grown(self._values, end)
        self._keys[:, :, self.length : end] = keys
        self._values[:, :, self.length : end] = values
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def reorder(self, rows: Tensor, moved: Tensor) -> None:
        """Make row i what row `rows[i]` was; `moved` are those i that change."""
        if self._keys is None:
            return
        if len(rows) > len(self._keys):
            self._keys, self._values = self._keys[rows], self._values[rows]
            return
        for room in (self._keys, self._values):
            room[moved, :, : self.length] = room[rows[moved], :, : self.length]
        self._keys, self._values = self._keys[: len(rows)], self._values[: len(rows)]

    def _room(self, like: Tensor, end: int) -> Tensor:
        batch, heads, _, head_dim = like.shape
        return like.new_empty(batch, heads, -(-end // self.step) * self.step, head_dim)

    def _grown(self, old: Tensor, end: int) -> Tensor:
        room = self._room(old, end)
        room[:, :, : self.length] = old[:, :, : self.length]
        return room


class KVCache:
    """A cache for each layer. Its entries, a prefix's too, advance the position of the token that comes next.

    Room is allocated in steps and filled in place, so that a new token copies one row and not the whole past.
    Gradients flow through the tokens that a single forward pass adds. A second one writes into the same room, which
    autograd refuses, so decode under `torch.no_grad()`.

    Args:
        n_layers: how many blocks the model has.
        step: how many tokens of room to add when it runs out.
    """

    def __init__(self, n_layers: int, step: int = 64) -> None:
        if n_layers < 1 or step < 1:
            raise ValueError(f"n_layers and step must be >= 1, got {n_layers} and {step}")
        self.layers = [LayerCache(step) for _ in range(n_layers)]

    @property
    def length(self) -> int:
        """How many tokens of each sequence the cache holds (S); of a pass that was interrupted none are counted."""
        return min(layer.length for layer in self.layers)

    def reorder(self, rows: Tensor) -> None:
        """Make row i what row `rows[i]` was; left-out rows are dropped, repeated ones copied.

        Only rows that change are copied, unless there are more than before.

        Args:
            rows: int64 indices into the present batch, (new B,).
        """
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(1)
        for layer in self.layers:
            layer.reorder(rows, moved)

    def truncate(self, length: int) -> None:
        """Forget every token from position `length` on.

        Raises:
            ValueError: length is negative or more than the cache holds.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"length must be in [0, {self.length}], got {length}")
        for layer in self.layers:
            layer.length = length
