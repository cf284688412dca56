import pytest
import torch

from gptlab.data import IGNORE_INDEX, InstructionDataset, collate
from gptlab.show import show_targets


@pytest.fixture
def batch(entries, tokenizer):
    dataset = InstructionDataset([*entries[:2], entries[0] | {"output": "<b> & 你 " * 3}], tokenizer, "alpaca_short")
    return collate(dataset.examples, pad_id=0)


def test_trained_tokens_are_those_of_the_responses(batch, tokenizer):
    shown = show_targets(*batch, tokenizer)
    assert not shown.warnings
    for row, ids, output in zip(shown.rows, batch[0], ("It is 0.", "It is 1.", "<b> & 你 " * 3)):
        trained = [piece.id for piece in row if piece.trained]
        assert tokenizer.decode(trained) == f"{output}<|endoftext|>"
        end = [piece.id for piece in row].index(tokenizer.eot_token)  # behind it is padding
        assert [piece.id for piece in row][:end] == ids.tolist()[:end]
    assert "[I][t][␣is]" in str(shown)


def test_a_notebook_gets_marks_that_stay_without_colours(batch, tokenizer):
    html = show_targets(*batch, tokenizer)._repr_html_()
    assert html.count("<mark") == sum(int((row != IGNORE_INDEX).sum()) for row in batch[1]) + 1  # and the key
    assert "&lt;" in html and "&amp;" in html and "<b>&lt;" in html  # a token that is markup stays text
    assert "\\x" in html  # parts of a character as bytes


def test_usual_accidents_are_warned_of(batch, tokenizer):
    inputs, targets = batch
    assert show_targets(inputs, torch.full_like(targets, IGNORE_INDEX), tokenizer).warnings == [
        f"row {row}: nothing is trained" for row in (1, 2, 3)
    ]
    no_end = targets.masked_fill(targets == tokenizer.eot_token, IGNORE_INDEX)
    assert "row 1: end-of-text is never trained" in show_targets(inputs, no_end, tokenizer).warnings[0]
    cut = show_targets(inputs[2:, :-1], targets[2:, :-1], tokenizer)
    assert cut.warnings == ["row 1: the answer is cut off: the row ends before end-of-text"]
    assert not show_targets(inputs[2:, :-1], targets[2:, :-1], tokenizer, stops=False).warnings
    unshifted = inputs.where(targets != IGNORE_INDEX, IGNORE_INDEX)
    assert (
        "row 1: the targets are not the inputs shifted by one" in show_targets(inputs, unshifted, tokenizer).warnings[0]
    )


def test_one_row_many_rows_and_bad_ones(batch, tokenizer):
    inputs, targets = batch
    assert len(show_targets(inputs[0], targets[0], tokenizer).rows) == 1
    few = show_targets(inputs, targets, tokenizer, max_rows=2)
    assert len(few.rows) == 2 and few.warnings == ["1 more rows are not shown"]
    with pytest.raises(ValueError, match=r"one shape, \(B, T\), got \(3, .*\) and \(2, "):
        show_targets(inputs, targets[:2], tokenizer)
    with pytest.raises(ValueError, match="max_rows must be >= 1, got 0"):
        show_targets(inputs, targets, tokenizer, max_rows=0)
