from types import SimpleNamespace

import pytest

from gptlab.show import to_png
from gptlab.show.consistency import plot_consistency


def test_means_questions_and_chance():
    chance = SimpleNamespace(mean=0.0, low=-0.2, high=0.3)
    narrow = SimpleNamespace(mean=0.7, low=0.7, high=0.7)
    letters = SimpleNamespace(
        rank_correlation=0.7, by_question=[1.0, 0.4], options_shuffled=chance, questions_shuffled=narrow
    )
    options = SimpleNamespace(
        rank_correlation=0.9, by_question=[0.8, 1.0], options_shuffled=chance, questions_shuffled=chance
    )
    figure = plot_consistency({"letters": letters, "options": options})
    [axis] = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["letters", "options"]
    assert [dots.get_offsets()[:, 0].tolist() for dots in axis.collections] == [[1.0, 0.4], [0.8, 1.0]]
    assert [line.get_xdata() for line in axis.lines[:2]] == [[0.7], [0.9]]
    bars = [(bar.get_x(), bar.get_width()) for bar in axis.patches]
    assert bars[0] == pytest.approx((-0.2, 0.5)) and bars[1][0] == 0.7 and bars[1][1] > 0  # seen though it has no width
    assert to_png(figure).startswith(b"\x89PNG")


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="no agreements"):
        plot_consistency({})
