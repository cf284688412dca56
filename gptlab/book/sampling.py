"""Drawing the next token, as the book's chapter 5 does it: temperature, top-k, and an end.

Source: Fan et al. 2018, arXiv 1805.04833, section 5.4 (top-k).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["generate", "print_sampled_tokens", "softmax_with_temperature"]

_WORDS = ("closer", "every", "effort", "forward", "inches", "moves", "pizza", "toward", "you")  # the book's example


@torch.no_grad()
def generate(
    model: nn.Module,
    idx: Tensor,
    max_new_tokens: int,
    context_size: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    eos_id: int | None = None,
) -> Tensor:
    """Return `idx` and what the model writes after it, (B, T + N) int64, N <= max_new_tokens.

    The end-of-text is not part of it. In a batch each row ends for itself, and one that ended before the others is
    filled up with `eos_id`. The model's mode is the caller's business, as in the book, so call `model.eval()` first.

    Args:
        model: gives logits (B, T, V).
        idx: the prompts, (B, T) int64, all of one length.
        max_new_tokens: the most that is written.
        context_size: the model sees this many tokens, the last ones.
        temperature: 0 takes the most likely token each time; above 0 it is drawn.
        top_k: only the k most likely tokens are in play; more than there are is all of them.
        eos_id: what ends a row.

    Raises:
        ValueError: top_k or context_size is below 1, or idx is not (B, T) with at least one token.
    """
    if idx.dim() != 2 or idx.shape[1] < 1:
        raise ValueError(f"idx must be (batch, tokens) with at least one token, got shape {tuple(idx.shape)}")
    if context_size < 1:
        raise ValueError(f"context_size must be >= 1, got {context_size}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be >= 1 or None, got {top_k}")
    ended = torch.zeros(len(idx), 1, dtype=torch.bool, device=idx.device)  # (B, 1)
    for _ in range(max_new_tokens):
        logits = model(idx[:, -context_size:])[:, -1]  # (B, V)
        if top_k is not None:
            kth = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]  # (B, 1)
            logits = logits.masked_fill(logits < kth, float("-inf"))
        if temperature > 0:
            chosen = torch.multinomial(torch.softmax(logits / temperature, dim=-1), num_samples=1)  # (B, 1)
        else:
            chosen = logits.argmax(dim=-1, keepdim=True)
        if eos_id is not None:
            ended = ended | (chosen == eos_id)
            if ended.all():
                break
            chosen = chosen.masked_fill(ended, eos_id)
        idx = torch.cat([idx, chosen], dim=1)
    return idx


def softmax_with_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Return softmax(logits / temperature) over the last dimension.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    return torch.softmax(logits / temperature, dim=-1)


def print_sampled_tokens(probas: Tensor, inverse_vocab: Mapping[int, str] | None = None) -> None:
    """Draw a thousand tokens, always the same ones, and print how often each came; the random state stays as it is.

    Args:
        probas: the tokens' probabilities, (V,).
        inverse_vocab: what to call each id; by default the book's nine words, or the id for another V.
    """
    if inverse_vocab is None:
        inverse_vocab = dict(enumerate(_WORDS)) if len(probas) == len(_WORDS) else {}
    generator = torch.Generator(probas.device).manual_seed(123)
    drawn = torch.cat([torch.multinomial(probas, num_samples=1, generator=generator) for _ in range(1000)])
    for token, count in enumerate(drawn.bincount(minlength=len(probas)).tolist()):
        print(f"{count} x {inverse_vocab.get(token, token)}")
