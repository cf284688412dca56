"""What happened during training, in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """One value per optimizer step, and validation losses where they were measured.

    It unpacks as the book's tuple: `train_losses, val_losses, tokens_seen = history`, each as long as there were
    validations after the first step.

    Attributes:
        losses: mean loss per target of each step's batch, in nats.
        learning_rates: the rate that each step used.
        tokens_seen: input tokens up to and with each step, padding not counted out.
        validation: (steps done, mean loss per target) pairs, in nats.
        skipped: batches without any target, for which no step was taken.
    """

    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    tokens_seen: list[int] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    skipped: int = 0

    @property
    def steps(self) -> int:
        """How many optimizer steps were taken."""
        return len(self.losses)

    def record(self, loss: float, learning_rate: float, tokens: int) -> None:
        """Add one step; `tokens` are those of its batch."""
        self.losses.append(loss)
        self.learning_rates.append(learning_rate)
        self.tokens_seen.append(tokens + (self.tokens_seen[-1] if self.tokens_seen else 0))

    def smoothed(self, window: int = 25) -> list[float]:
        """Return for each step the mean loss of up to `window` steps that end there."""
        means = []
        for step in range(1, len(self.losses) + 1):
            recent = self.losses[max(0, step - window) : step]
            means.append(sum(recent) / len(recent))
        return means

    def __iter__(self) -> Iterator[list]:
        measured = [(step, loss) for step, loss in self.validation if step > 0]
        smoothed = self.smoothed()
        yield [smoothed[step - 1] for step, _ in measured]
        yield [loss for _, loss in measured]
        yield [self.tokens_seen[step - 1] for step, _ in measured]


def history_from_dict(values: Mapping[str, Any]) -> History:
    """Return the history that `dataclasses.asdict` made a dictionary of, which may have been JSON meanwhile."""
    return History(**{**values, "validation": [(step, loss) for step, loss in values["validation"]]})
