"""Seed tasks: the few tasks, written by people, that Self-Instruct starts from.

The form is the original's, JSON Lines, so that its 175 tasks can be used as they are:

    {"id": ..., "name": ..., "instruction": ..., "instances": [{"input": ..., "output": ...}], "is_classification": ...}

Those that come with this package were written for it: 36, a third of them Chinese, a sixth of them classification (of
the original's 175 it is 26; the paper says 25). A model's tasks are made in the image of the seeds, so they vary in
length, subject and form. A model that is tuned on what was made from them must not be tested on them.

Source: Wang et al. 2022, "Self-Instruct", section 2.2; its data/seed_tasks.jsonl for the form.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from gptlab.data.instruction import check_entry
from gptlab.files import read_text
from gptlab.tokenizer import check_utf8

SHIPPED = resources.files("gptlab") / "assets" / "building" / "seed_tasks.jsonl"


def load_seed_tasks(path: str | Path | None = None) -> list[dict[str, Any]]:
    """Read seed tasks, one JSON object to a line; None reads those that come with this package.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8, a line is no seed task (the message has its number), or there is none.

    >>> tasks = load_seed_tasks()
    >>> len(tasks), sum(task["is_classification"] for task in tasks)
    (36, 6)
    """
    text = SHIPPED.read_text(encoding="utf-8") if path is None else read_text(path)
    tasks, lines = [], {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            task = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{where}, is not JSON: {error}") from None
        check_seed_task(task, where)
        if task["id"] in lines:
            raise ValueError(f"{where}: the id {task['id']!r} is that of line {lines[task['id']]}, too")
        tasks.append(task)
        lines[task["id"]] = number
    if not tasks:
        raise ValueError(f"{path} holds no seed tasks")
    return tasks


def check_seed_task(task: Any, where: str) -> None:
    """Make sure that `task` is a seed task; its name is not needed.

    Raises:
        ValueError: with `where`, the key and what was found there.
    """
    if not isinstance(task, dict):
        raise ValueError(f"{where}: a seed task must be an object, got {task!r:.80}")
    for key in ("id", "instruction", "instances", "is_classification"):
        if key not in task:
            raise ValueError(f"{where}: the seed task has no {key!r}; its keys are {list(task)}")
    for key in ("id", "instruction"):
        if not isinstance(task[key], str) or not task[key].strip():
            raise ValueError(f"{where}: {key!r} must be text, and not empty, got {task[key]!r:.80}")
        try:
            check_utf8(task[key])
        except ValueError as error:
            raise ValueError(f"{where}, {key!r}: {error}") from None
    if not isinstance(task["is_classification"], bool):
        raise ValueError(f"{where}: 'is_classification' must be true or false, got {task['is_classification']!r:.80}")
    instances = task["instances"]
    if not isinstance(instances, list) or not instances:
        raise ValueError(f"{where}: 'instances' must be a list of at least one, got {instances!r:.80}")
    for number, instance in enumerate(instances, start=1):
        check_entry(instance, f"{where}, instance {number},", needs=("input", "output"))


def seed_entries(tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the seed tasks as Alpaca entries, one for each instance, as the original adds them to what was made.

    Source: self-instruct, prepare_for_finetuning.py, --include_seed_tasks.
    """
    return [
        {"instruction": task["instruction"], "input": instance["input"] or "", "output": instance["output"]}
        | {"id": f"{task['id']}/{number}", "task": task["id"], "is_classification": task["is_classification"]}
        for task in tasks
        for number, instance in enumerate(task["instances"])
    ]
