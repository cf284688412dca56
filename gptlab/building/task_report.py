"""What a run of Self-Instruct made, as entries that know where they come from, and what it threw away and why."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from gptlab.building.task_parsing import strip_field

if TYPE_CHECKING:
    from gptlab.building.task_pool import MachineTask, TaskPool

STRIPPED = 0.5  # of the inputs lose the name of their field: prepare_for_finetuning.py:275


class SelfInstructReport:
    """The tasks that are whole, and the counts.

    Attributes:
        tasks: those with instances, in the order in which they were made.
        entries: one for each instance; see `entries`.
        rejected: "instruction", "instance", "task" -> reason -> how many, the most frequent first.
        calls: how many questions the whole run asked, with those before it was gone on with.
        failed_calls: at how many of them the server failed.
        spent: what they cost, as a `Bounded` server estimates it, since that was made; None without one.
        ended: why: "reached 60", "budget: ...", "no progress: ...", "server: ...".
        server: who was asked.
    """

    def __init__(self, pool: TaskPool, ended: str, server: str, seed: int, spent: float | None) -> None:
        self.tasks: tuple[MachineTask, ...] = tuple(task for task in pool.tasks.values() if task.instances)
        self.rejected = {kind: dict(counts.most_common()) for kind, counts in pool.rejected.items()}
        self.rounds, self.calls, self.failed_calls = pool.rounds, pool.calls, pool.failed_calls
        self.spent, self.ended, self.server = spent, ended, server
        self._seed = seed

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The examples as Alpaca entries, each with its lineage.

        Beside instruction, input and output an entry has `id`, `task`, `parents` (the 8 tasks that its prompt showed),
        `nearest` and `is_classification`. Half of the inputs, by the seed, are without the name of their only field.
        """
        return [
            {"instruction": task.instruction, **self._instance(f"{task.id}/{number}", instance)}
            | {"id": f"{task.id}/{number}", "task": task.id, "parents": list(task.parents)}
            | {"nearest": list(task.nearest), "is_classification": task.is_classification}
            for task in self.tasks
            for number, instance in enumerate(task.instances)
        ]

    def _instance(self, name: str, instance: dict[str, str]) -> dict[str, str]:
        stripped = random.Random(f"{self._seed}/{name}").random() < STRIPPED
        given = strip_field(instance["input"]) if stripped else instance["input"]
        return {"input": given, "output": instance["output"]}

    def summary(self) -> dict[str, Any]:
        """Return the numbers alone, as JSON can hold them."""
        names = ("server", "ended", "rounds", "calls", "failed_calls", "spent", "rejected")
        classification = sum(bool(task.is_classification) for task in self.tasks)
        instances = sum(len(task.instances) for task in self.tasks)
        counts = {"n_tasks": len(self.tasks), "n_classification": classification, "n_entries": instances}
        return {**counts, **{name: getattr(self, name) for name in names}}

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers and the entries, as JSON can hold them."""
        return {"summary": self.summary(), "entries": self.entries}

    def __str__(self) -> str:
        numbers = self.summary()
        rows = [
            ("server", self.server, ""),
            ("ended", self.ended, ""),
            ("calls", f"{self.calls:,}", f"{self.failed_calls:,} failed" if self.failed_calls else ""),
            *([("spent", f"{self.spent:.4g}", "")] if self.spent else []),
            ("tasks", f"{numbers['n_tasks']:,}", f"{numbers['n_classification']:,} of them classification"),
            ("entries", f"{numbers['n_entries']:,}", ""),
        ]
        rows += [
            (f"{kind} out", f"{count:,}", reason)
            for kind, reasons in self.rejected.items()
            for reason, count in reasons.items()
        ]
        return "\n".join(f"{name:<15}  {value:>6}  {note}".rstrip() for name, value, note in rows)
