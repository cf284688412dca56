"""Self-Instruct: from a few tasks written by people, a model makes thousands, with their examples.

One round, as the paper has it:

    1. instructions    8 tasks from the pool, 6 by people and 2 by the model, and the model goes on with 9 to 15
    2. filters         what is no task for a text model goes out; then what is like a task in the pool, ROUGE-L > 0.7
    3. classification  is the task one with a fixed set of answers?
    4. instances       if so, output-first, a label and then an input for it; if not, input-first
    5. cleaning        what is no example goes out

New tasks join the pool, so that the next prompts show them. The paper makes all instructions before the first instance;
here each round is finished before the next, so that a run that ends early, by its bound, ends with whole tasks.

All that a model said, and what became of it, is written to a journal, from which the run's state is rebuilt: a run that
was killed goes on where it was. It must end, and does: when there are enough tasks, when the server's bound is reached
(`gptlab.servers.Bounded`), when the server fails, or when many calls in a row brought no new task.

The authors asked GPT-3 until they had 50,000, which gave about 52,000 instructions with 82,000 instances, and tuned on
them for 2 epochs, with a weight of 0 for the prompt's loss. What a model makes so is not clean: of 200 tasks that they
looked at, 46 % had a problem somewhere.

Left out: five prompts at a time to one state of the pool (the original's request batch); the mean similarity beside the
10 nearest; the 7 layouts with an input and 6 without in which the examples were written for tuning (`gptlab.data` has
templates for that); Alpaca's variant, which shows 3 seeds with their examples and asks for 20 whole triples at once, at
temperature 1, without a question about classification.

Source: Wang et al. 2022, "Self-Instruct: Aligning Language Models with Self-Generated Instructions", section 2; its
code, bootstrap_instructions.py:148-205, identify_clf_or_not.py, generate_instances.py, prepare_for_finetuning.py.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gptlab.building.journal import Journal
from gptlab.building.seed_tasks import check_seed_task, load_seed_tasks
from gptlab.building.task_filters import InstructionFilter
from gptlab.building.task_parsing import clean_instances, parse_instances, parse_instructions, parse_yes
from gptlab.building.task_pool import TaskPool
from gptlab.building.task_prompts import (
    DECODING,
    MOST_NEW,
    SHOWN,
    Step,
    classification_prompt,
    instances_prompt,
    instructions_prompt,
)
from gptlab.building.task_report import SelfInstructReport
from gptlab.building.thoughts import without_thoughts
from gptlab.judging.asking import PATIENCE, Answer, ask_all
from gptlab.selection.novelty import THRESHOLD
from gptlab.servers import BudgetSpent, ServerError
from gptlab.servers.protocol import Messages, Server, with_options
from gptlab.tokenizer import check_utf8

IDLE_CALLS = 30  # in a row without a new task; ours, for the original asks a model that knows nothing new for ever


@dataclass(frozen=True)
class _Question:
    """One call: at which step, what is asked, and what the record says it is about."""

    step: Step
    prompt: str
    about: dict[str, Any]


class SelfInstruct:
    """A run of Self-Instruct, with one server, one set of seeds, and one journal.

    Args:
        server: a server of `gptlab.servers`, or any function from messages to text; inside `Bounded`, it costs no more
            than that allows.
        seeds: tasks as `load_seed_tasks` returns them, at least 8; None takes those of this package.
        seed: of all that is drawn at random.
        journal: a file for what was asked and what became of it; None keeps it in memory. A run goes on from a file
            only with the same settings and a server of the same name.
        threshold: a new instruction goes out if its ROUGE-L with one of the pool is above this.
        rules: by which an instruction goes out at sight.
        decoding: step -> options that replace some of `DECODING`, such as {"classification": {"max_tokens": 500}} for
            a model that thinks before it answers.
        whole_replies: throw away a list of tasks that was cut by length, as the original does. By default only its
            last item goes: the others are whole, and with a server that knows no stops every list would be cut.
        patience: after so many answers in a row that finished no task, the run ends; so it does after PATIENCE
            failures in a row. A run that ended so goes on from its journal with a larger patience.
        workers: how many questions about the tasks of one round are asked at the same time.

    Raises:
        ValueError: there are too few seeds, one is none, an argument is out of range, or the journal is another run's.
        OSError: the journal cannot be read or written.
        ImportError: rapidfuzz is not installed.

    Source: Wang et al. 2022, section 2.

    >>> def model(messages):
    ...     asked = messages[-1]["content"]
    ...     if asked.startswith("Come up with a series"):
    ...         return " Name the colours of a flag.\\n10. Draw a cat.\\n11. Name the colours of that flag."
    ...     return "No" if asked.endswith("classification?") else "Example 1\\nFlag: Italy\\nOutput: green, white, red"
    >>> report = SelfInstruct(model).run(1)
    >>> report.entries[0]["instruction"], report.entries[0]["output"]
    ('Name the colours of a flag.', 'green, white, red')
    >>> report.rejected["instruction"]
    {'too short': 1, 'too similar': 1}
    """

    def __init__(
        self,
        server: Server | Callable[[Messages], str],
        seeds: Sequence[Mapping[str, Any]] | None = None,
        *,
        seed: int = 0,
        journal: str | Path | None = None,
        threshold: float = THRESHOLD,
        rules: InstructionFilter | None = None,
        decoding: Mapping[str, Mapping[str, Any]] | None = None,
        whole_replies: bool = False,
        patience: int = IDLE_CALLS,
        workers: int = 1,
    ) -> None:
        if not callable(server):
            raise TypeError(f"the server must be one, or a function from messages to text, got {server!r:.80}")
        for name, count in (("patience", patience), ("workers", workers)):
            _check_count(name, count)
        if unknown := set(decoding or {}) - set(DECODING):
            raise ValueError(f"decoding has the steps {', '.join(DECODING)}, got {', '.join(sorted(unknown))}")
        self.server, self.seed, self.threshold = server, seed, threshold
        self.seeds = _checked_seeds(load_seed_tasks() if seeds is None else seeds)
        self.rules = InstructionFilter() if rules is None else rules
        self.decoding = {step: {**options, **(decoding or {}).get(step, {})} for step, options in DECODING.items()}
        self.whole_replies, self.patience, self.workers = whole_replies, patience, workers
        self._servers = {step: with_options(server, **options) for step, options in self.decoding.items()}
        TaskPool(self.seeds, threshold)  # a wrong threshold or a missing package is told before a file is made
        self.journal = Journal(journal, "self-instruct", self._settings())

    def run(self, n_tasks: int, *, progress: bool = False) -> SelfInstructReport:
        """Go on until there are `n_tasks` new tasks with at least one example each, or the run must end.

        Args:
            n_tasks: with those of the journal.
            progress: whether to show a bar.

        Raises:
            ValueError: n_tasks is no whole number >= 1, or the journal holds records of something else.
            OSError: the server cannot be asked at all, or the journal cannot be written.
        """
        _check_count("n_tasks", n_tasks)
        pool = TaskPool(self.seeds, self.threshold)
        for number, record in enumerate(self.journal.records, start=1):
            pool.take_up(record, f"{self.journal.path}, record {number}")
        failures, self._fatal = 0, None
        with tqdm(total=n_tasks, initial=min(pool.finished, n_tasks), desc="tasks", disable=not progress) as bar:
            while (ended := self._end(pool, n_tasks, failures)) is None:
                for question, answer in self._ask(self._questions(pool, n_tasks)):
                    record = self._record(question, answer, pool)
                    self.journal.append(record)
                    pool.take_up(record, "the new record")
                    failures = 0 if answer.error is None else failures + 1
                bar.update(pool.finished - bar.n)
        return SelfInstructReport(pool, ended, getattr(self.server, "name", "function"), self.seed, _spent(self.server))

    def _end(self, pool: TaskPool, n_tasks: int, failures: int) -> str | None:
        """Return why the run ends now, if it does."""
        if pool.finished >= n_tasks:
            return f"reached {n_tasks}"
        if isinstance(self._fatal, BudgetSpent):
            return f"budget: {self._fatal}"
        if self._fatal is not None:
            if pool.calls == pool.failed_calls:  # the server never said anything: that is no run
                raise self._fatal
            return f"server: {self._fatal}"
        if failures >= PATIENCE:
            return f"server: {failures} calls in a row failed, the last by: {self.journal.records[-1]['error']}"
        if pool.idle >= self.patience:
            return f"no progress: {pool.idle} calls without a new task"
        return None

    def _questions(self, pool: TaskPool, n_tasks: int) -> list[_Question]:
        """Return what is to be asked next, as much as may be asked at once."""
        if not pool.waiting:
            examples = pool.draw(random.Random(f"{self.seed}/{pool.rounds}"))
            prompt = instructions_prompt([pool.instructions[name] for name in examples])
            return [_Question("instructions", prompt, {"round": pool.rounds, "examples": examples})]
        return [self._question_about(pool, name) for name in pool.waiting[: min(self.workers, n_tasks - pool.finished)]]

    def _question_about(self, pool: TaskPool, name: str) -> _Question:
        task = pool.tasks[name]
        if task.is_classification is None:
            return _Question("classification", classification_prompt(task.instruction), {"task": name})
        step: Step = "labelled instances" if task.is_classification else "instances"
        return _Question(step, instances_prompt(task.instruction, task.is_classification), {"task": name})

    def _ask(self, questions: Sequence[_Question]) -> Iterator[tuple[_Question, Answer]]:
        """Return the questions with their answers, in order, but for those that a fatal error kept from being asked."""

        def ask(question: _Question) -> str:
            try:
                return _told(self._servers[question.step]([{"role": "user", "content": question.prompt}]))
            except Exception as error:
                if getattr(error, "fatal", False):
                    self._fatal = error
                raise

        answers = ask_all(ask, questions, workers=self.workers, need_one=False)
        for question, answer in zip(questions, answers):
            if answer.error is None or self._fatal is None:
                yield question, answer

    def _record(self, question: _Question, answer: Answer, pool: TaskPool) -> dict[str, Any]:
        """Return what the journal says about a question: the reply, and what became of it."""
        record = {"step": question.step, **question.about}
        if answer.error is not None:
            return record | {"error": answer.error}
        record |= {"reply": str(answer.text), "reason": "length" if answer.cut_short else "stop"}
        if question.step == "instructions":
            return record | {"found": self._sorted_out(answer, pool)}
        if question.step == "classification":
            return record | {"is_classification": parse_yes(answer.text)}
        labelled = question.step == "labelled instances"
        kept, rejected = clean_instances(parse_instances(answer.text, labelled, cut=answer.cut_short))
        return record | {"instances": [instance._asdict() for instance in kept], "rejected": rejected}

    def _sorted_out(self, answer: Answer, pool: TaskPool) -> list[dict[str, Any]]:
        """Return the new instructions of a reply, each with its name and its nearest, or with why it went out."""
        texts = parse_instructions(answer.text, first=SHOWN + 1)
        found: list[dict[str, Any]] = []
        newer: list[tuple[str, str]] = []  # of this reply: name, instruction
        for number, text in enumerate(texts):
            item: dict[str, Any] = {"instruction": text}
            if answer.cut_short and (self.whole_replies or number == len(texts) - 1):
                why_not = ("cut by length", "")
            elif number >= MOST_NEW:
                why_not = ("after the 15th", "")
            else:
                why_not = self.rules.why_not(text)
            if why_not is None:
                nearest = pool.nearest(text, newer)
                if nearest and nearest[0]["rouge_l"] > self.threshold:
                    why_not = ("too similar", nearest[0]["id"])
                item["nearest"] = nearest if why_not is None else nearest[:1]
            if why_not is None:
                newer.append((pool.name_of(len(pool.tasks) + len(newer)), text))
                item["id"] = newer[-1][0]
            else:
                item |= {"rejected": why_not[0], "because": why_not[1]}
            found.append(item)
        return found

    def _settings(self) -> dict[str, Any]:
        """Return all that decides what a run does."""
        seeds = json.dumps(self.seeds, ensure_ascii=False, sort_keys=True)
        return {
            "server": getattr(self.server, "name", "function"),
            "seeds": hashlib.sha256(seeds.encode()).hexdigest()[:16],
            "seed": self.seed,
            "threshold": self.threshold,
            "rules": asdict(self.rules),
            "decoding": self.decoding,
            "whole_replies": self.whole_replies,
        }


def _told(reply: Any) -> Any:
    """Return a reply that says something.

    Raises:
        ServerError: it cannot be written down, or the model only thought.
    """
    if not isinstance(reply, str):
        return reply  # `ask_all` says that it is no text
    try:
        check_utf8(reply)
    except ValueError as error:
        raise ServerError(f"the reply cannot be written down: {error}") from None
    if reply.strip() and not without_thoughts(reply):
        raise ServerError("the model thought and did not answer; decoding={step: {'max_tokens': ...}} gives it room")
    return reply


def _spent(server: Any) -> float | None:
    """Return what a `Bounded` server has spent, also where it stands behind a cache; None if there is none."""
    while server is not None and not hasattr(server, "spent"):
        server = getattr(server, "server", None)
    return getattr(server, "spent", None)


def _check_count(name: str, count: int) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {count!r}")


def _checked_seeds(seeds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the seeds as dictionaries.

    Raises:
        ValueError: one is no seed task, two have one id, or there are too few for a prompt.
    """
    tasks = [dict(task) if isinstance(task, Mapping) else task for task in seeds]
    for number, task in enumerate(tasks, start=1):
        check_seed_task(task, f"seed task {number}")
    names = [task["id"] for task in tasks]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two seed tasks have the id {twice!r}")
    if len(tasks) < SHOWN:
        raise ValueError(f"a prompt shows {SHOWN} tasks, so there must be as many seed tasks, got {len(tasks)}")
    return tasks
