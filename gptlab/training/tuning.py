"""What is tuned: here all weights. A way of tuning a few parameters overrides what it does differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from gptlab.model import GPTModel, count_parameters
from gptlab.tokenizer import Tokenizer
from gptlab.training.hooks import Hook
from gptlab.weights import Checkpoint, load_checkpoint, save_checkpoint
from gptlab.weights.checkpoint import FORMAT, check_replaceable


class FullTuning:
    """All weights learn, and the result is a checkpoint.

    Attributes:
        learning_rate: the peak, where none is chosen.
        weight_decay: of the optimizer.
        grows: whether new tokens can be added, for which embeddings have to learn.
        virtual_tokens: how many positions of the context are taken.
    """

    learning_rate: float = 2e-4
    weight_decay: float = 0.1
    grows: bool = True
    virtual_tokens: int = 0

    def count(self, model: GPTModel, tokenizer: Tokenizer) -> int:
        """Return how many parameters will learn; nothing of the model is changed.

        Raises:
            ValueError: the settings do not fit the model.
        """
        return count_parameters(model)

    def begin(self, model: GPTModel, tokenizer: Tokenizer, seed: int) -> None:
        """Make the model ready to learn, in place."""

    def hooks(self, model: GPTModel, total_steps: int) -> list[Hook]:
        """Return what the training loop needs to run."""
        return []

    def learned(self, model: GPTModel) -> dict[str, Tensor] | None:
        """Return the tensors that a saved state must hold; None is all of the model."""
        return None

    def check_folder(self, out: Path) -> None:
        """Raise ValueError if something is in `out` that a save would overwrite or contradict."""
        check_replaceable(out, FORMAT)

    def save(self, out: Path, tuned: Checkpoint) -> None:
        """Write the result."""
        save_checkpoint(out, *tuned)

    def load(self, model: GPTModel, out: Path) -> None:
        """Put the result of a finished run into the model, in place."""
        model.load_state_dict(load_checkpoint(out).model.state_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return what a run that goes on must have in common with the one before."""
        return {}
