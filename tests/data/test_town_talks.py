import pytest

from gptlab.data import build_town
from gptlab.data.town_talks import follow_ups, pronouns, town_talks
from gptlab.data.town_wordings import ATTRIBUTES


@pytest.fixture(scope="module")
def town():
    return build_town(3, inhabitants=12, biographies=1, skill_examples=1, skill_train=1, skill_test=1)


@pytest.mark.parametrize("turns", [4, 9])
def test_answers_are_true_and_name_whom_the_pronoun_means(town, turns):
    facts = {person.name: person.facts for person in town.asked}
    talks = town_talks(town.asked, per_person=8, turns=turns)
    assert len(talks) == 48
    changes = 0
    for talk in talks:
        name = None
        for turn in talk.turns:
            named = [other for other in facts if other in turn.user]
            changes += name is not None and bool(named)
            name = named[0] if named else name
            assert name in turn.assistant
            told = [a.statements[0].format(name=name, value=facts[name][a.name]) for a in ATTRIBUTES]
            assert turn.assistant in told
            if not named:
                words = turn.user.lower().strip("?.").split()
                assert set(words) & set(pronouns(name).values())
    assert 0 < changes < (turns - 1) * 48
    assert len({turn.assistant for talk in talks for turn in talk.turns}) > 20


def test_follow_ups_are_the_questions_without_a_name(town):
    talks = town_talks(town.held_out, per_person=4, turns=3, seed=1)
    found = follow_ups(talks, town)
    names = [person.name for person in town.held_out]
    turns = [turn for talk in talks for turn in talk.turns]
    assert len(found) == sum(not any(name in turn.user for name in names) for turn in turns) > 20
    for asked, answer, value in found:
        assert not asked.answered
        assert len(asked.turns) > 1
        assert answer.endswith(f"{value}.")
    assert all(len(each.without_history.turns) == 1 for each in found)


def test_the_same_seed_gives_the_same_talks(town):
    assert town_talks(town.asked, seed=4) == town_talks(town.asked, seed=4) != town_talks(town.asked, seed=5)


def test_doors(town):
    with pytest.raises(ValueError, match="talks need at least 2 people, got 1"):
        town_talks(town.asked[:1])
    with pytest.raises(ValueError, match="turns must be >= 1, got 0"):
        town_talks(town.asked, turns=0)
