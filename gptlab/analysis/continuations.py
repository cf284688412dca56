"""How likely a model thinks each of several continuations of one prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gptlab.model import GPTModel, evaluation_mode


@torch.no_grad()
def continuation_scores(
    model: GPTModel,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[Sequence[int]]],
    *,
    batch_size: int = 16,
) -> list[list[float]]:
    """Return log p(continuation | prompt), summed over its tokens, in nats, for each continuation of each prompt.

    What has the same beginning is read once: continuations of one token, such as letters, cost one pass of the prompt.

    Args:
        model: left in the mode that it was in.
        prompts: token ids.
        continuations: for each prompt, the ids of what may follow, of any lengths.
        batch_size: rows read together; they are taken in order of length.

    Raises:
        ValueError: not as many lists of continuations as prompts, an empty prompt or continuation, one that does not
            fit into the context, or batch_size is below 1.
    """
    if len(prompts) != len(continuations):
        raise ValueError(f"need continuations for each prompt, got {len(continuations)} for {len(prompts)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    context, device = model.cfg.context_length, next(model.parameters()).device
    scores = [[0.0] * len(choices) for choices in continuations]
    read: dict[tuple[int, tuple[int, ...]], list[tuple[int, int]]] = {}  # what is read -> continuations it serves
    for number, (prompt, choices) in enumerate(zip(prompts, continuations)):
        for place, choice in enumerate(choices):
            if not len(prompt) or not len(choice):
                raise ValueError(f"prompt {number + 1} and its continuations must not be empty")
            ids = (*prompt, *choice[:-1])  # the last token is only foreseen
            if len(ids) > context:
                raise ValueError(
                    f"prompt {number + 1} has {len(ids) + 1} tokens with continuation {place + 1}; the context holds "
                    f"{context}"
                )
            read.setdefault((len(prompt), ids), []).append((number, place))
    order = sorted(read, key=lambda row: len(row[1]))
    with evaluation_mode(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            inputs = torch.zeros(len(rows), max(len(ids) for _, ids in rows), dtype=torch.int64)
            for row, (_, ids) in enumerate(rows):
                inputs[row, : len(ids)] = torch.tensor(ids)
            features = model.forward_embeddings(model.embed(inputs.to(device)))  # (B, T, D)
            for row, (begin, ids) in enumerate(rows):
                logits = model.out_head(features[row, begin - 1 : len(ids)]).float()  # (tokens, V)
                logprobs = logits.log_softmax(dim=-1).cpu()
                for number, place in read[begin, ids]:
                    tokens = torch.tensor(continuations[number][place])
                    scores[number][place] = logprobs.gather(1, tokens.unsqueeze(1)).sum().item()
    return scores
