"""The training loop, to be read line by line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sized

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from gptlab.devices import empty_cache
from gptlab.model import GPTModel
from gptlab.training.history import History
from gptlab.training.loss import evaluate, next_token_loss


def train(
    model: GPTModel,
    batches: DataLoader,
    *,
    optimizer: Optimizer,
    schedule: LRScheduler | None = None,
    epochs: int = 1,
    device: torch.device | str | None = None,
    max_grad_norm: float = 1.0,
    validation: DataLoader | None = None,
    after_epoch: Callable[[int, History], None] | None = None,
    empty_cache_every: int | None = None,
    progress: bool = True,
    title: str = "training",
) -> History:
    """Train `model` in place and return what happened.

    Args:
        model: is moved to `device` and left in training mode.
        batches: gives (inputs, targets), each (B, T) int64, targets shifted; anything sized that can be iterated anew.
        optimizer: over the model's parameters.
        schedule: stepped after every optimizer step.
        epochs: how often to go through `batches`.
        device: where to compute; None is where the model is.
        max_grad_norm: gradients longer than this are shortened to it.
        validation: measured before the first step and after every epoch.
        after_epoch: called with the number of epochs done and the history so far; the place to save.
        empty_cache_every: steps between calls of `empty_cache`; 0 is never, None is every step on MPS and else never.
        progress: whether to show a bar.
        title: what the bar says.

    Raises:
        ValueError: there are no batches.
        FloatingPointError: a loss, a gradient or, after an epoch, a weight is no longer finite. A step whose loss or
            gradient is not finite is not taken, and `after_epoch` is not called for its epoch.
    """
    device = next(model.parameters()).device if device is None else torch.device(device)
    if empty_cache_every is None:
        empty_cache_every = 1 if device.type == "mps" else 0
    if not isinstance(batches, Sized):
        raise ValueError(f"batches must have a length and be iterable anew, got a {type(batches).__name__}")
    if not len(batches) or epochs < 1:
        raise ValueError(f"nothing to train on: {epochs} epochs of {len(batches)} batches")

    history, step = History(), 0
    model.to(device).train()
    if validation is not None:
        history.validation.append((step, evaluate(model, validation, device)))
    with tqdm(total=epochs * len(batches), desc=title, disable=not progress) as bar:
        for epoch in range(1, epochs + 1):
            for inputs, targets in batches:
                step += 1
                inputs, targets = inputs.to(device), targets.to(device)
                learning_rate = optimizer.param_groups[0]["lr"]

                optimizer.zero_grad()
                total, count = next_token_loss(model, inputs, targets)
                loss = total / max(count, 1)
                loss.backward()
                length = clip_grad_norm_(model.parameters(), max_grad_norm)
                _check_finite(step, learning_rate, loss=loss.item(), gradient_norm=length.item())
                optimizer.step()
                if schedule is not None:
                    schedule.step()
                if empty_cache_every and step % empty_cache_every == 0:
                    del total, length
                    empty_cache(device)

                history.record(loss.item(), learning_rate, inputs.numel())
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
                bar.update()
            weights = sum(parameter.detach().sum().item() for parameter in model.parameters())
            _check_finite(step, learning_rate, sum_of_weights=weights)
            if validation is not None:
                history.validation.append((step, evaluate(model, validation, device)))
                _check_finite(step, learning_rate, validation_loss=history.validation[-1][1])
            if after_epoch is not None:
                after_epoch(epoch, history)
    return history


def make_optimizer(model: GPTModel, learning_rate: float, weight_decay: float = 0.1) -> AdamW:
    """Return AdamW with weight decay on matrices and none on biases and norms.

    Raises:
        ValueError: the learning rate is not positive or not finite.

    Source: Loshchilov and Hutter 2017, arXiv 1711.05101; betas as in Brown et al. 2020, arXiv 2005.14165, appendix B.
    """
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in learned if parameter.dim() >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in learned if parameter.dim() < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)


def _check_finite(step: int, learning_rate: float, **values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"training stopped at step {step}: {name.replace('_', ' ')} is {value}, the learning rate was "
                f"{learning_rate:g}; a smaller one may help"
            )
