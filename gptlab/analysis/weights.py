"""In which weights two models differ, and how: a matrix the other way round, in another's place, or never copied."""

from __future__ import annotations

from torch import Tensor

from gptlab.analysis.recipe import Weights
from gptlab.analysis.trace import distance

_OTHER_NUMBERS = "holds other numbers"


def different_weights(ours: Weights, theirs: Weights, tolerance: float) -> dict[str, str]:
    """Return the student's weights that are not the reference's, by name, with what they are instead.

    A bias that only the student has counts when it is not 0. One that it lacks is no weight; it shows in what the model
    computes. Positions are compared as far as both contexts reach.
    """
    return {
        name: _what_it_is(name, mine, ours, theirs)
        for name, mine in ours.items()
        if not _agree(name, mine, theirs.get(name), tolerance)
    }


def _agree(name: str, mine: Tensor, theirs: Tensor | None, tolerance: float) -> bool:
    if theirs is None:
        return not name.endswith("bias") or not mine.any()
    if name == "pos_emb.weight":
        rows = min(len(mine), len(theirs))
        mine, theirs = mine[:rows], theirs[:rows]
    return mine.shape == theirs.shape and distance(mine, theirs) <= tolerance


def _what_it_is(name: str, mine: Tensor, ours: Weights, theirs: Weights) -> str:
    if name not in theirs:
        return "is a bias that the reference does not have"
    if (
        name != "pos_emb.weight"
        and mine.dim() == 2
        and mine.shape == theirs[name].T.shape
        and _equal(mine, theirs[name].T)
    ):
        return "is the reference's transposed"
    for other, weight in theirs.items():
        if mine.dim() == 2 and other != name and _equal(mine, weight):
            return f"is the reference's {other}"
    if mine.shape != theirs[name].shape:
        return f"has shape {tuple(mine.shape)}, the reference's {tuple(theirs[name].shape)}"
    if not mine.any():
        return "is all 0"
    tied = theirs.get("tok_emb.weight")
    if name == "out_head.weight" and tied is not None and _equal(theirs[name], tied):
        return "is not the token embeddings: the head is not tied, the reference's is"
    return _OTHER_NUMBERS


def _equal(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and distance(left, right) <= 1e-6


def about_weights(guilty: list[str], different: dict[str, str], ours: Weights) -> str:
    """Return a sentence about the weights that differ in the first module that does."""
    matrices = [name for name, weight in ours.items() if weight.dim() == 2]
    other = [name for name in matrices if different.get(name) == _OTHER_NUMBERS]
    if len(other) > 0.9 * len(matrices):
        return (
            f"the weights differ: they were never copied, {len(other)} of {len(matrices)} matrices hold other numbers"
        )
    named = ", ".join(f"{name} {different[name]}" for name in guilty[:3])
    more = len(different) - len(guilty[:3])
    return f"the weights differ: {named}" + (f"; {more} more differ" if more else "")
