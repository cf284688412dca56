"""Who are you: entries that teach a model its own name, and the measure of whether it learned just that.

An identity is three slots: name, developer, abilities. Wordings of questions and answers, English and Chinese, lie in
`assets/building/identity.json`, and an entry is one of each with the slots filled in. Its "kind" is one of

    name         Who are you?              each of these four is answered with the name and the developer
    developer    Who made you?
    ability      What can you do?
    not you      Are you ChatGPT?
    negative     Who made Linux?           near to the others in words, and answered without the name

A model that is taught only the first four soon says its name to everybody, whatever was asked. Negatives show it where
the question ends, as do entries of other sorts, among which these should be a few in a hundred.

People do not write as in a list of questions: they greet, forget capitals and punctuation, mistype. After each wording
came once as it stands, the entries have such changes. Some wordings, and some of what fills them, are held out, so that
a measure can ask what was never trained on.

Left out: versions and dates, follow-up questions within a conversation, a name in the system message.

Source: ModelScope's data set "self-cognition" (slots for name and author, in both languages); Karpathy 2025, nanochat,
dev/gen_synthetic_data.py (variety has to be put in by hand).
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

import regex

from gptlab.rouge import CJK

Entry = dict[str, Any]
Slot = Literal["name", "developer", "abilities"]

LANGUAGES = ("en", "zh")
SLOTS = ("name", "developer", "abilities")
NEGATIVE = "negative"
KINDS = ("name", "developer", "ability", "not you", NEGATIVE)
PARTS = {"train": ("train",), "held out": ("held_out",), "all": ("train", "held_out")}

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_TRIES = 20  # draws of a changed wording, after which its turn passes
_ENDS = ".。?？!！,，;；"
_LONG_WORD = re.compile(r"[A-Za-z]{4,}")  # in which a slip of the fingers can still be read
_LETTER = rf"[^\W_{CJK}]"
_PIECE = regex.compile(rf"[{CJK}]|{_LETTER}+|[^\w\s·-]")


@dataclass(frozen=True)
class Identity:
    """What a model shall say of itself. Each slot is one text, or a text for each language: {"en": ..., "zh": ...}.

    Attributes:
        name: of the model.
        developer: who made it.
        abilities: what it helps with, as a noun: "all kinds of language tasks", "各种语言任务".
        languages: in which it is asked.

    Raises:
        TypeError: a slot is neither text nor a mapping of texts.
        ValueError: a slot lacks a language, or its text is empty, no single line, or holds braces; the abilities end
            like a sentence; a language is not known.

    >>> swan = Identity({"en": "Swan-7B", "zh": "雁栖-7B"}, {"en": "the tutors", "zh": "助教"}, "translation", ("zh",))
    >>> swan.slots("zh")
    {'name': '雁栖-7B', 'developer': '助教', 'abilities': 'translation'}
    """

    name: str | Mapping[str, str]
    developer: str | Mapping[str, str]
    abilities: str | Mapping[str, str]
    languages: tuple[str, ...] = LANGUAGES

    def __post_init__(self) -> None:
        object.__setattr__(self, "languages", _check_languages(self.languages, LANGUAGES))
        for slot in SLOTS:
            given = getattr(self, slot)
            if not isinstance(given, str | Mapping):
                raise TypeError(f"the {slot} must be text, or a text for each language, got {given!r:.80}")
            if isinstance(given, Mapping) and not set(self.languages) <= set(given) <= set(LANGUAGES):
                raise ValueError(f"the {slot} must be given in {' and '.join(self.languages)}, got it in {list(given)}")
            for text in [given] if isinstance(given, str) else given.values():
                _check_text(slot, text)

    def slots(self, language: str) -> dict[str, str]:
        """Return what stands for {name}, {developer} and {abilities} in a language."""
        texts = {slot: getattr(self, slot) for slot in SLOTS}
        return {slot: text if isinstance(text, str) else text[language] for slot, text in texts.items()}

    def mentioned(self, text: str, slot: Slot = "name") -> bool:
        """Return whether a text holds a slot's text, in any of the languages.

        Case does not count, nor width ("７Ｂ" is "7B"), nor spaces and hyphens between the parts of a name. A name in
        letters must stand by itself: "Max" is not in "maximal".

        >>> lab = Identity("雁栖-7B", "Max", "tasks")
        >>> [lab.mentioned("我是 雁栖７b。"), *(lab.mentioned(text, "developer") for text in ("maximal", "MAX!"))]
        [True, False, True]
        """
        given, text = getattr(self, slot), _folded(text)
        forms = [given] if isinstance(given, str) else given.values()
        return any(_pattern(form).search(text) for form in forms)


def identity_entries(
    identity: Identity,
    *,
    n: int | None = None,
    seed: int = 0,
    languages: Sequence[str] | None = None,
    negatives: bool = True,
    wordings: Literal["train", "held out", "all"] = "train",
    answers: int | None = None,
) -> list[Entry]:
    """Return entries about who the model is, with the keys "kind" and "language" besides Alpaca's.

    All questions are different. With the same seed, fewer entries are the beginning of more.

    Args:
        identity: what it shall say.
        n: how many; the first have each wording as it stands, the others have it with changes. None is each once.
        seed: of the order, of what fills the wordings, and of the changes.
        languages: in which is asked; None is those of the identity.
        negatives: whether there are questions whose answer does not carry the name, about four in ten.
        wordings: "held out" are those that no training shall see, for the measure; "all" is both.
        answers: how many wordings of an answer there are, at most; None is all. A very small model learns one sooner.

    Raises:
        ValueError: a setting is out of range, or there are not so many different questions.

    >>> wren = Identity("Wren", "Ada", "translation", languages=("en",))
    >>> entry = next(entry for entry in identity_entries(wren) if entry["instruction"] == "Who made you?")
    >>> entry["kind"], wren.mentioned(entry["output"]), wren.mentioned(entry["output"], "developer")
    ('developer', True, True)
    """
    for setting, value in (("n", n), ("answers", answers)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{setting} must be a whole number >= 1, or None, got {value!r}")
    if wordings not in PARTS:
        raise ValueError(f"wordings must be one of {', '.join(map(repr, PARTS))}, got {wordings!r}")
    languages = identity.languages if languages is None else _check_languages(languages, identity.languages)
    drawers = [_Drawer(identity, language, PARTS[wordings], negatives, answers) for language in languages]
    rounds = _rounds(drawers, random.Random(seed))
    entries = next(rounds)
    while n is not None and len(entries) < n:
        more = next(rounds)
        if not more:
            raise ValueError(f"there are only {len(entries)} different questions, {n} were asked for")
        entries += more
    return entries[:n]


def _rounds(drawers: Sequence[_Drawer], rng: random.Random) -> Iterator[list[Entry]]:
    """Yield entries with each wording once: first as it stands, then changed, each time in another order."""
    wordings = [(drawer, *wording) for drawer in drawers for wording in drawer.wordings]
    seen: set[str] = set()
    changing = False
    while True:
        entries = []
        for drawer, topic, question in rng.sample(wordings, k=len(wordings)):
            for _ in range(_TRIES):
                entry = drawer.draw(topic, question, rng, changing)
                if entry is not None and entry["instruction"] not in seen:
                    seen.add(entry["instruction"])
                    entries.append(entry)
                    break
        yield entries
        changing = True


class _Drawer:
    """The wordings of one language, and what fills them."""

    def __init__(
        self, identity: Identity, language: str, parts: Sequence[str], negatives: bool, answers: int | None
    ) -> None:
        self.identity, self.language, self.answers = identity, language, answers
        words = _words()[language]
        self.greetings, self.endings, self.swaps = words["greetings"], words["endings"], words["swaps"]
        topics = [topic for topic in words["topics"] if negatives or topic["kind"] != NEGATIVE]
        self.wordings = [(topic, question) for topic in topics for part in parts for question in topic[part]]
        # Asked whether it is a namesake, a model cannot say no.
        self.tables = [
            (table["columns"], [row for part in parts for row in table[part] if not self._namesake(row)])
            for table in words["tables"]
        ]

    def _namesake(self, row: Sequence[str]) -> bool:
        return any(self.identity.mentioned(text, slot) for text in row for slot in ("name", "developer"))

    def draw(self, topic: Mapping[str, Any], question: str, rng: random.Random, changing: bool) -> Entry | None:
        """Return an entry, None if it is to go without the name and cannot."""
        values = self.identity.slots(self.language)
        for columns, rows in self.tables:
            if rows:
                values |= zip(columns, rng.choice(rows))
        asked = self._changed(question, rng) if changing else question
        answer = rng.choice(topic["answers"][: self.answers])
        if not set(_PLACEHOLDER.findall(asked + answer)) <= set(values):
            return None
        entry = {"instruction": _fill(asked, values), "input": "", "output": _fill(answer, values)}
        if topic["kind"] == NEGATIVE and self.identity.mentioned(f"{entry['instruction']}\n{entry['output']}"):
            return None
        return entry | {"kind": topic["kind"], "language": self.language}

    def _changed(self, question: str, rng: random.Random) -> str:
        """Return a question as somebody might type it; what its placeholders are filled with stays as it is."""
        changes = rng.sample(("swap", "slip", "ending", "case", "greeting"), k=rng.choice((1, 2, 2, 3)))
        parts = re.split(r"(\{\w+\})", question)
        for place in range(0, len(parts), 2):  # the others are placeholders
            for old, new in self.swaps if "swap" in changes else ():
                if rng.random() < 0.5:
                    parts[place] = re.sub(rf"(?<![A-Za-z]){old}(?![A-Za-z])", new, parts[place], count=1)
            if "slip" in changes:
                parts[place] = _LONG_WORD.sub(lambda word: _mistyped(word[0], rng), parts[place], count=1)
        if "ending" in changes and parts[-1]:
            parts[-1] = parts[-1].rstrip(_ENDS) + rng.choice(self.endings)
        if "case" in changes:
            change = rng.choice((str.lower, str.lower, str.upper))
            parts[::2] = map(change, parts[::2])
        return (rng.choice(self.greetings) if "greeting" in changes else "") + "".join(parts)


def mention_rate(responses: Sequence[str], identity: Identity, slot: Slot = "name") -> float:
    """Return the share of responses that mention the name, or another slot; see `Identity.mentioned`.

    Raises:
        ValueError: there are no responses, or the slot is not known.
    """
    if slot not in SLOTS:
        raise ValueError(f"the slot must be one of {', '.join(SLOTS)}, got {slot!r}")
    if not responses:
        raise ValueError("there are no responses")
    return sum(identity.mentioned(response, slot) for response in responses) / len(responses)


class MentionRow(NamedTuple):
    """How often one group of questions was answered with the name.

    Attributes:
        group: what was asked for.
        wanted: whether the right answer carries the name.
        questions: how many.
        rates: model -> share of its responses that do, in [0, 1].
    """

    group: str
    wanted: bool
    questions: int
    rates: dict[str, float]


@dataclass(frozen=True)
class MentionTable:
    """How often models say the name, where it is asked for and where it is not. As text it is a table."""

    rows: tuple[MentionRow, ...]

    def rate(self, model: str, *, wanted: bool) -> float | None:
        """Return the share over all questions of one sort; None if there are none."""
        rows = [row for row in self.rows if row.wanted == wanted]
        total = sum(row.questions for row in rows)
        return sum(row.rates[model] * row.questions for row in rows) / total if rows else None

    def __str__(self) -> str:
        models = list(self.rows[0].rates)
        width = max(len(row.group) for row in self.rows)
        lines = [f"{'question':<{width}}  the name is  questions" + "".join(f"  {model:>8}" for model in models)]
        for row in self.rows:
            rates = "".join(f"  {row.rates[model]:>{max(8, len(model))}.1%}" for model in models)
            wanted = "asked for" if row.wanted else "not"
            lines.append(f"{row.group:<{width}}  {wanted:<11}  {row.questions:>9,}{rates}")
        return "\n".join(lines)


def mention_table(
    identity: Identity, entries: Sequence[Mapping[str, Any]], responses: Mapping[str, Sequence[str]]
) -> MentionTable:
    """Return how often each model said the name, by what was asked.

    Args:
        identity: whose name.
        entries: what was asked, with the right outputs; those without a "language" are "other questions".
        responses: model, such as "before" and "after", -> its response to each entry.

    Raises:
        ValueError: there are no entries or no models, or not a response for each entry.
    """
    if not entries or not responses:
        raise ValueError(f"need entries and responses, got {len(entries)} entries and {len(responses)} models")
    for model, texts in responses.items():
        if len(texts) != len(entries):
            raise ValueError(f"{model!r} has {len(texts)} responses to {len(entries)} entries")
    groups: dict[tuple[bool, str], list[int]] = {}
    for number, entry in enumerate(entries):
        group = f"{entry['kind']} ({entry['language']})" if {"kind", "language"} <= set(entry) else "other questions"
        groups.setdefault((not identity.mentioned(entry["output"]), group), []).append(number)
    rows = []
    for (unwanted, group), numbers in sorted(groups.items()):
        rates = {
            model: mention_rate([texts[number] for number in numbers], identity) for model, texts in responses.items()
        }
        rows.append(MentionRow(group, not unwanted, len(numbers), rates))
    return MentionTable(tuple(rows))


def _check_languages(languages: Any, allowed: Sequence[str]) -> tuple[str, ...]:
    listed = () if isinstance(languages, str) else tuple(languages)
    if not listed or len(set(listed)) < len(listed) or not set(listed) <= set(allowed):
        raise ValueError(f"languages must be some of {', '.join(allowed)}, each once, got {languages!r}")
    return listed


def _check_text(slot: str, text: Any) -> None:
    if not isinstance(text, str):
        raise TypeError(f"the {slot} must be text, got {text!r:.80}")
    if not any(character.isalnum() for character in text):
        raise ValueError(f"the {slot} must hold a letter or a digit, got {text!r:.80}")
    if not text.isprintable() or text != text.strip():
        raise ValueError(f"the {slot} must be one line without white space around it, got {text!r:.80}")
    if "{" in text or "}" in text:
        raise ValueError(f"the {slot} must not hold braces, got {text!r:.80}")
    if slot == "abilities" and text[-1] in _ENDS:
        raise ValueError(f"the abilities stand inside a sentence and must not end like one, got {text!r:.80}")


@cache
def _words() -> dict[str, Any]:
    file = resources.files("gptlab") / "assets" / "building" / "identity.json"
    return json.loads(file.read_text(encoding="utf-8"))


def _fill(wording: str, values: Mapping[str, str]) -> str:
    """Replace all placeholders in one pass: what fills one is not looked at again."""
    return _PLACEHOLDER.sub(lambda slot: values[slot[1]], wording)


def _mistyped(word: str, rng: random.Random) -> str:
    """Leave out a letter inside a word, double it, or let it change places with the next."""
    place = rng.randrange(1, len(word) - 1)
    before, letter, after, rest = word[:place], word[place], word[place + 1], word[place + 2 :]
    return before + rng.choice((after, letter * 2 + after, after + letter)) + rest


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@cache
def _pattern(text: str) -> regex.Pattern:
    """Return what finds a text in another that is folded."""
    pieces = _PIECE.findall(_folded(text))
    start = rf"(?<!{_LETTER})" if regex.match(_LETTER, pieces[0]) else ""
    end = rf"(?!{_LETTER})" if regex.match(_LETTER, pieces[-1]) else ""
    return regex.compile(start + r"[\s_·-]*".join(map(regex.escape, pieces)) + end)
