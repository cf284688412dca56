import math

import pytest

from gptlab.decoding import Generated, generate
from gptlab.show import can_draw, plot_losses, plot_next_tokens, to_png
from gptlab.training import History

PNG = b"\x89PNG"


def test_losses_become_panels_with_a_curve_for_each_model():
    history = History(losses=[3.0, 2.0, 1.0], validation=[(0, 3.1), (3, 1.2)])
    figure = plot_losses({"first": {"a": history}, "second": {"a": history, "b": History(losses=[1.0])}})
    first, second = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["first", "second"]
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["a", "a, validation"]
    thick = next(line for line in first.lines if line.get_label() == "a")
    assert list(thick.get_ydata()) == [3.0, 2.0, 1.0]  # too short for a mean that lags
    assert {line.get_label() for line in second.lines} >= {"a", "b"}
    assert to_png(figure).startswith(PNG)


def test_the_thick_line_is_a_running_mean():
    history = History(losses=[float(step % 2) for step in range(200)])
    [axis] = plot_losses({"x": {"y": history}}).axes
    thick = next(line for line in axis.lines if line.get_label() == "y")
    assert list(thick.get_ydata()) == history.smoothed(10)
    assert history.smoothed(10)[9:] == [0.5] * 191
    assert History(losses=[3.0, 2.0, 1.0]).smoothed(2) == [3.0, 2.5, 1.5]


def test_a_notebook_shows_the_figure():
    """IPython asks the object that ends a cell for its PNG."""
    assert can_draw()
    assert plot_losses({"x": {"y": History(losses=[1.0])}})._repr_png_().startswith(PNG)


def labels(axis):
    return [label.get_text() for label in axis.get_yticklabels()]


def test_a_panel_for_each_new_token_with_the_chosen_one_among_its_rivals(tiny, tokenizer):
    [written] = generate(
        tiny, [[1, 2]], max_new_tokens=5, temperature=50.0, seed=3, tokenizer=tokenizer, return_details=True
    )
    figure = plot_next_tokens(written, tokenizer, places=3)
    assert [axis.get_title() for axis in figure.axes] == ["token 1", "token 2", "token 3"]
    for axis, token, logprob, best in zip(figure.axes, written.ids, written.logprobs, written.alternatives):
        assert token not in dict(best)  # it was drawn from far below, and stands last
        widths = [bar.get_width() for bar in axis.patches]
        assert widths == pytest.approx([math.exp(value) for _, value in [*best, (token, logprob)]])
        assert len(labels(axis)) == 6
    assert to_png(figure).startswith(PNG)


def test_tokens_are_told_apart(tokenizer):
    """Spaces and ends of lines are seen, half a character is bytes, dollars make no formula, and nothing warns."""
    texts = [" a", "\n", "\t", "$", "a"]
    ids = [tokenizer.encode_ordinary(text)[0] for text in texts] + [tokenizer.encode_ordinary("你")[0]]
    written = Generated(ids[:1], "length", None, [-1.0], [[(token, -1.0) for token in ids]])
    figure = plot_next_tokens(written, tokenizer)
    assert labels(figure.axes[0]) == ["␣" if tokenizer.decode(ids[:1]) == " " else "␣a", "↵", "⇥", r"\$", "a", r"\xe4"]
    assert to_png(figure).startswith(PNG)


def test_characters_without_a_glyph_are_escaped():
    class Words:
        def decode(self, ids):
            return "".join(["\U0001fae8", "\u4f60", ""][number] for number in ids)

    written = Generated([0], "length", None, [-1.0], [[(0, -1.0), (1, -2.0), (2, -3.0)]])
    figure = plot_next_tokens(written, Words())
    face, chinese, nothing = labels(figure.axes[0])
    assert face == r"\U0001fae8"
    assert chinese in ("\u4f60", r"\u4f60")  # as the fonts of the machine are
    assert nothing == "(nothing)"
    assert to_png(figure).startswith(PNG)


def test_nothing_to_show(tiny, tokenizer):
    [bare] = generate(tiny, [[1]], max_new_tokens=2, return_details=True, alternatives=None)
    with pytest.raises(ValueError, match="nothing to show: generate needs return_details=True"):
        plot_next_tokens(bare, tokenizer)
    with pytest.raises(ValueError, match="places must be >= 1, got 0"):
        plot_next_tokens(bare, tokenizer, places=0)
