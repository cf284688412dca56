"""Who are you, written by another model: ask it for entries, read what comes back, keep what fits.

Asked for a JSON list, models send JSON objects in many ways: without a list around them, in fences, one per line, with
a comma too many, with sentences in between, and cut off in the middle when the reply became too long. So a reply is
searched for objects, each read by itself; what is broken is passed over.

An entry is kept if its output holds the name and the developer and its question is new. A question is the same if it
differs in nothing but case, spaces and punctuation. Variety does not come by itself: each request shows other examples,
drawn from the wordings of this library and from what was kept so far. An example that comes back is not new either.

Left out: negatives, which `identity_entries` has, and a look at whether the output is true otherwise.

Source: the request for twenty entries, with name, developer, abilities and examples, of the course that this library
follows, in words of our own; Karpathy 2025, nanochat, dev/gen_synthetic_data.py (other examples in each request).
"""

from __future__ import annotations

import json
import math
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gptlab.building.identity import Entry, Identity, identity_entries
from gptlab.building.thoughts import without_thoughts
from gptlab.servers import ServerError
from gptlab.tokenizer import check_utf8

Messages = list[dict[str, str]]
Server = Callable[[Messages], str]

PER_REQUEST = 20  # entries asked for at once, as in the course that this follows
EXAMPLES = 5  # shown in a request, as nanochat does with its opening messages
REQUESTS_FOR_EACH = 3  # times as many as would do if every entry could be kept

_PROMPTS = {
    "en": """\
Write {n} entries that teach a language model who it is. Each entry is a JSON object of this form:

{"instruction": "...", "input": "", "output": "..."}

"instruction" is what a user asks about the model itself: its name, who developed it, what it can do, whether it is \
some other model. Word the questions as differently as people do, long and short, polite and curt.
"output" is what the model answers. It says the model's name and its developer, and what it can do where that fits.

The model's name: {name}
The model's developer: {developer}
What the model can do: {abilities}

Write in English, and write nothing but the entries. Do not repeat these examples:

{examples}""",
    "zh": """\
请写{n}条指令数据，用来让一个语言模型认识自己。每条是一个如下形式的JSON对象：

{"instruction": "……", "input": "", "output": "……"}

“instruction”是用户就模型自身提出的问题：它的名字、它的开发者、它能做什么、它是不是别的模型。问法要像不同的人说话那样多样，有长有短，有客气的也有随便的。
“output”是模型的回答，要说出模型的名字和开发者，合适时也说出它的功能。

模型的名字：{name}
模型的开发者：{developer}
模型的功能：{abilities}

请用中文写，除了这些数据不要写别的内容。不要重复下面的例子：

{examples}""",
}
_PLACEHOLDER = re.compile(r"\{(n|name|developer|abilities|examples)\}")

# An object that holds no other: texts in quotes, in which braces mean nothing, and whatever stands between them.
_OBJECT = re.compile(r'\{(?:"(?:[^"\\]|\\.)*"|[^"{}])*\}', re.DOTALL)
_COMMA_TOO_MANY = re.compile(r",\s*\}\Z")


@dataclass(frozen=True)
class WrittenIdentity:
    """What came of asking for entries.

    Attributes:
        entries: those kept, with "kind": "written" and their "language".
        requests: how often the server was asked.
        rejected: reason -> how many entries, or whole replies, were not kept for it.
        ended: why the asking ended.
    """

    entries: list[Entry]
    requests: int
    rejected: dict[str, int]
    ended: str

    def __str__(self) -> str:
        lines = [f"{len(self.entries):,} entries kept, {self.requests:,} requests; {self.ended}"]
        return "\n".join(lines + [f"  {count:>6,}  {reason}" for reason, count in self.rejected.items()])


def identity_prompt(
    identity: Identity, *, n: int = PER_REQUEST, language: str = "en", examples: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Return the request for entries about who a model is.

    Args:
        identity: what the model shall say.
        n: how many entries to ask for.
        language: "en" or "zh", of the request and of the entries.
        examples: entries that are shown.

    Raises:
        ValueError: n is below 1, or the identity is not given in this language.
    """
    if n < 1:
        raise ValueError(f"need at least 1 entry to ask for, got {n}")
    if language not in identity.languages:
        raise ValueError(f"the language must be one of {', '.join(identity.languages)}, got {language!r}")
    shown = [{key: example.get(key) or "" for key in ("instruction", "input", "output")} for example in examples]
    values = identity.slots(language) | {"n": str(n)}
    values["examples"] = "\n".join(json.dumps(example, ensure_ascii=False) for example in shown)
    return _PLACEHOLDER.sub(lambda slot: values[slot[1]], _PROMPTS[language]).rstrip()


def parse_entries(reply: str) -> list[Entry]:
    """Return the entries in a reply, whatever stands around them; broken ones and objects of other kinds are left out.

    An entry has an instruction and an output, both text, perhaps empty. A missing input becomes an empty one.

    >>> parse_entries('Sure! {"instruction": "Who are you?", "output": "I am Wren.",} {"instruction": "What is')
    [{'instruction': 'Who are you?', 'input': '', 'output': 'I am Wren.'}]
    """
    entries, found = [], _OBJECT.search(reply)
    while found is not None:
        try:
            record = json.loads(_COMMA_TOO_MANY.sub("}", found[0]), strict=False)
        except (ValueError, RecursionError):  # a broken one, and what was taken for its inside may hold a whole one
            found = _OBJECT.search(reply, found.start() + 1)
            continue
        entry = {key: record.get(key) or "" for key in ("instruction", "input", "output")}
        if {"instruction", "output"} <= set(record) and _is_text(entry.values()):
            entries.append(entry)
        found = _OBJECT.search(reply, found.end())
    return entries


def _is_text(values: Iterable[Any]) -> bool:
    """Return whether all are texts that can be written to a file: an escape such as \\ud83d may be half a character."""
    try:
        return all(isinstance(value, str) and value == check_utf8(value) for value in values)
    except ValueError:
        return False


def write_identity(
    server: Server,
    identity: Identity,
    n: int,
    *,
    seed: int = 0,
    languages: Sequence[str] | None = None,
    requests: int | None = None,
    avoid: Sequence[Mapping[str, Any]] = (),
) -> WrittenIdentity:
    """Ask a server for entries about who a model is, until there are n that fit, or it was asked often enough.

    Languages take turns. A reply that fails counts as a request; so a server that only talks nonsense, or only fails,
    is asked no more often than one that does well may be.

    Args:
        server: any of `gptlab.servers`, or a function from messages to text; put it into `Cached` to keep its replies.
        identity: what the model shall say.
        n: how many entries.
        seed: of the examples that are shown.
        languages: in which to ask; None is those of the identity.
        requests: the most of them; None is three times as many as would do if each entry could be kept.
        avoid: entries whose questions must not come, such as those held out for the measure.

    Raises:
        ValueError: n or requests is below 1, or a language is not one of the identity's.
        TypeError: the server returns no text.
        ServerError: nothing was ever answered, and this was the first reason.
    """
    least = math.ceil(n / PER_REQUEST)
    requests = REQUESTS_FOR_EACH * least if requests is None else requests
    if n < 1 or requests < 1:
        raise ValueError(f"n and requests must be >= 1, got {n} and {requests}")
    languages = identity.languages if languages is None else languages
    own = identity_entries(identity, languages=languages, negatives=False)
    kept, rejected, failures = _Kept(identity, avoid), Counter(), []
    asked, ended = 0, f"asked {requests} times, as allowed"
    while asked < requests:
        language, rng = languages[asked % len(languages)], random.Random(f"{seed}/{asked}")
        known = [entry for entry in own + kept.entries if entry["language"] == language]
        examples = rng.sample(known, k=min(EXAMPLES, len(known)))
        kept.show(examples)
        prompt = identity_prompt(identity, language=language, examples=examples)
        asked += 1
        try:
            reply = server([{"role": "user", "content": prompt}])
        except ServerError as error:
            failures.append(error)
            rejected["the server failed"] += 1
            if error.fatal:
                ended = f"the server ended it: {error}"
                break
            continue
        if not isinstance(reply, str):
            raise TypeError(f"the server must return text, got {reply!r:.80}")
        entries = parse_entries(without_thoughts(reply))
        rejected["no entry in the reply"] += not entries
        for entry in entries:
            rejected[kept.add(entry, language)] += 1
        if len(kept.entries) >= n:
            ended = "all that were asked for"
            break
    if len(failures) == asked:
        raise failures[0]
    counts = {reason: count for reason, count in rejected.most_common() if reason and count}
    return WrittenIdentity(kept.entries[:n], asked, counts, ended)


class _Kept:
    """The entries kept so far, and the questions that are no longer new."""

    def __init__(self, identity: Identity, avoid: Sequence[Mapping[str, Any]]) -> None:
        self.identity, self.entries = identity, []
        self.seen = {_question(entry["instruction"]): "to be avoided" for entry in avoid}

    def show(self, examples: Sequence[Entry]) -> None:
        """Remember what the server has seen, and may send back."""
        for example in examples:
            self.seen.setdefault(_question(example["instruction"]), "one of the examples")

    def add(self, entry: Entry, language: str) -> str:
        """Keep an entry, or return why not."""
        question = _question(entry["instruction"])
        if not question or not entry["output"].strip():
            return "empty"
        for slot in ("name", "developer"):
            if not self.identity.mentioned(entry["output"], slot):
                return f"the output lacks the {slot}"
        if question in self.seen:
            return self.seen[question]
        self.seen[question] = "a question that was there before"
        self.entries.append(entry | {"kind": "written", "language": language})
        return ""


def _question(text: str) -> str:
    """Return the letters and digits of a question, by which it is told from others."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))
