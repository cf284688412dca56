"""Before a long training: how much memory it will take, and how long.

AdamW in float32 holds 16 bytes for every number that learns (weight, gradient, two moments) and 4 for every other.
What the forward pass remembers for the backward pass comes on top, for B rows of T tokens in L blocks of which all
weights learn:

    without dropout   4 B T L (12 D + H + 4) bytes
    with dropout      4 (B T L (14 D + 4) + 3 L B H T^2) bytes, since no fused attention takes dropout on the CPU

and three times the logits that exist at once. Source: counted in `model/`; a test compares it with what autograd keeps.
Where an adapter learns, time and memory of a block are measured, with the adapter on models of one block and of two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gptlab.config import GPTConfig
from gptlab.data import IGNORE_INDEX
from gptlab.devices import available_memory
from gptlab.model import GPTModel, count_parameters
from gptlab.training.blocks import blocks_run_as
from gptlab.training.gradients import Gradients
from gptlab.training.hooks import Hook
from gptlab.training.loss import LOGITS_AT_ONCE, next_token_loss
from gptlab.training.optimizer import make_optimizer
from gptlab.training.processes import process_count, sum_over_processes
from gptlab.training.random_states import own_random_numbers


@dataclass(frozen=True)
class Estimate:
    """What a training will take; memory in bytes.

    Attributes:
        parameters: how many numbers the model holds, with those that are added.
        trainable: how many of them learn.
        weights: memory of the parameters.
        gradients: memory of the gradients.
        optimizer: memory of AdamW's two moments.
        activations: memory of what the forward pass remembers, and of the logits.
        seconds_per_step: None if it was not measured.
    """

    parameters: int
    trainable: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    seconds_per_step: float | None = None

    @property
    def memory(self) -> int:
        """All of it together."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def __str__(self) -> str:
        parts = ("weights", "gradients", "optimizer", "activations")
        shares = ", ".join(f"{name} {readable(getattr(self, name))}" for name in parts)
        learning = "" if self.trainable == self.parameters else f", {self.trainable:,} of them learning"
        return f"{self.parameters:,} parameters{learning}; about {readable(self.memory)} of memory: {shares}"


def estimate(
    config: GPTConfig,
    batch_size: int,
    length: int,
    trainable: int | None = None,
    *,
    added: int = 0,
    targets: int | None = None,
    recompute: bool = False,
    probe: bool = False,
    device: torch.device | str = "cpu",
) -> Estimate:
    """Return what a training step with AdamW in float32 takes.

    Args:
        config: of the model.
        batch_size: B, rows computed at once.
        length: T, tokens in a row.
        trainable: how many parameters learn; None is all of them.
        added: how many an adapter adds to the config's.
        targets: how many tokens of the batch are to be predicted; None is all of them.
        recompute: whether blocks are computed twice to save memory; see `train`.
        probe: whether to measure the time, with steps of a model of one block and of two. It takes a few seconds.
        device: where to measure it.

    Raises:
        ValueError: a number is out of range.
    """
    if added < 0:
        raise ValueError(f"added must be >= 0, got {added}")
    parameters = count_parameters(_on_meta(config)) + added
    trainable = parameters if trainable is None else trainable
    targets = batch_size * length if targets is None else targets
    for name, value, least, most in (
        ("batch_size", batch_size, 1, None),
        ("length", length, 1, config.context_length),
        ("trainable", trainable, 0, parameters),
        ("targets", targets, 0, batch_size * length),
    ):
        if value < least or (most is not None and value > most):
            allowed = f">= {least}" if most is None else f"in [{least}, {most}]"
            raise ValueError(f"{name} must be {allowed}, got {value}")
    return Estimate(
        parameters,
        trainable,
        weights=4 * parameters,
        gradients=4 * trainable,
        optimizer=8 * trainable,
        activations=_activations(config, batch_size, length, recompute) + _logits(config, targets),
        seconds_per_step=_probe(config, batch_size, length, targets, recompute, torch.device(device)).seconds
        if probe
        else None,
    )


def foresee(
    model: GPTModel,
    batches: DataLoader,
    steps: int,
    trainable: int | None = None,
    *,
    added: int = 0,
    begin: Callable[[GPTModel], Sequence[Hook]] = lambda model: (),
    micro_batches: int = 1,
    recompute: bool = False,
) -> str:
    """Return a line about the memory and the time that a training will take, or refuse it.

    All batches are made once to see how large they are; time is measured with the middle one. An adapter that does not
    fit on models of one block and of two, since it names blocks by their numbers, is told as if all weights learned.

    Args:
        model: before training.
        batches: of an epoch.
        steps: how many there will be.
        trainable: how many parameters will learn; None is all of the model's that require gradients.
        added: how many of them an adapter adds.
        begin: puts the adapter on a model, and returns the hooks that it needs.
        micro_batches: see `train`.
        recompute: see `train`.

    Raises:
        ValueError: the largest batch does not fit into what is free; with what would fit, if something does.
    """
    device = next(model.parameters()).device
    with own_random_numbers(device):
        shapes = sorted((*batch[0].shape, int((batch[1] != IGNORE_INDEX).sum())) for batch in batches)
    shapes.sort(key=lambda shape: shape[0] * shape[1])
    if trainable is None:
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    middle = (*_part(shapes[len(shapes) // 2], micro_batches), recompute, device)
    tried, doubt = None, ""
    if added:
        try:
            tried = _probe(model.cfg, *middle, begin)
        except ValueError:
            doubt = " if all weights learned"

    def needs(shape: tuple[int, int, int], parts: int, recompute: bool) -> Estimate:
        rows, length, targets = _part(shape, parts)
        options = {"added": added, "targets": targets, "recompute": recompute}
        found = estimate(model.cfg, rows, length, trainable, **options)
        if tried is None:
            return found
        blocks = _activations(model.cfg, rows, length, recompute)
        return replace(found, weights=tried.weights, activations=found.activations + round((tried.share - 1) * blocks))

    def new(found: Estimate) -> int:
        return found.memory - found.weights + 4 * added

    found, room = needs(shapes[-1], micro_batches, recompute), available_memory(device)
    if room is not None and device.type == "cpu":
        room //= process_count()
    short = room is not None and new(found) > room
    if sum_over_processes([short], device)[0]:  # one that cannot go on stops all
        fitting = [
            f"recompute={again} and micro_batches={parts} ({readable(smaller.memory)})"
            for again in (False, True)
            for parts in range(1, shapes[-1][0] + 1)
            if room is None or new(smaller := needs(shapes[-1], parts, again)) <= room
        ]
        hint = f"this would fit: {fitting[0]}" if fitting else "a smaller model, or fewer layers that learn, might"
        raise ValueError(f"this training does not fit, {readable(room)} are free: {found}. {hint}")
    minutes = steps * micro_batches * (tried or _probe(model.cfg, *middle)).seconds / 60
    duration = f"{minutes:.0f} min" if minutes >= 2 else f"{max(1, 60 * minutes):.0f} s"
    return f"{found}; {steps} steps, about {duration} on {device}{doubt}"


def _part(shape: tuple[int, int, int], parts: int) -> tuple[int, int, int]:
    """Return rows, length and targets of what is computed at once of a batch."""
    rows, length, targets = shape
    rows = -(-rows // (parts * process_count()))
    return rows, length, min(targets, rows * length)


def _activations(config: GPTConfig, batch_size: int, length: int, recompute: bool) -> int:
    tokens, D, H = batch_size * length, config.emb_dim, config.n_heads
    kept = 16 if recompute else 12  # GELU's output is computed again, but not while a whole block is
    block = tokens * (kept * D + H + 4)
    if config.drop_rate > 0:
        block = tokens * ((kept + 2) * D + 4) + 3 * batch_size * H * length**2
    remembered = block + config.n_layers * tokens * D if recompute else config.n_layers * block
    around = tokens * D * (2 if config.drop_rate == 0 else 3)  # embeddings' dropout, and the final norm
    return 4 * (remembered + around)


def _logits(config: GPTConfig, targets: int) -> int:
    at_once = min(targets, max(1, LOGITS_AT_ONCE // config.vocab_size))
    return 3 * 4 * at_once * config.vocab_size


class _Step(NamedTuple):
    """What a training step takes.

    Attributes:
        seconds: of it.
        weights: memory of what the model holds.
        share: of `_activations`, what the blocks remember when an adapter learns.
    """

    seconds: float
    weights: int
    share: float


def _probe(
    config: GPTConfig,
    batch_size: int,
    length: int,
    targets: int,
    recompute: bool,
    device: torch.device,
    begin: Callable[[GPTModel], Sequence[Hook]] = lambda model: (),
) -> _Step:
    """Measure a step of one block and of two; all grows by the same amount with every further block.

    Raises:
        ValueError: `begin` refuses such a small model.
    """
    seconds, weights, remembered, counted = [], [], [], []
    with own_random_numbers(device):
        for n_layers in (1, 2):
            small = replace(config, n_layers=n_layers)
            model = GPTModel(small).to(device).train()
            hooks = begin(model)
            ids = torch.randint(0, config.vocab_size, (batch_size, length))
            wanted = torch.full_like(ids, IGNORE_INDEX)
            wanted.view(-1)[batch_size * length - max(1, targets) :] = 0  # without any there is no step
            weights.append(sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers())))
            remembered.append(_remembered(model, ids.to(device), wanted.to(device)))
            counted.append(_activations(small, batch_size, length, recompute=False))
            seconds.append(_step_seconds(model, ids, wanted, hooks, recompute, device))
    further = config.n_layers - 1
    return _Step(
        seconds[0] + further * max(0.0, seconds[1] - seconds[0]),
        weights[0] + further * (weights[1] - weights[0]),
        (remembered[1] - remembered[0]) / (counted[1] - counted[0]),
    )


def _remembered(model: GPTModel, ids: Tensor, wanted: Tensor) -> int:
    """Return the bytes that autograd keeps of a forward pass, without the weights."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), blocks_run_as(model):
        next_token_loss(model, ids, wanted)
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    storages = {storage.data_ptr(): storage for storage in (tensor.untyped_storage() for tensor in kept)}
    return sum(storage.nbytes() for place, storage in storages.items() if place not in weights)


def _step_seconds(
    model: GPTModel, ids: Tensor, wanted: Tensor, hooks: Sequence[Hook], recompute: bool, device: torch.device
) -> float:
    optimizer = make_optimizer(model, 1e-4)
    ids, wanted = ids.repeat(process_count(), 1), wanted.repeat(process_count(), 1)  # each computes its share
    gradients = Gradients(model, 1, device, "float32", torch.amp.GradScaler(device.type, enabled=False), hooks)
    times = []
    with blocks_run_as(model, recompute=recompute):
        for step in (1, 2, 3):  # the first one warms up
            begin = time.perf_counter()
            optimizer.zero_grad()
            gradients.add((ids, wanted))
            optimizer.step()
            for hook in hooks:
                hook.after_step(model, step)
            times.append(time.perf_counter() - begin)
    return min(times[1:])


def _on_meta(config: GPTConfig) -> GPTModel:
    with torch.device("meta"):
        return GPTModel(config)


def readable(count: int) -> str:
    """Return a number of bytes as people write it.

    >>> readable(1_536), readable(5 * 2**30)
    ('1.5 KiB', '5.0 GiB')
    """
    size, units = float(count), iter(("bytes", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while size >= 1024 and unit != "TiB":
        size, unit = size / 1024, next(units)
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
