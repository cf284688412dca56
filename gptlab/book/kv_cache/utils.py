"""The book's view of the key-value cache: one pair (keys, values) for each layer, to read and to replace."""

from __future__ import annotations

from torch import Tensor

from gptlab.model import KVCache as LibraryCache
from gptlab.model.cache import LayerCache

__all__ = ["KVCache"]


class KVCache(LibraryCache):
    """The library's cache with the book's methods; `gptlab.GPTModel` takes it as well.

    In the book the model counts positions, and a cache that is emptied without `model.reset_kv_cache()`, or the other
    way round, gives wrong logits without a word. Here what the cache holds is the position, so there is nothing to
    keep in step.

    Args:
        n_layers: how many blocks the model has.
        step: how many tokens of room to add when it runs out.

    Raises:
        ValueError: n_layers or step is below 1.
    """

    def __init__(self, n_layers: int, step: int = 64) -> None:
        super().__init__(n_layers, step)
        self.layers = [_Layer(step) for _ in range(n_layers)]

    def get(self, layer_idx: int) -> tuple[Tensor, Tensor] | None:
        """Return a layer's keys and values, (B, H, S, head_dim) each, or None while it holds nothing.

        They are views: what is written into the cache in the same place later shows in them.
        """
        return self.layers[layer_idx].get()

    def update(self, layer_idx: int, value: tuple[Tensor, Tensor] | None) -> None:
        """Let a layer hold a copy of these keys and values in place of its own; it does not add them.

        Args:
            layer_idx: which layer.
            value: keys and values, (B, H, S, head_dim) each, or None to empty the layer.

        Raises:
            ValueError: the value is neither None nor two tensors of one such shape.
        """
        if value is not None:
            tensors = isinstance(value, tuple | list) and all(isinstance(part, Tensor) for part in value)
            shapes = [tuple(part.shape) for part in value] if tensors else type(value).__name__
            if not tensors or len(shapes) != 2 or shapes[0] != shapes[1] or len(shapes[0]) != 4:
                raise ValueError(f"value must be keys and values, both (B, H, S, head_dim), or None; got {shapes}")
        self.layers[layer_idx].put(value)

    def get_all(self) -> list[tuple[Tensor, Tensor] | None]:
        """Return what `get` gives for every layer, the first one first."""
        return [layer.get() for layer in self.layers]

    def reset(self) -> None:
        """Forget everything; the next batch may be of another size."""
        for layer in self.layers:
            layer.put(None)


class _Layer(LayerCache):
    """A layer's cache whose content can be read and replaced."""

    def get(self) -> tuple[Tensor, Tensor] | None:
        if not self.length:
            return None
        return self._keys[:, :, : self.length], self._values[:, :, : self.length]

    def put(self, value: tuple[Tensor, Tensor] | None) -> None:
        self.length, self._keys, self._values = 0, None, None
        if value is not None:
            self.append(*value)
