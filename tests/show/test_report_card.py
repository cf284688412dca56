from types import SimpleNamespace

import pytest

from gptlab.selection.card import report_card
from gptlab.show import to_png
from gptlab.show.report_card import MOST_REASONS, plot_report_card


def entry(instruction, output):
    return {"instruction": instruction, "input": "", "output": output}


ENTRIES = [
    *[entry("Write a poem.", "x" * length) for length in (1, 2, 3)],
    entry("Write a song.", "x" * 30),
    entry("Write.", "x"),
    entry("写一首诗", "诗" * 7),
    entry("Name a $5 bill.", "x"),
]


def test_a_bar_is_a_verb_and_its_parts_are_its_nouns():
    figure = plot_report_card(report_card(ENTRIES, title="seven"))
    roots, prompts, outputs = figure.axes
    write = [bar.get_width() for bar in roots.patches if bar.get_y() < 0]
    assert write == [3, 1, 1]  # poem, song, others
    assert roots.get_yticklabels()[0].get_text() == "write  5"
    assert roots.texts[0].get_text() == "poem 3, song 1"
    assert sum(bar.get_height() for bar in outputs.patches) == len(ENTRIES)
    assert outputs.lines[0].get_xdata()[0] == 2
    assert "longest 15" in prompts.get_title(loc="left")
    assert "seven: 7 entries" in figure.get_suptitle()


def test_rejections_are_drawn_with_the_most_frequent_first():
    rejected = {f"reason {number}": number for number in range(MOST_REASONS + 3)}
    *_, reasons = plot_report_card(report_card(ENTRIES, rejected=rejected)).axes
    widths = [bar.get_width() for bar in reasons.patches]
    assert widths == sorted(rejected.values(), reverse=True)[:MOST_REASONS]
    assert len(plot_report_card(report_card(ENTRIES, rejected={})).axes) == 3


def test_texts_that_no_font_has_and_formulas_are_drawn_without_a_warning():
    hostile = {"$x^$ \U00012000 and a reason that is far longer than its place": 1}
    figure = plot_report_card(report_card(ENTRIES, title="$\\frac$ 🙂 春", rejected=hostile))
    assert to_png(figure).startswith(b"\x89PNG")


def test_there_may_be_no_verbs():
    figure = plot_report_card(report_card([entry("zzz", "x")]).to_dict())
    assert not figure.axes[0].patches
    assert to_png(figure).startswith(b"\x89PNG")


def test_what_is_no_card_is_refused():
    for wrong in ({}, 3, SimpleNamespace(to_dict=list)):
        with pytest.raises(ValueError, match="a report card is needed"):
            plot_report_card(wrong)
