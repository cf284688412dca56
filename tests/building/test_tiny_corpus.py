import random
import re

import pytest

from gptlab.building.tiny_corpus import (
    _SLOTS,
    SENTENCES,
    THINGS,
    VERBS,
    _surfaces,
    number_of,
    sentence,
    tiny_corpus,
    translate,
)

SOME = random.Random(0).sample(range(SENTENCES), k=500)


def test_translations_that_a_person_made():
    pairs = {
        "The teacher bought three red books in the market yesterday.": "老师昨天在市场买了三本红书。",
        "The king sees a horse on the bridge every day.": "国王每天在桥上看见一匹马。",
        "The child will hide four white boxes at the school tomorrow.": "孩子明天会在学校藏四个白盒子。",
    }
    for english, chinese in pairs.items():
        assert (translate(english), translate(chinese)) == (chinese, english)


def test_a_sentence_is_a_number_in_both_languages():
    for number in [0, SENTENCES - 1, *SOME]:
        made = sentence(number)
        assert number_of(made.english) == number_of(made.chinese) == number
        assert translate(translate(made.english)) == made.english


def test_no_two_words_of_a_slot_have_a_form_in_common():
    # with the test above: no two sentences are alike in either language
    for slot in _SLOTS.values():
        forms = [form for item in slot for form in set(_surfaces(item))]
        assert len(forms) == len(set(forms))


def test_the_corpus_is_drawn_without_replacement_and_again_the_same():
    pairs = tiny_corpus(1000, seed=5)
    assert pairs == tiny_corpus(1000, seed=5) != tiny_corpus(1000, seed=6)
    for side in ("id", "source", "target"):
        assert len({pair[side] for pair in pairs}) == 1000
    assert all(translate(pair["source"]) == pair["target"] for pair in pairs)
    assert {(pair["src_lang"], pair["tgt_lang"]) for pair in pairs} == {("English", "Chinese")}


def test_all_words_are_used():
    english = {word for pair in tiny_corpus(1000) for word in re.findall(r"\w+", pair["source"])}
    assert {thing.plural for thing in THINGS} <= english
    assert {verb.english[1] for verb in VERBS} <= english


@pytest.mark.parametrize(
    "text",
    [
        "The teacher bought three book in the market yesterday.",
        "The teacher buys a book in the market yesterday.",
        "老师昨天在市场买了三只书。",
        "老师明天在市场买三本书。",
        "老师每天在市场买一本书",
        "",
    ],
)
def test_what_the_grammar_does_not_make_has_no_number(text):
    with pytest.raises(ValueError, match=f"no sentence of the grammar: '{re.escape(text)}'"):
        translate(text)


@pytest.mark.parametrize("count", [0, SENTENCES + 1])
def test_as_many_as_there_are(count):
    with pytest.raises(ValueError, match=f"the grammar makes 1 to [0-9,]+ pairs, got {count}"):
        tiny_corpus(count)


@pytest.mark.parametrize("number", [-1, SENTENCES])
def test_numbers_of_sentences(number):
    with pytest.raises(ValueError, match=f"got {number}"):
        sentence(number)
