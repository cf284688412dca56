"""The state of a run of Self-Instruct: the tasks by people and by the model, and what is still to be asked.

The state is what the journal's records say, taken up one after the other, and nothing else. So a run that goes on from
a file is in the same state as the one that wrote it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gptlab.building.task_prompts import MACHINE_SHOWN, SHOWN
from gptlab.selection.novelty import NoveltyFilter

NEAREST = 10  # bootstrap_instructions.py:199-205 keeps so many with each new instruction
TRIES = 3  # a server may fail so often at one question about a task


@dataclass(frozen=True)
class MachineTask:
    """A task that the model made, as far as it has come.

    Attributes:
        id: its name in the journal.
        instruction: on one line.
        parents: the ids of the tasks that its prompt showed.
        nearest: the most similar tasks of the pool when it came: {"id", "rouge_l"}, best first.
        is_classification: None until that was asked.
        instances: {"input", "output"}; none until these were asked for.
    """

    id: str
    instruction: str
    parents: tuple[str, ...]
    nearest: tuple[dict[str, Any], ...]
    is_classification: bool | None = None
    instances: tuple[dict[str, str], ...] = ()


class TaskPool:
    """All tasks, and the counts of what happened.

    Args:
        seeds: the tasks by people.
        threshold: of ROUGE-L.

    Attributes:
        instructions: id -> instruction, of the seeds and then of all new tasks.
        tasks: id -> new task; also one that got no instances stays in the pool, as in the original.
        waiting: the ids of tasks that still have to be asked about, in order.
        rounds: how often new tasks were asked for.
        calls: how many questions were asked.
        failed_calls: at how many of them the server failed.
        finished: how many new tasks have instances.
        idle: how many questions were answered since the last one that finished a task. Failures do not count, or a
            server that was away for a while would end the run for good.
        rejected: step -> reason -> how many. An "instruction" and an "instance" went out by a filter, a "task" because
            nothing was left of its instances or the server failed.
    """

    def __init__(self, seeds: Sequence[Mapping[str, Any]], threshold: float) -> None:
        self.instructions: dict[str, str] = {task["id"]: task["instruction"] for task in seeds}
        self.tasks: dict[str, MachineTask] = {}
        self.waiting: list[str] = []
        self.rounds = self.calls = self.failed_calls = self.finished = self.idle = 0
        self.rejected: dict[str, Counter[str]] = {kind: Counter() for kind in ("instruction", "instance", "task")}
        self._human = list(self.instructions)
        self._failures: Counter[str] = Counter()
        self._novelty = NoveltyFilter(threshold, self.instructions.values())

    def draw(self, chance: random.Random) -> list[str]:
        """Return the ids of the tasks for a prompt: 2 of the model's, if there are so many, the others by people.

        Source: bootstrap_instructions.py:161-171.
        """
        machine = chance.sample(list(self.tasks), min(MACHINE_SHOWN, len(self.tasks)))
        examples = machine + chance.sample(self._human, SHOWN - len(machine))
        chance.shuffle(examples)
        return examples

    def nearest(self, instruction: str, newer: Sequence[tuple[str, str]] = ()) -> list[dict[str, Any]]:
        """Return the most similar tasks of the pool, and of `newer` ones (id, instruction): {"id", "rouge_l"}."""
        names = list(self.instructions)
        found = [(score, names[place]) for score, place in self._novelty.nearest(instruction, NEAREST)]
        if newer:
            fresh = NoveltyFilter(self._novelty.threshold, [text for _, text in newer])
            found += [(score, newer[place][0]) for score, place in fresh.nearest(instruction, NEAREST)]
        best = sorted(found, key=lambda pair: -pair[0])[:NEAREST]
        return [{"id": name, "rouge_l": score} for score, name in best]

    def name_of(self, number: int) -> str:
        """Return the id of the new task with this number."""
        name = f"machine_task_{number}"
        return name if name not in self._human else f"new_{name}"

    def take_up(self, record: Mapping[str, Any], where: str) -> None:
        """Do what a record of the journal says.

        Raises:
            ValueError: it is no record of this kind of run, or does not follow from those before.
        """
        try:
            self.calls += 1
            self.idle += "error" not in record
            if "error" in record:
                self._take_failure(record)
            elif record["step"] == "instructions":
                self._take_instructions(record)
            elif record["step"] == "classification":
                name = record["task"]
                self.tasks[name] = replace(self.tasks[name], is_classification=bool(record["is_classification"]))
            else:
                self._take_instances(record)
        except (KeyError, TypeError, ValueError) as error:
            told = f"{type(error).__name__}: {error}"
            raise ValueError(f"{where}, does not follow from those before it ({told}): {record!r:.80}") from None

    def _take_failure(self, record: Mapping[str, Any]) -> None:
        """Put the task at the end of the queue, or give it up."""
        self.failed_calls += 1
        if record["step"] == "instructions":
            self.rounds += 1
            return
        name = record["task"]
        self.waiting.remove(name)
        self._failures[name] += 1
        if self._failures[name] < TRIES:
            self.waiting.append(name)
        else:
            self.rejected["task"]["server failed"] += 1

    def _take_instructions(self, record: Mapping[str, Any]) -> None:
        self.rounds += 1
        if not record["found"]:
            self.rejected["instruction"]["no task in the reply"] += 1
        for item in record["found"]:
            if "rejected" in item:
                self.rejected["instruction"][item["rejected"]] += 1
                continue
            name, text = item["id"], item["instruction"]
            self.tasks[name] = MachineTask(name, text, tuple(record["examples"]), tuple(item["nearest"]))
            self.instructions[name] = text
            self._novelty.add(text)
            self.waiting.append(name)

    def _take_instances(self, record: Mapping[str, Any]) -> None:
        name = record["task"]
        self.waiting.remove(name)
        self.tasks[name] = replace(self.tasks[name], instances=tuple(record["instances"]))
        self.rejected["instance"].update(record["rejected"])
        if record["instances"]:
            self.finished += 1
            self.idle = 0
        else:
            self.rejected["task"]["no instance left" if record["rejected"] else "no instance in the reply"] += 1
