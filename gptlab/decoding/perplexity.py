"""How well a model foresees a text: perplexity, and bits per byte, which tokenizers of different kinds share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from gptlab.model import GPTModel, evaluation_mode
from gptlab.tokenizer import as_tokenizer


class Perplexity(NamedTuple):
    """What was measured.

    Attributes:
        perplexity: exp(nll / tokens); as unsure as if it chose among so many tokens each time.
        nll: summed negative log-likelihood, in nats.
        tokens: how many tokens were foreseen; the first one of each text is only read.
        bits_per_byte: nll in bits for each byte of the texts in UTF-8; None when only ids were given.
    """

    perplexity: float
    nll: float
    tokens: int
    bits_per_byte: float | None


@torch.no_grad()
def perplexity(
    model: GPTModel,
    texts: str | Sequence[int] | Iterable[str | Sequence[int]],
    *,
    tokenizer: Any = None,
    stride: int | None = None,
) -> Perplexity:
    """Return how well `model` foresees a text, or a set of texts, each read from its own beginning.

    A text longer than the context is read in windows. Each begins `stride` tokens after the one before, and only the
    tokens that no window has scored yet count, so that a small stride gives every token a long past at a higher cost.

    Args:
        model: left in the mode that it was in.
        texts: a text, or its token ids, or several of either.
        tokenizer: needed for texts that are not ids.
        stride: at most the context length; None is the context length.

    Raises:
        ValueError: stride is out of its range, there is no text of two tokens, a text comes without a tokenizer.

    Source: Jelinek et al. 1977 (perplexity); transformers' documentation, "Perplexity of fixed-length models".
    """
    context = model.cfg.context_length
    stride = context if stride is None else stride
    if not isinstance(stride, int) or not 1 <= stride <= context:
        raise ValueError(f"stride must be in [1, {context}], the context, got {stride!r}")
    items = [texts] if isinstance(texts, str) else list(texts)
    if items and isinstance(items[0], int):
        items = [items]
    nll, tokens, size = 0.0, 0, 0
    with evaluation_mode(model):
        for number, item in enumerate(items, start=1):
            if isinstance(item, str):
                if tokenizer is None:
                    raise ValueError(f"text {number} is not made of ids; it needs a tokenizer")
                size += len(item.encode("utf-8"))
                item = as_tokenizer(tokenizer).encode_ordinary(item)
            text_nll, count = _of_one(model, list(item), stride)
            nll, tokens = nll + text_nll, tokens + count
    if not tokens:
        raise ValueError("nothing to foresee: no text has two tokens")
    bits = nll / math.log(2) / size if size else None
    return Perplexity(math.exp(nll / tokens), nll, tokens, bits)


def _of_one(model: GPTModel, ids: list[int], stride: int) -> tuple[float, int]:
    """Return the summed negative log-likelihood of a text's tokens but the first, and how many they are."""
    device, context = next(model.parameters()).device, model.cfg.context_length
    nll, scored = 0.0, 1  # how many tokens from the first need no score any more
    for begin in range(0, len(ids), stride):
        end = min(begin + context, len(ids))
        # Windows that only touch foresee each other's first token, which has no past in its own.
        last = min(end + 1, len(ids)) if stride == context else end
        if last > scored:
            features = model.forward_embeddings(model.embed(torch.tensor([ids[begin:end]], device=device)))  # (1, T, D)
            targets = torch.tensor(ids[scored:last], device=device)
            logits = model.out_head(features[0, scored - 1 - begin : last - 1 - begin]).float()  # (targets, V)
            nll += F.cross_entropy(logits, targets, reduction="sum").item()
            scored = last
        if end == len(ids):
            break
    return nll, max(len(ids) - 1, 0)
