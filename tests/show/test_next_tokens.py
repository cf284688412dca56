import math

import pytest
import torch

from gptlab.decoding import Generated, generate
from gptlab.show import plot_choices, plot_next_tokens, to_png, token_text

PNG = b"\x89PNG"


def labels(axis):
    return [label.get_text() for label in axis.get_yticklabels()]


def test_a_panel_for_each_new_token_with_the_chosen_one_among_its_rivals(tiny, tokenizer):
    [written] = generate(
        tiny, [[1, 2]], max_new_tokens=5, temperature=50.0, seed=3, tokenizer=tokenizer, return_details=True
    )
    figure = plot_choices(written, tokenizer, places=3)
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
    figure = plot_choices(written, tokenizer)
    assert labels(figure.axes[0]) == ["␣" if tokenizer.decode(ids[:1]) == " " else "␣a", "↵", "⇥", r"\$", "a", r"\xe4"]
    assert to_png(figure).startswith(PNG)


def test_characters_without_a_glyph_become_ids():
    class Words:
        def decode(self, ids):
            return "".join(["\U0001fae8", "\u4f60", ""][number] for number in ids)

    written = Generated([0], "length", None, [-1.0], [[(0, -1.0), (1, -2.0), (2, -3.0)]])
    figure = plot_choices(written, Words())
    face, chinese, nothing = labels(figure.axes[0])
    assert face == "#0"
    assert chinese in ("\u4f60", "#1")  # as the fonts of the machine are
    assert nothing == "(nothing)"
    assert to_png(figure).startswith(PNG)


def test_nothing_to_show(tiny, tokenizer):
    [bare] = generate(tiny, [[1]], max_new_tokens=2, return_details=True, alternatives=None)
    with pytest.raises(ValueError, match="nothing to show: generate needs return_details=True"):
        plot_choices(bare, tokenizer)
    with pytest.raises(ValueError, match="places must be >= 1, got 0"):
        plot_choices(bare, tokenizer, places=0)


def test_bars_by_temperature_are_the_softmax_of_the_divided_logits(tokenizer):
    logits = torch.randn(tokenizer.n_vocab)
    [axis] = plot_next_tokens(logits, tokenizer, temperatures=(0.5, 2.0), top=4).axes
    best = logits.topk(4).indices
    heights = [bar.get_height() for bar in axis.patches]
    assert heights == pytest.approx(torch.cat([torch.softmax(logits / t, 0)[best] for t in (0.5, 2.0)]).tolist())
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["temperature 0.5", "temperature 2"]
    assert len({bar.get_facecolor() for bar in axis.patches}) == 2
    assert to_png(axis.figure).startswith(PNG)


@pytest.mark.parametrize(
    ("shape", "settings", "words"),
    [
        ((1, 9), {}, r"got shape \(1, 9\)"),
        ((9,), {"temperatures": (1, 0)}, r"must be > 0, got \[1, 0\]"),
        ((9,), {"temperatures": ()}, r"got \[\]"),
        ((9,), {"top": 10}, r"top must be in \[1, 9\], got 10"),
    ],
)
def test_what_cannot_be_drawn_is_refused(shape, settings, words, tokenizer):
    with pytest.raises(ValueError, match=words):
        plot_next_tokens(torch.zeros(shape), tokenizer, **settings)


def test_a_row_without_a_token_is_named_by_its_number(tokenizer):
    assert token_text(tokenizer, tokenizer.n_vocab) == f"#{tokenizer.n_vocab}"
