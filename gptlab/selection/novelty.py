"""Novelty: keep an instruction only if it is unlike everything kept before, by ROUGE-L.

Self-Instruct asks a model for thousands of instructions, and most of them say again what is there. A new one is thrown
away if the F-measure of ROUGE-L (see `gptlab.rouge`) is above 0.7 against any instruction in the pool:

    P = L / n      R = L / m      F = 2 P R / (P + R),      L the longest common subsequence of n and m tokens

The direct way computes as many tables as there are pairs: hours for 50,000 instructions. Two steps make it minutes.

1. No common subsequence is longer than the number of tokens in common, at most n. An index from each token to the texts
   that hold it counts those, and so bounds F from above; most of the pool cannot reach the threshold.
2. The rest is computed by rapidfuzz. Each different token is given a character of its own, so that a text of tokens is
   a string, which rapidfuzz compares a machine word at a time.

F is computed in rouge-score's order of operations, so that the two agree to the last bit. It matters: L = 7, n = 9,
m = 11 gives 0.7000000000000001, which is above 0.7; 2 L / (n + m), the same number on paper, is not.

Tokens are those of `gptlab.rouge`: English words, digits, and each Chinese, Japanese or Korean character. A text that
has none, such as an emoji or a sentence in Arabic, is like another only if both are literally the same but for spaces
at the ends. One in Russian or Arabic that holds a number is compared by its number alone: for such languages give
`tokens`, such as `str.split`.

Source: Wang et al. 2022, "Self-Instruct", section 2.2; its code, bootstrap_instructions.py, for "above 0.7".
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from gptlab.rouge import rouge_tokens
from gptlab.selection.entries import check_count, check_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

THRESHOLD = 0.7  # Self-Instruct, bootstrap_instructions.py
LIKELY = 20  # times k: so many texts are compared first, and their k-th says which others can still be nearer
ROUNDING = 1e-9  # a bound may come out a last bit too low
_UNKNOWN = "\0"  # a token that no text of the pool holds
_SURROGATES = range(0xD800, 0xE000)  # code points that are no characters
_MOST_TOKENS = 0x110000 - len(_SURROGATES) - 1

Tokens = Callable[[str], Sequence[str]]


def novel_instructions(
    instructions: Sequence[str],
    *,
    threshold: float = THRESHOLD,
    tokens: Tokens = rouge_tokens,
    progress: bool = False,
) -> list[int]:
    """Return the indices of the instructions that are unlike all that were kept before them, in order.

    Which are kept depends on the order: of two that are alike the first one is.

    Args:
        instructions: texts.
        threshold: an instruction goes out if its ROUGE-L with one that was kept is above this.
        tokens: what is compared; the tokens of `gptlab.rouge` unless another function is given.
        progress: whether to show a bar.

    Raises:
        ValueError: the threshold is not in [0, 1], or an instruction is no text (the message has its number, from 1).
        ImportError: rapidfuzz is not installed.

    Source: Wang et al. 2022, section 2.2.

    >>> novel_instructions(["Name three colours.", "Name three of the colours.", "写一首诗。", "写一首短诗。"])
    [0, 2]
    """
    if isinstance(instructions, str):
        raise ValueError(f"the instructions must be a list of texts, got the text {instructions!r:.80}")
    pool = NoveltyFilter(threshold, tokens=tokens)
    kept = []
    for place, text in enumerate(tqdm(instructions, desc="novelty", disable=not progress)):
        if not isinstance(text, str):
            raise ValueError(f"instruction {place + 1} must be text, got {text!r:.80}")
        if pool.is_novel(text):
            pool.add(text)
            kept.append(place)
    return kept


class NoveltyFilter:
    """A pool of texts that new ones are compared with.

    Args:
        threshold: a text is not novel if its ROUGE-L with one in the pool is above this.
        pool: the first texts; they are taken as they are, also where one is like another.
        tokens: what is compared.

    Attributes:
        texts: the pool, in the order in which it grew.

    Raises:
        ValueError: the threshold is not in [0, 1], or a text is none.
        ImportError: rapidfuzz is not installed.

    >>> pool = NoveltyFilter(pool=["Name three colours.", "Write a poem."])
    >>> pool.is_novel("Name three colours, please.")
    False
    >>> pool.nearest("Write a poem about colours.", k=1)
    [(0.7499999999999999, 1)]
    """

    def __init__(
        self, threshold: float = THRESHOLD, pool: Iterable[str] = (), *, tokens: Tokens = rouge_tokens
    ) -> None:
        if isinstance(pool, str):
            raise ValueError(f"the pool must be a list of texts, got the text {pool!r:.80}")
        self.threshold = check_share(threshold, "threshold")
        self.texts: list[str] = []
        self._tokens = tokens
        self._similarities = _rapidfuzz()
        self._characters: dict[str, str] = {}  # token -> the character that stands for it
        self._strings: list[str] = []  # for each text its tokens as characters
        self._lengths = array("i")
        self._holding: dict[str, array] = {}  # token -> the texts that hold it, once for each time
        self._without_tokens: dict[str, int] = {}  # text -> the first place of one that has no tokens
        for text in pool:
            self.add(text)

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, text: str) -> None:
        """Put a text into the pool, novel or not."""
        tokens = self._tokens_of(text)
        place = len(self.texts)
        for token in tokens:
            if token not in self._characters:
                self._characters[token] = _character(len(self._characters))
                self._holding[token] = array("i")
            self._holding[token].append(place)
        if not tokens:
            self._without_tokens.setdefault(text.strip(), place)
        self._strings.append("".join(map(self._characters.__getitem__, tokens)))
        self._lengths.append(len(tokens))
        self.texts.append(text)

    def is_novel(self, text: str) -> bool:
        """Whether ROUGE-L is at most the threshold against each text of the pool."""
        tokens = self._tokens_of(text)
        if not tokens:
            return text.strip() not in self._without_tokens or self.threshold >= 1
        bounds = self._bounds(tokens)
        possible = np.flatnonzero((bounds > 0) & (bounds > self.threshold - ROUNDING))
        return not bool(np.any(self._scores(tokens, possible) > self.threshold))

    def nearest(self, text: str, k: int = 10) -> list[tuple[float, int]]:
        """Return the `k` most similar texts of the pool, or all if it has fewer: (ROUGE-L, place), best first.

        Of equal ones the first in the pool comes first.

        Raises:
            ValueError: k is no whole number >= 1.
        """
        check_count(k, "k")
        tokens = self._tokens_of(text)
        scores = np.zeros(len(self.texts))
        if tokens:
            bounds = self._bounds(tokens)
            likely = np.flatnonzero(bounds >= _kth_largest(bounds, LIKELY * k))[: LIKELY * k]
            least = _kth_largest(self._scores(tokens, likely), k)  # k texts are at least so near
            possible = np.flatnonzero((bounds > 0) & (bounds >= least - ROUNDING))
            scores[possible] = self._scores(tokens, possible)
        elif (same := self._without_tokens.get(text.strip())) is not None:
            scores[same] = 1.0
        best = np.flatnonzero(scores >= _kth_largest(scores, k))
        best = best[np.argsort(-scores[best], kind="stable")][:k]
        return [(float(scores[place]), int(place)) for place in best]

    def _tokens_of(self, text: str) -> Sequence[str]:
        if not isinstance(text, str):
            raise ValueError(f"a text is needed, got {text!r:.80}")
        return self._tokens(text)

    def _bounds(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        """Return for each text of the pool a number that its F-measure cannot exceed: with L <= tokens in common, n."""
        holding = [np.frombuffer(found, np.int32) for token in set(tokens) if (found := self._holding.get(token))]
        if not holding:
            return np.zeros(len(self.texts))
        common = np.bincount(np.concatenate(holding), minlength=len(self.texts))
        return 2 * np.minimum(common, len(tokens)) / (np.frombuffer(self._lengths, np.int32) + len(tokens))

    def _scores(self, tokens: Sequence[str], places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the F-measures with the texts at these places."""
        candidate = "".join(self._characters.get(token, _UNKNOWN) for token in tokens)
        common = self._similarities(candidate, [self._strings[place] for place in places])
        lengths = np.frombuffer(self._lengths, np.int32)[places]
        precision, recall = common / len(tokens), common / np.maximum(lengths, 1)
        total = precision + recall
        return np.divide(2 * precision * recall, total, out=np.zeros(len(places)), where=total > 0)


def _kth_largest(values: NDArray[np.float64], k: int) -> float:
    return 0.0 if len(values) <= k else float(np.partition(values, len(values) - k)[len(values) - k])


def _character(number: int) -> str:
    """Return the character of the token with this number."""
    if number >= _MOST_TOKENS:
        raise ValueError(f"there are more than {_MOST_TOKENS:,} different tokens, and no characters left for them")
    code = number + 1  # 0 is _UNKNOWN
    return chr(code if code < _SURROGATES.start else code + len(_SURROGATES))


def _rapidfuzz() -> Callable[[str, list[str]], NDArray[np.float64]]:
    """Return a function from a string and others to the lengths of their longest common subsequences."""
    try:
        from rapidfuzz import process
        from rapidfuzz.distance import LCSseq
    except ImportError:
        raise ImportError('novelty needs rapidfuzz: pip install "gptlab[data]"', name="rapidfuzz") from None

    def similarities(candidate: str, others: list[str]) -> NDArray[np.float64]:
        if not others:
            return np.zeros(0)
        return process.cdist([candidate], others, scorer=LCSseq.similarity, dtype=np.int32)[0].astype(np.float64)

    return similarities
