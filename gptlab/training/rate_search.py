"""Find a learning rate by trying: raise it from step to step and watch where the loss falls, and where it explodes.

Source: Smith 2015, arXiv 1506.01186, section 3.3 (learning rate range test).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader
from tqdm import tqdm

from gptlab.data import IGNORE_INDEX
from gptlab.model import GPTModel
from gptlab.training.gradients import Gradients
from gptlab.training.hooks import Hook
from gptlab.training.loss import Batch
from gptlab.training.optimizer import make_optimizer
from gptlab.training.random_states import random_states, restore_random_states


class RateSearch(NamedTuple):
    """What was tried: a rate and a loss for each step, the losses smoothed, and a rate to begin with."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float


def find_learning_rate(
    model: GPTModel,
    batches: DataLoader,
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
    weight_decay: float = 0.1,
    max_grad_norm: float = 1.0,
    hooks: Sequence[Hook] = (),
    progress: bool = True,
) -> RateSearch:
    """Train a copy for some steps with a rate that grows by the same factor each time; the model stays as it is.

    It stops as soon as the smoothed loss is four times its lowest, or no longer finite. The suggestion is a tenth of
    the rate at which the smoothed loss was lowest: where the loss still falls, away from where it explodes. It is meant
    as the peak of a schedule with a warm-up.

    Args:
        model: on its device; in memory the copy comes beside it. The random states are as they were in the end.
        batches: as for `train`; begun anew when they run out.
        lowest: the first rate.
        highest: the last rate.
        steps: how many.
        weight_decay: of AdamW.
        max_grad_norm: gradients longer than this are shortened to it, as in `train`.
        hooks: what the model is trained with; see `train`. Copies of them run.
        progress: whether to show a bar.

    Raises:
        ValueError: the rates do not rise, there are fewer than 10 steps, or no batch has a target.
    """
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"the rates must rise from above 0, got {lowest} to {highest}")
    if not max_grad_norm > 0:
        raise ValueError(f"max_grad_norm must be > 0, got {max_grad_norm}")
    if steps < 10:
        raise ValueError(f"steps must be >= 10, got {steps}")
    device = next(model.parameters()).device
    rates = [lowest * (highest / lowest) ** (step / (steps - 1)) for step in range(steps)]
    states = random_states(batches, device)
    try:
        trial, hooks = copy.deepcopy((model, list(hooks)))  # together, for a hook may know the model
        losses = _climb(trial, batches, rates, weight_decay, max_grad_norm, hooks, progress)
    finally:
        restore_random_states(states, batches, device)
    if not losses:
        raise ValueError("the loss is not finite before the first step")
    smoothed = _smooth(losses)
    lowest_loss = min(range(len(smoothed)), key=smoothed.__getitem__)
    return RateSearch(rates[: len(losses)], losses, smoothed, rates[lowest_loss] / 10)


def _climb(
    model: GPTModel,
    batches: DataLoader,
    rates: Sequence[float],
    weight_decay: float,
    max_grad_norm: float,
    hooks: Sequence[Hook],
    progress: bool,
) -> list[float]:
    """Train with these rates, and return the losses until one is too large."""
    device, optimizer = next(model.parameters()).device, make_optimizer(model, rates[0], weight_decay)
    gradients = Gradients(model, 1, device, "float32", torch.amp.GradScaler(device.type, enabled=False), hooks)
    losses: list[float] = []
    model.train()
    for rate, batch in zip(tqdm(rates, desc="learning rates", disable=not progress), _endless(batches)):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss, _ = gradients.add(batch)
        if not math.isfinite(loss):
            break
        losses.append(loss)
        smoothed = _smooth(losses)
        if smoothed[-1] > 4 * min(smoothed):
            break
        clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        for hook in hooks:
            hook.after_step(model, len(losses))
    return losses


def _endless(batches: DataLoader) -> Iterator[Batch]:
    """Give the batches that have a target, again and again."""
    found = True
    while found:
        found = False
        for batch in batches:
            if bool((batch[1] != IGNORE_INDEX).any()):
                found = True
                yield batch
    raise ValueError("there is nothing to learn: no batch has a target")


def _smooth(losses: list[float], share: float = 0.1) -> list[float]:
    """Return the exponential moving average, corrected for its beginning, as Adam's moments are."""
    average, smoothed = 0.0, []
    for step, loss in enumerate(losses, start=1):
        average += share * (loss - average)
        smoothed.append(average / (1 - (1 - share) ** step))
    return smoothed
