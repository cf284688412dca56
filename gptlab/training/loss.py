"""Cross-entropy where something is to be learned, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from gptlab.data.batching import IGNORE_INDEX
from gptlab.model import GPTModel, evaluation_mode

Batch = tuple[Tensor, Tensor]  # inputs and targets, each (B, T) int64


def next_token_loss(model: GPTModel, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """Return the summed cross-entropy, in nats, and how many targets it sums over.

    The output head only sees positions that have a target, so prompts and padding cost no logits. The mean is left to
    the caller, who knows what to average over; without any target the sum is 0 and has a gradient of 0.

    Args:
        model: gives the features and the head.
        inputs: (B, T) int64.
        targets: (B, T) int64, already shifted; IGNORE_INDEX where nothing is learned.
    """
    features = model.forward_embeddings(model.embed(inputs))  # (B, T, D)
    learned = targets != IGNORE_INDEX
    logits = model.out_head(features[learned])  # (targets, V)
    return F.cross_entropy(logits, targets[learned], reduction="sum"), int(learned.sum())


@torch.no_grad()
def evaluate(model: GPTModel, batches: Iterable[Batch], device: torch.device | str | None = None) -> float:
    """Return the mean loss per target over all batches, in nats.

    Every target weighs the same, whatever batch it is in. Training goes on afterwards as if nobody had looked: the
    model's mode and the random state are put back.

    Raises:
        ValueError: there is no target at all.
    """
    device = next(model.parameters()).device if device is None else torch.device(device)
    total, count = 0.0, 0
    with evaluation_mode(model), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for inputs, targets in batches:
            batch_total, batch_count = next_token_loss(model, inputs.to(device), targets.to(device))
            total, count = total + batch_total.item(), count + batch_count
    if not count:
        raise ValueError("nothing to evaluate: the batches hold no target")
    return total / count
