"""An invented town: everything a small GPT can know, and exact questions about it.

The town separates what pretraining gives from what tuning gives. The corpus tells everything about *all*
inhabitants in plain prose, and shows a few skills; no question occurs in it. The Alpaca entries for tuning ask about
*half* of the inhabitants. Nobody asks about the other half before the test, so an answer there shows that
knowledge came from the prose and only the form of answering from the tuning.

Three things are arranged so that a model of less than a million parameters can learn this in minutes. Names and values
always follow a space, so that they are the same tokens in prose, question and answer. Letters and digits that
somebody works with are spaced out, one token each. The wording of an answer is one that the prose uses too.

Left out: homonyms, facts that depend on one another, and everything else that makes knowledge hard.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

Entry = dict[str, str]  # Alpaca's "instruction", "input" and "output", and for scoring "group" and "kind"

_TRIES = 10_000  # draws without anything new, after which there is nothing new

ASKED, HELD_OUT, SKILL = "asked inhabitant", "held-out inhabitant", "skill"  # the groups


@dataclass(frozen=True)
class Attribute:
    """One thing to know about everybody. `statements[0]` is also how it is answered."""

    name: str
    values: tuple[str, ...]
    statements: tuple[str, ...]
    questions: tuple[str, ...]


ATTRIBUTES = (
    Attribute(
        "home",
        ("Fenn", "Orlo", "Brisk", "Mallow", "Tarn", "Quill", "Sedge", "Harrow", "Pike", "Vale", "Wick", "Knoll"),
        (
            "The home of {name} is in {value}.",
            "People in {value} greet {name} as a neighbour.",
            "A house in {value} belongs to {name} and stands by the road.",
            "Every evening {name} walks home to {value} by the river.",
            "The house where {name} grew up is in {value} too.",
        ),
        (
            "Where does {name} live?",
            "In which part of the town is the home of {name}?",
            "Tell me where the house of {name} is.",
            "I want to visit {name} at home. Where do I have to go?",
        ),
    ),
    Attribute(
        "job",
        (
            "baker",
            "smith",
            "tailor",
            "miller",
            "potter",
            "singer",
            "doctor",
            "fisher",
            "mason",
            "weaver",
            "painter",
            "teacher",
        ),
        (
            "The job of {name} is that of a {value}.",
            "To earn a living {name} works as a {value}.",
            "Whoever needs a {value} asks for {name} first.",
            "As a {value}, {name} is busy on most days.",
            "It was hard for {name} to become a {value} in this town.",
        ),
        (
            "What is the job of {name}?",
            "What does {name} do for a living?",
            "Name the trade of {name}.",
            "What kind of work keeps {name} busy?",
        ),
    ),
    Attribute(
        "pet",
        ("goat", "cat", "dog", "parrot", "rabbit", "turtle", "horse", "owl", "duck", "hedgehog", "mouse", "donkey"),
        (
            "The pet of {name} is a {value}.",
            "At the market {name} is often seen with a {value}.",
            "A {value} follows {name} everywhere.",
            "Each morning {name} feeds a {value} before breakfast.",
            "There is a {value} in the garden of {name} all day.",
        ),
        (
            "Which pet does {name} have?",
            "What animal lives with {name}?",
            "Name the pet of {name}.",
            "I heard an animal at the house of {name}. What was it?",
        ),
    ),
    Attribute(
        "colour",
        ("red", "blue", "green", "yellow", "purple", "orange", "white", "black", "brown", "pink", "silver", "gold"),
        (
            "The favourite colour of {name} is {value}.",
            "The colour that {name} likes best is {value}.",
            "The front door of {name} is painted {value}, the best of all colours.",
            "Nothing pleases {name} more than the colour {value} on a wall.",
            "On holidays {name} wears {value} from head to toe.",
        ),
        (
            "What is the favourite colour of {name}?",
            "Which colour does {name} like best?",
            "Name the colour that {name} prefers.",
            "I am wrapping a gift for {name}. Which colour should the paper have?",
        ),
    ),
)


@dataclass(frozen=True)
class Skill:
    """One thing to be able to do. `statements[0]` is also how it is answered."""

    name: str
    solve: Callable[[str], str]
    statements: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]  # (instruction, input)


@dataclass(frozen=True)
class Material:
    """What skills are shown on. The prose introduces what is `given` and then uses every skill on it."""

    draw: Callable[[random.Random], str]
    settings: tuple[str, ...]
    skills: tuple[Skill, ...]


def _draw_name(rng: random.Random) -> str:
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    return "".join(rng.choices(syllables, k=3)).capitalize()


def _draw_word(rng: random.Random) -> str:
    return " ".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 6)))


def _draw_digits(rng: random.Random) -> str:
    return " ".join(rng.choices("0123456789", k=rng.randint(3, 4)))


def _draw_two_numbers(rng: random.Random) -> str:
    left, right = rng.sample(range(10, 100), 2)
    return f"{' '.join(str(left))} and {' '.join(str(right))}"


def _draw_distance(rng: random.Random) -> str:
    return " ".join(str(rng.randint(1, 999)))


MATERIALS = (
    Material(
        _draw_word,
        ("On a sign stands the word {given}.", "A box is marked with the word {given}."),
        (
            Skill(
                "first letter",
                lambda word: word[0],
                ("The first letter is {result}.", "It begins with {result}."),
                (
                    ("Name the first letter of the word.", "the word {given}"),
                    ("Which letter does the word {given} begin with?", ""),
                ),
            ),
            Skill(
                "last letter",
                lambda word: word[-1],
                ("The last letter is {result}.", "It ends with {result}."),
                (
                    ("Name the last letter of the word.", "the word {given}"),
                    ("Which letter does the word {given} end with?", ""),
                ),
            ),
            Skill(
                "count letters",
                lambda word: str(len(word.split())),
                ("The number of letters is {result}.", "A count of the letters gives {result}."),
                (
                    ("Count the letters of the word.", "the word {given}"),
                    ("How many letters are in the word {given}?", ""),
                ),
            ),
        ),
    ),
    Material(
        _draw_digits,
        ("On the wall stand the digits {given}.", "A ticket carries the digits {given}."),
        (
            Skill(
                "sort digits",
                lambda digits: " ".join(sorted(digits.split())),
                ("The digits in order are {result}.", "From small to large they are {result}."),
                (
                    ("Sort the digits from small to large.", "the digits {given}"),
                    ("Put the digits {given} in order.", ""),
                ),
            ),
        ),
    ),
    Material(
        _draw_two_numbers,
        ("The two doors have the numbers {given}.", "The dice show the numbers {given}."),
        (
            Skill(
                "larger number",
                lambda numbers: max(numbers.split(" and ")),
                ("The larger number is {result}.", "The bigger one is {result}."),
                (
                    ("Name the larger of the two numbers.", "the numbers {given}"),
                    ("Which of the numbers {given} is larger?", ""),
                ),
            ),
        ),
    ),
    Material(
        _draw_name,
        ("A letter has come for {given}.", "The boat by the bridge is called {given}."),
        (
            Skill(
                "repeat a name",
                lambda name: name,
                ("The name is {result}.", "It bears the name {result} and no other."),
                (
                    ("Repeat the name.", "the name {given}"),
                    ("Say the name {given} again.", ""),
                ),
            ),
        ),
    ),
    Material(
        _draw_distance,
        ("The road has a length of {given} kilometers.", "The mill is at a distance of {given} kilometers."),
        (
            Skill(
                "kilometers",
                lambda kilometers: f"{kilometers} 0 0 0",
                ("The distance in meters is {result}.", "Told in meters it is {result}."),
                (
                    ("Convert the distance to meters.", "a distance of {given} kilometers"),
                    ("How many meters is a distance of {given} kilometers?", ""),
                ),
            ),
        ),
    ),
)


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
        names[_draw_new(_draw_name, rng, names)] = None
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
