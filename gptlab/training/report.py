"""What one sees while training runs: a progress bar, and a file with a line for every step."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from tqdm import tqdm

from gptlab.devices import peak_memory
from gptlab.training.processes import process_number
from gptlab.training.state import TrainingState


class Step(NamedTuple):
    """One optimizer step.

    Attributes:
        loss: mean loss per target, in nats.
        learning_rate: the rate that it used.
        tokens: input tokens, padding not counted out.
        targets: how many tokens were to be predicted.
        gradient_norm: the length of the gradient, before it was shortened.
        seconds: how long it took.
    """

    loss: float
    learning_rate: float
    tokens: int
    targets: int
    gradient_norm: float
    seconds: float


class Report:
    """Shows steps in a bar and writes them to a file; of several processes, only number 0 does.

    Args:
        state: of the training; steps that it has done already are kept in the file, and those beyond them, which a run
            that was cut off left behind, are removed.
        batches: how many there will be.
        metrics: the file, None for none. Each line is a `Step`, with its number and the most memory used so far, in
            bytes.
        title: what the bar says.
        progress: whether to show the bar.
    """

    def __init__(
        self, state: TrainingState, batches: int, metrics: str | Path | None, title: str, progress: bool
    ) -> None:
        first = process_number() == 0
        self.state, self.metrics = state, Path(metrics) if metrics is not None and first else None
        if self.metrics is not None:
            self.metrics.parent.mkdir(parents=True, exist_ok=True)
            kept = [line for line in read_metrics(self.metrics) if line["step"] <= state.history.steps]
            self.metrics.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self.bar = tqdm(total=batches, initial=state.batches_done, desc=title, disable=not (progress and first))

    def __enter__(self) -> Report:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.close()

    def add(self, step: Step | None) -> None:
        """Report a batch; None is one that had nothing to learn."""
        if step is None:
            self.bar.update()
            return
        memory = peak_memory(self.state.device)
        if self.metrics is not None:
            line = {"step": self.state.history.steps, **step._asdict(), "peak_memory": memory}
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        shown = {"loss": f"{step.loss:.3f}", "tokens/s": f"{step.tokens / step.seconds:.0f}"}
        if memory is not None:
            shown["memory"] = f"{memory / 2**30:.1f} GiB"
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics file, without a last one that was cut off; none if there is no file."""
    lines = []
    for line in Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
