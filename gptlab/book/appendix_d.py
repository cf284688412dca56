"""The names of the book's appendix D: training with a warm-up, a cosine decay and clipped gradients.

    rate(t) = initial + t (peak - initial) / warmup                              while t < warmup
    rate(t) = min + (peak - min) (1 + cos(pi (t - warmup) / (total - warmup))) / 2    then

The library's own schedule, `gptlab.warmup_cosine`, reaches the peak one step earlier and the end one step earlier.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from gptlab.book.ch05 import calc_loss_batch, evaluate_model, generate_and_print_sample, train_and_print

__all__ = ["calc_loss_batch", "evaluate_model", "find_highest_gradient", "generate_and_print_sample", "train_model"]


def find_highest_gradient(model: nn.Module) -> Tensor | None:
    """Return the largest number in any gradient, sign and all; None when there is no gradient."""
    largest = [parameter.grad.max() for parameter in model.parameters() if parameter.grad is not None]
    return max(largest) if largest else None


def train_model(
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader,
    optimizer: Optimizer,
    device: torch.device | str,
    n_epochs: int,
    eval_freq: int,
    eval_iter: int | None,
    start_context: str,
    tokenizer: Any,
    warmup_steps: int,
    initial_lr: float = 3e-05,
    min_lr: float = 1e-6,
    orig_book_version: bool = False,
) -> tuple[list[float], list[float], list[int], list[float]]:
    """Train `model` as `train_model_simple` does, with a rate that rises and falls, and clipped gradients.

    Args:
        optimizer: its learning rate is the peak, so give it one.
        n_epochs: how often to go through `train_loader`.
        warmup_steps: steps in which the rate rises and gradients are not clipped; may be 0.
        initial_lr: the rate of the first step, if there is a warm-up.
        min_lr: what the rate falls to, just after the last step.
        orig_book_version: whether the first step after the warm-up goes unclipped too, as printed.

    Returns:
        What `train_model_simple` returns, and the learning rate of every step.

    Raises:
        ValueError: warmup_steps is negative, or eval_freq below 1.
    """
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps must be >= 0, got {warmup_steps}")
    peak_lr = optimizer.param_groups[0]["lr"]
    total_steps = len(train_loader) * n_epochs
    track_lrs: list[float] = []

    def set_rate_and_clip(step: int) -> None:
        if step < warmup_steps:
            rate = initial_lr + step * (peak_lr - initial_lr) / warmup_steps
        else:
            progress = (step - warmup_steps) / (total_steps - warmup_steps)
            rate = min_lr + (peak_lr - min_lr) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        track_lrs.append(rate)
        if step > warmup_steps or (step == warmup_steps and not orig_book_version):
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)

    losses = train_and_print(
        model,
        train_loader,
        val_loader,
        optimizer,
        device,
        n_epochs,
        eval_freq,
        eval_iter,
        start_context,
        tokenizer,
        counter="Iter",
        before_step=set_rate_and_clip,
    )
    return (*losses, track_lrs)
