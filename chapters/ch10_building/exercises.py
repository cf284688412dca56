"""Exercises of chapter 10, building data. Write the functions, then run this file: it checks what is there so far.

    python chapters/ch10_building/exercises.py                  # all of them
    python chapters/ch10_building/exercises.py building.fill    # one

None of them needs a model or a server. Solutions are in solutions.py. They help most when they are opened last.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any


def counts(pairs: int, per_pair: int, both_directions: bool, rounds: int) -> tuple[int, int]:
    """Return how many entries a corpus gives, and how many there can be after Evol-Instruct, at most.

    Args:
        pairs: how many pairs of sentences there are.
        per_pair: how many templates are put around a pair, in each direction.
        both_directions: whether a pair is used from target to source, too.
        rounds: of Evol-Instruct, which evolves each of these entries once in each round. All generations are kept.

    Returns:
        Two numbers: the entries from the corpus; and the most there can be after the last round, the first included.
    """
    raise NotImplementedError


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return the template with each hole replaced by its value.

    A hole is a name in square brackets, such as [tgt_lang]; a name has small letters and underscores alone, so "[1]" is
    no hole and stays. What is filled in is data and is not looked at again, whatever it holds: brackets, backslashes
    and braces stay as they are. A hole without a value is a KeyError.

    Args:
        template: with holes, each of them perhaps several times.
        values: name -> text; there may be more than the template needs.
    """
    raise NotImplementedError


def leaks(test: Sequence[tuple[str, str]], training: Sequence[tuple[str, str]]) -> int:
    """Return how many pairs of the test are given away by the training.

    A pair is (what is asked, the right answer). It is given away if one of its two texts, or both, stands anywhere in
    the training, asked or answered: a sentence that was translated the other way round has been seen.

    Args:
        test: pairs.
        training: pairs.
    """
    raise NotImplementedError


def find_objects(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects in a model's reply, in their order.

    There may be other texts, commas or a list around them, and an object may go over several lines. One that is broken,
    such as one that was cut off, is left out, and those behind it are found all the same. An object inside another
    one is a part of it, and does not come again. `json.JSONDecoder().raw_decode(text)` returns the value at the
    beginning of a text and where it ends, or raises json.JSONDecodeError.

    Args:
        text: the reply.
    """
    raise NotImplementedError


def is_new(words: Sequence[str], pool: Sequence[Sequence[str]], threshold: float = 0.7) -> bool:
    """Return whether ROUGE-L is at most the threshold against each text of the pool.

    With L for the length of the longest common subsequence (the longest list that both hold in the same order, gaps
    allowed), of n words and m words: P = L / n, R = L / m, ROUGE-L = 2 P R / (P + R), and 0 where L is 0.

    Args:
        words: of the new instruction, at least one.
        pool: for each instruction of the pool its words; there may be none.
        threshold: what is above it goes out; what is equal to it stays.
    """
    raise NotImplementedError


def says_equal(reply: str) -> bool | None:
    """Return what a model says of two instructions: True for equal, False for not equal, None for anything else.

    Upper and lower case make no difference, nor do asterisks, nor white space and full stops at the ends. What is left
    must be "equal" or "not equal", and nothing more.
    """
    raise NotImplementedError


EXERCISES = {
    "building.counts": counts,
    "building.fill": fill,
    "building.leaks": leaks,
    "building.find_objects": find_objects,
    "building.is_new": is_new,
    "building.says_equal": says_equal,
}

if __name__ == "__main__":
    from gptlab.checks import run

    raise SystemExit(run(EXERCISES))
