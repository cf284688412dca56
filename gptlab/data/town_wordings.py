"""What can be known and done in the town, and every wording of it.

Three things are arranged so that a model of less than a million parameters can learn this in minutes. Names and values
always follow a space, so that they are the same tokens in prose, question and answer. Letters and digits that
somebody works with are spaced out, one token each. The wording of an answer is one that the prose uses too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


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


def draw_name(rng: random.Random) -> str:
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
        draw_name,
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
