"""Greedy text with a key-value cache, as a tensor or token by token; the final form is `gptlab.generate` and `stream`.

As long as the text fits into what the model may read, each step reads the newest token alone. Past that the window
slides: all of its tokens are at new positions, so nothing that was remembered is of use, and each step reads the whole
window, as `gptlab.book.ch04.generate_text_simple` does from the beginning. The tokens are the same in either case,
while the book's cached functions go on past the window, to other tokens and then past the end of the positions.

Every call remembers for itself: prompts need no reset between them, and the model's own cache stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gptlab.book.kv_cache.utils import KVCache
from gptlab.model import GPTModel, evaluation_mode

__all__ = ["generate_text_simple", "generate_text_simple_cached", "generate_text_simple_stream", "trim_input_tensor"]


def generate_text_simple(
    model: GPTModel, idx: Tensor, max_new_tokens: int, context_size: int | None = None, use_cache: bool = True
) -> Tensor:
    """Return the prompts followed by the most likely tokens, one after the other, (B, T + max_new_tokens) int64.

    Args:
        model: a GPTModel, this package's or the library's; it computes in evaluation mode, and then has its own again.
        idx: the prompts, (B, T) int64, T at least 1.
        max_new_tokens: how many tokens to add.
        context_size: how many tokens the model reads at most; None means its context length.
        use_cache: whether to remember; it changes the time, not the tokens.

    Raises:
        ValueError: idx is not (B, T) or has no tokens, max_new_tokens is negative, context_size is below 1, or, being
            above the model's context, lets the text outgrow that.
    """
    return torch.cat([idx, *_new_tokens(model, idx, max_new_tokens, context_size, use_cache)], dim=1)


def generate_text_simple_cached(
    model: GPTModel, idx: Tensor, max_new_tokens: int, context_size: int | None = None, use_cache: bool = True
) -> Tensor:
    """Return what `generate_text_simple` of this module returns, which the script of chapter 4 calls by this name.

    Raises:
        ValueError: see there.
    """
    return generate_text_simple(model, idx, max_new_tokens, context_size, use_cache)


def generate_text_simple_stream(
    model: GPTModel,
    token_ids: Tensor,
    max_new_tokens: int,
    eos_token_id: int | None = None,
    context_size: int | None = None,
) -> Iterator[Tensor]:
    """Return an iterator over the tokens that `generate_text_simple` adds, (B, 1) int64 each.

    Each row ends for itself, and has `eos_token_id` from there on; in the book rows end only if all do at the same
    step. When the last one ends there are no more tokens, its end-of-text included. Between two tokens gradients and
    the model's mode are as the caller set them. context_size, which the book ignores, is obeyed.

    Args:
        model: as for `generate_text_simple`.
        token_ids: the prompts, (B, T) int64, T at least 1.
        max_new_tokens: the most that is added.
        eos_token_id: what ends a row; None ends none.
        context_size: how many tokens the model reads at most; None means its context length.

    Raises:
        ValueError: as for `generate_text_simple`; wrong arguments at once, not with the first token.
    """
    return _until_all_end(_new_tokens(model, token_ids, max_new_tokens, context_size), eos_token_id)


def trim_input_tensor(input_ids_tensor: Tensor, context_len: int, max_new_tokens: int) -> Tensor:
    """Return the last tokens of the prompts, as many as leave room in the context for the new ones.

    Args:
        input_ids_tensor: (B, T) int64.
        context_len: how many tokens the model reads at most.
        max_new_tokens: how many are to be added.

    Returns:
        (B, T) or, where that is shorter, (B, context_len - max_new_tokens).

    Raises:
        ValueError: the ids are not (B, T), or max_new_tokens is not in [0, context_len).
    """
    if input_ids_tensor.dim() != 2:
        raise ValueError(f"input_ids_tensor must be (batch, tokens), got shape {tuple(input_ids_tensor.shape)}")
    if not 0 <= max_new_tokens < context_len:
        raise ValueError(f"max_new_tokens must be in [0, {context_len}), the context, got {max_new_tokens}")
    return input_ids_tensor[:, -(context_len - max_new_tokens) :]


def _new_tokens(
    model: GPTModel, ids: Tensor, max_new_tokens: int, context_size: int | None, use_cache: bool = True
) -> Iterator[Tensor]:
    if ids.dim() != 2 or ids.shape[1] < 1:
        raise ValueError(f"the prompts must be (batch, tokens) with at least one token, got shape {tuple(ids.shape)}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be >= 0, got {max_new_tokens}")
    context = model.cfg.context_length if context_size is None else context_size
    if context < 1:
        raise ValueError(f"context_size must be >= 1, got {context}")
    return _write(model, ids, max_new_tokens, context, KVCache(model.cfg.n_layers) if use_cache else None)


def _write(model: GPTModel, ids: Tensor, count: int, context: int, cache: KVCache | None) -> Iterator[Tensor]:
    for _ in range(count):
        with evaluation_mode(model), torch.no_grad():
            if cache is None or ids.shape[1] > context:
                logits = model(ids[:, -context:])  # (B, T, V)
            else:
                logits = model(ids[:, cache.length :], cache=cache)
            chosen = logits[:, -1].argmax(dim=-1, keepdim=True)  # (B, 1)
        ids = torch.cat([ids, chosen], dim=1)
        yield chosen


def _until_all_end(tokens: Iterator[Tensor], eos_id: int | None) -> Iterator[Tensor]:
    ended: bool | Tensor = False
    for chosen in tokens:
        if eos_id is not None:
            ended = ended | (chosen == eos_id)  # (B, 1)
            if ended.all():
                return
            chosen = chosen.masked_fill(ended, eos_id)
        yield chosen
