"""Scores of responses: every entry keeps its place, whatever the judge says, and none is asked about twice."""

import json
import math

import pytest

from gptlab.judging import ScoreReport, score_responses
from gptlab.judging.prompts import score_prompt, sharper_score_prompt
from gptlab.judging.scoring import BINS, Score
from gptlab.judging.statistics import bootstrap_interval
from gptlab.servers import Recorded, Reply, Scripted, ServerError


def entries_of(count):
    return [
        {"instruction": f"Say {number}.", "input": "", "output": f"It is {number}.", "model_response": f"{number}!"}
        for number in range(count)
    ]


def number_asked_about(question):
    return int(question.split("Say ")[1].split(".")[0])


def judging(replies, sharper=None):
    """Return a judge with these replies to the first questions, and others to the second ones."""

    def reply(question):
        is_first = question.startswith("Given the input")
        return (replies if is_first else sharper)[number_asked_about(question)]

    return Scripted(reply, name="phi3")


@pytest.mark.parametrize("workers", [1, 4])
def test_scores_come_in_order_with_what_the_judge_said(workers):
    replies = {0: "85", 1: "Nice!", 2: "Well.", 3: ServerError("no reply"), 4: "<think>40</think>Score: 20", 5: "0"}
    sharper = {1: "Score: 60", 2: "Very well."}
    report = score_responses(entries_of(6), judging(replies, sharper), workers=workers)
    assert report.scores == [85, 60, None, None, 20, 0]
    assert report.results == (
        Score(85, "scored", ("85",)),
        Score(60, "scored", ("Nice!", "Score: 60")),
        Score(None, "unparsed", ("Well.", "Very well.")),
        Score(None, "failed", (), "no reply"),
        Score(20, "scored", ("<think>40</think>Score: 20",)),
        Score(0, "scored", ("0",)),
    )
    assert (report.n_total, report.n_scored, report.n_unparsed, report.n_failed) == (6, 4, 1, 1)
    assert report.mean == pytest.approx((85 + 60 + 20 + 0) / 4)
    assert report.mean_with_zeros == pytest.approx((85 + 60 + 20 + 0) / 5)
    assert report.judge == "phi3"


def test_the_judge_reads_the_two_questions_as_single_messages():
    judge = Scripted(["Nice!", "60"])
    entry = entries_of(1)[0]
    score_responses([{**entry, "other": "x`y"}], judge, key="other")
    assert judge.asked == [
        [{"role": "user", "content": score_prompt(entry, "x`y")}],
        [{"role": "user", "content": sharper_score_prompt(entry, "x`y")}],
    ]


def test_an_empty_response_is_asked_about():
    entry = {"instruction": "Say 0.", "output": "It is 0.", "model_response": ""}
    assert score_responses([entry], judging({0: "0"})).scores == [0]


def test_a_second_question_that_fails_keeps_the_first_reply():
    report = score_responses(entries_of(2), judging({0: "Nice!", 1: "85"}, {0: ServerError("gone", fatal=True)}))
    assert report.results[0] == Score(None, "failed", ("Nice!",), "gone")
    assert report.scores == [None, 85]


def test_the_end_of_a_reply_that_was_cut_short_is_no_score():
    replies = {0: Reply("8", "length"), 1: Reply("85\n\nIt is", "length"), 2: Reply("One\n5\nis", "length"), 3: "8"}
    report = score_responses(entries_of(4), judging(replies, {0: "85", 2: "no"}))
    assert report.scores == [85, 85, None, 8]


def test_what_a_dead_server_did_not_answer_is_told():
    judge = Scripted(["85", ServerError("nothing answers at http://x", fatal=True)])
    report = score_responses(entries_of(4), judge)
    assert report.scores == [85, None, None, None]
    assert report.n_failed == 3
    assert report.results[3].error == "not asked: nothing answers at http://x"
    assert "nothing answers at http://x" in str(report)


def test_a_server_that_never_answers_is_an_error():
    with pytest.raises(ServerError, match="nothing answers"):
        score_responses(entries_of(4), Scripted([ServerError("nothing answers", fatal=True)]))


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    replies = {number: str(number) for number in range(10)} | {3: "Nice!"}
    interrupted = judging(replies | {7: KeyboardInterrupt()}, {3: "33"})
    with pytest.raises(KeyboardInterrupt):
        score_responses(entries_of(10), interrupted, cache=tmp_path / "replies.jsonl")
    judge = judging(replies, {3: "33"})
    report = score_responses(entries_of(10), judge, cache=tmp_path / "replies.jsonl")
    assert report.scores == [0, 1, 2, 33, 4, 5, 6, 7, 8, 9]
    assert interrupted.calls + judge.calls == 10 + 1 + 1  # the second question about 3, and the interrupted one about 7
    nobody = Scripted([], name="phi3")
    assert score_responses(entries_of(10), nobody, cache=tmp_path / "replies.jsonl", workers=3) == report
    assert score_responses(entries_of(10), Recorded(tmp_path / "replies.jsonl")) == report


def test_identical_entries_are_all_scored():
    assert score_responses(entries_of(1) * 5, judging({0: "85"}), workers=2).scores == [85] * 5


def report_of(scores):
    return ScoreReport(tuple(Score(score, "unparsed" if score is None else "scored", ()) for score in scores), "phi3")


def test_the_histogram_has_ten_bins_and_the_last_holds_the_100():
    counts = report_of([*range(101), None]).histogram
    assert tuple(counts) == BINS
    assert list(counts.values()) == [10] * 9 + [11]
    assert report_of([9, 10, 99, 100]).histogram == dict.fromkeys(BINS, 0) | {"0-9": 1, "10-19": 1, "90-100": 2}


def test_bars_are_as_long_as_their_counts():
    bars = {line.split()[0]: line.count("█") for line in str(report_of([5] * 60 + [50] * 20 + [95])).splitlines()[-10:]}
    assert bars == dict.fromkeys(BINS, 0) | {"0-9": 30, "50-59": 10, "90-100": 1}


def test_the_interval_is_the_bootstrap_over_the_scored():
    scores = [85, 90, 0, 45, 70, 100]
    assert report_of([*scores, None]).interval == bootstrap_interval(scores)
    assert report_of([85]).interval is None


def test_the_report_as_text_and_as_json():
    report = report_of([85, 60, None])
    text = str(report)
    for row in ("judge phi3", "entries 3", "scored 2", "unparsed 1", "failed 0", "mean of the scored 72.50", "0 48.33"):
        assert row in " ".join(text.split())
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["summary"] == report.summary()
    assert content["summary"]["interval"] == list(report.interval)
    assert content["results"][2] == {"score": None, "status": "unparsed", "replies": [], "error": None}
    assert math.isclose(content["summary"]["mean"], 72.5)


def test_a_report_without_any_score():
    report = report_of([None, None])
    assert (report.mean, report.mean_with_zeros, report.interval) == (None, 0.0, None)
    assert "mean of the scored          -" in str(report)
    failed = ScoreReport((Score(None, "failed", (), "gone"),), "phi3")
    assert failed.mean_with_zeros is None
    assert json.dumps(failed.to_dict(), allow_nan=False)


def test_what_cannot_be_scored_is_refused(tmp_path):
    entries, judge = entries_of(2), judging({0: "85", 1: "85"})
    with pytest.raises(ValueError, match=r"entry 1 has no 'response'; its keys are .*'model_response'"):
        score_responses(entries, judge, key="response")
    with pytest.raises(ValueError, match="entry 2 has no 'output'"):
        score_responses([entries[0], {"instruction": "Say 1.", "model_response": "1"}], judge)
    with pytest.raises(ValueError, match="workers must be a whole number >= 1, got 0"):
        score_responses(entries, judge, workers=0)
    with pytest.raises(TypeError, match="got 'phi3'"):
        score_responses(entries, "phi3")
    with pytest.raises(ValueError, match="is no file of recorded replies"):
        (tmp_path / "notes.txt").write_text("My notes.\n", encoding="utf-8")
        score_responses(entries, judge, cache=tmp_path / "notes.txt")
    assert judge.calls == 0
