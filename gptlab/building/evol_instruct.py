"""Evol-Instruct: a model makes instructions harder, round after round, answers them, and what failed is thrown away.

In each round every instruction of the pool is evolved once:

    evolve      draw one of the operations, all equally likely, and ask a model to rewrite the instruction
    answer      ask the model for a response to what it wrote
    eliminate   judge both; see `gptlab.building.elimination`

What is kept takes its parent's place in the pool. What is thrown away leaves its parent there, to be evolved again in
the next round, perhaps by another operation. The data set is the union of all generations:

    D = D(0) + D(1) + ... + D(M)

so an instruction stays in it beside the harder ones that were made from it. At most it is M + 1 times as large as what
was given: four rounds made 250,000 entries of Alpaca's 52,000.

What is found wrong without asking is looked for first, and then neither a response nor a judgement is asked for. That
saves calls, and keeps the same entries.

Source: Xu et al. 2023, "WizardLM: Empowering Large Language Models to Follow Complex Instructions", section 3. The
release holds one round, and no elimination; these follow the paper.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gptlab.building.elimination import VERDICTS, judge_instruction, judge_response, same_text, says_equal
from gptlab.building.evol_prompts import (
    FORMATS,
    OPERATIONS,
    clean_reply,
    equality_prompt,
    evol_prompt,
    join_input,
)
from gptlab.building.journal import Journal
from gptlab.building.thoughts import without_thoughts
from gptlab.data.instruction import check_entry
from gptlab.judging.asking import PATIENCE
from gptlab.servers import BudgetSpent, ServerError, with_options
from gptlab.tokenizer import check_utf8

ROUNDS = 4  # WizardLM, section 4: M
TEMPERATURE, TOP_P, MAX_TOKENS = 1.0, 0.95, 2048  # WizardLM's release, Evol_Instruct/openai_access.py:17-19
PAPER_TOP_P = 0.9  # what the paper says of top_p
KIND = "evol-instruct"

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class EvolReport:
    """What became of the entries.

    Attributes:
        given: the entries that were evolved, with the keys id, parent, op and round.
        lineage: a record for each entry that was given and for each attempt, in order: id, parent, op, round,
            instruction, input, output, verdict, detail, format (of the data that "complicate" added), and calls.
        calls: how often the models were asked for all this.
        ended: why the run ended before its rounds were over; None if it did not.
    """

    given: tuple[dict[str, Any], ...]
    lineage: tuple[dict[str, Any], ...]
    calls: int
    ended: str | None = None

    @property
    def entries(self) -> list[dict[str, Any]]:
        """All generations: the given entries, then what each round kept."""
        return [*self.given, *(_entry(record) for record in self.lineage if record["verdict"] == "kept")]

    @property
    def latest(self) -> list[dict[str, Any]]:
        """The last generation of each given entry alone: what the pool holds now."""
        pool = {entry["id"]: entry for entry in self.given}
        for entry in self.entries[len(self.given) :]:
            pool[_root(entry["id"])] = entry
        return list(pool.values())

    @property
    def verdicts(self) -> dict[int, dict[str, int]]:
        """How often each verdict was given, by round; round 0 is what was given."""
        counts: dict[int, Counter[str]] = {}
        for record in self.lineage:
            counts.setdefault(record["round"], Counter())[record["verdict"]] += 1
        order = ["given", *VERDICTS]
        return {number: {name: count[name] for name in order if count[name]} for number, count in counts.items()}

    def __str__(self) -> str:
        """Return a line for each round: what was kept, and how much was eliminated for which reason."""
        lines = [
            f"round {number}: " + ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items())
            for number, counts in self.verdicts.items()
        ]
        lines.append(f"{len(self.entries):,} entries from {len(self.given):,}, by {self.calls:,} calls")
        return "\n".join([*lines, *([f"ended early: {self.ended}"] if self.ended else [])])


class EvolInstruct:
    """Evolves entries through a server.

    Args:
        server: a server, or a function from messages to text: it evolves and answers. Bound it with
            `gptlab.servers.Bounded`.
        seed: of the operations, and of each request, as far as the server takes a seed.
        rounds: how often the pool is evolved.
        operations: which of OPERATIONS there are; one that stands there twice is twice as likely.
        judge: who says whether two instructions are equal; None is the server. It is asked at temperature 0, or where
            temperature is None, at its own.
        journal: a file to which each record is written as soon as it is there; a run that was stopped goes on from it,
            also with more rounds. None keeps nothing.
        temperature: of evolving and answering. None, here and below, leaves it to the server.
        top_p: 0.95 in the release; the paper has PAPER_TOP_P.
        max_tokens: of a reply. One that is cut short is thrown away.
        patience: after so many attempts in a row that failed by errors that may pass, such as time-outs, the run ends;
            before the server's first answer, by errors of any kind.

    Raises:
        ValueError: rounds or patience is no whole number >= 1, there are no operations, or one is unknown.
        TypeError: a server cannot be called.
    """

    def __init__(
        self,
        server: Any,
        *,
        seed: int = 0,
        rounds: int = ROUNDS,
        operations: Sequence[str] = OPERATIONS,
        judge: Any = None,
        journal: str | Path | None = None,
        temperature: float | None = TEMPERATURE,
        top_p: float | None = TOP_P,
        max_tokens: int | None = MAX_TOKENS,
        patience: int = PATIENCE,
    ) -> None:
        for name, count in (("rounds", rounds), ("patience", patience)):
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ValueError(f"{name} must be a whole number >= 1, got {count!r}")
        unknown = [operation for operation in operations if operation not in OPERATIONS]
        if not operations or unknown or isinstance(operations, str):
            raise ValueError(f"operations must be some of {', '.join(OPERATIONS)}, got {unknown or operations!r}")
        self.server, self.judge = server, server if judge is None else judge
        self.seed, self.rounds, self.operations = seed, rounds, tuple(operations)
        self.journal, self.patience = journal, patience
        self.options = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
        self.judging = {"temperature": None if temperature is None else 0.0, "max_tokens": max_tokens}
        for one in (self.server, self.judge):
            with_options(one, **self.options)  # a wrong option is an error now, not after the journal was begun
        self._settings = {"server": _name(self.server), "judge": _name(self.judge), "seed": seed}
        self._settings |= {"operations": list(operations), **self.options}

    def run(self, entries: Sequence[Entry], *, progress: bool = False) -> EvolReport:
        """Evolve entries, and return what became of them.

        An entry without an instruction, or with the instruction and input of one before it, is left out; its record
        says so. An error for which further questions are pointless, such as a spent budget, ends the run with what it
        has; an attempt that it interrupts leaves no record, and is made again when the run goes on. One that failed by
        another error has lost its round.

        Args:
            entries: Alpaca entries. What was their id is kept as "source_id".
            progress: whether to show a bar.

        Raises:
            ValueError: an entry is none, none is left, or the journal belongs to another run.
            ServerError: the server answered nothing at all, for a reason that is not the budget.
            OSError: the journal cannot be read or written.
        """
        given, roots = _roots(entries)
        if not given:
            raise ValueError(f"there is no entry to evolve: {len(entries)} given, none with an instruction")
        digest = hashlib.sha256(json.dumps([_key(entry) for entry in roots]).encode()).hexdigest()
        journal = Journal(self.journal, KIND, self._settings | {"entries": digest})
        for record in roots[len(journal.records) :]:
            journal.append(record)
        attempts = _Attempts(self, given, journal.records)
        ended = None
        steps = [(number, entry["id"]) for number in range(1, self.rounds + 1) for entry in given]
        done = min(len(journal.records) - len(roots), len(steps))
        with tqdm(total=len(steps), initial=done, desc="evolving", disable=not progress) as bar:
            for number, root in steps[done:]:
                try:
                    journal.append(attempts.make(root, number))
                except ServerError as error:
                    if not (attempts.answered or done or isinstance(error, BudgetSpent)):
                        raise
                    ended = str(error)
                    break
                bar.update()
                if attempts.failures >= self.patience:
                    ended = (
                        f"{attempts.failures} attempts in a row failed, the last by: {journal.records[-1]['detail']}"
                    )
                    break
        lineage = journal.records[: len(roots) + len(steps)]
        calls = sum(record["calls"] for record in lineage) + attempts.unrecorded_calls
        return EvolReport(tuple(given), tuple(lineage), calls, ended)


class _Attempts:
    """The pool, and how one instruction of it is evolved."""

    def __init__(self, run: EvolInstruct, given: Sequence[Entry], records: Sequence[dict[str, Any]]) -> None:
        self.run = run
        self.answered, self.failures, self.unrecorded_calls = False, 0, 0
        self._pool = {entry["id"]: dict(entry) for entry in given}  # root -> what is evolved next
        self._known = {same_text(join_input(entry)) for entry in given}
        for record in records:
            self._take(record)

    def make(self, root: str, number: int) -> dict[str, Any]:
        """Return the record of one attempt.

        Raises:
            ServerError: asking for something else is pointless.
        """
        parent, name = self._pool[root], f"{root}.{number}"
        chance = random.Random(f"{self.run.seed}/{name}")
        operation, format, seed = chance.choice(self.run.operations), chance.choice(FORMATS), chance.randrange(2**31)
        record = {"id": name, "parent": parent["id"], "op": operation, "round": number}
        record |= {"instruction": "", "input": "", "output": "", "verdict": "failed", "detail": ""}
        record |= {"format": format if operation == "complicate" else None, "calls": 0}
        self.unrecorded_calls = 0
        try:
            verdict, detail = self._judged(record, join_input(parent), seed)
            self.failures = 0
        except ServerError as error:
            if error.fatal:
                raise
            verdict, detail = "failed", str(error)
            self.failures += error.passing or not self.answered
        record |= {"verdict": verdict, "detail": detail, "calls": self.unrecorded_calls}
        self.unrecorded_calls = 0
        self._take(record)
        return record

    def _judged(self, record: dict[str, Any], parent: str, seed: int) -> tuple[str, str]:
        """Fill in instruction and output, and return verdict and detail."""
        creative = with_options(self.run.server, **self.run.options, seed=seed)
        reply = self._ask(creative, evol_prompt(parent, record["op"], format=record["format"] or FORMATS[0]))
        record["instruction"] = clean_reply(reply)
        if wrong := judge_instruction(record["instruction"], parent, cut_short=_cut_short(reply)):
            return wrong
        if same_text(record["instruction"]) in self._known:
            return "duplicate", ""
        response = self._ask(creative, record["instruction"])
        record["output"] = without_thoughts(response)
        if wrong := judge_response(record["output"], cut_short=_cut_short(response)):
            return wrong
        sober = with_options(self.run.judge, **self.run.judging)
        judgement = self._ask(sober, equality_prompt(parent, record["instruction"]))
        equal = says_equal(without_thoughts(judgement))
        return ("unjudged", judgement[:200]) if equal is None else ("equal", "") if equal else ("kept", "")

    def _ask(self, server: Any, question: str) -> str:
        """Return the reply to one question; a call that fails counts, and one that a bound forbids does not."""
        try:
            reply = server([{"role": "user", "content": question}])
        except BudgetSpent:
            raise
        except ServerError:
            self.unrecorded_calls += 1
            raise
        self.unrecorded_calls += 1
        if not isinstance(reply, str):
            raise TypeError(f"a server must reply with text, got {reply!r:.80}")
        self.answered = True
        try:
            check_utf8(reply)
        except ValueError as error:
            raise ServerError(f"the reply cannot be written down: {error}") from None
        return reply

    def _take(self, record: dict[str, Any]) -> None:
        """Let what was kept take its parent's place."""
        self.answered |= record["parent"] is not None and record["verdict"] != "failed"
        if record["verdict"] == "kept":
            self._pool[_root(record["id"])] = record
            self._known.add(same_text(record["instruction"]))


def _roots(entries: Sequence[Entry]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the entries that will be evolved, and the records of all.

    Raises:
        ValueError: one of them is no entry.
    """
    given, records, known = [], [], set()
    for number, entry in enumerate(entries):
        check_entry(entry, f"entry {number + 1}")
        text = same_text(join_input(entry))
        verdict = "empty" if not entry["instruction"].strip() else "duplicate" if text in known else "given"
        known.add(text)
        born = {"id": str(number), "parent": None, "op": None, "round": 0}
        told = {"instruction": entry["instruction"], "input": entry.get("input") or "", "output": entry["output"]}
        records.append(born | told | {"verdict": verdict, "detail": "", "format": None, "calls": 0})
        if verdict == "given":
            source = {"source_id": entry["id"]} if "id" in entry else {}
            given.append({**entry, **told, **source, **born})
    return given, records


def _entry(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record tells as an entry."""
    return {key: record[key] for key in ("instruction", "input", "output", "id", "parent", "op", "round")}


def _key(record: Mapping[str, Any]) -> list[str]:
    return [record["instruction"], record["input"], record["output"]]


def _cut_short(reply: str) -> bool:
    """Return whether the server says that a reply was not written to its end."""
    return getattr(reply, "reason", "stop") == "length"


def _name(server: Any) -> str:
    """Return what a journal calls a server.

    Raises:
        TypeError: it cannot be called.
    """
    if not callable(server):
        raise TypeError(f"a server must be a server or a function from messages to text, got {server!r:.80}")
    return str(getattr(server, "name", None) or getattr(server, "__qualname__", None) or type(server).__qualname__)


def _root(name: str) -> str:
    """Return of which given entry an attempt is a descendant."""
    return name.partition(".")[0]
