import random

import pytest
import torch
from torch.nn import functional as F

from gptlab.data import IGNORE_INDEX, Example, collate, collate_packed, separate
from gptlab.data.packing import best_fit
from gptlab.training import next_token_loss


def examples(count=7, vocabulary=300, longest=30, seed=0):
    rng = random.Random(seed)
    lengths = [rng.randint(2, longest) for _ in range(count)]
    made = [
        Example([rng.randrange(vocabulary) for _ in range(n)], [rng.random() < 0.5 for _ in range(n)]) for n in lengths
    ]
    return [Example(example.ids, [*example.trained[:-1], True]) for example in made]


def test_the_loss_and_gradient_of_packed_examples_are_those_of_separate_ones(tiny):
    rows = examples()
    separately, _ = next_token_loss(tiny, *collate(rows, pad_id=0))
    separately.backward()
    expected = {name: parameter.grad.clone() for name, parameter in tiny.named_parameters()}
    tiny.zero_grad()
    packed = collate_packed(rows, pad_id=5, length=50)
    assert len(packed.inputs) < len(rows)
    total, count = next_token_loss(tiny, *packed)
    total.backward()
    assert count == sum(sum(example.trained[1:]) for example in rows)
    torch.testing.assert_close(total, separately, rtol=1e-6, atol=0)
    for name, parameter in tiny.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("left_out", ["mask", "positions"])
def test_without_the_mask_or_the_positions_it_would_differ(tiny, left_out):
    rows = examples()
    alone = sum(next_token_loss(tiny, *collate([row], pad_id=0))[0] for row in rows)
    inputs, targets, documents = collate_packed(rows, pad_id=0, length=100)
    positions, mask = separate(documents)
    used = {"mask": {"positions": positions}, "positions": {"mask": mask}}[left_out]
    logits = tiny(inputs, **used)
    wrong = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    assert abs(wrong - alone) > 0.01


def test_no_target_crosses_into_the_next_document():
    first, second = Example([1, 2, 3], [True, True, True]), Example([4, 5], [True, True])
    inputs, targets, documents = collate_packed([first, second], pad_id=0, length=3)
    assert (inputs.tolist(), targets.tolist(), documents.tolist()) == ([[1, 2, 4]], [[2, 3, 5]], [[0, 0, 1]])


def test_padding_is_a_document_of_its_own():
    long, short = Example([1, 2, 3, 4, 5], [True] * 5), Example([6, 7, 8], [True] * 3)
    inputs, targets, documents = collate_packed([long, short], pad_id=9)
    assert inputs.tolist() == [[1, 2, 3, 4], [6, 7, 9, 9]]
    assert targets.tolist() == [[2, 3, 4, 5], [7, 8, IGNORE_INDEX, IGNORE_INDEX]]
    assert documents.tolist() == [[0, 0, 0, 0], [0, 0, 1, 1]]
    assert separate(documents)[0].tolist() == [[0, 1, 2, 3], [0, 1, 0, 1]]


def test_best_fit_fills_rows_and_loses_nothing():
    rng = random.Random(0)
    for _ in range(200):
        sizes = [rng.randint(1, 20) for _ in range(rng.randint(1, 30))]
        rows = best_fit(sizes, 20)
        assert sorted(number for row in rows for number in row) == list(range(len(sizes)))
        assert all(sum(sizes[number] for number in row) <= 20 for row in rows)
        filled = sorted(sum(sizes[number] for number in row) for row in rows)
        assert len(rows) == 1 or filled[0] + filled[1] > 20  # no two rows would have fitted into one


def test_wrong_input():
    with pytest.raises(ValueError, match="at least one example"):
        collate_packed([], pad_id=0)
    with pytest.raises(ValueError, match="at least 2 tokens to have a target, got 1"):
        collate_packed([Example([1], [True])], pad_id=0)
    with pytest.raises(ValueError, match="5 tokens does not fit into a row of 3"):
        collate_packed([Example([1] * 5, [True] * 5)], pad_id=0, length=3)
