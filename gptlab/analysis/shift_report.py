"""What `token_shift` found: every token of every answer, and the sums over them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

# The highest ranks that still count as unshifted and as marginal. Source: Lin et al. 2023, arXiv 2312.01552, section 2.
UNSHIFTED, MARGINAL = 1, 3

_BEFORE = 6  # tokens that an example shows before the one it is about


@dataclass(frozen=True)
class ShiftedAnswer:
    """One answer, and what both models think of each of its tokens. All lists have one item for each token.

    Attributes:
        ids: the tokens; where the answer `ended`, the last is the end-of-answer token.
        ranks: of each token in the base's opinion, from 1, the most likely.
        choices: the token that the base thinks most likely in its place.
        base_probabilities: of each token.
        tuned_probabilities: of each token.
        kl: KL(tuned || base) of the whole distribution at its place, in nats.
        ended: whether the answer's end is among the tokens.
        note: "prompt too long", and there are no tokens; "cut", what did not fit into a context is left out; else "".
    """

    ids: list[int] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    choices: list[int] = field(default_factory=list)
    base_probabilities: list[float] = field(default_factory=list)
    tuned_probabilities: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    ended: bool = False
    note: str = ""

    @property
    def length(self) -> int:
        """How many tokens there are without the end."""
        return len(self.ids) - self.ended


class Shares(NamedTuple):
    """A group of tokens.

    Attributes:
        tokens: how many.
        unshifted: share of those that the base would have taken, too.
        marginal: share of those that are its second or third.
        shifted: share of the rest.
        base_probability: mean.
        tuned_probability: mean.
        kl: mean KL(tuned || base), in nats.
    """

    tokens: int
    unshifted: float
    marginal: float
    shifted: float
    base_probability: float
    tuned_probability: float
    kl: float


class Place(NamedTuple):
    """The tokens that stand at places `first` to `last` of their answers, from 1."""

    first: int
    last: int
    shares: Shares


class TokenCount(NamedTuple):
    """A token that tuning shifted.

    Attributes:
        token: its id.
        text: with spaces seen.
        shifted: how often it was shifted.
        tokens: how often it was written.
        examples: answers up to it, it in [brackets], and the token that the base would have taken.
    """

    token: int
    text: str
    shifted: int
    tokens: int
    examples: list[str]


@dataclass(frozen=True)
class TokenShift:
    """Which tokens of the tuned model's answers the base would not have written; `print` it for a table.

    The prompts' tokens do not count, and the ends of the answers are counted apart.

    Attributes:
        answers: one for each prompt, in their order.
        texts: token id -> its text, of all tokens in the answers.
    """

    answers: list[ShiftedAnswer] = field(repr=False)
    texts: Mapping[int, str] = field(repr=False)

    @property
    def tokens(self) -> Shares:
        """All tokens but the ends."""
        return shares((answer, place) for answer in self.answers for place in range(answer.length))

    @property
    def ends(self) -> Shares | None:
        """The ends of the answers; None if there is none."""
        ended = [(answer, answer.length) for answer in self.answers if answer.ended]
        return shares(ended) if ended else None

    def by_position(self, width: int | None = None) -> list[Place]:
        """Return the tokens by their place in the answer, without the ends.

        Args:
            width: how many places are taken together. None doubles: 1, 2, 3 and 4, 5 to 8 and so on, as most shifts are
                near the beginning.

        Raises:
            ValueError: width is below 1.
        """
        if width is not None and width < 1:
            raise ValueError(f"width must be >= 1, got {width}")
        longest = max(answer.length for answer in self.answers)
        found, first = [], 1
        while first <= longest:
            last = first + width - 1 if width else max(first, 2 * (first - 1))
            places = range(first - 1, last)
            group = [(answer, place) for answer in self.answers for place in places if place < answer.length]
            found.append(Place(first, last, shares(group)))
            first = last + 1
        return found

    def most_shifted(self, k: int = 10, *, examples: int = 3) -> list[TokenCount]:
        """Return the tokens that were shifted most often, the most frequent first; fewer than k if there are fewer.

        Raises:
            ValueError: k is below 1, or examples below 0.
        """
        if k < 1 or examples < 0:
            raise ValueError(f"k must be >= 1 and examples >= 0, got {k} and {examples}")
        written: dict[int, int] = defaultdict(int)
        shifted: dict[int, list[tuple[ShiftedAnswer, int]]] = defaultdict(list)
        for answer in self.answers:
            for place in range(answer.length):
                written[answer.ids[place]] += 1
                if answer.ranks[place] > MARGINAL:
                    shifted[answer.ids[place]].append((answer, place))
        order = sorted(shifted, key=lambda token: (-len(shifted[token]), token))[:k]
        return [
            TokenCount(
                token, self.texts[token], len(shifted[token]), written[token], self._examples(shifted[token], examples)
            )
            for token in order
        ]

    def _examples(self, places: Sequence[tuple[ShiftedAnswer, int]], count: int) -> list[str]:
        found: dict[str, None] = {}
        for answer, place in places:
            if len(found) == count:
                break
            before = "".join(self.texts[token] for token in answer.ids[max(0, place - _BEFORE) : place])
            cut = "…" if place > _BEFORE else ""
            base = self.texts[answer.choices[place]]
            found[f"{cut}{before}[{self.texts[answer.ids[place]]}] not {base}"] = None
        return list(found)

    def rows(self, count: int | None = None) -> list[list[tuple[str, str, str]]]:
        """Return the first answers' tokens as (text, kind, what the base thinks of it), for `show.show_token_shift`.

        Args:
            count: how many answers; None is all.
        """
        found = []
        for answer in self.answers[:count]:
            each = zip(answer.ids, answer.ranks, answer.choices, answer.base_probabilities)
            found.append(
                [
                    (self.texts[token], kind_of(rank), f"rank {rank}, p {p:.3f}; the base: {self.texts[choice]}")
                    for token, rank, choice, p in each
                ]
            )
        return found

    @property
    def notes(self) -> list[str]:
        """What was left out, in words."""
        counts = {note: sum(answer.note == note for answer in self.answers) for note in ("prompt too long", "cut")}
        found = []
        if counts["prompt too long"]:
            found.append(f"{counts['prompt too long']:,} prompts are too long for a context and were left out")
        if counts["cut"]:
            found.append(f"{counts['cut']:,} answers were cut where a context ends")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the sums as JSON can hold them."""
        return {
            "answers": len(self.answers),
            "tokens": self.tokens._asdict(),
            "ends": self.ends and self.ends._asdict(),
            "by_position": [{**place._asdict(), "shares": place.shares._asdict()} for place in self.by_position()],
            "most_shifted": [token._asdict() for token in self.most_shifted()],
            "notes": self.notes,
        }

    def __str__(self) -> str:
        head = ("tokens", "unshifted", "marginal", "shifted", "p(base)", "p(tuned)", "KL")
        rows = [("all", self.tokens)]
        for first, last, found in self.by_position():
            rows.append((f"token {first}" if first == last else f"tokens {first} to {last}", found))
        if self.ends:
            rows.append(("the end", self.ends))
        lines = [f"{len(self.answers):,} answers of the tuned model, read by the base", ""]
        lines.append(f"{'':<18}{head[0]:>9}" + "".join(f"{title:>11}" for title in head[1:]))
        for title, (count, *three, p_base, p_tuned, kl) in rows:
            numbers = [f"{share:.1%}" for share in three] + [f"{number:.3f}" for number in (p_base, p_tuned, kl)]
            lines.append(f"{title:<18}{count:>9,}" + "".join(f"{number:>11}" for number in numbers))
        lines.append("")
        for token in self.most_shifted():
            example = f"   {token.examples[0]}" if token.examples else ""
            lines.append(f"shifted {token.shifted:>6,} of {token.tokens:>6,}  {token.text:<14}{example}".rstrip())
        return "\n".join([*lines, *self.notes]).rstrip()


def kind_of(rank: int) -> str:
    """Return what a token of this rank is called.

    >>> [kind_of(rank) for rank in (1, 2, 3, 4)]
    ['unshifted', 'marginal', 'marginal', 'shifted']
    """
    return "unshifted" if rank <= UNSHIFTED else "marginal" if rank <= MARGINAL else "shifted"


def shares(places: Iterable[tuple[ShiftedAnswer, int]]) -> Shares:
    """Return the shares of a group of tokens, each given by its answer and its place there from 0.

    Raises:
        ValueError: the group is empty.
    """
    group = list(places)
    if not group:
        raise ValueError("there is no token to count")
    kinds = Counter(kind_of(answer.ranks[place]) for answer, place in group)
    return Shares(
        len(group),
        *(kinds[kind] / len(group) for kind in ("unshifted", "marginal", "shifted")),
        fmean(answer.base_probabilities[place] for answer, place in group),
        fmean(answer.tuned_probabilities[place] for answer, place in group),
        fmean(answer.kl[place] for answer, place in group),
    )
