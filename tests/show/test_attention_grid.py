import pytest
import torch

from gptlab.show import to_png
from gptlab.show.attention_grid import plot_attention_grid


def test_a_map_for_each_head_of_each_layer():
    maps = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    labels = ["a", "$", "c", "␣d", "e"]
    figure = plot_attention_grid(maps, labels)
    axes = [axis for axis in figure.axes if axis.images]
    assert len(axes) == 6
    for axis, values in zip(axes, maps.flatten(0, 1)):
        assert torch.tensor(axis.images[0].get_array().data).allclose(values)
        assert axis.images[0].get_clim() == (0, 1)
    assert [axis.get_title() for axis in axes] == ["head 1", "head 2", "head 3", "", "", ""]
    assert [axes[0].get_ylabel(), axes[3].get_ylabel()] == ["layer 1", "layer 2"]
    assert [label.get_text() for label in axes[3].get_xticklabels()] == ["a", r"\$", "c", "␣d", "e"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == [r"\$", "c", "␣d", "e"]
    assert to_png(figure).startswith(b"\x89PNG")


def test_many_tokens_have_no_labels():
    axis = plot_attention_grid(torch.zeros(1, 1, 30, 30), ["a"] * 30).axes[0]
    assert not axis.get_xticklabels()


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match=r"weights must be \(layers, heads, queries, keys\), got shape \(2, 3, 3\)"):
        plot_attention_grid(torch.zeros(2, 3, 3))
    with pytest.raises(ValueError, match="3 keys need as many labels, got 2 and 3 queries"):
        plot_attention_grid(torch.zeros(1, 2, 3, 3), ["a", "b"])


def test_labels_that_no_font_has_are_drawn_without_a_warning():
    figure = plot_attention_grid(
        torch.full((1, 1, 2, 2), 0.5), ["\U00013000", "$x_$"]
    )  # a hieroglyph, a broken formula
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["\ufffd", r"\$x_\$"]
    assert to_png(figure)
