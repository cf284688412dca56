"""The training loop, to be read line by line."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence, Sized
from contextlib import ExitStack
from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from gptlab.devices import empty_cache, reused_memory
from gptlab.model import GPTModel
from gptlab.training.blocks import blocks_run_as
from gptlab.training.checkpoint import TrainingCheckpoints
from gptlab.training.device_check import compare_with_cpu
from gptlab.training.gradients import Gradients
from gptlab.training.history import History
from gptlab.training.hooks import Hook
from gptlab.training.loss import Batch, evaluate
from gptlab.training.report import Report, Step
from gptlab.training.state import TrainingState


def train(
    model: GPTModel,
    batches: DataLoader,
    *,
    optimizer: Optimizer,
    schedule: LRScheduler | None = None,
    epochs: int = 1,
    device: torch.device | str | None = None,
    micro_batches: int = 1,
    max_grad_norm: float = 1.0,
    precision: str = "float32",
    recompute: bool = False,
    compile: bool = False,
    validation: DataLoader | None = None,
    validate_every: int | None = None,
    after_epoch: Callable[[int, History], None] | None = None,
    hooks: Sequence[Hook] = (),
    checkpoints: TrainingCheckpoints | None = None,
    metrics: str | Path | None = None,
    empty_cache_every: int | None = None,
    progress: bool = True,
    title: str = "training",
) -> History:
    """Train `model` in place and return what happened.

    Args:
        model: is moved to `device` and left in training mode.
        batches: gives (inputs, targets), each (B, T) int64, targets shifted; anything sized that can be iterated anew.
            One batch is one step. A sampler with `set_epoch` is told the number of the epoch, from 1.
        optimizer: over the model's parameters.
        schedule: stepped after every optimizer step.
        epochs: how often to go through `batches`.
        device: where to compute; None is where the model is.
        micro_batches: in how many parts a batch is computed, one after the other, to save memory (gradient
            accumulation); the step is that of the whole batch.
        max_grad_norm: gradients longer than this are shortened to it.
        precision: "float32", "bfloat16" or "float16", of the matrix products; see `gptlab.devices.autocast`.
        recompute: whether the backward pass computes the inside of every block again instead of remembering it
            (gradient checkpointing): a fraction of the memory, about a third more time.
        compile: whether to compile the blocks with `torch.compile`; where there is no compiler, training goes on
            without and a warning says so.
        validation: measured before the first step and after every epoch.
        validate_every: optimizer steps from one validation to the next, besides.
        after_epoch: called with the number of epochs done and the history so far; the place to save.
        hooks: what a method adds to the loss and does after each step; see `Hook`.
        checkpoints: where to save the whole state, and whether to go on from there.
        metrics: a file that gets a line of JSON for every step.
        empty_cache_every: steps between calls of `empty_cache`; 0 is never, None is every step on MPS and else never.
        progress: whether to show a bar.
        title: what the bar says.

    Raises:
        ValueError: there are no batches, a setting is out of range, or nothing that the optimizer has can learn.
        FloatingPointError: a loss, a gradient or, after an epoch, a weight is no longer finite. A step whose loss or
            gradient is not finite is not taken, and neither is `after_epoch` called for its epoch nor a checkpoint
            saved.
    """
    device = next(model.parameters()).device if device is None else torch.device(device)
    if empty_cache_every is None:
        empty_cache_every = 1 if device.type == "mps" else 0
    _check_settings(batches, epochs, micro_batches, validate_every, max_grad_norm)
    if recompute and device.type == "mps" and model.cfg.drop_rate > 0:
        raise ValueError(
            "recompute draws other dropout the second time on MPS (PyTorch issue 127676): set drop_rate to 0"
        )
    model.to(device).train()
    _check_optimizer(optimizer, model)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
    state = TrainingState(model, batches, optimizer, schedule, scaler, hooks, device)
    if checkpoints is not None:
        checkpoints.start(state)  # perhaps in the middle of an earlier run
    history = state.history

    if not history.validation:
        _validate(state, validation, precision)
    with ExitStack() as stack:
        stack.enter_context(blocks_run_as(model, recompute=recompute, compile=compile))
        stack.enter_context(reused_memory())
        if checkpoints is not None:
            stack.enter_context(checkpoints.named_in_errors())
        gradients = Gradients(model, micro_batches, device, precision, scaler, hooks)
        report = stack.enter_context(Report(state, epochs * len(batches), metrics, title, progress))

        while state.epoch <= epochs:
            epoch = state.epoch
            for batch in state.rest_of_epoch():
                step = take_step(state, gradients, batch, max_grad_norm)
                report.add(step)
                if step is None:
                    continue
                for hook in hooks:
                    hook.after_step(model, history.steps)
                if empty_cache_every and history.steps % empty_cache_every == 0:
                    empty_cache(device)
                if validate_every and history.steps % validate_every == 0:
                    _validate(state, validation, precision)
                if checkpoints is not None and history.steps % checkpoints.every == 0:
                    _check_weights(state)
                    checkpoints.save(state)
            _check_weights(state)
            _validate(state, validation, precision)
            if after_epoch is not None:
                after_epoch(epoch, history)
        if checkpoints is not None:
            checkpoints.save(state)
    return history


def take_step(state: TrainingState, gradients: Gradients, batch: Batch, max_grad_norm: float) -> Step | None:
    """Learn from one batch, and return what happened; None if there was nothing to learn."""
    begin, optimizer = time.perf_counter(), state.optimizer
    if state.device.type == "mps" and not state.history.steps:
        compare_with_cpu(state.model, batch)
    learning_rate = optimizer.param_groups[0]["lr"]

    optimizer.zero_grad()
    loss, targets = gradients.add(batch)
    if not targets:
        state.history.skipped += 1
        return None
    state.scaler.unscale_(optimizer)
    length = clip_grad_norm_(state.model.parameters(), max_grad_norm).item()
    checked = {"loss": loss} if state.scaler.is_enabled() else {"loss": loss, "gradient_norm": length}
    _check_finite(state.history.steps + 1, optimizer, **checked)
    state.scaler.step(optimizer)  # float16: not taken if a gradient overflowed, and the next scale is smaller
    state.scaler.update()
    if state.schedule is not None:
        state.schedule.step()

    state.history.record(loss, learning_rate, batch[0].numel())
    return Step(loss, learning_rate, batch[0].numel(), targets, length, time.perf_counter() - begin)


def _validate(state: TrainingState, validation: DataLoader | None, precision: str) -> None:
    """Add the validation loss to the history, unless it was just measured."""
    steps, measured = state.history.steps, state.history.validation
    if validation is not None and (not measured or measured[-1][0] < steps):
        measured.append((steps, evaluate(state.model, validation, state.device, precision=precision)))
        _check_finite(steps, state.optimizer, validation_loss=measured[-1][1])


def _check_weights(state: TrainingState) -> None:
    total = sum(weight.detach().sum().item() for weight in state.model.parameters())
    _check_finite(state.history.steps, state.optimizer, sum_of_weights=total)


def _check_settings(
    batches: Sized, epochs: int, micro_batches: int, validate_every: int | None, max_grad_norm: float
) -> None:
    if not max_grad_norm > 0:
        raise ValueError(f"max_grad_norm must be > 0, got {max_grad_norm}")
    if not isinstance(batches, Sized):
        raise ValueError(f"batches must have a length and be iterable anew, got a {type(batches).__name__}")
    if not len(batches) or epochs < 1:
        raise ValueError(f"nothing to train on: {epochs} epochs of {len(batches)} batches")
    for name, value in {"micro_batches": micro_batches, "validate_every": validate_every}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")


def _check_optimizer(optimizer: Optimizer, model: GPTModel) -> None:
    learning = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    if not any(id(parameter) in learning for group in optimizer.param_groups for parameter in group["params"]):
        raise ValueError(
            f"nothing would learn: the optimizer has none of the model's {len(learning)} parameters that require "
            "gradients; make it after the model, and after what is put into it"
        )


def _check_finite(step: int, optimizer: Optimizer, **values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"training stopped at step {step}: {name.replace('_', ' ')} is {value}, the learning rate was "
                f"{optimizer.param_groups[0]['lr']:g}; a smaller one may help"
            )
