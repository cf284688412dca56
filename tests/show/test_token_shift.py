from types import SimpleNamespace

import pytest

from gptlab.show import to_png
from gptlab.show.token_shift import plot_token_shift, show_token_shift


def place(first, last, unshifted, marginal, shifted, tokens=10, kl=0.5):
    shares = SimpleNamespace(tokens=tokens, unshifted=unshifted, marginal=marginal, shifted=shifted, kl=kl)
    return SimpleNamespace(first=first, last=last, shares=shares)


def counted(token, text, shifted, tokens):
    return SimpleNamespace(token=token, text=text, shifted=shifted, tokens=tokens)


PLACES = [place(1, 1, 0.0, 0.25, 0.75, kl=2.0), place(2, 4, 0.5, 0.5, 0.0, tokens=1234)]


def test_bars_of_a_place_are_stacked_up_to_one():
    figure = plot_token_shift(PLACES, [counted(7, "␣The", 3, 4), counted(8, "$", 1, 9), counted(9, "你", 1, 1)])
    above, below, beside = figure.get_axes()
    heights = [[bar.get_height() for bar in bars] for bars in above.containers]
    assert heights == [[0.0, 0.5], [0.25, 0.5], [0.75, 0.0]]
    assert [bar.get_y() for bar in above.containers[2]] == [0.25, 1.0]
    assert [text.get_text() for text in above.texts] == ["10", "1,234"]
    assert [bar.get_height() for bar in below.patches] == [2.0, 0.5]
    assert [label.get_text() for label in below.get_xticklabels()] == ["1", "2-4"]
    written, shifted = ([bar.get_width() for bar in bars] for bars in beside.containers)
    assert written == [4, 9, 1] and shifted == [3, 1, 1]
    assert [label.get_text() for label in beside.get_yticklabels()][:2] == ["␣The", r"\$"]
    assert to_png(figure).startswith(b"\x89PNG")


def test_without_tokens_there_are_two_panels_and_without_places_none():
    assert len(plot_token_shift(PLACES * 9).get_axes()) == 2
    with pytest.raises(ValueError, match="there are no places to draw"):
        plot_token_shift([])


ROWS = [
    [("␣a", "shifted", "rank 9"), ("b", "shifted", "rank 5"), ("<c", "unshifted", ""), ("你", "marginal", "rank 2")]
]


def test_answers_are_told_with_brackets_and_in_colour():
    shown = show_token_shift(ROWS, ["Why & how?"])
    assert str(shown) == repr(shown) == "Why & how?: [␣ab]<c(你)"
    html = shown._repr_html_()
    assert html.count("<b>") == 3 and html.count("<u>") == 2  # the key too
    assert "Why &amp; how?" in html and "&lt;c" in html and "title='rank 9'" in html
    assert str(show_token_shift(ROWS)).startswith("answer 1: ")


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="1 answers need as many names, got 2"):
        show_token_shift(ROWS, ["a", "b"])
    with pytest.raises(ValueError, match="a token's kind must be one of unshifted, marginal, shifted, got 'odd'"):
        show_token_shift([[("a", "odd", "")]])
