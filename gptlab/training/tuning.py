"""What is tuned: here all weights. Another way, such as tuning an adapter, is another `Tuning`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor

from gptlab.model import GPTModel
from gptlab.tokenizer import Tokenizer
from gptlab.training.hooks import Hook
from gptlab.weights import Checkpoint, load_checkpoint, save_checkpoint
from gptlab.weights.checkpoint import FORMAT, check_replaceable
from gptlab.weights.huggingface import check_plain


class Tuning(ABC):
    """What of a model learns, and what is saved of it.

    Attributes:
        learning_rate: the peak, where none is chosen.
        weight_decay: of the optimizer.
        grows: whether new tokens can be added, for which embeddings have to learn.
        virtual_tokens: how many positions of the context are taken.
    """

    learning_rate: float
    weight_decay: float
    grows: bool
    virtual_tokens: int = 0

    @abstractmethod
    def count(self, model: GPTModel, tokenizer: Tokenizer) -> tuple[int, int]:
        """Return how many parameters will learn, and how many of these are new; nothing of the model is changed.

        Raises:
            ValueError: the model, as it is, or the settings do not allow it.
        """

    @abstractmethod
    def begin(self, model: GPTModel, tokenizer: Tokenizer, seed: int, total_steps: int) -> list[Hook]:
        """Make the model ready to learn, in place, and return what the training loop needs to run.

        Raises:
            ValueError: the settings do not allow it; the model is as it was.
        """

    @abstractmethod
    def learned(self, model: GPTModel) -> dict[str, Tensor] | None:
        """Return the tensors that a saved state must hold; None is all of the model."""

    @abstractmethod
    def check_folder(self, out: Path) -> None:
        """Raise ValueError if something is in `out` that a save would overwrite or contradict."""

    @abstractmethod
    def save(self, out: Path, tuned: Checkpoint) -> None:
        """Write the result."""

    @abstractmethod
    def load(self, model: GPTModel, out: Path) -> None:
        """Put the result of a finished run into the model, in place."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return what a run that goes on must have in common with the one before."""


class FullTuning(Tuning):
    """All weights learn, but for those that are frozen, and the result is a checkpoint."""

    learning_rate = 2e-4
    weight_decay = 0.1
    grows = True

    def count(self, model: GPTModel, tokenizer: Tokenizer) -> tuple[int, int]:
        check_plain(model)
        learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        if not learning:
            raise ValueError("nothing to train: no parameter of the model has requires_grad")
        return learning, 0

    def begin(self, model: GPTModel, tokenizer: Tokenizer, seed: int, total_steps: int) -> list[Hook]:
        return []

    def learned(self, model: GPTModel) -> dict[str, Tensor] | None:
        return None

    def check_folder(self, out: Path) -> None:
        check_replaceable(out, FORMAT)

    def save(self, out: Path, tuned: Checkpoint) -> None:
        save_checkpoint(out, *tuned)

    def load(self, model: GPTModel, out: Path) -> None:
        model.load_state_dict(load_checkpoint(out).model.state_dict())

    def to_dict(self) -> dict[str, Any]:
        return {}
