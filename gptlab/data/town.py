"""An invented town: everything a small GPT can know, and exact questions about it.

The town separates what pretraining gives from what tuning gives. The corpus tells everything about *all*
inhabitants in plain prose, and shows a few skills; no question occurs in it. The Alpaca entries for tuning ask about
*half* of the inhabitants. Nobody asks about the other half before the test, so an answer there shows that
knowledge came from the prose and only the form of answering from the tuning.

Left out: homonyms, facts that depend on one another, and everything else that makes knowledge hard.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

from gptlab.data.town_wordings import ATTRIBUTES, MATERIALS, Material, Skill, draw_name

Entry = dict[str, str]  # Alpaca's "instruction", "input" and "output", and for scoring "group" and "kind"

_TRIES = 10_000  # draws without anything new, after which there is nothing new

ASKED, HELD_OUT, SKILL = "asked inhabitant", "held-out inhabitant", "skill"  # the groups


@dataclass(frozen=True)
class Inhabitant:
    name: str
    facts: dict[str, str]  # attribute name -> value


@dataclass(frozen=True)
class Town:
    """The town's people and the three texts made from them.

    Attributes:
        asked: the inhabitants that tuning asks about.
        held_out: the others; they occur in the corpus and in the test only.
        corpus: documents of plain prose, separated by empty lines.
        train: Alpaca entries about `asked` and skills.
        test: Alpaca entries about `held_out` and skills with new inputs; "group" says which.
    """

    asked: list[Inhabitant]
    held_out: list[Inhabitant]
    corpus: str
    train: list[Entry]
    test: list[Entry]


def build_town(
    seed: int = 0,
    *,
    inhabitants: int = 100,
    biographies: int = 50,
    skill_examples: int = 4500,
    skill_train: int = 200,
    skill_test: int = 40,
) -> Town:
    """Invent a town; the same arguments give the same town.

    Args:
        seed: of everything random.
        inhabitants: how many people live there; half of them are held out.
        biographies: how many times each inhabitant's life is told.
        skill_examples: worked examples of each kind of material in the corpus.
        skill_train: entries of each skill for tuning.
        skill_test: entries of each skill for the test.

    Raises:
        ValueError: fewer than two inhabitants, or more of something is asked for than there is.
    """
    rng = random.Random(seed)
    people = [Inhabitant(name, _draw_facts(rng)) for name in _draw_names(rng, inhabitants)]
    held_out, asked = people[: inhabitants // 2], people[inhabitants // 2 :]
    documents = [_biography(person, rng) for person in people for _ in range(biographies)]
    train = [entry for person in asked for entry in _questions(person, ASKED)]
    test = [entry for person in held_out for entry in _questions(person, HELD_OUT)]
    for material in MATERIALS:
        reserved = {person.name for person in people}
        for skill in material.skills:
            entries = _skill_entries(material, skill, rng, skill_train + skill_test, reserved)
            test += entries[:skill_test]
            train += entries[skill_test:]
        documents += [_worked_example(material, rng, reserved) for _ in range(skill_examples)]
    rng.shuffle(documents)
    rng.shuffle(train)
    return Town(asked, held_out, "\n\n".join(documents) + "\n", train, test)


def _draw_names(rng: random.Random, count: int) -> list[str]:
    if count < 2:
        raise ValueError(f"a town needs at least 2 inhabitants, got {count}")
    names: dict[str, None] = {}
    while len(names) < count:
        names[_draw_new(draw_name, rng, names)] = None
    return list(names)


def _draw_new(draw: Callable[[random.Random], str], rng: random.Random, known: Collection[str]) -> str:
    """Draw something that is not among `known`."""
    for _ in range(_TRIES):
        drawn = draw(rng)
        if drawn not in known:
            return drawn
    raise ValueError(f"there is nothing new to ask for: {len(known)} like {min(known)!r} are in use already")


def _draw_facts(rng: random.Random) -> dict[str, str]:
    return {attribute.name: rng.choice(attribute.values) for attribute in ATTRIBUTES}


def _biography(person: Inhabitant, rng: random.Random) -> str:
    """Tell every fact once, in any order and wording."""
    attributes = rng.sample(ATTRIBUTES, k=len(ATTRIBUTES))
    return " ".join(
        rng.choice(attribute.statements).format(name=person.name, value=person.facts[attribute.name])
        for attribute in attributes
    )


def _questions(person: Inhabitant, group: str) -> list[Entry]:
    entries = []
    for attribute in ATTRIBUTES:
        answer = attribute.statements[0].format(name=person.name, value=person.facts[attribute.name])
        for question in attribute.questions:
            entries.append(
                {
                    "instruction": question.format(name=person.name),
                    "input": "",
                    "output": answer,
                    "group": group,
                    "kind": attribute.name,
                }
            )
    return entries


def _skill_entries(material: Material, skill: Skill, rng: random.Random, count: int, reserved: set[str]) -> list[Entry]:
    """Return entries whose inputs are not yet among `reserved`, and add them there."""
    entries: list[Entry] = []
    while len(entries) < count:
        given = _draw_new(material.draw, rng, reserved)
        reserved.add(given)
        instruction, text = skill.questions[len(entries) % len(skill.questions)]
        entries.append(
            {
                "instruction": instruction.format(given=given),
                "input": text.format(given=given),
                "output": skill.statements[0].format(result=skill.solve(given)),
                "group": SKILL,
                "kind": skill.name,
            }
        )
    return entries


def _worked_example(material: Material, rng: random.Random, reserved: set[str]) -> str:
    """Introduce something that no entry uses, and say what every skill makes of it."""
    given = _draw_new(material.draw, rng, reserved)
    sentences = [rng.choice(material.settings).format(given=given)]
    for skill in rng.sample(material.skills, k=len(material.skills)):
        sentences.append(rng.choice(skill.statements).format(result=skill.solve(given)))
    return " ".join(sentences)
