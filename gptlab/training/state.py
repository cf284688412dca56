"""Everything that a training step changes, in one place, so that it can be saved and put back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

import torch
from torch import distributed, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gptlab.training.history import History, history_from_dict
from gptlab.training.hooks import Hook
from gptlab.training.loss import Batch
from gptlab.training.processes import process_count, process_number
from gptlab.training.random_states import random_states, restore_random_states


class TrainingState:
    """A model and what trains it, the place in the data, and what happened so far.

    Attributes:
        epoch: which one is under way, from 1.
        batch: how many of its batches are done.
        history: what happened.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Batch],
        optimizer: Optimizer,
        schedule: LRScheduler | None,
        scaler: torch.amp.GradScaler,
        hooks: Sequence[Hook],
        device: torch.device,
    ) -> None:
        self.model, self.batches, self.hooks, self.device = model, batches, hooks, device
        self.optimizer, self.schedule, self.scaler = optimizer, schedule, scaler
        self.history = History()
        self.epoch, self.batch = 1, 0
        self._at_epoch: dict | None = None  # the random states with which the epoch began
        self._resumed: dict | None = None  # those of a checkpoint, until they are put back

    @property
    def batches_done(self) -> int:
        """How many batches are done, in all epochs."""
        return (self.epoch - 1) * len(self.batches) + self.batch

    def rest_of_epoch(self) -> Iterator[Batch]:
        """Yield the epoch's batches that are not done, and count each as done.

        The order of an epoch follows from the random states with which it began. So when training goes on in the middle
        of one, it is begun once more with those, and passed over up to the place.
        """
        for sampler in (getattr(self.batches, "sampler", None), getattr(self.batches, "batch_sampler", None)):
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(self.epoch)
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            begin = resumed["at_epoch"] if self.batch else resumed["now"]
            restore_random_states(begin, self.batches, self.device)
        self._at_epoch = random_states(self.batches, self.device)
        upcoming = iter(self.batches)
        for _ in islice(upcoming, self.batch):
            pass
        if resumed is not None and self.batch:
            restore_random_states(resumed["now"], self.batches, self.device)
        for batch in upcoming:
            self.batch += 1
            yield batch
        self.epoch, self.batch = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return all but the model's weights; every process must call this."""
        random = {"now": random_states(self.batches, self.device), "at_epoch": self._at_epoch}
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "history": asdict(self.history),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "hooks": [hook.state_dict() for hook in self.hooks],
            "random": _of_all_processes(random),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.epoch, self.batch = state["epoch"], state["batch"]
        self.history = history_from_dict(state["history"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        for hook, saved in zip(self.hooks, state["hooks"], strict=True):
            hook.load_state_dict(saved)
        self._resumed = state["random"][process_number() % len(state["random"])]


def _of_all_processes(value: Any) -> list[Any]:
    """Return what each process holds, in the order of their numbers."""
    if process_count() == 1:
        return [value]
    values = [None] * process_count()
    distributed.all_gather_object(values, value)
    return values
