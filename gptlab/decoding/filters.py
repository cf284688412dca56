"""What may come next: filters that change the logits before a token is chosen.

A filter takes the tokens of every row so far, prompt included, and the logits (B, V), and returns logits. What it
forbids becomes -inf. They are applied in one order, that of transformers: repetition penalty, no repeated n-grams, the
caller's own, temperature, top-k, top-p, min-p. llama.cpp and Ollama put the temperature last, so the same settings mean
something else there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Rows = Sequence[Sequence[int]]  # token ids of each row
Filter = Callable[[Rows, Tensor], Tensor]


def compose(
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    no_repeat_ngram: int = 0,
    filters: Sequence[Filter] = (),
) -> list[Filter]:
    """Return the filters for these settings, in order. At temperature 0 those for sampling are left out.

    Raises:
        ValueError: a setting is out of its range.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be >= 0 and finite, got {temperature}")
    chain: list[Filter] = []
    if repetition_penalty != 1:
        chain.append(penalize_repetition(repetition_penalty))
    if no_repeat_ngram != 0:
        chain.append(forbid_repeated_ngrams(no_repeat_ngram))
    chain += filters
    sampling: list[Filter] = []
    if temperature not in (0, 1):
        sampling.append(scale_by_temperature(temperature))
    if top_k is not None:
        sampling.append(keep_top_k(top_k))
    if top_p is not None:
        sampling.append(keep_top_p(top_p))
    if min_p is not None:
        sampling.append(keep_min_p(min_p))
    return chain + sampling if temperature > 0 else chain


def penalize_repetition(penalty: float) -> Filter:
    """Make every token that was seen less likely, once however often it was seen: s / p, or s * p when s < 0.

    Source: Keskar et al. 2019, arXiv 1909.05858, section 4.1.
    """
    if not 0 < penalty < math.inf:
        raise ValueError(f"repetition_penalty must be > 0 and finite, got {penalty}")

    def apply(rows: Rows, logits: Tensor) -> Tensor:
        logits = logits.clone()
        for row, tokens in enumerate(rows):
            words = sorted({token for token in tokens if token < logits.shape[1]})  # none, where all are virtual
            seen = torch.tensor(words, dtype=torch.int64, device=logits.device)
            scores = logits[row, seen]
            logits[row, seen] = torch.where(scores < 0, scores * penalty, scores / penalty)
        return logits

    return apply


def forbid_repeated_ngrams(n: int) -> Filter:
    """Forbid every token that would end an n-gram which is already there.

    Source: Paulus et al. 2017, arXiv 1705.04304, section 2.5 (trigrams).
    """
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"no_repeat_ngram must be a whole number >= 0, got {n!r}")

    def apply(rows: Rows, logits: Tensor) -> Tensor:
        logits = logits.clone()
        for row, tokens in enumerate(rows):
            beginning = tuple(tokens[len(tokens) - n + 1 :]) if len(tokens) >= n - 1 else None
            grams = (tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))
            ends = [gram[-1] for gram in grams if gram[:-1] == beginning and gram[-1] < logits.shape[1]]
            logits[row, ends] = -math.inf
        return logits

    return apply


def scale_by_temperature(temperature: float) -> Filter:
    """Divide the logits: below 1 the likely tokens gain, above 1 the unlikely ones do."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be > 0 and finite, got {temperature}")
    return lambda rows, logits: logits / temperature


def keep_top_k(k: int) -> Filter:
    """Keep the k most likely tokens, and all that tie with the last of them.

    Source: Fan et al. 2018, arXiv 1805.04833, section 5.4.
    """
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"top_k must be a whole number >= 1, got {k!r}")

    def apply(rows: Rows, logits: Tensor) -> Tensor:
        if k > logits.shape[-1]:
            raise ValueError(f"top_k must be in [1, {logits.shape[-1]}], the vocabulary, got {k}")
        least = logits.topk(k).values[:, -1:]  # (B, 1)
        return logits.masked_fill(logits < least, -math.inf)

    return apply


def keep_top_p(p: float) -> Filter:
    """Keep the fewest tokens, the most likely first, whose probabilities add up to at least p; always one.

    Source: Holtzman et al. 2019, arXiv 1904.09751, section 3.1 (nucleus sampling).
    """
    if not 0 <= p <= 1:
        raise ValueError(f"top_p must be in [0, 1], got {p}")

    def apply(rows: Rows, logits: Tensor) -> Tensor:
        ascending, order = logits.sort(descending=False)  # (B, V)
        below = ascending.softmax(dim=-1).cumsum(dim=-1)  # a token's probability and those of all less likely ones
        remove = below <= 1 - p
        remove[:, -1] = False
        return logits.masked_fill(remove.scatter(1, order, remove), -math.inf)

    return apply


def keep_min_p(p: float) -> Filter:
    """Keep tokens that are at least p times as likely as the most likely one.

    Source: Nguyen et al. 2024, arXiv 2407.01082, section 3.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"min_p must be in [0, 1], got {p}")

    def apply(rows: Rows, logits: Tensor) -> Tensor:
        probabilities = logits.softmax(dim=-1)
        return logits.masked_fill(probabilities < p * probabilities.amax(dim=-1, keepdim=True), -math.inf)

    return apply
