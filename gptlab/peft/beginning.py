"""Virtual tokens in front of every text: keys and values that each layer's attention finds before the text's own.

Because attention is causal, nothing that comes later changes the keys and values of the first tokens. So what stands
in front of a text is, whatever it was made from, a cache that is already filled, the same for every row of a batch:

    attention(Q, [P_K; K], [P_V; V])

The text's tokens take the positions after it, and the context has so many tokens less. Dropout, while training, is
drawn once for what is in front, and not for every row anew.

Source: Li and Liang 2021, arXiv 2101.00190, section 4 (there called a prefix).
"""

from __future__ import annotations

from abc import abstractmethod
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from gptlab.model import GPTModel, KVCache
from gptlab.model.cache import LayerCache
from gptlab.tokenizer import Tokenizer, as_tokenizer

KeysAndValues = list[tuple[Tensor, Tensor]]  # of each layer, (1, H, tokens, head_dim) each

STARTS = ("vocabulary", "text", "random")  # what virtual tokens may begin as


class Beginning(nn.Module):
    """What an adapter puts in front of every text.

    Attributes:
        tokens: how many positions it takes.
    """

    tokens: int

    @abstractmethod
    def keys_and_values(self, model: GPTModel) -> KeysAndValues:
        """Return the keys and values in front, for each layer of the model that the adapter is on."""


def forward_after_beginning(
    model: GPTModel,
    x: Tensor,
    *,
    cache: KVCache | None = None,
    positions: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return what `GPTModel.forward_embeddings` returns when the active adapter's beginning stands in front.

    Arguments and result are about the text alone: the virtual tokens are in neither, nor does the cache count them. It
    gets them when a text begins, and not anew for each of its tokens.

    Raises:
        ValueError: the text is longer than what is left of the context, or the cache was filled without this beginning.
    """
    beginning: Beginning = model.adapters[model.active_beginning]
    n, past, T = beginning.tokens, 0 if cache is None else cache.length, x.shape[1]
    longest = past + T if positions is None else int(positions.max()) + 1
    if longest > model.cfg.context_length:
        raise ValueError(
            f"the context holds {model.cfg.context_length} tokens beside {n} virtual ones in front, got {longest}"
        )
    if cache is None:
        layers = [_InFront(*pair) for pair in beginning.keys_and_values(model)]
    else:
        if not past:
            pairs = zip(cache.layers, beginning.keys_and_values(model), strict=True)
            cache.layers = [_BegunLayer(beginning, layer.step, *pair) for layer, pair in pairs]
        layers = cache.layers
        if any(getattr(layer, "beginning", None) is not beginning for layer in layers):
            raise ValueError(
                f"the cache holds {past} tokens that were read with another beginning or none: begin a new one"
            )
    if positions is not None:
        positions = positions + n
    if mask is None and T > 1:  # else every block would make the causal mask anew
        mask = torch.ones(1, 1, 1, dtype=torch.bool, device=x.device)
    if mask is not None and mask.dim() == 3:  # another one is refused where it is used
        mask = torch.cat([mask.new_ones(*mask.shape[:2], n), mask.expand(-1, -1, past + T)], dim=2)  # (B, T, n + S)
    whole = SimpleNamespace(length=n + past, layers=layers)  # passes for a KVCache
    return type(model).forward_embeddings(model, x, cache=whole, positions=positions, mask=mask)


def read_alone(model: GPTModel, vectors: Tensor) -> KeysAndValues:
    """Return the keys and values of tokens with nothing in front of them, with their gradient.

    Args:
        model: the model, whose weights and active branches read.
        vectors: as the embedding gives them, without positions, (1, tokens, D).
    """
    cache = _Kept(model.cfg.n_layers)
    type(model).forward_embeddings(model, vectors.to(model.tok_emb.weight.dtype), cache=cache)
    return [layer.kept for layer in cache.layers]


def in_float32(parameter: Tensor) -> torch.autocast:
    """Compute in float32 for a while, whatever precision the model computes in.

    So an encoder gives in training what is kept of it afterwards; and there are processors without a bfloat16 LSTM.
    """
    return torch.autocast(parameter.device.type, enabled=False)


def check_virtual_tokens(tokens: int) -> None:
    """Raise ValueError unless there is at least one."""
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
        raise ValueError(f"tokens must be a whole number >= 1, got {tokens!r}")


def check_room(model: GPTModel, tokens: int) -> None:
    """Raise ValueError if virtual tokens leave no room for a text; those of another adapter do not count."""
    context = model.pos_emb.num_embeddings
    if tokens >= context:
        raise ValueError(f"tokens must be below {context}, the context, or no text has room beside them; got {tokens}")


def check_start(start: str, text: str) -> None:
    """Raise ValueError for a start that is not known, a text that nothing is done with, or none to begin with."""
    if start not in STARTS:
        raise ValueError(f"start must be one of {', '.join(STARTS)}, got {start!r}")
    if (start == "text") != bool(text):
        raise ValueError(f"start='text' and a text belong together, got start={start!r} and text={text!r}")


def first_ids(
    model: GPTModel,
    tokens: int,
    text: str = "",
    tokenizer: Tokenizer | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the real tokens that virtual ones begin as, (tokens,): those of a text, repeated or cut, or any at random.

    Raises:
        ValueError: there is a text and no tokenizer, or one that is not the model's.
    """
    V, device = model.cfg.vocab_size, model.tok_emb.weight.device
    if not text:
        return torch.randint(V, (tokens,), generator=generator).to(device)
    if tokenizer is None:
        raise ValueError("to begin with a text needs the tokenizer: apply(model, method, tokenizer=tokenizer)")
    ids = as_tokenizer(tokenizer).encode_ordinary(text)
    if max(ids) >= V:
        raise ValueError(f"the tokenizer gives the id {max(ids)}, the model has {V} tokens; they must agree")
    return torch.tensor([ids[place % len(ids)] for place in range(tokens)], device=device)


class _InFront:
    """Passes for a LayerCache that holds what stands in front, and keeps nothing of the text."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values  # (1, H, n, head_dim) each

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        pairs = (self.keys, keys), (self.values, values)
        return tuple(torch.cat([_like(first, rest), rest], dim=2) for first, rest in pairs)  # (B, H, n + T, head_dim)


class _BegunLayer:
    """Passes for a LayerCache that counts the text alone, though what stands in front is the first in its room.

    Once the text is forgotten, that is too: the next one may begin with something else.
    """

    def __init__(self, beginning: Beginning, step: int, keys: Tensor, values: Tensor) -> None:
        self.beginning, self.step, self.room = beginning, step, LayerCache(step)
        self.front, self.n = (keys, values), 0  # not in the room yet, whose batch is not known

    @property
    def length(self) -> int:
        return self.room.length - self.n

    @length.setter
    def length(self, length: int) -> None:
        if not length:
            self.beginning, self.room, self.front, self.n = None, LayerCache(self.step), None, 0
        self.room.length = self.n + length

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if self.front is not None:
            self.room.append(*(_like(part, keys) for part in self.front))
            self.front, self.n = None, self.room.length
        return self.room.append(keys, values)  # (B, H, n + S, head_dim)

    def reorder(self, rows: Tensor, moved: Tensor) -> None:
        self.room.reorder(rows, moved)


def _like(front: Tensor, rest: Tensor) -> Tensor:
    """Return what stands in front of every row, in the dtype of the rest."""
    return front.to(rest.dtype).expand(len(rest), -1, -1, -1)


class _Kept:
    """Passes for an empty KVCache that keeps what is appended, with its gradient.

    What a layer appends again, when the backward pass computes a block anew, takes the place of the first.
    """

    length = 0

    def __init__(self, n_layers: int) -> None:
        self.layers = [_KeptLayer() for _ in range(n_layers)]


class _KeptLayer:
    kept: tuple[Tensor, Tensor]

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.kept = keys, values
        return keys, values
