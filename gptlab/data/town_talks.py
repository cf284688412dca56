"""Conversations about the invented town, in which "she" and "he" can only be understood by who was named before.

A follow-up question names nobody. Its answer names the person and tells a fact that was never said in the conversation:
the model must find the name in the history, and the fact in what it read when it was pretrained. So the difference
between asking with the history and without it is what the history is worth.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from gptlab.data.conversation import Conversation, Turn
from gptlab.data.town import Inhabitant, Town
from gptlab.data.town_wordings import ATTRIBUTES, Attribute

_FOLLOW_UPS = {
    "home": ("Where does {they} live?", "And in which part of the town is {their} home?", "Where is {their} house?"),
    "job": ("What does {they} do for a living?", "And what is {their} job?", "What kind of work keeps {them} busy?"),
    "pet": ("Which pet does {they} have?", "And what animal lives with {them}?", "Name {their} pet."),
    "colour": (
        "What is {their} favourite colour?",
        "And which colour does {they} like best?",
        "Name the colour that {they} prefers.",
    ),
}
_SHE = {"they": "she", "them": "her", "their": "her"}
_HE = {"they": "he", "them": "him", "their": "his"}


class FollowUp(NamedTuple):
    """A question that needs the turns before it.

    Attributes:
        asked: the conversation up to the question, which is its last turn.
        answer: what is right.
        value: the word of the answer that tells the fact.
    """

    asked: Conversation
    answer: str
    value: str

    @property
    def without_history(self) -> Conversation:
        """The question alone."""
        return self.asked.with_turns(self.asked.turns[-1:])


def pronouns(name: str) -> dict[str, str]:
    """Return the pronouns of an inhabitant: "she" if the name ends in a, e or i, else "he".

    >>> pronouns("Lumika")["they"], pronouns("Zobiro")["their"]
    ('she', 'his')
    """
    return _SHE if name[-1] in "aei" else _HE


def town_talks(
    people: Sequence[Inhabitant], *, per_person: int = 12, turns: int = 3, seed: int = 0
) -> list[Conversation]:
    """Return conversations that each begin with a question about a person and go on with pronouns.

    In a third of the turns after the first, another person is named, and the pronouns then mean that one.

    Args:
        people: such as `town.asked`.
        per_person: conversations that begin with each.
        turns: questions in a conversation. After as many as there are things to know, a person is named anew.
        seed: of everything random.

    Raises:
        ValueError: there are fewer than two people, or turns is below 1.
    """
    if len(people) < 2:
        raise ValueError(f"talks need at least 2 people, got {len(people)}")
    if turns < 1:
        raise ValueError(f"turns must be >= 1, got {turns}")
    rng = random.Random(f"talks {seed}")
    talks = []
    for person in [person for person in people for _ in range(per_person)]:
        said = []
        while len(said) < turns:
            place = len(said) % len(ATTRIBUTES)
            if place == 0:
                attributes = rng.sample(ATTRIBUTES, k=min(len(ATTRIBUTES), turns - len(said)))
            attribute, named = attributes[place], place == 0 or rng.random() < 1 / 3
            if said and named:
                person = rng.choice([other for other in people if other is not person])
            said.append(_turn(person, attribute, named, rng))
        talks.append(Conversation(said))
    rng.shuffle(talks)
    return talks


def _turn(person: Inhabitant, attribute: Attribute, named: bool, rng: random.Random) -> Turn:
    if named:
        question = rng.choice(attribute.questions).format(name=person.name)
    else:
        question = rng.choice(_FOLLOW_UPS[attribute.name]).format(**pronouns(person.name))
    return Turn(question, attribute.statements[0].format(name=person.name, value=person.facts[attribute.name]))


def follow_ups(talks: Sequence[Conversation], town: Town) -> list[FollowUp]:
    """Return every question of the talks that names nobody, with the turns before it and the right answer."""
    names = {person.name for person in (*town.asked, *town.held_out)}
    found = []
    for talk in talks:
        for number, turn in enumerate(talk.turns):
            if not any(name in turn.user for name in names):
                asked = talk.with_turns([*talk.turns[:number], Turn(turn.user)])
                found.append(FollowUp(asked, turn.assistant, turn.assistant.rstrip(".").split()[-1]))
    return found
