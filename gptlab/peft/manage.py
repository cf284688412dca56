"""Put adapters on a model, switch between them, take them off, and make one of them part of the weights.

    apply(model, LoRA(rank=8))     the model learns a few parameters only, those of the adapter "default"
    use(model, "other")            another adapter answers
    with disable(model): ...       none does
    merge(model)                   a plain GPTModel, with the adapter in its weights; unmerge(model) goes back

A model remembers its adapters itself, so that a copy of it has them too.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from gptlab.config import GPTConfig
from gptlab.model import GPTModel
from gptlab.peft.adapted import Adapted
from gptlab.peft.beginning import Beginning, forward_after_beginning
from gptlab.peft.method import Method, places
from gptlab.tokenizer import Tokenizer
from gptlab.weights import weights_digest


class _Adapters:
    """What a model remembers about its adapters.

    Attributes:
        cfg: the model's own; virtual tokens take positions from the one that it shows.
        base: a mark of the weights before anything was done to them.
        learned: the parameters that learned before.
        changed_by: the method that changed the base, such as by quantising it; it outlives its adapters.
        methods: name -> settings, in the order in which they came.
        untrained: name -> a mark of the values with which an adapter began; None if it was loaded.
        frozen: the adapters that answer but do not learn.
        active: the adapter that answers.
        merged: place -> what stood there before a merge, "" for what stood in front; None when nothing is merged.
        merged_weights: a mark of the weights after the merge.
    """

    def __init__(self, model: GPTModel) -> None:
        self.cfg: GPTConfig = model.cfg
        self.base: str = weights_digest(model)
        self.learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.changed_by: Method | None = None
        self.methods: dict[str, Method] = {}
        self.untrained: dict[str, str | None] = {}
        self.frozen: set[str] = set()
        self.active: str | None = None
        self.merged: dict[str, nn.Module] | None = None
        self.merged_weights: str | None = None

    def __deepcopy__(self, memo: dict) -> _Adapters:
        """Return a copy without what a merge put aside, which may be as large as the model."""
        other = copy.copy(self)
        other.methods, other.untrained = dict(self.methods), dict(self.untrained)
        other.frozen = set(self.frozen)
        other.merged = None if self.merged is None else {}
        return other


def apply(
    model: GPTModel,
    method: Method,
    *,
    name: str = "default",
    tokenizer: Tokenizer | None = None,
    generator: torch.Generator | None = None,
) -> GPTModel:
    """Put an adapter on `model`, in place, freeze everything else, and return the model.

    Make the optimizer afterwards. An adapter that was there before stays, and is switched off.

    Args:
        model: the model.
        method: settings, such as `LoRA(rank=8)`.
        name: of the adapter, by which it is switched, saved and merged.
        tokenizer: for methods that begin with the embeddings of a text.
        generator: of the numbers that the adapter begins with; None takes torch's global random state.

    Raises:
        TypeError: `method` is no settings, but perhaps their class or name.
        ValueError: the model has an adapter of that name or a merged one, the settings do not fit it, or the adapter
            needs a base of another kind than those that are there, such as a quantised one. The model is as it was.
    """
    if not isinstance(method, Method):
        raise TypeError(f"method must be settings, such as LoRA(rank=8), got {method!r}")
    state = state_for_new(model, name, method)
    put_on(model, state, method, name, method.build(model, tokenizer=tokenizer, generator=generator))
    return model


def state_for_new(model: GPTModel, name: str, method: Method, *, any_base: bool = False) -> _Adapters:
    """Return what the model remembers, or is to remember, when it gets an adapter of this name.

    Args:
        model: the model.
        name: of the adapter.
        method: its settings.
        any_base: accept a base that another method has changed.

    Raises:
        ValueError: it cannot get one.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name) or hasattr(nn.ModuleDict(), name):
        raise ValueError(f"name must be of letters, digits, - and _, and no method of ModuleDict, got {name!r}")
    state = _remembered(model) or _Adapters(model)
    if name in state.methods:
        raise ValueError(f"the model has an adapter {name!r} already; choose another name, or remove that one first")
    check_not_merged(state)
    on_another = state.changed_by is not None and not method.shares_base(state.changed_by)
    if on_another and (method.changes_base or not any_base):
        raise ValueError(f"the base was changed by {state.changed_by}; {method.method!r} needs another one")
    for other, settings in state.methods.items() if method.changes_base else ():
        if not method.shares_base(settings):
            raise ValueError(
                f"{method.method!r} changes the base, on which the adapter {other!r} stands; remove it first"
            )
    return state


def put_on(model: GPTModel, state: _Adapters, method: Method, name: str, made: dict[str, nn.Module]) -> None:
    """Put modules that `method.build` returned in their places, and let them answer."""
    for place in made:
        model.get_submodule(place)  # raises before anything is changed
    method.prepare(model)
    for place, module in made.items():
        module.train(model.training)
        there = model.get_submodule(place)
        if not place and not hasattr(model, "adapters"):
            model.adapters = nn.ModuleDict().train(model.training)
        elif place and not isinstance(there, Adapted):
            replace_module(model, place, there := Adapted(there).train(model.training))
        there.adapters[name] = module
    model._adapters = state
    state.methods[name] = method
    state.changed_by = method if method.changes_base else state.changed_by
    state.untrained[name] = _digest(made)
    use(model, name)


def put_on_loaded(
    model: GPTModel, state: _Adapters, method: Method, name: str, made: dict[str, nn.Module], trainable: bool
) -> None:
    """The same for modules that were filled from a file."""
    put_on(model, state, method, name, made)
    state.untrained[name] = None
    if not trainable:
        state.frozen.add(name)
        use(model, name)


def use(model: GPTModel, name: str | None) -> None:
    """Let the adapter of this name answer and learn, and no other; with None, the model alone answers.

    One that was loaded without `trainable` answers only.

    Raises:
        ValueError: there is none of that name, or one is merged.
    """
    state = state_of(model)
    check_not_merged(state)
    if name is not None and name not in state.methods:
        raise ValueError(f"the model has no adapter {name!r}; it has {', '.join(state.methods) or 'none'}")
    model.requires_grad_(False)
    for module in () if name is None else adapter_modules(model, name).values():
        module.requires_grad_(name not in state.frozen)
    _switch(model, name)


def _switch(model: GPTModel, name: str | None) -> None:
    state = state_of(model)
    state.active = name
    state.cfg = replace(state.cfg, vocab_size=model.cfg.vocab_size)  # it may have grown
    for module in model.modules():
        if isinstance(module, Adapted):
            module.active = name
    beginning = model.adapters[name] if name in getattr(model, "adapters", {}) else None
    if isinstance(beginning, Beginning):
        model.active_beginning = name
        model.forward_embeddings = partial(forward_after_beginning, model)  # in place of the class's own
        model.cfg = replace(state.cfg, context_length=state.cfg.context_length - beginning.tokens)
    else:
        model.__dict__.pop("forward_embeddings", None)
        model.cfg = state.cfg


@contextmanager
def disable(model: GPTModel) -> Iterator[None]:
    """Let the model answer as it did without adapters, for a while; then the same adapter answers as before.

    Raises:
        ValueError: it has no adapter, or a merged one.
    """
    state = state_of(model)
    check_not_merged(state)
    before = state.active
    _switch(model, None)
    try:
        yield
    finally:
        if adapters_of(model) is state and state.merged is None:
            before = before if before in state.methods else None
            if state.active is None:
                _switch(model, before)
            else:  # another was chosen or put on meanwhile, and is what learns
                use(model, before)


def remove(model: GPTModel, name: str | None = None) -> GPTModel:
    """Take one adapter off, or all of them, in place, and return the model.

    When the last one is gone, the model is a plain GPTModel that learns what it learned before. A merged adapter stays
    in the weights. A base that was quantised stays quantised.

    Raises:
        ValueError: there is none of that name, or one is merged and this is to take off one alone.
    """
    state = state_of(model)
    if name is not None and name not in state.methods:
        raise ValueError(f"the model has no adapter {name!r}; it has {', '.join(state.methods)}")
    if state.merged is None:
        _switch(model, None if name in (None, state.active) else state.active)
    elif name is not None:
        check_not_merged(state)
    for gone in [*state.methods] if name is None else [name]:
        for place in adapter_modules(model, gone) if state.merged is None else ():
            del model.get_submodule(place).adapters[gone]
        del state.methods[gone], state.untrained[gone]
        state.frozen.discard(gone)
    for place, module in [*places(model)]:
        if isinstance(module, Adapted) and not module.adapters:
            replace_module(model, place, module.base)
    if not state.methods:
        if state.merged is not None or state.changed_by is None:
            model.__dict__.pop("_adapters", None)
        for attribute in ("adapters", "active_beginning"):
            if hasattr(model, attribute):
                delattr(model, attribute)
        for parameter_name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter_name in state.learned)
    return model


def adapters_of(model: nn.Module) -> _Adapters | None:
    """Return what the model remembers about its adapters; None if it has none."""
    state = _remembered(model)
    return state if state is not None and state.methods else None


def adapter_modules(model: GPTModel, name: str) -> dict[str, nn.Module]:
    """Return the modules of an adapter: place -> module, "" for what stands in front of every text."""
    holders = [("", model)] if hasattr(model, "adapters") else []
    holders += [(place, module) for place, module in places(model) if isinstance(module, Adapted)]
    return {place: holder.adapters[name] for place, holder in holders if name in holder.adapters}


def active_adapter(model: GPTModel, name: str | None = None) -> tuple[str, Method, dict[str, nn.Module]]:
    """Return the name, settings and modules of the active adapter, or of the one that is named.

    Raises:
        ValueError: there is none, or one is merged.
    """
    state = state_of(model)
    check_not_merged(state)
    name = state.active if name is None else name
    if name not in state.methods:
        raise ValueError(f"the model has no {'active adapter' if name is None else f'adapter {name!r}'}")
    return name, state.methods[name], adapter_modules(model, name)


def is_untrained(model: GPTModel, name: str) -> bool:
    """Whether an adapter still holds, to the bit, the numbers that it began with."""
    return state_of(model).untrained[name] == _digest(adapter_modules(model, name))


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that learn."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _remembered(model: nn.Module) -> _Adapters | None:
    """Return what the model remembers, even if all adapters are gone from a base that one of them changed."""
    return model.__dict__.get("_adapters")


def state_of(model: GPTModel) -> _Adapters:
    state = adapters_of(model)
    if state is None:
        raise ValueError("the model has no adapter; apply(model, method) puts one on")
    return state


def check_not_merged(state: _Adapters) -> None:
    if state.merged is not None:
        raise ValueError(f"the adapter {state.active!r} is merged already: unmerge(model) or remove(model) first")


def replace_module(model: nn.Module, place: str, module: nn.Module) -> None:
    parent, _, child = place.rpartition(".")
    holder = model.get_submodule(parent)
    setattr(holder.base if isinstance(holder, Adapted) else holder, child, module)


def _digest(modules: dict[str, nn.Module]) -> str:
    digest = hashlib.sha256()
    for _, module in sorted(modules.items()):
        for tensor in module.state_dict().values():
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
