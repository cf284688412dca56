from itertools import pairwise

import pytest

from gptlab.judging.pairwise import Pair, PairwiseReport
from gptlab.judging.scoring import Score, ScoreReport
from gptlab.show import plot_outcomes, plot_scores, to_png


def scored(*scores):
    """Return a report with these scores; None is a reply that could not be read."""
    statuses = ("unparsed" if score is None else "scored" for score in scores)
    return ScoreReport(tuple(Score(score, status, ("",)) for score, status in zip(scores, statuses)), "judge")


def compared(*verdicts):
    return PairwiseReport(tuple(Pair(pair, ("", "")) for pair in verdicts), "judge", 1.0)


def test_a_histogram_with_what_is_missing_and_both_means():
    report = scored(100, 95, 90, 89, 0, 5, None)
    [axis] = plot_scores({"full": report}).axes
    *_, last, missing = bars = [bar for bar in axis.patches if bar in axis.containers[0] or bar in axis.containers[1]]
    assert [bar.get_height() for bar in bars] == [2, 0, 0, 0, 0, 0, 0, 0, 1, 3, 1]
    assert last.get_x() == 90
    assert missing.get_x() + missing.get_width() < 0
    mean, with_zeros = (line.get_xdata()[0] for line in axis.lines)
    assert (mean, with_zeros) == (report.mean, report.mean_with_zeros)
    [band] = [patch for patch in axis.patches if patch not in bars]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx(report.interval)
    assert axis.get_title(loc="left") == (
        f"full: {report.mean:.1f}, from {report.interval.low:.1f} to {report.interval.high:.1f}; unread as 0: 54.1"
    )
    assert [label.get_text() for label in axis.get_xticklabels()][:2] == ["none", "0"]


def test_there_may_be_one_score_or_none():
    figure = plot_scores({"one": scored(50), "none": scored(None, None)})
    one, none = figure.axes
    assert len(one.lines) == 1  # no band, and both means are the same
    assert one.get_title(loc="left") == "one: 50.0"
    assert none.get_title(loc="left") == "none; unread as 0: 0.0"
    assert to_png(figure).startswith(b"\x89PNG")


def test_two_bars_for_each_comparison():
    first = compared(("A", "B"), ("A", "tie"), ("B", "A"), ("A", "A"))  # win, tie or win, loss, tie
    figure = plot_outcomes({"first": first, "nothing judged": compared((None, "A"))})
    [axis] = figure.axes
    widths = [[bar.get_width() for bar in axis.containers[number]] for number in range(6)]
    assert widths == [[0.25], [0.5], [0.25], [0.5], [0.25], [0.25]]  # agreement, then lima
    assert [label.get_text() for label in axis.get_yticklabels()] == ["agreement", "lima"] * 2
    texts = [text.get_text() for text in axis.texts]
    assert texts[:6] == ["1", "2", "1", "2", "1", "1"]
    assert {"orders agree:\n50%", "orders agree:\n-", "first", "nothing judged"} <= set(texts)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["wins", "ties", "losses"]


def test_no_text_lies_on_another_or_outside():
    titles = ["a judge that\nalways says A", "the judge,\nas it is", "the judge, told\nthe right answer"]
    figure = plot_outcomes({title: compared(("A", "B"), ("B", "A"), ("A", "A")) for title in titles})
    to_png(figure)  # which lays it out
    [axis] = figure.axes
    boxes = {text.get_text(): text.get_window_extent() for text in axis.texts}
    labels = [label.get_window_extent() for label in axis.get_yticklabels()]
    assert all(upper.y0 > lower.y1 - 1 for upper, lower in pairwise(boxes[title] for title in titles))
    assert all(boxes[title].x1 < label.x0 for title in titles for label in labels)
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes.values())


@pytest.mark.parametrize("plot", [plot_scores, plot_outcomes])
def test_nothing_to_draw_is_refused(plot):
    with pytest.raises(ValueError, match="at least one report, got none"):
        plot({})
