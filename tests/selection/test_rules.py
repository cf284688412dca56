"""Each rule rejects what it is for, and not what only looks like it."""

import pytest

from gptlab.selection.rules import (
    Rule,
    apply_rules,
    lima_rules,
    no_first_person,
    no_markup,
    no_other_answers,
    strip_markup,
    votes_rule,
)


def entry(output, **more):
    return {"instruction": "Say it.", "input": "", "output": output, **more}


@pytest.mark.parametrize(
    "text",
    [
        "I think so.",
        "Well, I'm sure.",
        "So say I.",
        "In My view",
        "a friend of mine",
        "tell me",
        "我认为可以。",
        "在我看来",
        "本人",
    ],
)
def test_the_first_person_is_found(text):
    assert not no_first_person(text)


@pytest.mark.parametrize(
    "text",
    [
        "World War I began in 1914.",
        "Elizabeth I, queen",
        "Types I and II",
        "I. Introduction\nII. End",
        "I/O is slow",
        "It is.",
        "a mine of gold is no myth".replace("mine", "pit"),
        "We see that x = 3.",
        "我们看到，我国有自我意识。",
        "Write `I = 3` here.",
        "```\nfor I in range(3): print(my)\n```",
        "iPhone, AI, MY-TH",
    ],
)
def test_what_only_looks_like_the_first_person_may_stand(text):
    assert no_first_person(text)


def test_other_answers_are_found():
    for text in (
        "As mentioned, it is 3.",
        "As others have pointed out, no.",
        "See the answer above.",
        "楼上说得对",
        "其他回答",
    ):
        assert not no_other_answers(text), text
    for text in ("He answered twice.", "In other words, the top.", "an operation (op)", "答案是三"):
        assert no_other_answers(text), text


@pytest.mark.parametrize(
    "text, without",
    [
        ("See https://a.org/b?c=d, please", "See , please"),
        ("见https://a.org。好", "见。好"),
        ("![a cat](cat.png)A cat", "A cat"),
        ("[the page](http://a.org) says", "the page says"),
        ('<a href="x">here</a><br/>', "here"),
        ("<!-- no -->text", "text"),
        ("www.a.org is a page", " is a page"),
    ],
)
def test_markup_is_found_and_stripped(text, without):
    assert not no_markup(text)
    assert strip_markup(text) == without
    assert no_markup(without)


@pytest.mark.parametrize(
    "text",
    [
        "1. one\n2. two",
        "<ul><li>one</li></ul>",
        "`<b>` and ```html\n<p>https://a.org</p>\n```",
        "<code><b></code>",
        "if a<b and c>d: x[0](y)",
        "List<Integer> and 3 < 4 > 2",
        "[note](see below)",
        "```\nnever closed <p>",
    ],
)
def test_code_and_lists_may_stand(text):
    assert no_markup(text)
    assert strip_markup(text) == text


def test_the_first_broken_rule_is_blamed_and_every_entry_is_accounted_for():
    entries = [entry("x" * 10), entry("x" * 3), entry("I" * 3), entry("so say I, at last"), entry("y" * 21)]
    report = apply_rules(entries, lima_rules(shortest=4, longest=20))
    assert report.kept == [0]
    assert report.rejected == [(1, "length >= 4"), (2, "length >= 4"), (3, "no first person"), (4, "length <= 20")]
    assert report.dropped == {
        "length >= 4": 2,
        "length <= 20": 1,
        "no first person": 1,
        "no other answers": 0,
        "no markup": 0,
    }
    assert report.examples["length >= 4"] == ["xxx", "III"]
    assert report.to_dict()["rejected"][0] == [1, "length >= 4"]
    lines = str(report).splitlines()
    assert lines[2].split() == ["length", ">=", "4", "2", "3", "'xxx'"]


def test_the_order_of_the_rules_changes_who_is_blamed_and_not_who_stays():
    entries = [entry(text) for text in ("I", "I say a lot", "fine enough", "<b>", "I <p>")]
    rules = lima_rules(shortest=4)
    forward, backward = apply_rules(entries, rules), apply_rules(entries, rules[::-1])
    assert forward.kept == backward.kept == [2]
    assert forward.rejected != backward.rejected


def test_the_published_lengths_are_those_that_are_taken():
    outputs = ["x" * length for length in (1199, 1200, 4096, 4097)]
    assert apply_rules([entry(output) for output in outputs]).kept == [1, 2]


def test_rules_of_ones_own_and_votes():
    entries = [entry("yes", score=10), entry("yes", score=9), entry("yes"), entry("no", score=99)]
    rules = [votes_rule(), Rule("says yes", lambda one: one["output"] == "yes")]
    report = apply_rules(entries, rules, examples=0)
    assert report.kept == [0]
    assert report.dropped == {"score at least 10": 2, "says yes": 1}
    assert str(report).splitlines()[2].split() == ["score", "at", "least", "10", "2", "2"]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="entries must not be empty"):
        apply_rules([])
    with pytest.raises(ValueError, match="entry 2 has no 'output'"):
        apply_rules([entry("a"), {"instruction": "b"}])
    with pytest.raises(ValueError, match=r"different names, got \['a', 'a'\]"):
        apply_rules([entry("a")], [Rule("a", bool), Rule("a", bool)])
    with pytest.raises(ValueError, match=r"different names, got \[\]"):
        apply_rules([entry("a")], [])
    with pytest.raises(ValueError, match="longest must be a whole number >= 9, got 8"):
        lima_rules(9, 8)
    with pytest.raises(ValueError, match="shortest must be a whole number >= 0, got -1"):
        lima_rules(-1)
