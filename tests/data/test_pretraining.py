import pytest
import torch

from gptlab.data import SlidingWindows, encode_documents


def test_documents_end_with_end_of_text(tokenizer):
    tokens = encode_documents(["Fenn", "The mill"], tokenizer)
    end = tokenizer.eot_token
    assert tokens.tolist() == [*tokenizer.encode("Fenn"), end, *tokenizer.encode("The mill"), end]


@pytest.mark.parametrize(("length", "stride"), [(4, None), (4, 1), (3, 2), (10, 7), (11, 3)])
def test_windows_cover_the_text_and_targets_are_one_ahead(length, stride):
    windows = SlidingWindows(torch.arange(12), length, stride)
    starts = list(range(0, 12 - length, stride or length))
    assert len(windows) == len(starts)
    for window, start in zip(windows, starts):
        assert window[0].tolist() == list(range(start, start + length))
        assert window[1].tolist() == list(range(start + 1, start + length + 1))
    with pytest.raises(IndexError):
        windows[len(windows)]


def test_wrong_windows():
    with pytest.raises(ValueError, match="needs at least 13 tokens, got 12"):
        SlidingWindows(torch.arange(12), 12)
    with pytest.raises(ValueError, match="got 4 and 0"):
        SlidingWindows(torch.arange(12), 4, 0)
