"""Make an adapter part of the weights, and take it out of them again."""

from __future__ import annotations

from torch import nn

from gptlab.model import GPTModel
from gptlab.peft.adapted import Adapted
from gptlab.peft.manage import adapter_modules, check_not_merged, replace_module, state_of
from gptlab.peft.method import places
from gptlab.weights import weights_digest


def merge(model: GPTModel) -> GPTModel:
    """Make the active adapter part of the weights, in place, and return the model.

    It is then a plain GPTModel: as fast as without an adapter, saved by `save_checkpoint`, exported by
    `export_huggingface`; quantised layers have full weights. What it was before is kept until `unmerge`, which gives it
    back bit for bit, or `remove`. A copy of a merged model cannot go back.

    Raises:
        ValueError: no adapter is active, one is merged already, or this method's cannot be merged, with the reason.
        RuntimeError: it was trained without what its method needs.
    """
    state = state_of(model)
    check_not_merged(state)
    if state.active is None:
        raise ValueError("no adapter is active: use(model, name) chooses one to merge")
    method = state.methods[state.active]
    modules = adapter_modules(model, state.active)
    method.check_trained(modules)
    kept: dict[str, nn.Module] = {}  # what is inside comes before what is around it
    try:
        if "" in modules:
            raise ValueError("its virtual tokens stand in front of the text, in no weight")
        for place, module in reversed([*places(model)]):
            plain = _plain(module)
            if plain is not module:
                kept[place] = module
                replace_module(model, place, plain.requires_grad_(False))
    except Exception as error:
        _put_back(model, kept)
        if isinstance(error, ValueError):
            raise ValueError(f"an adapter of method {method.method!r} cannot be merged: {error}") from None
        raise
    if hasattr(model, "adapters"):
        kept[""] = model.adapters
        del model.adapters
    state.merged, state.merged_weights = kept, _mark(model)
    return model


def unmerge(model: GPTModel) -> GPTModel:
    """Undo `merge`, in place, and return the model: the weights are to the bit what they were.

    Raises:
        ValueError: nothing is merged, the model is a copy of a merged one, or its weights are not those of the merge:
            it was trained on, or made another type.
    """
    state = state_of(model)
    if not state.merged:
        why = "merge(model) was not called" if state.merged is None else "this is a copy of a merged model"
        raise ValueError(f"nothing to unmerge: {why}")
    device = next(model.parameters()).device
    if device.type != "meta" and _mark(model) != state.merged_weights:
        raise ValueError("the weights have changed since the merge, which would be lost; remove(model) keeps them")
    _put_back(model, state.merged)
    for module in state.merged.values():
        module.train(model.training).to(device)
    state.merged = state.merged_weights = None
    return model


def _mark(model: nn.Module) -> str:
    return f"{next(model.parameters()).dtype} {weights_digest(model)}"


def _plain(module: nn.Module) -> nn.Module:
    """Return what stands for a module after a merge; itself if nothing is on it and it is not quantised."""
    if isinstance(module, Adapted):
        module = module.base if module.branch is None else module.branch.merged(module.base)
    return module.to_linear() if hasattr(module, "to_linear") else module


def _put_back(model: nn.Module, kept: dict[str, nn.Module]) -> None:
    for place, module in reversed(kept.items()):
        if place:
            replace_module(model, place, module)
        else:
            model.adapters = module
