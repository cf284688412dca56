"""An adapter as two small files: adapter.json says what it is and on what, adapter.safetensors holds its numbers.

A name in the file is the place, a colon and the parameter: "trf_blocks.0.att.W_query:A". What stands in front of the
text has no place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from gptlab.data import template_or_format
from gptlab.files import read_json, to_json, write_together
from gptlab.model import GPTModel
from gptlab.peft.manage import active_adapter, adapters_of, is_untrained, put_on_loaded, state_for_new
from gptlab.peft.method import Method, method_from_dict
from gptlab.weights import Checkpoint, load_checkpoint
from gptlab.weights.hub import repository_of

FORMAT = "gptlab-adapter-1"
SETTINGS, WEIGHTS = "adapter.json", "adapter.safetensors"


def save_adapter(
    model: GPTModel,
    folder: str | Path,
    *,
    name: str | None = None,
    for_inference: bool = False,
    notes: dict[str, Any] | None = None,
) -> None:
    """Write an adapter, and nothing of the model under it.

    Args:
        model: has the adapter.
        folder: made when it is missing; an adapter that is there is replaced when both files are complete.
        name: which adapter; None is the active one.
        for_inference: whether to leave out what only training needs, such as the encoder that makes a prefix.
        notes: what else adapter.json keeps, such as where the base is.

    Raises:
        ValueError: there is no such adapter, it is merged, it holds nothing or was never trained, a note has a name
            that adapter.json needs, or the folder holds another model.
        RuntimeError: it was trained without what its method needs.
        OSError: the folder cannot be written.
    """
    name, method, modules = adapter_to_write(model, name, folder)
    if for_inference:
        method, values = method.for_inference(model, modules)
    else:
        values = {place: module.state_dict() for place, module in modules.items()}
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in _flat(values).items()}
    state, notes = adapters_of(model), notes or {}
    about = {
        "format": FORMAT,
        "method": method.to_dict(),
        "base": {"config": state.cfg.to_dict(), "digest": state.base},
    }
    if about.keys() & notes.keys():
        raise ValueError(f"notes must have other names than {', '.join(about)}, got {', '.join(notes)}")
    write_together(folder, {WEIGHTS: save(tensors, metadata={"format": "pt"}), SETTINGS: to_json(about | notes)})


def adapter_to_write(
    model: GPTModel, name: str | None, folder: str | Path, own: str = SETTINGS
) -> tuple[str, Method, dict[str, nn.Module]]:
    """Return the name, settings and modules of an adapter that a folder is to hold, or say why it cannot.

    Args:
        model: has the adapter.
        name: which adapter; None is the active one.
        folder: where it goes.
        own: the file of settings, which may be there already.

    Raises:
        ValueError: there is no such adapter, it is merged, it holds nothing or was never trained, or the folder holds
            another model or adapter.
        RuntimeError: it was trained without what its method needs.
    """
    name, method, modules = active_adapter(model, name)
    if not any(tensor.numel() for module in modules.values() for tensor in module.state_dict().values()):
        raise ValueError(f"the adapter {name!r} is empty: it has no parameters")
    if is_untrained(model, name):
        raise ValueError(f"the adapter {name!r} holds the numbers that it began with: train it before it is written")
    method.check_trained(modules)
    check_adapter_folder(folder, own)
    return name, method, modules


def adapter_tensors(model: GPTModel, name: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of an adapter, under the names that they have in a file; None is the active one."""
    _, _, modules = active_adapter(model, name)
    return _flat({place: module.state_dict() for place, module in modules.items()})


def load_adapter(
    model: GPTModel, folder: str | Path, *, name: str = "default", trainable: bool = False, any_base: bool = False
) -> GPTModel:
    """Put a saved adapter on `model`, in place, let it answer, and return the model.

    Args:
        model: the base that it was trained on.
        folder: what `save_adapter` wrote.
        name: of the adapter on this model.
        trainable: whether it goes on learning.
        any_base: accept a base of the same shape with other weights, such as one that was tuned on, or rounded.

    Raises:
        FileNotFoundError: the folder has no adapter.
        ValueError: a file is damaged, the adapter is for a model of another size or with other weights, or the model
            has an adapter of that name. The model is as it was.
    """
    about = read_about(folder)
    method, tensors = method_from_dict(about["method"]), _read_tensors(Path(folder) / WEIGHTS)
    state = state_for_new(model, name, method, any_base=any_base)
    _check_base(state, about["base"], folder, any_base)
    try:
        made = method.blank(model)
    except (AttributeError, RuntimeError, TypeError) as error:  # of another type, or so large that there is no memory
        raise ValueError(f"{SETTINGS} in {folder} has settings that {method.method!r} cannot take: {error}") from error
    _fill(made, tensors, folder)
    put_on_loaded(model, state, method, name, made, trainable)
    return model


def read_about(folder: str | Path) -> dict[str, Any]:
    """Return what adapter.json says.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no adapter of ours.
    """
    path = Path(folder) / SETTINGS
    if not path.is_file():
        hint = "; import_peft reads it" if (Path(folder) / "adapter_config.json").is_file() else ""
        raise FileNotFoundError(f"{folder} holds no adapter: it has no {SETTINGS}{hint}")
    about = read_json(path)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"{path} must say format {FORMAT!r}")
    if not isinstance(about.get("method"), dict) or not isinstance(about.get("base"), dict):
        raise ValueError(f"{path} must hold the objects 'method' and 'base'")
    if not isinstance(about["base"].get("config"), dict):
        raise ValueError(f"{path} must hold an object 'config' in 'base'")
    return about


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter of ours."""
    return (Path(folder) / SETTINGS).is_file()


def check_adapter_folder(folder: str | Path, own: str = SETTINGS) -> None:
    """Raise ValueError if a folder holds a model, or an adapter in another form than `own`; they would be mixed up."""
    for other in ("config.json", SETTINGS, "adapter_config.json"):
        if other != own and (Path(folder) / other).exists():
            raise ValueError(f"{folder} holds another model or adapter, it has {other}; choose another folder")


def load_tuned(folder: str | Path, device: str = "cpu", *, base: str | Path | None = None, **options) -> Checkpoint:
    """Return a model with the adapter in `folder` on it, its tokenizer, and the form that it was tuned in.

    Args:
        folder: what `gptlab finetune --method ...` wrote.
        device: where the weights go.
        base: the checkpoint under it; None is the one that the adapter remembers.
        options: for `load_checkpoint`.

    Raises:
        FileNotFoundError: the base is not where it was.
        ValueError: as for `load_adapter`; or the adapter does not say where its base is.
    """
    about = read_about(folder)
    base = find_base(folder) if base is None else base
    try:
        start = load_checkpoint(base, device, **options)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the base of the adapter in {folder} is missing: {error}") from None
    load_adapter(start.model, folder)
    template = template_or_format(about["template"]) if "template" in about else start.template
    return start._replace(model=start.model.eval(), template=template)


def find_base(folder: str | Path, option: str = "base") -> Path | str:
    """Return the checkpoint on which the adapter in a folder was tuned: a path, or a name such as "124M".

    Args:
        folder: what `gptlab finetune --method ...` wrote.
        option: how the caller is given another base.

    Raises:
        FileNotFoundError: the base is not where it was.
        ValueError: the adapter does not say where it is.
    """
    base = read_about(folder).get("base_model")
    if not isinstance(base, str):
        raise ValueError(f"{folder} does not say on which checkpoint it was tuned; give {option}")
    for path in (Path(folder) / base, Path(base)):
        if path.exists():
            return path
    try:
        repository_of(base)
    except ValueError:  # it is no name
        gone = (Path(folder) / base).resolve()
        why = f"there is no {gone}; if it is elsewhere, give {option}"
        raise FileNotFoundError(f"the base of the adapter in {folder} is missing: {why}") from None
    return base


def _flat(values: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{place}:{key}": tensor for place, of_place in values.items() for key, tensor in of_place.items()}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no adapter: it has no {path.name}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _check_base(state, base: dict[str, Any], folder: str | Path, any_base: bool) -> None:
    config = state.cfg.to_dict()
    differ = [
        f"{key} was {base['config'].get(key)}, is {value}"
        for key, value in config.items()
        if key not in ("drop_rate", "tie_weights") and base["config"].get(key) != value
    ]
    if differ:
        raise ValueError(f"the adapter in {folder} is for a model of another size: {'; '.join(differ)}")
    if not any_base and base.get("digest") != state.base:
        raise ValueError(
            f"the adapter in {folder} was trained on a model with other weights; load_adapter(..., any_base=True) "
            "puts it on all the same"
        )


def _fill(modules: dict[str, nn.Module], tensors: dict[str, Tensor], folder: str | Path) -> None:
    """Copy the tensors into the modules, or raise ValueError and leave them."""
    own = _flat({place: module.state_dict() for place, module in modules.items()})
    lacking, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    others = sorted(key for key in own.keys() & tensors.keys() if own[key].shape != tensors[key].shape)
    if lacking or unknown or others:
        raise ValueError(
            f"the file in {folder} is not of the adapter that {SETTINGS} describes: it lacks {lacking[:3]}, has "
            f"unknown {unknown[:3]} and others in shape, {others[:3]}"
        )
    for key, tensor in own.items():
        tensor.copy_(tensors[key])
