"""Reviews from the invented town, each with what its writer thinks: "positive" or "negative".

Single words do not give the label away. Many clauses negate their word of opinion, some by a word that stands far
ahead of it ("nobody calls the soup in Fenn dull"). Where two things are compared, both opinions are told, and the main
clause decides, which may come first or last. A linear model over a bag of words adds up one weight for each word. It
cannot say that "not" turns "good" around, nor which of two clauses counts; all that it can use is that most clauses
are plain. A transformer reads words together and in their order, and learns the whole from these texts alone.

Left out: irony, degrees, and opinions that no word of opinion carries.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from gptlab.data.town_wordings import ATTRIBUTES

Entry = dict[str, str]  # "text" and "label", and for scoring "kind"

POSITIVE, NEGATIVE = "positive", "negative"  # the labels
PLAIN, NEGATED, COMPARED = "plain", "negated", "compared"  # the kinds

_TRIES = 1_000  # draws without a new text, after which there is none
_NEGATED_SHARE, _COMPARED_SHARE = 0.3, 0.25

_PLACES = ATTRIBUTES[0].values
_THINGS = ("bread", "soup", "music", "market", "garden", "river")
_ADJECTIVES = {
    POSITIVE: ("good", "great", "lovely", "pleasant"),
    NEGATIVE: ("bad", "poor", "awful", "dull"),
}
_CONTRARY = {POSITIVE: NEGATIVE, NEGATIVE: POSITIVE}
_PLAIN_CLAUSES = (
    "the {thing} in {place} was {adjective}",
    "I found the {thing} in {place} {adjective}",
    "everybody calls the {thing} in {place} {adjective}",
)
_NEGATED_CLAUSES = (
    "the {thing} in {place} was not {adjective}",
    "the {thing} in {place} was far from {adjective}",
    "I never found the {thing} in {place} {adjective}",
    "nobody calls the {thing} in {place} {adjective}",
)
_COMPARISONS = ("{other}, but {main}", "{main}, although {other}")


@dataclass(frozen=True)
class Reviews:
    """Labelled texts to learn from, and others for the test.

    Attributes:
        train: entries with "text", "label" and "kind".
        test: the same; no text of `train` is among them.
    """

    train: list[Entry]
    test: list[Entry]


def build_reviews(seed: int = 0, *, train: int = 1200, test: int = 300) -> Reviews:
    """Write reviews, no two of them alike; both labels are equally frequent. The same arguments give the same reviews.

    Args:
        seed: of everything random.
        train: how many to learn from.
        test: how many for the test.

    Raises:
        ValueError: a number is below 2, or there are not so many different reviews.
    """
    if train < 2 or test < 2:
        raise ValueError(f"train and test must be >= 2, got {train} and {test}")
    rng = random.Random(seed)
    written: dict[str, Entry] = {}
    while len(written) < train + test:
        entry = _new_review((POSITIVE, NEGATIVE)[len(written) % 2], rng, written)
        written[entry["text"]] = entry
    entries = list(written.values())
    return Reviews(rng.sample(entries[:train], k=train), rng.sample(entries[train:], k=test))


def _new_review(label: str, rng: random.Random, written: dict[str, Entry]) -> Entry:
    for _ in range(_TRIES):
        entry = _review(label, rng)
        if entry["text"] not in written:
            return entry
    raise ValueError(f"there are no more different reviews: {len(written)} are written")


def _review(label: str, rng: random.Random) -> Entry:
    thing, other_thing = rng.sample(_THINGS, k=2)
    negated = rng.random() < _NEGATED_SHARE
    text, kind = _clause(label, thing, negated, rng), NEGATED if negated else PLAIN
    if rng.random() < _COMPARED_SHARE:
        other = _clause(_CONTRARY[label], other_thing, rng.random() < _NEGATED_SHARE, rng)
        text, kind = rng.choice(_COMPARISONS).format(main=text, other=other), COMPARED
    return {"text": f"{text[0].upper()}{text[1:]}.", "label": label, "kind": kind}


def _clause(opinion: str, thing: str, negated: bool, rng: random.Random) -> str:
    """Give an opinion of a thing; negated, by denying the contrary."""
    wording = rng.choice(_NEGATED_CLAUSES if negated else _PLAIN_CLAUSES)
    adjective = rng.choice(_ADJECTIVES[_CONTRARY[opinion] if negated else opinion])
    return wording.format(thing=thing, place=rng.choice(_PLACES), adjective=adjective)
