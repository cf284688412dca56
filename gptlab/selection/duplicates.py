"""Near-duplicates: entries that ask the same again, found by their words or by their embeddings.

Each entry is compared with those that were kept before it, in order. First literally, after lower case, single width,
single spaces and no punctuation at the ends; that costs a look into a dictionary. Then by likeness: ROUGE-L of the
texts (see `gptlab.selection.novelty`), or the cosine of embeddings if they are given. One that is alike above the
threshold joins the group of the entry it is most like, and goes out.

So every entry that is dropped is like one that stays, and no two that stay are alike. It is not a chain: of three, each
like the next, the third may be unlike the first, and stays then.

ROUGE-L sees words and not what they mean: "What is 3 + 2?" and "What is 3 - 2?" hold the same tokens, and a long task
with another number in it is nearly the same text. Look at the groups before you train on what is left.

Source: Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better", for why; Abbas et al. 2023,
"SemDeDup", for cosines. The thresholds are this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from gptlab.selection.embedding import check_embeddings, unit_rows
from gptlab.selection.entries import PROMPT, Entry, check_entries, check_list, check_share, normalised, text_of
from gptlab.selection.novelty import NoveltyFilter

THRESHOLD = 0.9
BLOCK = 1024  # entries that are compared with BLOCK others at once: 4 MB of float32


@dataclass(frozen=True)
class NearDuplicates:
    """What was found.

    Attributes:
        kept: the indices of the entries that stay, in order.
        groups: for each entry that has duplicates a list of indices, its own first, in the order of the first ones.
        exact: how many of those that go out are literally the same as one that stays.
    """

    kept: list[int]
    groups: list[list[int]]
    exact: int

    @property
    def dropped(self) -> list[int]:
        """The indices of the entries that go out, in order."""
        return sorted(index for group in self.groups for index in group[1:])


def without_near_duplicates(
    items: Sequence[Entry] | Sequence[str],
    *,
    threshold: float = THRESHOLD,
    embeddings: Any = None,
    fields: Sequence[str] = PROMPT,
    progress: bool = False,
) -> list[int]:
    """Return the indices of the entries that are no near-duplicates of earlier ones.

    Arguments, errors and source as for `near_duplicates`.
    """
    return near_duplicates(items, threshold=threshold, embeddings=embeddings, fields=fields, progress=progress).kept


def near_duplicates(
    items: Sequence[Entry] | Sequence[str],
    *,
    threshold: float = THRESHOLD,
    embeddings: Any = None,
    fields: Sequence[str] = PROMPT,
    progress: bool = False,
) -> NearDuplicates:
    """Return which entries stay, and which of the others are like them.

    Args:
        items: entries, or texts.
        threshold: likeness above this makes a duplicate; at 1 only what is literally the same goes out.
        embeddings: a vector for each item; cosine takes the place of ROUGE-L.
        fields: the fields of entries that are compared. For answers that repeat take ("output",).
        progress: whether to show a bar.

    Raises:
        ValueError: no list of entries or of texts, or an empty one; the threshold is not in [0, 1]; the embeddings are
            not numbers, not one for each item, or not finite.
        ImportError: rapidfuzz is not installed.

    Source: Lee et al. 2022; Abbas et al. 2023.

    >>> near_duplicates(["Name a colour.", "name a colour", "Name an animal.", "写诗"]).groups
    [[0, 1]]
    """
    texts = _texts(items, fields)
    check_share(threshold, "threshold")
    firsts: dict[str, int] = {}  # text -> the first place where it stands
    same_as = [firsts.setdefault(normalised(text), place) for place, text in enumerate(texts)]
    different = list(firsts.values())
    if embeddings is None:
        like = _by_words([texts[place] for place in different], threshold, progress)
    else:
        rows = check_embeddings(embeddings, len(texts))
        like = _by_cosine(unit_rows(rows[different]), threshold, progress)
    keeper = {place: different[one] for place, one in zip(different, like)}
    members: dict[int, list[int]] = {}
    for place, first in enumerate(same_as):
        members.setdefault(keeper[first], []).append(place)
    kept = sorted(members)  # each is the first of its group
    groups = [members[first] for first in kept if len(members[first]) > 1]
    return NearDuplicates(kept, groups, len(texts) - len(different))


def _texts(items: Any, fields: Sequence[str]) -> list[str]:
    check_list(items, "entries")
    if not isinstance(items[0], str):
        check_entries(items, needs=[key for key in fields if key != "input"])
    for number, item in enumerate(items, start=1):
        if isinstance(items[0], str) and not isinstance(item, str):
            raise ValueError(f"text {number} must be text, as the first, got {item!r:.80}")
    return [text_of(item, fields) for item in items]


def _by_words(texts: Sequence[str], threshold: float, progress: bool) -> list[int]:
    """Return for each text the place of the one that it is like: one that was kept before it, or itself."""
    pool, kept, like = NoveltyFilter(threshold), [], []
    for place, text in enumerate(tqdm(texts, desc="duplicates", disable=not progress)):
        if pool.is_novel(text):
            pool.add(text)
            kept.append(place)
            like.append(place)
        else:
            [(_, nearest)] = pool.nearest(text, k=1)
            like.append(kept[nearest])
    return like


def _by_cosine(rows: np.ndarray, threshold: float, progress: bool) -> list[int]:
    """Return the same by the cosines of rows of length 1, a block against a block at a time."""
    like = np.arange(len(rows))
    kept = np.zeros(0, dtype=np.int64)
    for start in tqdm(range(0, len(rows), BLOCK), desc="duplicates", disable=not progress):
        block = rows[start : start + BLOCK]
        best, nearest = np.full(len(block), -np.inf), np.zeros(len(block), dtype=np.int64)
        for other in range(0, len(kept), BLOCK):
            places = kept[other : other + BLOCK]
            cosines = np.minimum(block @ rows[places].T, 1)
            highest = cosines.argmax(axis=1)
            value = cosines[np.arange(len(block)), highest]
            nearest = np.where(value > best, places[highest], nearest)
            best = np.maximum(best, value)
        within, stay = np.minimum(block @ block.T, 1), []  # rounding may leave a cosine above 1
        for place in range(len(block)):  # in order: what is kept here counts for what follows in the block
            if best[place] > threshold:
                like[start + place] = nearest[place]
                continue
            stay.append(start + place)
            nearer = within[place] > best
            nearer[: place + 1] = False
            nearest[nearer], best[nearer] = start + place, within[place][nearer]
        kept = np.concatenate([kept, np.array(stay, dtype=np.int64)])
    return like.tolist()
