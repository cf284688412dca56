"""Exercises of chapter 2, text and tokenizers. Write the functions, then run this file: it checks what is there so far.

    python chapters/ch02_text/exercises.py                    # all of them
    python chapters/ch02_text/exercises.py text.merge_pair    # one

In these exercises tokens are ids, whole numbers, and a byte's id is its value: "a" is 97, as in `list("a".encode())`.

Solutions are in solutions.py. They help most when they are opened last.
"""

from torch import Tensor


def shape_of_embeddings(B: int, T: int, V: int, D: int) -> tuple[int, ...]:
    """Predict: ids are (B, T), the token table is (V, D), the position table is longer than T. Which shape enters?

    That is, which shape has the sum of token vectors and position vectors, the first thing a model computes with?
    """
    raise NotImplementedError


def count_pairs(words: dict[tuple[int, ...], int]) -> dict[tuple[int, int], int]:
    """Return how often each pair of neighbours comes inside the words: pair -> count.

    `words` maps a word, a tuple of ids, to how often it comes: in {(7, 8, 9): 5} the pair (7, 8) comes 5 times. Every
    place counts, also where places overlap: (7, 7) stands at two places in (7, 7, 7).
    """
    raise NotImplementedError


def merge_pair(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """Return a new list in which `pair` is replaced by `new_id` everywhere, from left to right.

    An id that was used up is not used again: (7, 7) -> 9 makes [9, 7] of [7, 7, 7]. `ids` stays as it is.
    """
    raise NotImplementedError


def encode(word: str, merges: list[tuple[int, int]]) -> list[int]:
    """Return the ids of a word: its UTF-8 bytes, merged in the order in which the merges were learned.

    merges[0] was learned first and makes the id 256, merges[1] makes 257, and so on. The word is one word, as the
    splitting pattern gives it; do not cut it. You may use your merge_pair.
    """
    raise NotImplementedError


def decode(ids: list[int], pieces: list[bytes]) -> str:
    """Return the text of ids; pieces[id] is the token's bytes. Bytes that are no whole character become � (U+FFFD)."""
    raise NotImplementedError


def windows(tokens: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    """Return the inputs and the targets of all windows over `tokens` (N,): two tensors (number of windows, length).

    The first window begins at 0, the next ones `stride` further on each, as long as there are tokens for all inputs
    and all targets.
    """
    raise NotImplementedError


EXERCISES = {
    "text.shape_of_embeddings": shape_of_embeddings,
    "text.count_pairs": count_pairs,
    "text.merge_pair": merge_pair,
    "text.encode": encode,
    "text.decode": decode,
    "text.windows": windows,
}

if __name__ == "__main__":
    from gptlab.checks import run

    raise SystemExit(run(EXERCISES))
