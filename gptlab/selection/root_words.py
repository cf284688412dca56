"""Root verb and noun of an instruction: "Write a short poem about the sea" asks to write a poem.

Counted over a data set, they show what it asks for, and how much of it is the same: the picture of Self-Instruct and of
most papers on selection. Those parse each sentence by a model. Here is a light heuristic, which needs none:

1. the first sentence, or the first that has a verb; before it, "please", "can you" and the like fall away
2. the verb: the first word if it is in a list of verbs that instructions begin with; a question counts under its
   question word; otherwise the first listed verb after a comma, "to", "and" or "you"
3. the noun: the words behind the verb up to a preposition, a conjunction or a punctuation mark, and of these the last
   one, in the singular

Chinese has no spaces. There a verb is the longest one of a small list that the sentence begins with, or else the first
of two characters that it holds; the noun is what stands at the end of the verb's clause, behind its last 的, its number
and its measure word. What is longer than four characters is not cut into words, and then there is no noun.

It errs where grammar is needed ("Make the text shorter" gives "shorter"), and how often it agrees with a parser has not
been measured. Use it to see the outlines of a data set, not to decide about one entry.

Source: Wang et al. 2022, "Self-Instruct", figure 2, and its instruction_visualize.ipynb, for what is counted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import regex

from gptlab.selection.entries import check_count

VERBS, NOUNS = 20, 4  # Self-Instruct, figure 2
LONGEST_CHINESE_NOUN = 4  # characters

_HAN = regex.compile(r"\p{Han}")
_SENTENCE = regex.compile(r"[.!?。！？\n]+(?=\s|$|\p{Han}|[\"'”’)])|[。！？\n]|[:：](?=\s|\p{Han}|$)")
_TOKEN = regex.compile(r"[\p{L}\p{M}]+(?:['’-][\p{L}\p{M}]+)*|\d[\d.,]*|[^\s\w]")
_CHINESE_MARKS = " ，,：:、\u3000"
_NUMBERS = "这那每各该一二三四五六七八九十两几多百千万0123456789"


class RootWords(NamedTuple):
    """What an instruction asks to do, and to what; None where it is not found."""

    verb: str | None
    noun: str | None


@dataclass(frozen=True)
class VerbCount:
    """A root verb, how often it comes, and its most frequent nouns."""

    verb: str
    count: int
    nouns: list[tuple[str, int]]


@dataclass(frozen=True)
class RootTable:
    """The most frequent root verbs of a data set.

    Attributes:
        rows: the verbs, the most frequent first.
        n_total: how many instructions there are.
        n_found: in how many a verb is found.
        n_pairs: how many different pairs of verb and noun there are.
    """

    rows: list[VerbCount]
    n_total: int
    n_found: int
    n_pairs: int

    def to_dict(self) -> dict[str, Any]:
        """Return the table as JSON can hold it."""
        rows = [
            {"verb": row.verb, "count": row.count, "nouns": [list(noun) for noun in row.nouns]} for row in self.rows
        ]
        return {"rows": rows, "n_total": self.n_total, "n_found": self.n_found, "n_pairs": self.n_pairs}

    def __str__(self) -> str:
        lines = [f"a verb is found in {self.n_found:,} of {self.n_total:,} instructions; {self.n_pairs:,} pairs differ"]
        for row in self.rows:
            nouns = ", ".join(f"{noun} {count:,}" for noun, count in row.nouns)
            lines.append(f"{row.count:>7,}  {row.verb:<12}  {nouns}".rstrip())
        return "\n".join(lines)


def root_table(instructions: Iterable[str], *, verbs: int = VERBS, nouns: int = NOUNS) -> RootTable:
    """Return the most frequent root verbs with their most frequent nouns; of equal ones, the first in the alphabet.

    Raises:
        ValueError: verbs or nouns is below 1.

    Source: Wang et al. 2022, figure 2.
    """
    for name, count in (("verbs", verbs), ("nouns", nouns)):
        check_count(count, name)
    found = [root_words(text) for text in instructions]
    pairs = Counter(words for words in found if words.verb and words.noun)
    counts = Counter(words.verb for words in found if words.verb)
    rows = []
    for verb, count in _most(counts, verbs):
        mine = Counter({noun: n for (one, noun), n in pairs.items() if one == verb})
        rows.append(VerbCount(verb, count, _most(mine, nouns)))
    return RootTable(rows, len(found), counts.total(), len(pairs))


def _most(counts: Counter[Any], k: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:k]


def root_words(instruction: str) -> RootWords:
    """Return the root verb and noun of an instruction, in English or Chinese.

    >>> root_words("Could you please write a short poem about the sea?")
    RootWords(verb='write', noun='poem')
    >>> root_words("请写一首关于春天的诗。"), root_words("What is the capital of France?")
    (RootWords(verb='写', noun='诗'), RootWords(verb='what', noun='capital'))
    """
    words = RootWords(None, None)
    for sentence in _SENTENCE.split(instruction):
        if sentence.strip():
            words = _chinese(sentence) if _HAN.search(sentence[:40]) else _english(sentence)
        if words.verb:
            break
    return words


def _english(sentence: str) -> RootWords:
    lists = _lists()
    tokens = [token.lower().replace("’", "'") for token in _TOKEN.findall(sentence)]
    tokens = _without_openings(tokens)
    if not tokens:
        return RootWords(None, None)
    if tokens[0] in lists["questions"]:
        rest = 1
        while rest < len(tokens) and tokens[rest] in lists["auxiliaries"] | {"many", "much"}:
            rest += 1
        return RootWords(tokens[0].removesuffix("'s"), _noun(tokens[rest:]))
    if tokens[0] in lists["auxiliaries"] and tokens[0] not in lists["verbs"]:
        return RootWords(tokens[0], _noun(tokens[1:]))
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else ","
        if token in lists["verbs"] and (before in {",", "to", "and", "you", "-"} or before.endswith("ly")):
            return RootWords(token, _noun(tokens[place + 1 :]))
    return RootWords(None, None)


def _without_openings(tokens: list[str]) -> list[str]:
    """Return the words from where the sentence itself begins."""
    lists = _lists()
    while tokens:
        opening = next((one for one in lists["openings"] if tokens[: len(one)] == list(one)), None)
        if opening:
            tokens = tokens[len(opening) :]
        elif tokens[0] in lists["fillers"] or not tokens[0][0].isalpha() or tokens[0].endswith("ly"):
            tokens = tokens[1:]
        else:
            break
    return tokens


def _noun(tokens: list[str]) -> str | None:
    """Return the last word of the first run of words that no preposition or mark interrupts, in the singular."""
    lists = _lists()
    particle = next((one for one in lists["particles"] if tokens[: len(one)] == list(one)), ())
    tokens = tokens[len(particle) :]
    run: list[str] = []
    for token in tokens:
        if run and token in {"-", "/"}:
            continue
        if not run and token in lists["pronouns"] | lists["determiners"]:
            continue
        if token in lists["stops"] | lists["pronouns"] | lists["determiners"] or not token[0].isalnum():
            break
        run.append(token)
    words = [token for token in run if token[0].isalpha() and not token.endswith("ly")]
    return _singular(words[-1].removesuffix("'s")) if words else None


def _singular(noun: str) -> str:
    """Return a plural's singular, as far as its letters tell."""
    irregular = _lists()["irregular"]
    if noun in irregular:
        return irregular[noun]
    if len(noun) > 4 and noun.endswith("ies"):
        return noun[:-3] + "y"
    if re.search(r"(?:x|ch|sh|ss)es$", noun):
        return noun[:-2]
    return noun[:-1] if len(noun) > 3 and re.search(r"[^siu]s$", noun) else noun


def _chinese(sentence: str) -> RootWords:
    lists = _lists()
    sentence = sentence.strip(_CHINESE_MARKS)
    while opening := _longest_prefix(lists["chinese_openings"], sentence):
        sentence = sentence[len(opening) :].lstrip(_CHINESE_MARKS)
    if verb := _longest_prefix(lists["chinese_verbs"], sentence):
        return RootWords(verb, _chinese_noun(sentence[len(verb) :]))
    if asked := _first_within(lists["chinese_questions"], sentence):
        return RootWords(asked[1], None)
    verbs = sorted(lists["chinese_verbs"], key=len, reverse=True)
    # A single character is part of many words; before a number it is most likely a verb.
    within = regex.search("|".join(verb if len(verb) > 1 else f"{verb}(?=[{_NUMBERS}])" for verb in verbs), sentence)
    return RootWords(within[0], _chinese_noun(sentence[within.end() :])) if within else RootWords(None, None)


def _chinese_noun(rest: str) -> str | None:
    """Return the head of what a verb is about: the end of its first clause, if it is short enough to be a word."""
    lists = _lists()
    clause = regex.split(r"[\s，,；;、（(“\"《：:]", rest.lstrip(_CHINESE_MARKS), maxsplit=1)[0]
    clause = clause.rpartition("的")[2]
    while cut := _longest_prefix(lists["chinese_before"], clause) or _number_and_measure(clause):
        clause = clause[len(cut) :]
    if end := _first_within(lists["chinese_ends"], clause):
        clause = clause[: end[0]]
    return clause if 0 < len(clause) <= LONGEST_CHINESE_NOUN and regex.fullmatch(r"[\p{L}\p{N}]+", clause) else None


def _number_and_measure(text: str) -> str:
    return regex.match(rf"(?:[{_NUMBERS}]+(?:{'|'.join(_lists()['chinese_measures'])})?)?", text)[0]


def _longest_prefix(words: Iterable[str], text: str) -> str:
    return max((word for word in words if text.startswith(word)), key=len, default="")


def _first_within(words: Iterable[str], text: str) -> tuple[int, str] | None:
    """Return the word that comes first in a text, the longest one there, with its place."""
    found = [(text.find(word), -len(word), word) for word in words if word in text]
    return (min(found)[0], min(found)[2]) if found else None


@cache
def _lists() -> dict[str, Any]:
    path = resources.files("gptlab") / "assets" / "selection" / "root_words.json"
    texts = json.loads(path.read_text(encoding="utf-8"))
    lists: dict[str, Any] = {name: frozenset(", ".join(lines).split(", ")) for name, lines in texts.items()}
    for name in ("openings", "particles"):  # of several words, the longest first
        lists[name] = sorted((tuple(one.split()) for one in lists[name]), key=len, reverse=True)
    lists["irregular"] = dict(pair.split() for pair in lists["irregular"])
    return lists
