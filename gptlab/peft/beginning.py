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
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gptlab.model import GPTModel, KVCache
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


# The beginning of the text that a cache holds, and its keys and values: they are computed once for a text.
_begun_with: WeakKeyDictionary[KVCache, tuple[Beginning, KeysAndValues]] = WeakKeyDictionary()


def forward_after_beginning(
    model: GPTModel,
    x: Tensor,
    *,
    cache: KVCache | None = None,
    positions: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return what `GPTModel.forward_embeddings` returns when the active adapter's beginning stands in front.

    Arguments and result are about the text alone: the virtual tokens are in neither, nor does the cache hold them.

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
    front = _remembered(cache, beginning) if past else beginning.keys_and_values(model)
    if cache is not None and not past:
        _begun_with[cache] = beginning, front
    if positions is not None:
        positions = positions + n
    if mask is None and T > 1:  # else every block would make the causal mask anew
        mask = torch.ones(1, 1, 1, dtype=torch.bool, device=x.device)
    if mask is not None and mask.dim() == 3:  # another one is refused where it is used
        mask = torch.cat([mask.new_ones(*mask.shape[:2], n), mask.expand(-1, -1, past + T)], dim=2)  # (B, T, n + S)
    return type(model).forward_embeddings(model, x, cache=_Begun(front, cache), positions=positions, mask=mask)


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


def _remembered(cache: KVCache, beginning: Beginning) -> KeysAndValues:
    begun_with, front = _begun_with.get(cache, (None, []))
    if begun_with is not beginning:
        raise ValueError(
            f"the cache holds {cache.length} tokens that were read with another beginning or none: begin a new one"
        )
    return front


class _Begun:
    """Passes for a KVCache: what stands in front, and behind it the caller's cache, which holds the text alone."""

    def __init__(self, front: KeysAndValues, cache: KVCache | None) -> None:
        self.length = front[0][0].shape[2] + (0 if cache is None else cache.length)
        behind = [None] * len(front) if cache is None else cache.layers
        self.layers = [_BegunLayer(*pair, layer) for pair, layer in zip(front, behind, strict=True)]


class _BegunLayer:
    def __init__(self, keys: Tensor, values: Tensor, behind) -> None:
        self.keys, self.values, self.behind = keys, values, behind

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if self.behind is not None:
            keys, values = self.behind.append(keys, values)
        return _in_front(self.keys, keys), _in_front(self.values, values)  # (B, H, n + S, head_dim)


def _in_front(first: Tensor, rest: Tensor) -> Tensor:
    return torch.cat([first.to(rest.dtype).expand(len(rest), -1, -1, -1), rest], dim=2)


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
