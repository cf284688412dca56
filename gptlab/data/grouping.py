"""Which examples go into a batch together: those of about the same length, so that little is padded."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from torch.utils.data import Sampler


class ShuffledBatches(Sampler[list[int]]):
    """Batches of example numbers, in another order each epoch: for the `batch_sampler` of a DataLoader.

    Grouped by length, examples are sorted, those of one length in random order, and cut into batches; then the batches
    are shuffled. The order depends on the seed and the epoch alone, so that a run which goes on in the middle of an
    epoch finds it again.

    Args:
        lengths: of the examples, in tokens.
        batch_size: the most examples in a batch; None sets no limit.
        max_tokens: the most tokens in a batch, padding counted: examples times the longest; None sets no limit. It
            needs group_by_length.
        group_by_length: whether to sort.
        seed: of the order.
        numbers: gives for an epoch the numbers of the examples that come in it, of every epoch equally many, such as
            `Mixture.numbers`; None is all of them. It goes with batch_size alone.

    Raises:
        ValueError: there are no examples, there is no limit or one below 1, an example is longer than max_tokens, or
            max_tokens is given without group_by_length or with numbers.

    >>> list(ShuffledBatches([3, 9, 3, 8], max_tokens=18))
    [[2, 0], [3, 1]]
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int | None = None,
        *,
        max_tokens: int | None = None,
        group_by_length: bool = True,
        seed: int = 0,
        numbers: Callable[[int], Sequence[int]] | None = None,
    ) -> None:
        if not lengths:
            raise ValueError("there are no examples to make batches of")
        limits = [limit for limit in (batch_size, max_tokens) if limit is not None]
        if not limits or min(limits) < 1:
            raise ValueError(f"batch_size or max_tokens must be >= 1, got {batch_size} and {max_tokens}")
        if max_tokens is not None and not group_by_length:
            raise ValueError("max_tokens needs group_by_length: the number of batches would change with each epoch")
        if max_tokens is not None and numbers is not None:
            raise ValueError(
                "max_tokens needs the same examples each epoch, a mixture has others: give batch_size alone"
            )
        if max_tokens is not None and max(lengths) > max_tokens:
            raise ValueError(f"an example has {max(lengths)} tokens, max_tokens allows {max_tokens}")
        self.lengths, self.batch_size, self.max_tokens = list(lengths), batch_size, max_tokens
        self.group_by_length, self.seed, self.epoch = group_by_length, seed, 1
        self._numbers = numbers
        self._count = len(self._cut(sorted(self._numbers_of(1), key=lengths.__getitem__)))

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch's order comes next; `train` calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        rng = random.Random(f"{self.seed} {self.epoch}")
        numbers = self._numbers_of(self.epoch)
        order = rng.sample(numbers, k=len(numbers))
        if self.group_by_length:
            order.sort(key=self.lengths.__getitem__)
        batches = self._cut(order)
        if self.group_by_length:
            rng.shuffle(batches)
        return iter(batches)

    def _numbers_of(self, epoch: int) -> Sequence[int]:
        return range(len(self.lengths)) if self._numbers is None else self._numbers(epoch)

    def _cut(self, order: list[int]) -> list[list[int]]:
        """Cut an order, sorted by length if max_tokens is given, into batches that are as large as allowed."""
        batches: list[list[int]] = [[]]
        for number in order:
            rows = len(batches[-1]) + 1
            too_many = self.batch_size is not None and rows > self.batch_size
            too_long = self.max_tokens is not None and rows * self.lengths[number] > self.max_tokens
            if too_many or too_long:
                batches.append([])
            batches[-1].append(number)
        return batches
