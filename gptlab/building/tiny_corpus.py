"""A parallel corpus of English and Chinese, made by a grammar, so small that a tiny model learns to translate it.

A sentence has seven places to fill, and a number says what is in all of them: its digits, each in a base of its own,
choose the words. So a number is a sentence, a sentence a number, and a corpus without duplicates is a draw of numbers
without replacement. Each sentence has exactly one right translation, and `translate` gives it.

What makes translating more than replacing word by word is all there, once: time and place stand behind in English, in
Chinese before the verb; Chinese counts with measure words (三本书) and has neither articles nor plurals; the verb has
another form in English where Chinese says 了 or 会.

    The teacher bought three red books in the market yesterday.   老师昨天在市场买了三本红书。

Left out: everything by which a language is more than its words, such as pronouns, clauses, and two ways to say a thing.
The sentences are as sensible as such sentences are: on the bridge, a cook may well wash two white lamps.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable
from typing import Any, NamedTuple


class Time(NamedTuple):
    """When it happens, which is what decides the form of the verb."""

    english: str
    chinese: str
    form: int  # of the English verb: which of Verb.english
    before: str  # what Chinese says before the place
    after: str  # and behind the verb


class Verb(NamedTuple):
    """A verb; in English as it is each day, was yesterday, and will be tomorrow."""

    english: tuple[str, str, str]
    chinese: str


class Thing(NamedTuple):
    """What can be counted, with the word that Chinese puts between number and thing."""

    singular: str
    plural: str
    measure: str
    chinese: str


TIMES = (
    Time("every day", "每天", 0, "", ""),
    Time("yesterday", "昨天", 1, "", "了"),
    Time("tomorrow", "明天", 2, "会", ""),
)
PEOPLE = (
    *(("teacher", "老师"), ("doctor", "医生"), ("farmer", "农民"), ("cook", "厨师")),
    *(("painter", "画家"), ("king", "国王"), ("child", "孩子"), ("girl", "女孩")),
)
VERBS = (
    Verb(("buys", "bought", "will buy"), "买"),
    Verb(("sells", "sold", "will sell"), "卖"),
    Verb(("sees", "saw", "will see"), "看见"),
    Verb(("finds", "found", "will find"), "找到"),
    Verb(("washes", "washed", "will wash"), "洗"),
    Verb(("hides", "hid", "will hide"), "藏"),
)
NUMBERS = (("a", "一"), ("two", "两"), ("three", "三"), ("four", "四"))
COLOURS = (("", ""), ("red", "红"), ("black", "黑"), ("white", "白"))
THINGS = (
    Thing("book", "books", "本", "书"),
    Thing("map", "maps", "张", "地图"),
    Thing("chair", "chairs", "把", "椅子"),
    Thing("knife", "knives", "把", "刀"),
    Thing("cat", "cats", "只", "猫"),
    Thing("horse", "horses", "匹", "马"),
    Thing("hat", "hats", "顶", "帽子"),
    Thing("flower", "flowers", "朵", "花"),
    Thing("box", "boxes", "个", "盒子"),
    Thing("lamp", "lamps", "盏", "灯"),
)
LOCATIONS = (
    *(("in the market", "在市场"), ("in the garden", "在花园"), ("at the school", "在学校")),
    *(("by the river", "在河边"), ("on the bridge", "在桥上")),
)


class Sentence(NamedTuple):
    """What fills the places of a sentence: its words in both languages, and so its text in both."""

    time: Time
    person: tuple[str, str]
    verb: Verb
    number: tuple[str, str]
    colour: tuple[str, str]
    thing: Thing
    location: tuple[str, str]

    @property
    def english(self) -> str:
        """The sentence in English."""
        thing = self.thing.singular if self.number is NUMBERS[0] else self.thing.plural
        subject = ("The", self.person[0], self.verb.english[self.time.form])
        words = (*subject, self.number[0], self.colour[0], thing, self.location[0], self.time.english)
        return " ".join(filter(None, words)) + "."

    @property
    def chinese(self) -> str:
        """The sentence in Chinese."""
        when = self.time.chinese + self.time.before
        what = self.number[1] + self.thing.measure + self.colour[1] + self.thing.chinese
        return self.person[1] + when + self.location[1] + self.verb.chinese + self.time.after + what + "。"


_SLOTS: dict[str, tuple[Any, ...]] = {
    "time": TIMES,
    "person": PEOPLE,
    "verb": VERBS,
    "number": NUMBERS,
    "colour": COLOURS,
    "thing": THINGS,
    "location": LOCATIONS,
}
SENTENCES = math.prod(map(len, _SLOTS.values()))  # as many as there are


def sentence(number: int) -> Sentence:
    """Return the sentence of a number.

    Raises:
        ValueError: the number is not in [0, SENTENCES).

    >>> sentence(0).english, sentence(0).chinese
    ('The teacher buys a book in the market every day.', '老师每天在市场买一本书。')
    """
    if not 0 <= number < SENTENCES:
        raise ValueError(f"a sentence's number must be in [0, {SENTENCES}), got {number}")
    words = []
    for slot in _SLOTS.values():
        number, place = divmod(number, len(slot))
        words.append(slot[place])
    return Sentence(*words)


def number_of(text: str) -> int:
    """Return the number of a sentence that is given in English or in Chinese.

    Raises:
        ValueError: the grammar does not make it.

    >>> number_of("老师每天在市场买一本书。")
    0
    """
    found = _ENGLISH.fullmatch(text) or _CHINESE.fullmatch(text)
    if found:
        number = 0
        for name, slot in reversed(_SLOTS.items()):
            number = number * len(slot) + _PLACES[name][found[name] or ""]
        # The patterns are generous: they read "three book", too. What the grammar makes of it tells.
        if text in (sentence(number).english, sentence(number).chinese):
            return number
    raise ValueError(f"this is no sentence of the grammar: {text!r:.120}")


def translate(text: str) -> str:
    """Return the one right translation of a sentence, English or Chinese.

    Raises:
        ValueError: the grammar does not make it.

    >>> translate("The girl will wash two red hats by the river tomorrow.")
    '女孩明天会在河边洗两顶红帽子。'
    """
    found = sentence(number_of(text))
    return found.chinese if text == found.english else found.english


def tiny_corpus(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return pairs of English and Chinese sentences, all different, as `apply_templates` takes them.

    Args:
        count: how many, up to SENTENCES.
        seed: of which ones.

    Raises:
        ValueError: there are not so many, or fewer than one is asked for.
    """
    if not 1 <= count <= SENTENCES:
        raise ValueError(f"the grammar makes 1 to {SENTENCES:,} pairs, got {count}")
    languages = {"src_lang": "English", "tgt_lang": "Chinese"}
    drawn = random.Random(seed).sample(range(SENTENCES), k=count)
    pairs = [(number, sentence(number)) for number in drawn]
    return [{"id": number, **languages, "source": made.english, "target": made.chinese} for number, made in pairs]


def _surfaces(item: Any) -> Iterable[str]:
    """Give every form in which an item stands in a sentence."""
    if isinstance(item, Time):
        return item.english, item.chinese
    if isinstance(item, Verb):
        return *item.english, item.chinese
    if isinstance(item, Thing):
        return item.singular, item.plural, item.chinese
    return item


def _group(name: str) -> str:
    return f"(?P<{name}>{'|'.join(form for form in _PLACES[name] if form)})"


# name of the slot -> form of a word -> its place in the slot
_PLACES = {
    name: {form: place for place, item in enumerate(slot) for form in _surfaces(item)} for name, slot in _SLOTS.items()
}
_MEASURES = "|".join(sorted({thing.measure for thing in THINGS}))
_ENGLISH = re.compile(
    "The {person} {verb} {number} (?:{colour} )?{thing} {location} {time}\\.".format(
        **{name: _group(name) for name in _SLOTS}
    )
)
_CHINESE = re.compile(
    "{person}{time}会?{location}{verb}了?{number}(?:{measures}){colour}?{thing}。".format(
        measures=_MEASURES, **{name: _group(name) for name in _SLOTS}
    )
)
