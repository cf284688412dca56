"""Where a method joins the training loop: what it adds to the loss, and what it does after a step."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Hook:
    """Does nothing; a method overrides what it needs."""

    def loss_terms(self, model: nn.Module) -> Tensor | float:
        """Return what is added to the mean loss of every step, such as a penalty on the weights."""
        return 0.0

    def after_step(self, model: nn.Module, step: int) -> None:
        """Do something after optimizer step `step`, counted from 1; the step's gradients are still there."""

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be saved for training to go on: tensors, numbers, texts and lists of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
