"""The GPT that remembers what it has read: the library's model, called as the book's code calls it.

The book has this twice. In its package a cache is handed to every call; in the script that goes with chapter 4 the
model keeps one of its own. Both work here. The blocks are those of `gptlab.book.ch04`, and attend as they do there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from gptlab.book.kv_cache.utils import KVCache
from gptlab.config import GPTConfig
from gptlab.model import GPTModel as LibraryModel
from gptlab.model import KVCache as LibraryCache

__all__ = ["GPTModel", "KVCache"]


class GPTModel(LibraryModel):
    """`gptlab.book.ch04.GPTModel` with the book's `use_cache`, `current_pos` and `reset_kv_cache`.

    A seed gives the same weights, and checkpoints load both ways. In the book positions are counted apart from the
    cache; here they follow it, so that a new cache begins at 0 and a call without one disturbs nothing. Several tokens
    can be read onto a cache that holds some. What is refused, such as a token past the context or a batch of another
    size, leaves the cache as it was.

    Args:
        cfg: a GPTConfig, or the book's dictionary; `model.cfg` can be read as either.

    Attributes:
        current_pos: how many tokens the cache held after the last call with one. It is for reading; setting it moves
            no position.
    """

    def __init__(self, cfg: GPTConfig | Mapping) -> None:
        super().__init__(_Config(**GPTConfig.of(cfg).to_dict()))
        self._own_cache = KVCache(self.cfg.n_layers)
        self.current_pos = 0

    def forward(
        self,
        in_idx: Tensor,
        use_cache: bool = False,
        cache: LibraryCache | None = None,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the logits of the next token at each position, (B, T, V).

        Args:
            in_idx: the tokens that were not read yet, (B, T) int64.
            use_cache: go on from the model's own cache, and add to it; `reset_kv_cache` empties it.
            cache: go on from this one, whatever use_cache says; it is left to the caller to empty it.
            positions: as for the library's model, and so is the next one.
            mask: see there.

        Raises:
            ValueError: the cache is none, is made for another number of layers, holds another batch, or not as many
                tokens in each layer; the ids are not (B, T), exceed the context or lie outside the vocabulary.
        """
        if cache is None and use_cache:
            cache = self._own_cache
        if cache is not None:
            _check_cache(cache, len(self.trf_blocks))
        logits = super().forward(in_idx, cache=cache, positions=positions, mask=mask)
        if cache is not None:
            self.current_pos = cache.length
        return logits

    def reset_kv_cache(self) -> None:
        """Empty the model's own cache. One that the caller made has a `reset` of its own."""
        self._own_cache.reset()
        self.current_pos = 0


class _Config(GPTConfig, Mapping):
    """A GPTConfig that is read as the book's dictionary too, and equals both."""

    def __getitem__(self, key: str) -> Any:
        return self.to_dict()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        return len(self.to_dict())

    def __eq__(self, other: object) -> bool:
        try:
            return self.to_dict() == GPTConfig.of(other).to_dict()
        except ValueError:
            return NotImplemented

    __hash__ = GPTConfig.__hash__


def _check_cache(cache: LibraryCache, n_layers: int) -> None:
    if not isinstance(cache, LibraryCache):
        raise ValueError(f"cache must be a KVCache, got {type(cache).__name__}")
    if len(cache.layers) != n_layers:
        raise ValueError(f"the cache is made for {len(cache.layers)} layers, the model has {n_layers}")
    lengths = [layer.length for layer in cache.layers]
    if len(set(lengths)) > 1:
        raise ValueError(f"every layer of the cache must hold as many tokens, got {lengths}")
