import re

import pytest

from gptlab.data.town import ASKED, HELD_OUT, SKILL, build_town
from gptlab.data.town_wordings import ATTRIBUTES, MATERIALS


@pytest.fixture(scope="module")
def town():
    return build_town(7)


def test_the_corpus_tells_every_fact_of_everybody_in_several_wordings(town):
    assert len(town.asked) == len(town.held_out) == 50
    people = town.asked + town.held_out
    assert len({person.name for person in people}) == 100
    for person in people:
        for attribute in ATTRIBUTES:
            value = person.facts[attribute.name]
            told = [s for s in attribute.statements if s.format(name=person.name, value=value) in town.corpus]
            assert len(told) >= 3


def test_no_question_and_no_alpaca_form_is_in_the_corpus(town):
    assert "?" not in town.corpus
    assert "#" not in town.corpus
    for attribute in ATTRIBUTES:
        for question in attribute.questions:
            assert question.split("{name}")[0] not in town.corpus


def test_nothing_about_the_held_out_is_in_tuning(town):
    tuning = "\n".join(" ".join(entry.values()) for entry in town.train)
    for person in town.held_out:
        assert person.name not in tuning
    asked = {person.name for person in town.asked}
    tested = "\n".join(" ".join(entry.values()) for entry in town.test)
    assert not any(name in tested for name in asked)


def test_every_fact_of_the_held_out_is_asked(town):
    asked = {entry["output"] for entry in town.test if entry["group"] == HELD_OUT}
    assert len(asked) == 50 * len(ATTRIBUTES)
    assert {entry["group"] for entry in town.train} == {ASKED, SKILL}
    assert {entry["group"] for entry in town.test} == {HELD_OUT, SKILL}


def test_answers_use_a_wording_of_the_corpus(town):
    for entry in town.test:
        if entry["group"] == HELD_OUT:
            assert entry["output"] in town.corpus
            continue
        [skill] = [skill for material in MATERIALS for skill in material.skills if skill.name == entry["kind"]]
        wording = skill.statements[0].split("{result}")[0]
        assert entry["output"].startswith(wording)
        assert wording in town.corpus


def given_by(entry) -> str:
    """The spaced letters or digits of a skill entry, found with its question's template."""
    [skill] = [skill for material in MATERIALS for skill in material.skills if skill.name == entry["kind"]]
    asked = entry["instruction"] + entry["input"]
    for question in skill.questions:
        found = re.fullmatch(re.escape("".join(question)).replace(r"\{given\}", "(.+)"), asked)
        if found:
            return found[1]
    raise ValueError(entry)


def test_skill_inputs_never_repeat(town):
    trained = {(e["kind"], given_by(e)) for e in town.train if e["group"] == SKILL}
    tested = {(e["kind"], given_by(e)) for e in town.test if e["group"] == SKILL}
    skills = sum(len(material.skills) for material in MATERIALS)
    assert (len(trained), len(tested)) == (200 * skills, 40 * skills)
    assert not trained & tested
    for name, given in tested:
        [material] = [material for material in MATERIALS if name in {skill.name for skill in material.skills}]
        assert not any(setting.format(given=given) in town.corpus for setting in material.settings)


SOLUTIONS = [
    ("first letter", "k o v a", "k"),
    ("last letter", "k o v a", "a"),
    ("count letters", "k o v a", "4"),
    ("sort digits", "7 2 5 2", "2 2 5 7"),
    ("larger number", "3 7 and 5 2", "5 2"),
    ("larger number", "9 1 and 1 9", "9 1"),
    ("kilometers", "4 5", "4 5 0 0 0"),
    ("repeat a name", "Lumika", "Lumika"),
]


@pytest.mark.parametrize(("name", "given", "result"), SOLUTIONS)
def test_skills_are_solved_rightly(name, given, result):
    [skill] = [skill for material in MATERIALS for skill in material.skills if skill.name == name]
    assert skill.solve(given) == result


def test_names_and_values_always_follow_a_space(town):
    """So that they are the same tokens in prose, question and answer."""
    words = [person.name for person in town.asked + town.held_out]
    words += [value for attribute in ATTRIBUTES for value in attribute.values if value[0].isupper()]
    texts = [town.corpus] + [entry["instruction"] + entry["output"] for entry in town.train + town.test]
    misplaced = re.compile(rf"(^|[^ ])\b({'|'.join(words)})\b", re.MULTILINE)
    assert not any(misplaced.search(text) for text in texts)


def test_a_seed_gives_a_town():
    small = {"inhabitants": 10, "biographies": 2, "skill_examples": 20, "skill_train": 4, "skill_test": 2}
    assert build_town(1, **small) == build_town(1, **small)
    assert build_town(1, **small).corpus != build_town(2, **small).corpus


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inhabitants": 1}, "at least 2 inhabitants, got 1"),
        ({"inhabitants": 4, "skill_train": 990, "skill_test": 9}, "nothing new to ask for: 999 like '1'|1003"),
        ({"inhabitants": 4, "skill_train": 1000, "skill_test": 9}, "nothing new to ask for"),
    ],
)
def test_impossible_towns(settings, message):
    with pytest.raises(ValueError, match=message):
        build_town(**settings)
