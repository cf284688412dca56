"""The nearest neighbours of an embedding: which tokens does a model take for alike?

    cosine(a, b) = a · b / (|a| |b|)

Two tokens are near when what stands around them is alike, so opposites such as "red" and "blue" are neighbours.

Source: Mikolov et al. 2013, arXiv 1301.3781.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gptlab.model import GPTModel
from gptlab.show import token_text
from gptlab.tokenizer import as_tokenizer


class Neighbour(NamedTuple):
    """A token near another: its id, its text with spaces seen, and the cosine of their vectors, in [-1, 1]."""

    token: int
    text: str
    cosine: float


@torch.no_grad()
def nearest_tokens(model: GPTModel, tokenizer: Any, token: int | str | Tensor, k: int = 10) -> list[Neighbour]:
    """Return the k tokens whose embeddings point most nearly in the same direction, the nearest first.

    Args:
        model: whose `tok_emb` is looked at.
        tokenizer: the model's.
        token: an id; a text of one token, mind the space before a word; or a vector, (D,), such as the sum of some, of
            which every token may be a neighbour. A token is not its own.
        k: how many.

    Raises:
        ValueError: the text is not one token, the id is outside the vocabulary, the vector is of another length or
            not finite, or k is out of its range.
    """
    tokenizer, weight = as_tokenizer(tokenizer), model.tok_emb.weight[: model.cfg.vocab_size].float()  # (V, D)
    if isinstance(token, str):
        ids = tokenizer.encode_ordinary(token)
        if len(ids) != 1:
            pieces = [token_text(tokenizer, each) for each in ids]
            raise ValueError(f"{token!r} must be one token, got {len(ids)}: {pieces}; name one of them")
        token = ids[0]
    itself = int(token) if isinstance(token, Integral) else None
    if itself is not None and not 0 <= itself < len(weight):
        raise ValueError(f"token must be in [0, {len(weight)}), got {itself}")
    if not 1 <= k < len(weight):
        raise ValueError(f"k must be in [1, {len(weight) - 1}], the other tokens, got {k}")
    vector = weight[itself] if itself is not None else torch.as_tensor(token).to(weight)
    if vector.shape != weight.shape[1:]:
        raise ValueError(f"a vector must have the model's width, ({weight.shape[1]},), got {tuple(vector.shape)}")
    if not torch.isfinite(vector).all():
        raise ValueError("a vector must be finite, and this one is not")
    cosines = F.normalize(weight, dim=1) @ F.normalize(vector, dim=0)  # (V,)
    if itself is not None:
        cosines[itself] = float("-inf")
    best = cosines.topk(k)
    return [
        Neighbour(near, token_text(tokenizer, near), cosine)
        for near, cosine in zip(best.indices.tolist(), best.values.tolist())
    ]
