import pytest
import torch

from gptlab.show import plot_attention, to_png, token_labels


def weights_of(tiny, ids):
    block = tiny.trf_blocks[0]
    with torch.no_grad():
        x = block.norm1(tiny.tok_emb(torch.tensor([ids])))
        return block.att(x, return_weights=True)[1][0]  # (H, T, S)


def test_a_map_for_each_head_with_the_tokens_at_both_axes(tiny, tokenizer):
    ids = tokenizer.encode("The home of Lumika")
    weights, labels = weights_of(tiny, ids), token_labels(ids, tokenizer)
    figure = plot_attention(weights, labels, columns=3)
    maps = [axis for axis in figure.axes if axis.get_visible() and axis.images]
    assert [axis.get_title() for axis in maps] == ["head 1", "head 2", "head 3", "head 4"]
    for axis, values in zip(maps, weights):
        assert torch.tensor(axis.images[0].get_array().data).allclose(values)
        assert axis.images[0].get_clim() == (0, 1)
        assert [text.get_text() for text in axis.get_xticklabels()] == labels
        assert [text.get_text() for text in axis.get_yticklabels()] == labels
    assert to_png(figure).startswith(b"\x89PNG")


def test_few_tokens_have_their_numbers_written_in():
    [axis, *_] = plot_attention(torch.tensor([[1.0, 0.0], [0.25, 0.75]]), ["a", "b"]).axes
    assert [text.get_text() for text in axis.texts] == ["1.00", "0.25", "0.75"]


def test_queries_are_the_last_of_the_keys():
    [axis, *_] = plot_attention(torch.full((2, 3), 1 / 3), ["a", "$", "c"]).axes
    assert [text.get_text() for text in axis.get_yticklabels()] == [r"\$", "c"]


def test_what_does_not_fit_together_is_refused():
    for shape in ((2, 2), (4, 3), (2, 2, 3, 3)):
        with pytest.raises(ValueError, match="with 3 keys, one for each label, got shape"):
            plot_attention(torch.zeros(shape), ["a", "b", "c"])
    with pytest.raises(ValueError, match="2 maps need as many titles, got 1"):
        plot_attention(torch.zeros(2, 3, 3), ["a", "b", "c"], titles=["one"])
