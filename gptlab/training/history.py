"""What happened during training, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class History:
    """One value per optimizer step, and validation losses where they were measured.

    Attributes:
        losses: mean loss per target of each step's batch, in nats.
        learning_rates: the rate that each step used.
        tokens_seen: input tokens up to and with each step, padding not counted out.
        validation: (steps done, mean loss per target) pairs, in nats.
    """

    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    tokens_seen: list[int] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)

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
