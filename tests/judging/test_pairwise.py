"""Pairs of responses in both orders, against FastChat's rule and LIMA's."""

import json
from itertools import product

import pytest

from gptlab.judging import compare_responses
from gptlab.judging.pairwise import Pair, PairwiseReport, Tally, outcome_of
from gptlab.judging.prompts import pairwise_messages
from gptlab.judging.statistics import binomial_test
from gptlab.servers import Reply, Scripted, ServerError

VERDICTS = ("A", "B", "tie")
CELLS = list(product(VERDICTS, VERDICTS))
TOKENS = {"A": "[[A]]", "B": "[[B]]", "tie": "[[C]]"}


def fastchat(first_game, second_game):
    """Return FastChat's outcome for model 1: it is shown first in the first game and second in the second."""
    winners = {"A": ("model_1", "model_2"), "B": ("model_2", "model_1"), "tie": ("tie", "tie")}
    one, other = winners[first_game][0], winners[second_game][1]
    if one == "tie" or one != other:
        return "tie"
    return "win" if one == "model_1" else "loss"


LIMA = {  # by the verdicts as given
    ("A", "A"): "tie",
    ("A", "B"): "win",
    ("A", "tie"): "win",
    ("B", "A"): "loss",
    ("B", "B"): "tie",
    ("B", "tie"): "loss",
    ("tie", "A"): "loss",
    ("tie", "B"): "win",
    ("tie", "tie"): "tie",
}


@pytest.mark.parametrize(("first", "second"), CELLS)
def test_outcomes_are_those_of_fastchat_and_of_lima(first, second):
    pair = Pair((first, second), ("", ""))
    assert pair.outcome() == fastchat(first, second)
    assert pair.outcome("lima") == LIMA[first, second]
    assert pair.agree == ({first, second} in ({"A", "B"}, {"tie"}))


@pytest.mark.parametrize("convention", ["agreement", "lima"])
@pytest.mark.parametrize(("one", "other"), CELLS)
def test_the_order_of_the_orders_and_the_names_of_the_sides_mean_nothing(one, other, convention):
    swapped, mirrored = {"A": "B", "B": "A", "tie": "tie"}, {"win": "loss", "loss": "win", "tie": "tie"}
    outcome = outcome_of(one, other, convention)
    assert outcome_of(other, one, convention) == outcome
    assert outcome_of(swapped[one], swapped[other], convention) == mirrored[outcome]


def sides(count):
    tasks = [{"instruction": f"Say {number}.", "input": "", "output": f"It is {number}."} for number in range(count)]
    return [[{**task, "model_response": f"{word} {task['output']}"} for task in tasks] for word in ("Yes.", "Hm...")]


def scripted(verdicts):
    """Return a judge that gives entry n the verdicts of `verdicts[n]`: with A's response first, with B's first."""

    def reply(question):
        number = int(question.split("Say ")[1].split(".")[0])
        said = verdicts[number][question.index("Yes.") > question.index("Hm...")]
        return TOKENS.get(said, said)

    return Scripted(reply, name="phi3")


@pytest.mark.parametrize("workers", [1, 4])
def test_pairs_are_counted_by_both_conventions(workers):
    verdicts = [("A", "B"), ("A", "B"), ("A", "A"), ("tie", "tie"), ("tie", "B"), ("B", "A"), ("tie", "A")]
    report = compare_responses(*sides(7), scripted(verdicts), workers=workers)
    assert [pair.verdicts for pair in report.results] == verdicts
    assert [pair.outcome() for pair in report.results] == ["win", "win", "tie", "tie", "tie", "loss", "tie"]
    assert report.tally() == Tally(wins=2, ties=4, losses=1) == Tally(report.wins, report.ties, report.losses)
    assert report.tally("lima") == Tally(wins=3, ties=2, losses=2)
    assert report.win_rate == pytest.approx(2 / 7)
    assert report.adjusted_win_rate == pytest.approx((2 + 4 / 2) / 7)
    assert report.p_value == binomial_test(2, 1)
    assert report.consistency == pytest.approx(4 / 7)
    assert (report.n_total, report.n_judged, report.n_unparsed, report.n_failed) == (7, 7, 0, 0)
    assert report.judge == "phi3"


@pytest.mark.parametrize("said", ["A", "B"])
def test_a_judge_that_looks_at_the_place_alone_decides_nothing(said):
    report = compare_responses(*sides(5), scripted([(said, said)] * 5))
    assert (report.wins, report.ties, report.losses, report.consistency) == (0, 5, 0, 0.0)


def test_swapped_sides_swap_the_result():
    verdicts = [("A", "B"), ("A", "B"), ("B", "A"), ("A", "tie"), ("B", "B")]
    one = compare_responses(*sides(5), scripted(verdicts))
    other = compare_responses(*sides(5)[::-1], scripted(verdicts))
    for convention in ("agreement", "lima"):
        tally, mirrored = one.tally(convention), other.tally(convention)
        assert (tally.wins, tally.ties, tally.losses) == (mirrored.losses, mirrored.ties, mirrored.wins)
    assert one.length_ratio == pytest.approx(1 / other.length_ratio)


def test_the_judge_reads_both_orders():
    one, other = sides(1)
    judge = scripted([("A", "B")])
    compare_responses(one, other, judge)
    texts = one[0]["model_response"], other[0]["model_response"]
    assert judge.asked == [pairwise_messages(one[0], *texts), pairwise_messages(one[0], *texts[::-1])]


def test_a_pair_without_both_verdicts_is_left_out_and_counted():
    error = ServerError("no reply")
    verdicts = [("A", "B"), ("A", error), ("good", "B"), ("A", Reply("[[B]] as", "length")), (error, "what?")]
    report = compare_responses(*sides(5), scripted(verdicts))
    assert [pair.status for pair in report.results] == ["judged", "failed", "unparsed", "unparsed", "failed"]
    assert [pair.outcome() for pair in report.results] == ["win", None, None, None, None]
    assert report.results[1] == Pair(("A", None), ("[[A]]", None), "no reply")
    assert report.results[2] == Pair((None, "B"), ("good", "[[B]]"))
    assert (report.n_judged, report.n_unparsed, report.n_failed) == (1, 2, 2)
    assert (report.wins, report.win_rate, report.consistency) == (1, 1.0, 1.0)


def test_the_same_text_on_both_sides_is_a_tie_and_nobody_is_asked():
    one, other = sides(3)
    other[1] = one[1]
    judge = scripted([("A", "B"), ("B", "A"), ("A", "B")])
    report = compare_responses(one, other, judge)
    assert judge.calls == 4
    assert report.results[1] == Pair((), ())
    assert report.results[1].outcome("lima") == "tie"
    assert (report.wins, report.ties, report.n_identical, report.n_judged, report.consistency) == (2, 1, 1, 2, 1.0)
    itself = compare_responses(one, one, Scripted([]))
    assert (itself.ties, itself.adjusted_win_rate, itself.consistency, itself.length_ratio) == (3, 0.5, None, 1.0)


def test_two_keys_of_one_file_are_compared():
    one, other = sides(2)
    entries = [{**first, "theirs": second["model_response"]} for first, second in zip(one, other)]
    report = compare_responses(entries, entries, scripted([("A", "B")] * 2), key_b="theirs")
    assert report.wins == 2


def test_the_length_ratio_is_that_of_the_characters():
    one, other = sides(2)
    one[0]["model_response"], one[1]["model_response"] = "Yes. 四个汉字", "Yes."
    other[0]["model_response"], other[1]["model_response"] = "Hm... x", "Hm... yz"
    assert compare_responses(one, other, scripted([("A", "B")] * 2)).length_ratio == pytest.approx((9 + 4) / (7 + 8))
    for entry in other:
        entry["model_response"] = ""
    assert compare_responses(one, other, lambda messages: "[[A]]").length_ratio is None


def test_an_interrupted_comparison_goes_on_where_it_stopped(tmp_path):
    verdicts = [("A", "B")] * 4
    interrupted = scripted([*verdicts[:2], ("A", KeyboardInterrupt()), verdicts[3]])
    with pytest.raises(KeyboardInterrupt):
        compare_responses(*sides(4), interrupted, cache=tmp_path / "replies.jsonl")
    judge = scripted(verdicts)
    assert compare_responses(*sides(4), judge, cache=tmp_path / "replies.jsonl").wins == 4
    assert interrupted.calls + judge.calls == 8 + 1


def test_the_report_as_text_and_as_json():
    report = compare_responses(
        *sides(4), scripted([("A", "B"), ("A", "tie"), ("A", ServerError("no reply")), ("?", "A")])
    )
    text = " ".join(str(report).split())
    for row in (
        "judge phi3",
        "entries 4",
        "unparsed 1",
        "failed 1 left out; the first: no reply",
        "orders agree 50.0%",
    ):
        assert row in text
    assert "agreement 1 1 0 50.0% 75.0% 1.000" in text
    assert "lima 2 0 0 100.0% 100.0% 0.500" in text
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["summary"] == report.summary()
    assert content["summary"]["lima"]["wins"] == 2
    assert content["results"][1] == {
        "status": "judged",
        "verdicts": ["A", "tie"],
        "outcome": "tie",
        "outcome_lima": "win",
        "agree": False,
        "replies": ["[[A]]", "[[C]]"],
        "error": None,
    }
    assert content["results"][2]["replies"] == ["[[A]]", None]


def test_a_report_in_which_nothing_counts():
    report = PairwiseReport((Pair((None, "A"), ("?", "[[A]]")),), "phi3", None)
    assert (report.win_rate, report.adjusted_win_rate, report.consistency, report.p_value) == (None, None, None, 1.0)
    assert json.dumps(report.to_dict(), allow_nan=False)
    assert str(report)


def test_sides_that_do_not_line_up():
    one, other = sides(9)
    judge = Scripted([])
    with pytest.raises(ValueError, match="A has 9 entries, B has 8; entry 9 is in one of them only"):
        compare_responses(one, other[:8], judge)
    with pytest.raises(
        ValueError, match=r"2 of them have different tasks \(3, 4\); entry 3 of A is 'Say 2.', of B 'Say 3.'"
    ):
        compare_responses(one, [*other[:2], other[3], other[2], *other[4:]], judge)
    with pytest.raises(ValueError, match=r"A has 9 entries, B has 8; 8 .* \(1, 2, 3, 4, 5, \.\.\.\)"):
        compare_responses(one, other[1:], judge)
    other[5] = {**other[5], "input": "softly"}
    with pytest.raises(ValueError, match=r"entry 6 of A is 'Say 5.', of B 'Say 5..nsoftly'"):
        compare_responses(one, other, judge)
    other[5] = {**other[5], "input": None}
    assert compare_responses(one, other, scripted([("A", "B")] * 9)).wins == 9


def test_what_cannot_be_compared_is_refused():
    one, other = sides(2)
    with pytest.raises(ValueError, match="A, entry 1 has no 'mine'"):
        compare_responses(one, other, Scripted([]), key_a="mine")
    with pytest.raises(ValueError, match="B, entry 2 has no 'model_response'"):
        compare_responses(one, [other[0], {"instruction": "Say 1."}], Scripted([]))
    with pytest.raises(ValueError, match="the list is empty"):
        compare_responses([], [], Scripted([]))
    with pytest.raises(ValueError, match="workers must be a whole number >= 1, got -1"):
        compare_responses(one, other, Scripted([]), workers=-1)
    with pytest.raises(TypeError, match="got None"):
        compare_responses(one, other, None)
    with pytest.raises(ServerError, match="nothing answers"):
        compare_responses(one, other, Scripted([ServerError("nothing answers", fatal=True)]))
    with pytest.raises(ValueError, match="convention must be 'agreement' or 'lima', got 'half'"):
        PairwiseReport((Pair((), ()),), "phi3", None).tally("half")
