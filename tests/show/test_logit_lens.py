from types import SimpleNamespace

import pytest
import torch

from gptlab.show import to_png, token_labels
from gptlab.show.logit_lens import plot_logit_lens


@pytest.fixture
def lens():
    """Two layers above the embeddings, four places."""
    generator = torch.Generator().manual_seed(0)
    return SimpleNamespace(
        ids=torch.tensor([65, 66, 67, 68]),
        tokens=torch.randint(60, 90, (3, 4, 2), generator=generator),
        probabilities=torch.rand(3, 4, 2, generator=generator),
        targets=torch.tensor([70, 71, 72, 73]),
        target_ranks=torch.tensor([[300, 2, 3, 4], [1, 1, 5, 1], [1, 1, 1, 1]]),
        target_probabilities=torch.rand(3, 4, generator=generator),
        layers=["embedding", "block 1", "block 2"],
    )


@pytest.mark.parametrize("color", ["best", "target"])
def test_a_cell_for_each_layer_and_place(lens, tokenizer, color):
    figure = plot_logit_lens(lens, tokenizer, color=color)
    axis = figure.axes[0]
    shares = lens.probabilities[:, :, 0] if color == "best" else lens.target_probabilities
    assert torch.tensor(axis.images[0].get_array().data).allclose(shares)
    written = [text.get_text() for text in axis.texts]
    ranks = [text for text in written if text.startswith("rank ")]
    assert ranks == ["rank 300", "rank 2", "rank 3", "rank 4", "rank 5"]
    labels = [text.replace("$", r"\$") for text in token_labels(lens.tokens[:, :, 0].flatten(), tokenizer)]
    assert [text for text in written if text not in ranks] == labels
    assert [text.get_fontweight() for text in axis.texts].count("bold") == 7
    assert [label.get_text() for label in axis.get_yticklabels()] == lens.layers
    assert to_png(figure).startswith(b"\x89PNG")


def test_only_the_last_places_are_drawn(lens, tokenizer):
    axis = plot_logit_lens(lens, tokenizer, last=2).axes[0]
    assert axis.images[0].get_array().shape == (3, 2)
    assert [label.get_text() for label in axis.get_xticklabels()] == token_labels([67, 68], tokenizer)


def test_bad_choices_are_refused(lens, tokenizer):
    with pytest.raises(ValueError, match="color must be 'best' or 'target', got 'rank'"):
        plot_logit_lens(lens, tokenizer, color="rank")
    with pytest.raises(ValueError, match="last must be >= 1, got 0"):
        plot_logit_lens(lens, tokenizer, last=0)
