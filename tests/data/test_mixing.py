"""What a mixture promises: shares that are kept to the example, nothing repeated early, the same again by seed."""

import math
from collections import Counter
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlab.data import Example, Mixture, ShuffledBatches, SlidingWindows, encode_documents, make_loader, text_examples
from gptlab.data.mixing import take_turns


def examples(count, length=4, trained=1, first=0):
    """Examples that differ in their first id, with so many trained tokens at their end."""
    marks = [False] * (length - trained) + [True] * trained
    return [Example([first + number, *range(length - 1)], marks) for number in range(count)]


def drawn_of(mixture, epoch, name):
    """How often each example of a set comes in an epoch, by its number in the set."""
    place = mixture.names.index(name)
    first = sum(len(mixture.sets[before]) for before in mixture.names[:place])
    size = len(mixture.sets[name])
    numbers = [number - first for number in mixture.numbers(epoch)]
    return Counter(number for number in numbers if 0 <= number < size)


mixtures = st.builds(
    lambda sizes_and_weights, per_epoch, seed: Mixture(
        {f"set {number}": examples(size) for number, (size, _) in enumerate(sizes_and_weights)},
        weights={f"set {number}": weight for number, (_, weight) in enumerate(sizes_and_weights)},
        examples=per_epoch,
        seed=seed,
    ),
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 50)), min_size=1, max_size=6),
    st.integers(1, 40),
    st.integers(0, 3),
)


@settings(max_examples=60, deadline=None)
@given(mixtures)
def test_after_any_epoch_each_set_is_less_than_one_example_away_from_its_share(mixture):
    before = dict.fromkeys(mixture.names, 0)
    for epoch in range(1, 7):
        drawn = mixture.drawn(epoch)
        assert sum(drawn.values()) == epoch * mixture.per_epoch
        for name, share in zip(mixture.names, mixture._shares):
            assert abs(drawn[name] - epoch * mixture.per_epoch * share) < 1
            assert sum(drawn_of(mixture, epoch, name).values()) == drawn[name] - before[name] >= 0
        assert len(mixture.numbers(epoch)) == mixture.per_epoch
        before = drawn


@settings(max_examples=40, deadline=None)
@given(mixtures)
def test_no_example_comes_a_third_time_before_all_came_twice(mixture):
    for name in mixture.names:
        times = Counter(dict.fromkeys(range(len(mixture.sets[name])), 0))
        for epoch in range(1, 6):
            times.update(drawn_of(mixture, epoch, name))
            assert max(times.values()) - min(times.values()) <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=9))
def test_turns_are_never_a_whole_one_away(weights):
    shares = [Fraction(weight, sum(weights)) for weight in weights]
    for turns in range(2 * len(weights) + 3):
        had = take_turns(shares, turns)
        assert sum(had) == turns
        assert all(abs(count - turns * share) < 1 for count, share in zip(had, shares))


def test_an_epoch_follows_from_the_seed_and_its_number_alone():
    def mixture(seed):
        sets = {"a": examples(30), "b": examples(7)}
        return Mixture(sets, weights={"a": 1, "b": 2}, examples=10, seed=seed)

    one = mixture(0)
    in_turn = [one.numbers(epoch) for epoch in range(1, 9)]
    assert [mixture(0).numbers(epoch) for epoch in range(8, 0, -1)] == in_turn[::-1]
    assert mixture(1).numbers(1) != in_turn[0]
    assert len({tuple(numbers) for numbers in in_turn}) == len(in_turn)


def test_by_size_each_example_comes_once_an_epoch():
    mixture = Mixture({"a": examples(30), "b": examples(7)})
    assert mixture.shares == {"a": 30 / 37, "b": 7 / 37}
    assert all(mixture.numbers(epoch) == list(range(37)) for epoch in (1, 2, 5))


@pytest.mark.parametrize("options", [{}, {"group_by_length": False}, {"packing": 40}])
def test_a_mixture_of_one_set_gives_the_batches_of_that_set(options):
    one = [example for length in range(2, 12) for example in examples(4, length)]
    plain, mixed = make_loader(one, 6, seed=3, **options), make_loader(Mixture({"one": one}), 6, seed=3, **options)
    assert len(plain) == len(mixed)
    for epoch in (1, 2):
        for loader in (plain, mixed):
            loader.batch_sampler.set_epoch(epoch)
        for batch, other in zip(plain, mixed, strict=True):
            assert all(part.equal(same) for part, same in zip(batch, other, strict=True))


SIZES = {"large": 1000, "middle": 100, "small": 10}


@pytest.mark.parametrize(
    ("options", "rates", "per_epoch"),
    [
        ({}, (1000, 100, 10), 1110),
        ({"cap": 50}, (50, 50, 10), 110),
        ({"cap": 10**6}, (1000, 100, 10), 1110),
        ({"temperature": 2.0}, (1000**0.5, 10, 10**0.5), 141),
        ({"cap": 100, "temperature": 2.0}, (10, 10, 10**0.5), 73),
        ({"temperature": math.inf}, (1, 1, 1), 30),
        ({"temperature": 0.001}, (1, 0, 0), 1000),
    ],
)
def test_shares_by_size_cap_and_temperature(options, rates, per_epoch):
    """Raffel et al., section 3.5.2; an epoch ends when the first set is used up."""
    mixture = Mixture({name: examples(size) for name, size in SIZES.items()}, **options)
    for name, rate in zip(SIZES, rates):
        assert mixture.shares[name] == pytest.approx(rate / sum(rates))
    assert mixture.per_epoch == per_epoch
    assert all(mixture.drawn(1)[name] <= size for name, size in SIZES.items())


def test_weights_mean_what_is_written():
    """0.7 is no float, and 700 / 0.7 examples must be 1000 all the same."""
    mixture = Mixture({"a": examples(700), "b": examples(5000), "c": examples(9)}, weights={"a": 0.7, "b": 0.3, "c": 0})
    assert (mixture.per_epoch, mixture.drawn(3)) == (1000, {"a": 2100, "b": 900, "c": 0})
    assert mixture.shares == {"a": 0.7, "b": 0.3, "c": 0.0}
    percent = Mixture({"a": examples(700), "b": examples(5000)}, weights={"b": 30, "a": 70})
    assert percent.numbers(2) == Mixture(percent.sets, weights={"a": 0.7, "b": 0.3}).numbers(2)


def test_the_report_counts_what_the_loss_sees():
    """Half of the examples are questions with one trained token; the windows have 9, for the first is no target."""
    sets = {"questions": examples(8, length=6), "text": examples(100, length=10, trained=10)}
    report = Mixture(sets, weights={"questions": 1, "text": 1}).report(epochs=3)
    questions, text = report.rows
    assert questions == ("questions", 8, 24, 3.0, 144, 24)
    assert text == ("text", 100, 24, 0.24, pytest.approx(240), pytest.approx(216))
    assert report.trained_shares == {"questions": pytest.approx(0.1), "text": pytest.approx(0.9)}
    head, first, second = str(report).splitlines()
    assert " ".join(head.split()) == "set examples share of examples epochs share of trained tokens tokens"
    assert first.split() == ["questions", "8", "50.0%", "3.00", "10.0%", "144"]
    assert second.split() == ["text", "100", "50.0%", "0.24", "90.0%", "240"]
    assert len(head) == len(first) == len(second)


def test_the_report_warns_of_what_is_repeated_often():
    mixture = Mixture({"few": examples(2), "many": examples(50)}, weights={"few": 1, "many": 1}, examples=4)
    assert "warning" not in str(mixture.report(4))
    assert "warning: 'few' comes 5.0 times; beyond about 4" in str(mixture.report(5))


def test_a_loader_follows_the_mixture_through_the_epochs():
    sets = {"a": [example for length in range(3, 9) for example in examples(5, length)], "b": examples(40, 20, 20, 100)}
    mixture = Mixture(sets, weights={"a": 2, "b": 1}, examples=20)
    loader = make_loader(mixture, 6)
    lengths = [len(example.ids) - 1 for example in mixture.examples]
    for epoch in (1, 2, 3):
        loader.batch_sampler.set_epoch(epoch)
        batches = list(loader.batch_sampler)
        assert len(batches) == len(loader) == 4
        assert sorted(number for batch in batches for number in batch) == mixture.numbers(epoch)
        spread = sum(max(lengths[n] for n in batch) - min(lengths[n] for n in batch) for batch in batches)
        assert spread <= 19 - 2  # each length stays with its like
        assert sum(len(inputs) for inputs, _ in loader) == 20


def test_a_packed_mixture_holds_all_its_tokens():
    mixture = Mixture({"a": examples(10, 5), "b": examples(9, 12, 12)}, weights={"a": 1, "b": 1}, examples=8)
    loader = make_loader(mixture, 4, packing=16, pad_id=-1)
    assert sum((inputs != -1).sum().item() for inputs, _, _ in loader) == 4 * 4 + 4 * 11


@pytest.mark.parametrize("length", [1, 4, 7, 200])
def test_text_makes_every_token_a_target_once(tokenizer, length):
    documents = ["Fenn has a mill.", "The pet of Lumika is a goat."]
    tokens, made = encode_documents(documents, tokenizer), text_examples(documents, tokenizer, length)
    assert [token for example in made for token in example.ids[1:]] == tokens[1:].tolist()
    assert all(example.trained == [True] * len(example.ids) and len(example.ids) <= length + 1 for example in made)
    if length < len(tokens):
        for example, (inputs, targets) in zip(made, SlidingWindows(tokens, length)):
            assert example.ids == torch.cat([inputs, targets[-1:]]).tolist()


SETS = {"a": examples(3), "b": examples(2)}


@pytest.mark.parametrize(
    ("sets", "options", "message"),
    [
        ({}, {}, "at least one set, got none"),
        (examples(3), {}, "got a list"),
        ({"a": examples(3), "none": []}, {}, "the set 'none' has no examples"),
        (SETS, {"weights": {"a": 1}}, r"for the sets \['a', 'b'\], got \['a'\]"),
        (SETS, {"weights": {"a": 1, "b": 1, "c": 1}}, r"got \['a', 'b', 'c'\]"),
        (SETS, {"weights": {"a": 1, "b": -0.5}}, "got -0.5 for 'b'"),
        (SETS, {"weights": {"a": math.nan, "b": 1}}, "got nan for 'a'"),
        (SETS, {"weights": {"a": math.inf, "b": 1}}, "got inf for 'a'"),
        (SETS, {"weights": {"a": 0, "b": 0}}, r"above 0, got \{'a': 0, 'b': 0\}"),
        (SETS, {"weights": {"a": 1, "b": 1}, "cap": 7}, "no temperature, got cap 7 and temperature 1"),
        (SETS, {"weights": {"a": 1, "b": 1}, "temperature": 2}, "got cap None and temperature 2"),
        (SETS, {"cap": 0}, "cap must be >= 1, got 0"),
        (SETS, {"temperature": 0}, "temperature must be > 0, got 0"),
        (SETS, {"temperature": math.nan}, "temperature must be > 0, got nan"),
        (SETS, {"examples": 0}, "at least 1 of the examples, got 0"),
    ],
)
def test_wrong_mixtures(sets, options, message):
    with pytest.raises(ValueError, match=message):
        Mixture(sets, **options)


def test_wrong_questions(tokenizer):
    mixture = Mixture(SETS)
    with pytest.raises(ValueError, match="count from 1, got 0"):
        mixture.numbers(0)
    with pytest.raises(ValueError, match="at least 1 epoch, got 0"):
        mixture.report(0)
    with pytest.raises(ValueError, match="a mixture has others: give batch_size alone"):
        make_loader(mixture, 8, max_tokens=100)
    with pytest.raises(ValueError, match="give batch_size alone"):
        ShuffledBatches([3, 4], max_tokens=9, numbers=lambda epoch: [0, 1])
    with pytest.raises(ValueError, match="got the text 'Fenn'"):
        text_examples("Fenn", tokenizer, 4)
    with pytest.raises(ValueError, match="length must be >= 1, got 0"):
        text_examples(["Fenn"], tokenizer, 0)
    with pytest.raises(ValueError, match="at least 2 tokens to have a target, got 1"):
        text_examples([""], tokenizer, 4)
