import random

import pytest

from gptlab.data import Example, ShuffledBatches, make_loader


def lengths(count=100, seed=0):
    rng = random.Random(seed)
    return [rng.randint(5, 60) for _ in range(count)]


@pytest.mark.parametrize(
    "limits",
    [
        {"batch_size": 8},
        {"batch_size": 8, "group_by_length": False},
        {"max_tokens": 150},
        {"batch_size": 4, "max_tokens": 150},
    ],
)
def test_every_example_comes_once_in_batches_within_the_limits(limits):
    sizes = lengths()
    batches = ShuffledBatches(sizes, **limits)
    for epoch in (1, 2, 3):
        batches.set_epoch(epoch)
        made = list(batches)
        assert len(made) == len(batches)
        assert sorted(number for batch in made for number in batch) == list(range(100))
        for batch in made:
            assert len(batch) <= limits.get("batch_size", 100)
            assert len(batch) * max(sizes[number] for number in batch) <= limits.get("max_tokens", 10**9)


def test_grouping_pads_little():
    sizes = lengths()

    def padded(grouped):
        batches = ShuffledBatches(sizes, 8, group_by_length=grouped)
        return sum(len(batch) * max(sizes[number] for number in batch) for batch in batches) / sum(sizes)

    assert padded(True) < 1.06
    assert padded(False) > 1.4


def test_the_order_follows_from_seed_and_epoch_alone():
    def order(seed, epoch):
        batches = ShuffledBatches(lengths(), 8, seed=seed)
        batches.set_epoch(epoch)
        return list(batches)

    random.seed(1)
    first = order(0, 2)
    random.seed(2)
    assert order(0, 2) == first
    assert order(0, 3) != first != order(1, 2)
    assert [len(batch) for batch in first] != sorted(
        (len(batch) for batch in first), reverse=True
    )  # short one anywhere


def test_equal_lengths_meet_others_each_epoch():
    batches = ShuffledBatches([7] * 40, 4)
    made = []
    for epoch in (1, 2):
        batches.set_epoch(epoch)
        made.append({frozenset(batch) for batch in batches})
    assert made[0] != made[1]


def test_the_loader_packs_or_pads():
    examples = [Example(list(range(n)), [True] * n) for n in lengths(40)]
    padded = next(iter(make_loader(examples, 8)))
    packed = next(iter(make_loader(examples, 8, packing=64)))
    assert len(padded) == 2
    assert padded[0].shape[0] == 8
    assert len(packed) == 3
    assert packed[0].shape[0] < 8
    assert packed[0].shape[1] <= 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "no examples"),
        (([3],), "must be >= 1, got None and None"),
        (([3], 0), "must be >= 1, got 0 and None"),
    ],
)
def test_wrong_limits(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShuffledBatches(*arguments)
    with pytest.raises(ValueError, match="9 tokens, max_tokens allows 8"):
        ShuffledBatches([3, 9], max_tokens=8)
    with pytest.raises(ValueError, match="needs group_by_length"):
        ShuffledBatches([3, 9], max_tokens=18, group_by_length=False)
