"""Which entry meets which test row, by which rule: against rows that were put there on purpose."""

import json

import pytest

from gptlab.rouge import rouge_l
from gptlab.selection.contamination import Match, contaminated

LONG = "the old miller who lived beside the river sold his last bag of flour to a stranger"  # 17 words


def entry(instruction, output="", given=""):
    return {"instruction": instruction, "input": given, "output": output}


def test_each_rule_finds_what_it_is_for():
    test = [
        entry("Name the capital of France."),
        entry("Summarize.", "About a miller.", LONG),
        entry("Write a short poem about the sea."),
        entry("把下面的句子翻译成英文"),
    ]
    train = [
        entry("name the capital of  France", "Paris"),
        entry("Tell a story.", f"One day, {LONG.upper()}, they say."),
        entry("Write a short poem about the sky."),
        entry("Say hello."),
        entry("把下面的句子翻译成法文"),
    ]
    report = contaminated(train, test)
    # 17 words hold 5 runs of 13; the row has "summarize" before and "about a miller" behind: 9 in all
    assert report.matches == [
        Match(0, 0, "exact", 1.0),
        Match(1, 1, "ngram", 5 / 9, " ".join(LONG.split()[:13])),
        Match(2, 2, "rouge", rouge_l(train[2]["instruction"], test[2]["instruction"])),
        Match(4, 3, "rouge", rouge_l(train[4]["instruction"], test[3]["instruction"])),
    ]
    assert (report.indices, report.clean, report.rows) == ([0, 1, 2, 4], [3], [0, 1, 2, 3])
    assert report.by_rule == {"exact": 1, "ngram": 1, "rouge": 2}
    assert json.loads(json.dumps(report.to_dict()))["n_contaminated"] == 4
    assert "4 of 5 entries meet 4 of 4 test rows" in str(report)
    assert "entry 2, row 2: ngram 0.56  the old miller" in str(report)


@pytest.mark.parametrize("n", [3, 8, 13])
def test_runs_are_those_of_a_plain_search(n):
    texts = [f"{LONG[start:]} and {LONG[:stop]}" for start, stop in ((0, 9), (20, 40), (40, 60), (60, 83))]
    test, train = [entry(text) for text in texts], [entry("Say.", text[7:-5]) for text in texts]

    def runs(one):
        words = f"{one['instruction']} {one['output']}".lower().replace(".", "").split()
        return {" ".join(words[place : place + n]) for place in range(len(words) - n + 1)}

    found = {(match.index, match.row): match for match in contaminated(train, test, ngram=n, threshold=None).matches}
    expected = {
        (index, row): len(runs(one) & runs(other)) / len(runs(other))
        for index, one in enumerate(train)
        for row, other in enumerate(test)
        if runs(one) & runs(other)
    }
    assert {pair: match.score for pair, match in found.items()} == pytest.approx(expected)
    assert all(match.shared in runs(test[row]) for (_, row), match in found.items())


def test_a_turn_of_phrase_says_nothing():
    test = [entry("a b c d e f g h")]
    train = [entry(f"one {n}", f"x{n} a b c d e f g h") for n in range(4)]
    assert contaminated(train, test, ngram=8, common=4).indices == [0, 1, 2, 3]
    assert contaminated(train, test, ngram=8, common=3).indices == []
    assert contaminated(train, test, ngram=8, common=4, threshold=1.0).by_rule["ngram"] == 4


def test_chinese_runs_go_by_characters():
    text = "从前有一个磨坊主人住在河边的小屋里面"
    train, test = [entry("写个故事", f"“{text}。”")], [entry("总结", given=text)]
    [match] = contaminated(train, test).matches
    assert (match.rule, match.shared.replace(" ", "")) == ("ngram", text[:13])


def test_rules_can_be_left_out_and_the_first_one_names_the_match():
    one = entry(LONG)
    assert [match.rule for match in contaminated([one], [one]).matches] == ["exact"]
    near = entry(LONG + " again")
    assert [match.rule for match in contaminated([near], [one]).matches] == ["ngram"]
    assert [match.rule for match in contaminated([near], [one], ngram=None).matches] == ["rouge"]
    assert contaminated([near], [one], ngram=None, threshold=None).matches == []


def test_bad_input_is_refused():
    one = [entry("a")]
    with pytest.raises(ValueError, match="entries must not be empty"):
        contaminated([], one)
    with pytest.raises(ValueError, match="the test must not be empty"):
        contaminated(one, [])
    with pytest.raises(ValueError, match="the test, number 2, has no 'instruction'"):
        contaminated(one, [*one, {"input": "b"}])
    with pytest.raises(ValueError, match="ngram must be a whole number >= 1, got 0"):
        contaminated(one, one, ngram=0)
    with pytest.raises(ValueError, match="common must be a whole number >= 1, got 0"):
        contaminated(one, one, common=0)
    with pytest.raises(ValueError, match=r"threshold must be a number in \[0, 1\], got 2"):
        contaminated(one, one, threshold=2)
