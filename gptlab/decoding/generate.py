"""Let a model write on: many prompts at once, the most likely token each time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gptlab.model import GPTModel, KVCache, evaluation_mode


class Generated(NamedTuple):
    """What was written after one prompt, and why it ended: a stop id, the length asked for, or a full context."""

    ids: list[int]
    reason: Literal["stop", "length", "context"]


@torch.no_grad()
def generate(
    model: GPTModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Collection[int] = (),
    on_finished: Callable[[int], None] | None = None,
) -> list[Generated]:
    """Return what the model writes after each prompt, greedily; the prompt and the stop id are not part of it.

    Prompts are padded on the left, so that all rows write at the same place; the mask hides the padding and the
    positions do not count it, so each row gets what it would get alone. A finished row leaves the batch.

    Args:
        model: runs in evaluation mode, and is left in the mode that it was in.
        prompts: token ids, of any lengths.
        max_new_tokens: the most that is written.
        stop_ids: ids that end a row, such as end-of-text.
        on_finished: called with the number of rows that have just ended.

    Raises:
        ValueError: max_new_tokens is below 1, or a prompt is empty or longer than the context.
    """
    _check(model, prompts, max_new_tokens)
    if not prompts:
        return []
    with evaluation_mode(model):
        return _generate(model, prompts, max_new_tokens, stop_ids, on_finished)


def _generate(
    model: GPTModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop_ids: Collection[int],
    on_finished: Callable[[int], None] | None,
) -> list[Generated]:
    context = model.cfg.context_length
    results: list[Generated] = [Generated([], "length") for _ in prompts]
    rows = list(range(len(prompts)))  # which prompt each row of the batch belongs to
    cache = KVCache(model.cfg.n_layers)
    ids, visible = _pad_left(prompts, next(model.parameters()).device)  # (B, T) each
    positions = (visible.cumsum(dim=1) - 1).clamp(min=0)  # (B, T)

    while rows:
        mask = None if visible.all() else visible.unsqueeze(1)  # (B, 1, S)
        x = model.embed(ids)
        features = model.forward_embeddings(x, cache=cache, positions=positions, mask=mask)  # (B, T, D)
        chosen = model.out_head(features[:, -1]).argmax(dim=-1)  # (B,)

        going_on = []
        for row, (number, token) in enumerate(zip(rows, chosen.tolist())):
            written = results[number].ids
            if token in stop_ids:
                results[number] = Generated(written, "stop")
                continue
            written.append(token)
            if len(prompts[number]) + len(written) > context:
                results[number] = Generated(written, "context")
            elif len(written) < max_new_tokens:
                going_on.append(row)
        if on_finished is not None:
            on_finished(len(rows) - len(going_on))
        if going_on and len(going_on) < len(rows):
            keep = torch.tensor(going_on, device=chosen.device)
            cache.reorder(keep)
            chosen, visible, positions = chosen[keep], visible[keep], positions[keep]
        rows = [rows[row] for row in going_on]
        ids = chosen.unsqueeze(1)  # (B, 1)
        positions = positions[:, -1:] + 1
        visible = torch.cat([visible, visible.new_ones(len(visible), 1)], dim=1)  # (B, S + 1)
    return results


def _pad_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and which of them are real, (B, T) each."""
    T = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), T, dtype=torch.int64)
    visible = torch.zeros(len(prompts), T, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, T - len(prompt) :] = torch.as_tensor(prompt)
        visible[row, T - len(prompt) :] = True
    return ids.to(device), visible.to(device)


def _check(model: GPTModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    if not isinstance(max_new_tokens, int) or max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be a whole number >= 1, got {max_new_tokens!r}")
    for number, prompt in enumerate(prompts, start=1):
        if isinstance(prompt, int):
            raise ValueError(f"prompts must be a list of lists of ids, got {prompt} in place of a list")
        if not 1 <= len(prompt) <= model.cfg.context_length:
            raise ValueError(
                f"prompt {number} has {len(prompt)} tokens; it must have 1 to {model.cfg.context_length}, the context"
            )
