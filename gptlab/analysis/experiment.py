"""Find the cause of a difference by experiment: make each usual mistake and look whether the result is the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations, product

from torch import Tensor

from gptlab.analysis.faults import FAULTS, Fault
from gptlab.analysis.recipe import COMPUTE, Recipe, Weights
from gptlab.analysis.trace import FORWARD, distance

Faults = tuple[Fault, ...]  # made together
_EMBEDDINGS = ("tok_emb", "pos_emb")
_NORMS = ("norm1", "norm2", "final_norm")
_AFTER_THE_BLOCKS = ("final_norm", "out_head", "returned")


def explain(part: str, x: Tensor, w: Weights, found: Tensor, expected: Tensor, tolerance: float) -> list[Faults] | None:
    """Return the faults with which `part`, given x, yields `found` instead of `expected`.

    Single faults are tried first, then two at a time. Several are returned when they cannot be told apart here, an
    empty list when none fits, and None when GPT-2's own recipe does not yield `expected` either, so that nothing can be
    tried.

    Args:
        part: a key of COMPUTE.
        x: what reached the part in both models: (B, T, D), or ids (B, T) for a part that begins with them.
        w: the weights by the book's names; those of a part of a block without the block's number.
        found: what the faulty model returned.
        expected: what the reference returned.
        tolerance: the largest relative difference that counts as equal.
    """
    recipe = _recipe_of(part, x, w, expected, tolerance)
    if recipe is None:
        return None
    single = [(fault,) for fault in _every_fault(w, recipe) if _concerns(fault.where, part)]
    own = "norm" if part in _NORMS else part
    together = (
        (one, other)
        for (one,), (other,) in combinations(single, 2)
        if own in (one.where, other.where) and not one.changes.keys() & other.changes.keys()
    )
    fitting = _fitting(part, x, w, recipe, found, single, tolerance)
    # There are a thousand pairs, so one row has to do. Tokens cannot be left out: without a mask they matter.
    return fitting or _fitting(part, x[:1], w, recipe, found[:1], together, tolerance)


def _fitting(
    part: str, x: Tensor, w: Weights, recipe: Recipe, found: Tensor, tries: Iterable[Faults], tolerance: float
) -> list[Faults]:
    """Return those that yield `found`: the best, and any that is as good but for rounding."""
    errors = []
    for faults in tries:
        changed = recipe
        for fault in faults:
            changed = replace(changed, **fault.changes)
        error = _error(part, x, w, changed, found)
        if error <= tolerance:
            errors.append((error, faults))
    best = min((error for error, _ in errors), default=0.0)
    return [faults for error, faults in errors if error <= 3 * best + 1e-6]


def _error(part: str, x: Tensor, w: Weights, recipe: Recipe, found: Tensor) -> float:
    """Return how far the recipe's result is from `found`; infinitely far when it cannot be computed here."""
    try:
        return distance(COMPUTE[part](x, w, recipe, part), found)
    except (KeyError, RuntimeError):  # a weight without a name, or shapes that do not fit
        return float("inf")


def _recipe_of(part: str, x: Tensor, w: Weights, expected: Tensor, tolerance: float) -> Recipe | None:
    """Return the recipe that yields `expected`. Weights show neither heads nor eps, so the usual ones are tried."""
    for eps, heads in product((1e-5, 1e-6, 1e-12), _possible_heads(w)):
        recipe = Recipe(heads=heads, eps=eps)
        if _error(part, x, w, recipe, expected) <= tolerance:
            return recipe
    return None


def _possible_heads(w: Weights) -> list[int]:
    width = next((len(weight) for name, weight in w.items() if name.endswith("att.out_proj.weight")), 1)
    return [heads for heads in range(1, width + 1) if width % heads == 0]


def _every_fault(w: Weights, recipe: Recipe) -> Iterator[Fault]:
    yield from FAULTS
    for heads in _possible_heads(w):
        says = "the heads are not split: one head sees all features" if heads == 1 else f"there are {heads} heads"
        if heads != recipe.heads:
            yield Fault("att", f"{says}, where the reference has {recipe.heads}", {"heads": heads})


def _concerns(where: str, part: str) -> bool:
    """Whether a fault made in `where` can show in `part`."""
    if part == FORWARD:
        return True
    if part == "embeddings":
        return where in _EMBEDDINGS
    if part == "block":
        return where not in _EMBEDDINGS + _AFTER_THE_BLOCKS
    if part == "head":
        return where in ("norm", *_AFTER_THE_BLOCKS)
    if part in _NORMS:
        return where == "norm"
    return where == part or where.startswith(f"{part}.")
