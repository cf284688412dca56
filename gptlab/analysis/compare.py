"""Where does my GPT part from that one, and why?

Both models read the same ids. Their submodules are matched by name, and the first whose output differs although its
input agrees is the guilty one; when no such submodule exists, the guilt lies in the code of the module around it. Its
cause is then found by experiment: `experiment` computes that part with each usual mistake, and a mistake is named when
it yields what the student yielded.

Weights come first: a model whose weights were never copied differs everywhere, and says nothing about its code. So the
student is also run with the reference's weights in place of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from gptlab.analysis.experiment import Faults, explain
from gptlab.analysis.names import Slot, book_names, find_slots, put_in, read, settle
from gptlab.analysis.recipe import COMPUTE, Weights, of_a_block
from gptlab.analysis.trace import FORWARD, Trace, aligned, distance, relative, run
from gptlab.analysis.weights import about_weights, different_weights


@dataclass(frozen=True)
class Comparison:
    """What was found; `print` it for a report.

    Attributes:
        same: whether all outputs agree.
        module: the first submodule that differs, by the book's name; "forward" stands for the model's own forward.
            None when all agree.
        cause: a sentence; None when all agree, and also when no mistake that was tried yields what the student yields.
        difference: the largest absolute difference in the output of the module at fault (of the model when the fault
            is in its own forward), or anywhere when all agree.
        table: (name, largest absolute difference of the outputs) of every submodule that both have, in the order in
            which the reference runs them; infinite when the shapes differ.
        notes: what else was seen.
        with_reference_weights: the comparison after the student's weights were replaced by the reference's; None when
            the module's weights agree.
    """

    same: bool
    module: str | None
    cause: str | None
    difference: float
    table: list[tuple[str, float]] = field(repr=False)
    notes: list[str] = field(default_factory=list)
    with_reference_weights: Comparison | None = None

    def __str__(self) -> str:
        if self.same:
            lines = [f"The same: {len(self.table)} outputs agree; the largest difference is {self.difference:.1e}."]
        else:
            place = "the model's own forward" if self.module == FORWARD else self.module
            unknown = "unknown: none of the usual mistakes gives the student's numbers"
            lines = [f"First difference: {place}, up to {self.difference:.2g}.", f"Cause: {self.cause or unknown}."]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)])


def compare(
    student: nn.Module,
    reference: nn.Module,
    ids: Tensor,
    *,
    tolerance: float = 1e-4,
    names: Mapping[str, str] | None = None,
) -> Comparison:
    """Return the first submodule in which `student` differs from `reference`, and the likely cause.

    Either may be a GPTModel, a class of your own with the book's or other usual names, or a GPT-2 of transformers. Both
    run in evaluation mode and are left as they were. With one token no mask shows; with zero biases no missing bias.

    Args:
        student: the model in doubt.
        reference: the model to agree with; causes are found when it computes what GPT-2 does.
        ids: (B, T) int64; a dozen tokens are enough.
        tolerance: largest difference that counts as equal, relative to the element and the mean of its tensor. The
            default is for float32; bfloat16 needs about 0.05.
        names: more translations of names, regular expression -> the book's name, for example
            {r"layer(\\d+)\\.mix\\.q": r"trf_blocks.\\1.att.W_query"}.

    Raises:
        ValueError: ids are not (B, T) whole numbers in the vocabulary and the context; the models differ in
            vocabulary, width or number of blocks; or they have no submodule in common.
    """
    _check_names(student, reference, names)
    theirs = read(reference, find_slots(reference, names))
    slots = find_slots(student, names)
    slots = settle(slots, read(student, slots), theirs)
    ours = read(student, slots)
    _check_sizes(ours, theirs)
    _check_ids(ids, ours, theirs)
    devices = {parameter.device for model in (student, reference) for parameter in model.parameters()}
    with torch.random.fork_rng(devices=[device for device in devices if device.type == "cuda"]):
        expected = run(reference, ids, "reference", names)
        found = run(student, ids, "student", names)
        result = _judge(found, expected, ids, theirs, tolerance)
        different = different_weights(ours, theirs, tolerance)
        if result.same:
            unseen = [f"Without effect on these ids, {name} {what}." for name, what in different.items()]
            return replace(result, notes=_modes(student) + result.notes + unseen[:3])
        idle = _never_called(student, found, expected, names) + _without_counterpart(student, slots)
        result = replace(result, notes=_modes(student) + result.notes + idle)
        again = run(student, ids, "student", names)
        unsteady = _first_difference(again, found, tolerance)
        if unsteady:
            cause = "every run gives another result, even in evaluation mode: dropout is active all the time"
            return replace(result, module=unsteady[0], cause=cause)
        guilty = _enclosing(result.module, different)
        if not guilty:
            return result
        replaced = run(student, ids, "student", names, put_in(student, slots, theirs))
        then = _judge(replaced, expected, ids, theirs, tolerance)
    return replace(
        result, cause=f"{about_weights(guilty, different, ours)}; {_then(then)}", with_reference_weights=then
    )


def _judge(found: Trace, expected: Trace, ids: Tensor, w: Weights, tolerance: float) -> Comparison:
    """Compare two runs, weights left aside."""
    table = [(name, _largest(found.outputs[name], expected.outputs[name])) for name in _common(found, expected)]
    headless = [
        f"Only {who} has a head, so they were compared up to it."
        for who, one, other in (("the reference", found, expected), ("the student", expected, found))
        if _is_headless(one, other)
    ]
    first = _first_difference(found, expected, tolerance)
    if first is None:
        return Comparison(True, None, None, max(largest for _, largest in table), table, headless)
    guilty, witness = first
    module, cause, notes = _find_cause(guilty, found, expected, ids, w, tolerance)
    name = guilty if guilty in dict(table) else witness
    notes = [*_whereabouts(guilty, witness, found, expected, tolerance), *notes, *headless]
    return Comparison(False, module, cause, dict(table)[name], table, notes)


def _common(found: Trace, expected: Trace) -> list[str]:
    names = [name for name in expected.outputs if name in found.outputs]
    return [
        name for name in names if name != FORWARD or not _is_headless(found, expected) | _is_headless(expected, found)
    ]


def _is_headless(one: Trace, other: Trace) -> bool:
    """Whether `one` is a bare model that returns features where the other returns logits."""
    features = one.outputs.get("final_norm")
    if "out_head" in one.outputs or "out_head" not in other.outputs or features is None:
        return False
    return one.outputs[FORWARD].shape == features.shape != other.outputs[FORWARD].shape


def _first_difference(found: Trace, expected: Trace, tolerance: float) -> tuple[str, str] | None:
    """Return the guilty submodule, and the first one whose output differs: the guilty one or what it ran wrongly.

    A difference inside a module whose own output agrees is none: a fused layer may hold its parts in another order.
    """
    common = _common(found, expected)
    agree = {name for name in common if distance(found.outputs[name], expected.outputs[name]) <= tolerance}
    for name in common:
        if name in agree or agree.intersection(_around(name)):
            continue
        for guilty in (name, *_around(name)):
            given = [trace.inputs.get(guilty) for trace in (found, expected)]
            if guilty in common and None not in given and distance(*given) <= tolerance:
                return guilty, name
        return FORWARD, name
    return None


def _around(name: str) -> list[str]:
    """Return the names of what may be around a submodule, the nearest first.

    >>> _around("trf_blocks.0.att.W_query")
    ['trf_blocks.0.att', 'trf_blocks.0', 'trf_blocks']
    """
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def _find_cause(
    guilty: str, found: Trace, expected: Trace, ids: Tensor, w: Weights, tolerance: float
) -> tuple[str, str | None, list[str]]:
    """Return the module to blame, the cause if an experiment shows it, and notes."""
    local = of_a_block(w, ".".join(guilty.split(".")[:2])) if guilty.startswith("trf_blocks.") else w
    notes = []
    for part, x, got, wanted in _experiments(guilty, found, expected, ids):
        if got is None or wanted is None or distance(got, wanted) <= tolerance:
            continue
        causes = explain(part, x, local, got, wanted, tolerance)
        if causes:
            places = {_blamed(guilty, part, fault.where) for fault in causes[0]}
            return places.pop() if len(places) == 1 else guilty, _sentence(causes), []
        if causes is None:
            swapped = explain(part, x, local, wanted, got, tolerance)
            if swapped:
                return guilty, f"in the reference, not in the student: {_sentence(swapped)}", []
            notes = ["The reference does not compute what GPT-2 does here, so no cause could be tried."]
    return guilty, None, notes


def _experiments(
    guilty: str, found: Trace, expected: Trace, ids: Tensor
) -> Iterator[tuple[str, Tensor, Tensor | None, Tensor | None]]:
    """Yield parts to compute, what they are given in both models, and what the student and the reference got.

    What the model's own forward does is tried in stretches: before the blocks, after them, and all of it.
    """
    if guilty != FORWARD:
        block, _, inner = guilty.removeprefix("trf_blocks.").partition(".")
        part = guilty if block == guilty else inner or "block"
        if part in COMPUTE:
            yield part, expected.inputs[guilty], found.outputs[guilty], expected.outputs[guilty]
        return
    returned = found.outputs[FORWARD], expected.outputs[FORWARD]
    yield "embeddings", ids, found.inputs.get("trf_blocks.0"), expected.inputs.get("trf_blocks.0")
    last = [name for name in expected.outputs if name.startswith("trf_blocks.") and name.count(".") == 1][-1:]
    for part, name in (("head", *last), ("returned", "out_head")) if last else ():
        if name in expected.outputs and name in found.outputs:
            yield part, expected.outputs[name], *returned
    yield FORWARD, ids, *returned


def _blamed(guilty: str, part: str, where: str) -> str:
    """Return the submodule in which a fault was made: the guilty one or one inside it."""
    if part == "head":
        return {"returned": FORWARD, "norm": "final_norm"}.get(where, where)
    if part in ("block", FORWARD) and where not in ("tok_emb", "pos_emb", "final_norm", "out_head", "returned"):
        block = guilty if part == "block" else "trf_blocks.0"
        return block if where == "block" else f"{block}.{'norm1' if where == 'norm' else where}"
    if part in ("att", "ff"):
        return guilty.removesuffix(part) + where
    return where if part == "embeddings" else guilty


def _sentence(causes: list[Faults]) -> str:
    return ", or ".join(" and ".join(fault.says for fault in faults) for faults in causes)


def _whereabouts(guilty: str, witness: str, found: Trace, expected: Trace, tolerance: float) -> list[str]:
    """Return where the numbers part, in words."""
    common = _common(found, expected)
    notes = []
    if guilty != witness:
        before = common[: common.index(witness)]
        agreeing = f"up to {before[-1]} all agree" if before else "nothing before it can be compared"
        notes.append(f"It shows first in {witness}; {agreeing}.")
    name = guilty if guilty in common else witness
    if found.own_names[name] not in ("", name):
        notes.append(f"The student calls {name} {found.own_names[name]}.")
    left, right = found.outputs[name], expected.outputs[name]
    pair = aligned(left, right)
    if pair is None:
        return [
            *notes,
            f"{name} returns shape {tuple(left.shape)} in the student, {tuple(right.shape)} in the reference.",
        ]
    left, right = pair
    apart = (left - right).abs().nan_to_num(nan=float("inf"))
    at = [int(index) for index in torch.unravel_index(apart.argmax(), apart.shape)]
    numbers = f"{float(left[tuple(at)]):.6g} instead of {float(right[tuple(at)]):.6g}"
    if apart.dim() != 3:
        return [*notes, f"Largest at {at}: {numbers}."]
    agree = (relative(left, right).amax(dim=(0, 2)) <= tolerance).nonzero().flatten().tolist()
    some = f"{str(agree[:8])[:-1]}, ...]" if len(agree) > 8 else agree
    positions = f"of {apart.shape[1]} positions these agree: {some}" if agree else "no position agrees"
    return [*notes, f"Largest at batch {at[0]}, position {at[1]}, feature {at[2]}: {numbers}; {positions}."]


def _largest(left: Tensor, right: Tensor) -> float:
    pair = aligned(left, right)
    if pair is None:
        return float("inf")
    equal = (pair[0] == pair[1]) | (pair[0].isnan() & pair[1].isnan())
    return float(torch.where(equal, 0.0, (pair[0] - pair[1]).abs()).nan_to_num(nan=float("inf")).max())


def _enclosing(module: str, different: Mapping[str, str]) -> list[str]:
    """Return the names of those weights that belong to the module."""
    return [name for name in different if module == FORWARD or name.startswith(f"{module}.")]


def _then(then: Comparison) -> str:
    if then.same:
        return "with the reference's weights in their place both compute the same"
    return f"with the reference's weights in their place {then.module} still differs: {then.cause or 'cause unknown'}"


def _modes(student: nn.Module) -> list[str]:
    rates = {m.p for m in student.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 and m.training}
    if not rates:
        return []
    return [f"The student was in training mode with dropout {max(rates)}; it was compared in evaluation mode."]


def _never_called(student: nn.Module, found: Trace, expected: Trace, names: Mapping[str, str] | None) -> list[str]:
    has = [name for own, _ in student.named_modules() for name in book_names(own, names)]
    idle = [name for name in has if name in expected.outputs and name not in found.outputs]
    return [f"The student has but never calls: {', '.join(idle[:4])}."] if idle else []


def _without_counterpart(student: nn.Module, slots: Mapping[str, Slot]) -> list[str]:
    known = {slot.parameter for slot in slots.values()}
    strange = [name for name, _ in student.named_parameters() if name not in known]
    some = ", ".join(strange[:4])
    return [f"By their names these weights of the student could not be compared: {some}."] if strange else []


def _check_names(student: nn.Module, reference: nn.Module, names: Mapping[str, str] | None) -> None:
    models = {"student": student, "reference": reference}
    for who, model in models.items():
        if not isinstance(model, nn.Module):
            raise ValueError(f"the {who} must be a torch.nn.Module, got {type(model).__name__}")
    own = {who: [name for name, _ in model.named_modules() if name] for who, model in models.items()}
    known = [{ours for name in listed for ours in book_names(name, names)} for listed in own.values()]
    if not known[0] & known[1]:
        some = " and ".join(f"the {who}'s are {listed[:4]}" for who, listed in own.items())
        raise ValueError(f"no submodule has a name that both share: {some}; translate with names={{pattern: our name}}")


def _check_sizes(ours: Weights, theirs: Weights) -> None:
    for what, size in {
        "vocabulary": lambda w: len(w["tok_emb.weight"]) if "tok_emb.weight" in w else None,
        "width": lambda w: w["tok_emb.weight"].shape[1] if "tok_emb.weight" in w else None,
        "number of blocks": lambda w: len({name.split(".")[1] for name in w if name.startswith("trf_blocks.")}) or None,
    }.items():
        one, other = size(ours), size(theirs)
        if one is not None and other is not None and one != other:
            raise ValueError(f"the models must be of one size: the student's {what} is {one}, the reference's {other}")


def _check_ids(ids: Tensor, ours: Weights, theirs: Weights) -> None:
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.dtype not in (torch.int64, torch.int32) or not ids.numel():
        got = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"ids must be whole numbers (B, T), at least one, got {got}")
    low, high = int(ids.min()), int(ids.max())
    for w in (ours, theirs):
        if "tok_emb.weight" in w and not 0 <= low <= high < len(w["tok_emb.weight"]):
            raise ValueError(f"ids must be in [0, {len(w['tok_emb.weight'])}), got {low} to {high}")
        if "pos_emb.weight" in w and ids.shape[1] > len(w["pos_emb.weight"]):
            raise ValueError(f"the context holds {len(w['pos_emb.weight'])} tokens, got {ids.shape[1]}")
