"""Several sets of examples in one training: which share of it each gets, and what that means before it runs.

The shares r of the sets, of sizes e, are given as weights, or follow from the sizes:

    r_i  proportional to  min(e_i, K) ^ (1 / T)

With neither cap K nor temperature T a set counts by its size. The cap keeps a huge set from drowning the others; a
temperature above 1 brings the shares closer together, and at infinity they are equal.

A share of the examples is no share of the loss: only trained tokens count there, and an answer may have 5 where a
window of plain text has 128. So the report says both. How a set's weight is best chosen is left out.

Source: Raffel et al. 2019, arXiv 1910.10683, section 3.5.2; Muennighoff et al. 2023, arXiv 2305.16264 (repeated data).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from gptlab.data.segments import Example

WORTH_REPEATING = 4  # epochs of the same data that were found nearly as good as new data, in pretraining


class Mixture:
    """Sets of examples by shares; `make_loader` makes batches of it, other ones each epoch.

    From each set examples are drawn without replacement until all were there, and then anew, over the ends of epochs:
    none comes a third time before all came twice. After any number of epochs each set is less than one example away
    from its share. What an epoch holds follows from the seed and its number alone, so that a run which goes on finds
    it again.

    Args:
        sets: name -> examples.
        weights: name -> share, in any unit; None lets the sizes decide.
        cap: the size beyond which a set does not count for more.
        temperature: above 1 favours small sets, below 1 large ones.
        examples: how many an epoch has; None is as many as it takes until the first set is used up. By size, all sets
            are used up together: an epoch has each example once, of a capped set as many as the cap.
        seed: of what is drawn.

    Attributes:
        sets: name -> examples.
        names: of the sets.
        examples: those of all sets, one set after the other.
        per_epoch: how many of them an epoch has.
        shares: name -> share of the examples, in [0, 1].

    Raises:
        ValueError: there is no set, one is empty, or a setting is out of range.

    >>> question, window = Example([1, 2], [False, True]), Example([3, 4, 5], [True, True, True])
    >>> sets = {"questions": [question] * 70, "text": [window] * 900}
    >>> mixture = Mixture(sets, weights={"questions": 0.7, "text": 0.3})
    >>> mixture.per_epoch, mixture.drawn(epochs=2)
    (100, {'questions': 140, 'text': 60})
    """

    def __init__(
        self,
        sets: Mapping[str, Sequence[Example]],
        *,
        weights: Mapping[str, float] | None = None,
        cap: int | None = None,
        temperature: float = 1.0,
        examples: int | None = None,
        seed: int = 0,
    ) -> None:
        _check_sets(sets)
        if weights is not None and (cap is not None or temperature != 1):
            raise ValueError(f"weights take no cap and no temperature, got cap {cap} and temperature {temperature}")
        self.sets, self.names, self.seed = dict(sets), list(sets), seed
        self.examples = [example for examples in sets.values() for example in examples]
        self._sizes = [len(examples) for examples in sets.values()]
        rates = _rates(self._sizes, cap, temperature) if weights is None else _given(weights, self.names)
        self._shares = [rate / sum(rates) for rate in rates]
        self.shares = {name: float(share) for name, share in zip(self.names, self._shares)}
        if examples is None:
            examples = math.floor(min(size / share for size, share in zip(self._sizes, self._shares) if share))
        if examples < 1:
            raise ValueError(f"an epoch needs at least 1 of the examples, got {examples}")
        self.per_epoch = examples

    def drawn(self, epochs: int) -> dict[str, int]:
        """Return how many examples of each set the first `epochs` epochs have together.

        The whole part of a share comes in every epoch; what is left over takes turns.
        """
        parts = [share * self.per_epoch for share in self._shares]
        left = [part - math.floor(part) for part in parts]
        places = int(sum(left))  # in every epoch
        turns = take_turns([rest / places for rest in left], epochs * places) if places else [0] * len(parts)
        return {name: epochs * math.floor(part) + turn for name, part, turn in zip(self.names, parts, turns)}

    def numbers(self, epoch: int) -> list[int]:
        """Return the numbers of the examples that come in an epoch, counted from 1, in ascending order.

        Raises:
            ValueError: the epoch is below 1.
        """
        if epoch < 1:
            raise ValueError(f"epochs count from 1, got {epoch}")
        before, after = self.drawn(epoch - 1), self.drawn(epoch)
        numbers, first = [], 0
        for name, size in zip(self.names, self._sizes):
            rounds = {place // size for place in range(before[name], after[name])}
            orders = {number: self._order(name, size, number) for number in rounds}
            numbers += [first + orders[place // size][place % size] for place in range(before[name], after[name])]
            first += size
        return sorted(numbers)

    def report(self, epochs: int = 1) -> MixtureReport:
        """Return what a run of some epochs will be made of; printed, it is a table.

        Raises:
            ValueError: epochs is below 1.
        """
        if epochs < 1:
            raise ValueError(f"a run has at least 1 epoch, got {epochs}")
        drawn, rows, first = self.drawn(epochs), [], 0
        for name, size in zip(self.names, self._sizes):
            examples, first = self.examples[first : first + size], first + size
            times = drawn[name] / size
            tokens = sum(len(example.ids) for example in examples)
            trained = sum(sum(example.trained[1:]) for example in examples)
            rows.append(MixtureRow(name, size, drawn[name], times, times * tokens, times * trained))
        return MixtureReport(rows, epochs)

    def _order(self, name: str, size: int, round_: int) -> list[int]:
        """Return the order in which a set comes when it comes for the `round_`-th time, from 0."""
        return random.Random(f"{self.seed} {round_} {name}").sample(range(size), k=size)


class MixtureRow(NamedTuple):
    """What one set contributes to a run.

    Attributes:
        name: of the set.
        examples: how many it has.
        drawn: how many of the run's examples are from it.
        epochs: how often each of its examples comes, on average.
        tokens: how many are read, expected.
        trained_tokens: how many of them are targets of the loss, expected.
    """

    name: str
    examples: int
    drawn: int
    epochs: float
    tokens: float
    trained_tokens: float


@dataclass(frozen=True)
class MixtureReport:
    """What a run is made of: a row for each set, over so many epochs of the mixture. As text it is a table."""

    rows: list[MixtureRow]
    epochs: int

    @property
    def trained_shares(self) -> dict[str, float]:
        """The share of the trained tokens that each set gives, in [0, 1]."""
        total = sum(row.trained_tokens for row in self.rows)
        return {row.name: row.trained_tokens / total if total else 0.0 for row in self.rows}

    def __str__(self) -> str:
        width, total = max(3, *(len(row.name) for row in self.rows)), sum(row.drawn for row in self.rows)
        lines = [f"{'set':<{width}}  examples  share of examples  epochs  share of trained tokens        tokens"]
        for row in self.rows:
            share, trained = row.drawn / total, self.trained_shares[row.name]
            lines.append(
                f"{row.name:<{width}}  {row.examples:>8,}  {share:>17.1%}  {row.epochs:>6.2f}  {trained:>23.1%}  "
                f"{row.tokens:>12,.0f}"
            )
        lines += [
            f"warning: {row.name!r} comes {row.epochs:.1f} times; beyond about {WORTH_REPEATING}, the same again "
            "teaches less than new examples would"
            for row in self.rows
            if row.epochs > WORTH_REPEATING
        ]
        return "\n".join(lines)


def take_turns(shares: Sequence[Fraction], turns: int) -> list[int]:
    """Return how many of some turns each has, given its share; after every turn all are less than one away from it.

    A turn goes to the one whose next is due first, among those that would not get a whole one ahead.

    >>> [take_turns([Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)], turns) for turns in (1, 4, 6)]
    [[1, 0, 0], [2, 2, 0], [3, 2, 1]]

    Source: Steiner and Yeomans 1993, Management Science 39, 6 (level schedules).
    """
    had = [0] * len(shares)
    for turn in range(1, turns + 1):
        waiting = [number for number, share in enumerate(shares) if had[number] < turn * share]
        had[min(waiting, key=lambda number: math.ceil((had[number] + 1) / shares[number]))] += 1
    return had


def _check_sets(sets: Mapping[str, Sequence[Example]]) -> None:
    if not isinstance(sets, Mapping):
        raise ValueError(f"a mixture needs sets with names, {{name: examples}}, got a {type(sets).__name__}")
    if not sets:
        raise ValueError("a mixture needs at least one set, got none")
    for name, examples in sets.items():
        if not len(examples):
            raise ValueError(f"the set {name!r} has no examples")


def _given(weights: Mapping[str, float], names: Sequence[str]) -> list[Fraction]:
    if set(weights) != set(names):
        raise ValueError(f"weights must be given for the sets {list(names)}, got {list(weights)}")
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"a weight must be >= 0 and finite, got {weight} for {name!r}")
    if not sum(weights.values()):
        raise ValueError(f"a weight must be above 0, got {dict(weights)}")
    return [_exact(weights[name]) for name in names]


def _rates(sizes: Sequence[int], cap: int | None, temperature: float) -> list[Fraction]:
    if cap is not None and cap < 1:
        raise ValueError(f"cap must be >= 1, got {cap}")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    capped = [size if cap is None else min(size, cap) for size in sizes]
    if temperature == 1:
        return [Fraction(size) for size in capped]
    return [_exact((size / max(capped)) ** (1 / temperature)) for size in capped]  # at most 1: no overflow


def _exact(number: float) -> Fraction:
    """Return the number that was written: 0.7 is seven tenths, though no float is."""
    return Fraction(str(number))
