"""What every named submodule of a model was given and returned, in the order in which they finished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gptlab.analysis.names import book_names
from gptlab.model import evaluation_mode

FORWARD = "forward"  # the name of the model itself: what happens in no submodule


@dataclass
class Trace:
    """Inputs and outputs by the book's names, each of the module's first call, copied to the CPU as float32 or more.

    Attributes:
        inputs: the first tensor that each got.
        outputs: the tensor that each returned; the order is that of finishing.
        own_names: what the model itself calls them.
    """

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    own_names: dict[str, str] = field(default_factory=dict)


@torch.no_grad()
def run(
    model: nn.Module,
    ids: Tensor,
    who: str,
    names: Mapping[str, str] | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Trace:
    """Run `model` on ids (B, T) in evaluation mode and return what was seen.

    Args:
        model: left as it was: its mode comes back and the hooks are gone, whatever happens.
        ids: (B, T) int64.
        who: what a failure calls it, such as "student".
        names: more translations, as `book_names` takes them.
        weights: parameters to use in place of its own, by its own names.

    Raises:
        Exception: what the model itself raises, with a note that names the submodule.
    """
    trace, unfinished = Trace(), []
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with evaluation_mode(model), _watched(model, trace, unfinished, names):
        try:
            functional_call(model, dict(weights), (ids.to(device),)) if weights else model(ids.to(device))
        except Exception as error:
            name, shape = unfinished[-1] if unfinished else ("", None)
            place = f"its submodule {name!r}" if name else "its own forward"
            error.add_note(f"It happened in the {who}, in {place}, which was given {_shape_text(shape)}.")
            raise
    return trace


@contextmanager
def _watched(
    model: nn.Module, trace: Trace, unfinished: list[tuple[str, Any]], names: Mapping[str, str] | None
) -> Iterator[None]:
    handles = []
    for own_name, module in model.named_modules():
        ours = book_names(own_name, names) if own_name else (FORWARD,)
        hooks = _hooks(own_name, ours, trace, unfinished)
        handles.append(module.register_forward_pre_hook(hooks[0], with_kwargs=True))
        handles.append(module.register_forward_hook(hooks[1]))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooks(own_name: str, ours: tuple[str, ...], trace: Trace, unfinished: list) -> tuple:
    def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
        given = _tensor([*args, *kwargs.values()])
        unfinished.append((own_name, None if given is None else tuple(given.shape)))
        for name in ours:
            if given is not None and name not in trace.inputs:
                trace.inputs[name] = _copy(given)

    def after(module: nn.Module, args: tuple, output: Any) -> None:
        unfinished.pop()
        returned = _tensor(output)
        if returned is None:
            return
        for name, part in zip(ours, returned.chunk(len(ours), dim=-1) if len(ours) > 1 else [returned]):
            if name not in trace.outputs:
                trace.outputs[name] = _copy(part)
                trace.own_names[name] = own_name

    return before, after


def _tensor(value: Any) -> Tensor | None:
    """Return the tensor in a module's output: itself, an object's logits or last hidden state, or a tuple's first."""
    for attribute in ("logits", "last_hidden_state"):
        value = getattr(value, attribute, value)
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return next((item for item in value if isinstance(item, Tensor)), None)
    return None


def _copy(tensor: Tensor) -> Tensor:
    """A copy, because a model may go on to change the tensor in place."""
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return tensor.detach().to("cpu", dtype, copy=True)


def _shape_text(shape: tuple[int, ...] | None) -> str:
    return "no tensor" if shape is None else f"shape {shape}"


def aligned(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return both in one shape, or None when they are of different shapes.

    Leading ones do not count, nor does a batch that one of them leaves out: positions are the same in every row.
    """
    if left.numel() == right.numel() and left.shape[-1:] == right.shape[-1:]:
        return left.reshape(right.shape), right
    small, large = sorted((left, right), key=Tensor.numel)
    while small.dim() and small.shape[0] == 1:
        small = small.squeeze(0)
    if small.dim() < large.dim() and large.shape[large.dim() - small.dim() :] == small.shape:
        return left.broadcast_to(large.shape), right.broadcast_to(large.shape)
    return None


def relative(left: Tensor, right: Tensor) -> Tensor | None:
    """Return |left - right| / (|right| + mean |right|) for each element; None when the shapes differ.

    The mean keeps small elements from counting; it is not the maximum, because GPT-2 has a few giant features. A NaN
    equals a NaN and is infinitely far from a number.
    """
    pair = aligned(left, right)
    if pair is None:
        return None
    left, right = pair
    equal = (left == right) | (left.isnan() & right.isnan())
    size = right[right.isfinite()].abs().mean() if right.isfinite().any() else right.new_tensor(0.0)
    distance = (left - right).abs() / (right.abs() + size).clamp(min=torch.finfo(right.dtype).tiny)
    return torch.where(equal, 0.0, distance.nan_to_num(nan=float("inf"), posinf=float("inf")))


def distance(left: Tensor, right: Tensor) -> float:
    """Return the largest relative difference; infinity when the shapes differ."""
    if torch.equal(left, right):  # saves time and memory for large weights
        return 0.0
    each = relative(left, right)
    return float("inf") if each is None else float(each.max()) if each.numel() else 0.0
