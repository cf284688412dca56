import pytest
import torch
from torch.nn import functional as F

from gptlab.data import IGNORE_INDEX, Example, Segment, collate, encode
from gptlab.tokenizer import END_OF_TEXT


def test_segments_are_tokenised_on_their_own(tokenizer):
    parts = ["The home of", " Lumika", " is"]
    example = encode([Segment(text, trained=n == 1) for n, text in enumerate(parts)], tokenizer)
    assert example.ids == [token for text in parts for token in tokenizer.encode_ordinary(text)]
    trained = [token for token, learned in zip(*example) if learned]
    assert tokenizer.decode(trained) == " Lumika"


def test_only_control_segments_become_special_ids(tokenizer):
    typed = encode([Segment(END_OF_TEXT, trained=True)], tokenizer)
    control = encode([Segment(END_OF_TEXT, trained=True, control=True)], tokenizer)
    assert tokenizer.eot_token not in typed.ids
    assert control == Example([tokenizer.eot_token], [True])
    spelled = encode([Segment("<pad>", trained=False, control=True, may_be_text=True)], tokenizer)
    assert tokenizer.decode(spelled.ids) == "<pad>"
    with pytest.raises(ValueError, match="'<pad>' is no special token"):
        encode([Segment("<pad>", trained=False, control=True)], tokenizer)


def test_collate_shifts_pads_by_length_and_masks():
    end = 9
    examples = [
        Example([5, 6, end, 7, 8, end], [False, False, True, False, True, True]),  # an end inside is a target too
        Example([5, 7, end], [False, True, True]),
    ]
    inputs, targets = collate(examples, pad_id=end)
    assert inputs.tolist() == [[5, 6, 9, 7, 8], [5, 7, 9, 9, 9]]
    assert targets.tolist() == [[-100, 9, -100, 8, 9], [7, 9, -100, -100, -100]]
    assert inputs.dtype == targets.dtype == torch.int64


def test_pad_id_does_not_matter_to_the_loss(tiny):
    examples = [Example([1, 2, 3, 4, 5], [True] * 5), Example([6, 7], [True] * 2)]
    losses = []
    for pad_id in (0, 7, 250):
        inputs, targets = collate(examples, pad_id=pad_id)
        losses.append(F.cross_entropy(tiny(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX))
    assert losses[0].equal(losses[1])
    assert losses[0].equal(losses[2])


def test_wrong_batches():
    with pytest.raises(ValueError, match="got none"):
        collate([], pad_id=0)
    with pytest.raises(ValueError, match="at least 2 tokens to have a target, got 1"):
        collate([Example([1, 2], [True, True]), Example([1], [True])], pad_id=0)
