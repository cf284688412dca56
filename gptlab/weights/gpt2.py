"""GPT-2's weights, as OpenAI and Hugging Face name and store them, into our GPTModel.

Two things differ besides the names. Their linear layers are stored transposed, (in, out) instead of PyTorch's
(out, in), because OpenAI wrote y = x W. And `c_attn` holds query, key and value side by side as one matrix.

The translation is one table. Every tensor of the source is used once and every parameter is filled once; whatever is
left over, missing or of another shape is named in an error before anything is changed.

Source: Radford et al. 2019; the names are those of transformers' GPT2Model and of OpenAI's checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gptlab.config import GPTConfig
from gptlab.model import GPTModel
from gptlab.weights.safetensors_file import SafetensorsFile, ShardedSafetensors


class Translation(NamedTuple):
    """One of their tensors, and our parameters that it holds, one below the other after transposing."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False


_OF_THE_MODEL = (
    Translation("wte.weight", ("tok_emb.weight",)),
    Translation("wpe.weight", ("pos_emb.weight",)),
    Translation("ln_f.weight", ("final_norm.scale",)),
    Translation("ln_f.bias", ("final_norm.shift",)),
)
_OF_A_BLOCK = (
    Translation("ln_1.weight", ("norm1.scale",)),
    Translation("ln_1.bias", ("norm1.shift",)),
    Translation("attn.c_attn.weight", ("att.W_query.weight", "att.W_key.weight", "att.W_value.weight"), True),
    Translation("attn.c_attn.bias", ("att.W_query.bias", "att.W_key.bias", "att.W_value.bias")),
    Translation("attn.c_proj.weight", ("att.out_proj.weight",), True),
    Translation("attn.c_proj.bias", ("att.out_proj.bias",)),
    Translation("ln_2.weight", ("norm2.scale",)),
    Translation("ln_2.bias", ("norm2.shift",)),
    Translation("mlp.c_fc.weight", ("ff.layers.0.weight",), True),
    Translation("mlp.c_fc.bias", ("ff.layers.0.bias",)),
    Translation("mlp.c_proj.weight", ("ff.layers.2.weight",), True),
    Translation("mlp.c_proj.bias", ("ff.layers.2.bias",)),
)
_HEAD = "lm_head.weight"
_MASK_BUFFERS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # old files carry the causal mask


def translations(n_layers: int) -> list[Translation]:
    """Return the whole table for a model of `n_layers` blocks, without the head."""
    blocks = [
        Translation(f"h.{i}.{theirs}", tuple(f"trf_blocks.{i}.{name}" for name in ours), transposed)
        for i in range(n_layers)
        for theirs, ours, transposed in _OF_A_BLOCK
    ]
    return [*_OF_THE_MODEL, *blocks]


def load_weights(model: GPTModel, source: str | Path | nn.Module | Mapping[str, Any]) -> None:
    """Fill `model` with GPT-2's weights, in place; nothing is changed unless everything fits.

    Args:
        model: tied or not. An untied head gets the source's `lm_head.weight`, or else a copy of its embeddings.
        source: a checkpoint folder, a .safetensors file, a model of transformers, a mapping of its names to tensors
            with or without the prefix `transformer.`, OpenAI's nested dictionary (as the book's TensorFlow reader
            returns it); or our own names, from a checkpoint of ours or a .pth file of the book.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a tensor is missing, left over or of another shape, or the file is of a kind that is not read.
    """
    tensors = open_weights(source)
    if "tok_emb.weight" in tensors:
        model.load_state_dict(check_own_weights(model.cfg, tensors, str(source)))
        return
    parameters = model.state_dict()
    with torch.no_grad():
        _fill(model.cfg, tensors, lambda name, tensor: parameters[name].copy_(tensor))


def assign_check(left: Tensor, right: Tensor) -> nn.Parameter:
    """Return a copy of `right` as a parameter to put where `left` is.

    Raises:
        ValueError: the shapes differ.
    """
    right = torch.as_tensor(right)
    if left.shape != right.shape:
        raise ValueError(f"Shape mismatch. Left: {tuple(left.shape)}, Right: {tuple(right.shape)}")
    return nn.Parameter(right.clone().detach())


class _NoInitialization(TorchFunctionMode):
    """Leave new weights as they are. To draw numbers that have no memory, torch would import its compiler: a second."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return func(*args, **kwargs)


def empty_model(cfg: GPTConfig) -> GPTModel:
    """Return a model that has names and shapes, but neither memory nor numbers."""
    with torch.device("meta"), _NoInitialization():
        return GPTModel(cfg)


def build_model(
    cfg: GPTConfig, tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device | str
) -> GPTModel:
    """Return a model that is made of the tensors themselves: built without memory, then filled one by one."""
    model = empty_model(cfg)

    def place(name: str, tensor: Tensor) -> None:
        module, _, kind = name.rpartition(".")
        weight = torch.empty(tensor.shape, dtype=dtype, device=device).copy_(tensor) if _is_part(tensor) else tensor
        setattr(model.get_submodule(module), kind, nn.Parameter(weight.to(device, dtype)))

    _fill(cfg, tensors, place)
    if cfg.tie_weights:
        model.out_head.weight = model.tok_emb.weight
    return model.eval()


def _is_part(tensor: Tensor) -> bool:
    """Whether a tensor looks into a larger or a transposed one, which would stay in memory with it."""
    return not tensor.is_contiguous() or tensor.untyped_storage().nbytes() > tensor.nbytes


def open_weights(source: str | Path | nn.Module | Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return the tensors of a source by their names without prefix; those of a file are read when they are asked for.

    Raises:
        FileNotFoundError: there is no such file or folder, or the folder holds no weights.
        ValueError: the file is of a kind that is not read, or damaged.
    """
    if isinstance(source, nn.Module):
        source = source.state_dict()
    if isinstance(source, Mapping):
        return _without_prefix(_flat(source) if "blocks" in source else source)
    path = Path(source)
    if path.is_dir():
        return _without_prefix(_open_folder(path))
    if not path.is_file():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if path.suffix == ".safetensors":
        return _without_prefix(SafetensorsFile(path))
    if path.suffix == ".pth":
        return _open_book_checkpoint(path)
    raise ValueError(f"{path.name} is not read: it must be a folder, a .safetensors file or a .pth file of the book")


def _open_folder(folder: Path) -> Mapping[str, Tensor]:
    if (folder / "model.safetensors").is_file():
        return SafetensorsFile(folder / "model.safetensors")
    if (folder / "model.safetensors.index.json").is_file():
        return ShardedSafetensors(folder / "model.safetensors.index.json")
    pickles = [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    if pickles:
        raise ValueError(
            f"{folder} holds {pickles[0]}, a pickle, which can run code when it is opened; it needs safetensors"
        )
    raise FileNotFoundError(f"{folder} has neither model.safetensors nor model.safetensors.index.json")


def _open_book_checkpoint(path: Path) -> Mapping[str, Tensor]:
    """Read a state dictionary that torch.save wrote, bare or under "model_state_dict", and nothing but tensors."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        raise ValueError(f"{path} holds more than tensors, or is damaged: {str(error).splitlines()[0]}") from error
    content = content.get("model_state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or "tok_emb.weight" not in content:
        raise ValueError(f"{path} must hold a state dictionary with the book's names, such as tok_emb.weight")
    return content


def _without_prefix(tensors: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return a view of the mapping without the prefix `transformer.` and without the mask buffers."""
    names = {name.removeprefix("transformer."): name for name in tensors}
    if len(names) < len(tensors):
        raise ValueError("the weights hold some names twice, with and without the prefix 'transformer.'")
    return _Renamed(tensors, {new: old for new, old in names.items() if not _MASK_BUFFERS.fullmatch(new)})


class _Renamed(Mapping[str, Tensor]):
    def __init__(self, tensors: Mapping[str, Any], names: dict[str, str]) -> None:
        self._tensors, self._names = tensors, names

    def __getitem__(self, name: str) -> Tensor:
        return torch.as_tensor(self._tensors[self._names[name]])

    def shape(self, name: str) -> tuple[int, ...]:
        old = self._names[name]
        return self._tensors.shape(old) if hasattr(self._tensors, "shape") else tuple(self._tensors[old].shape)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _flat(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return OpenAI's nested dictionary with Hugging Face's names: {"blocks": [{"attn": {"c_attn": {"w", "b"}}}]}."""
    flat = {"wte.weight": params["wte"], "wpe.weight": params["wpe"]}
    kinds = {"w": "weight", "g": "weight", "b": "bias"}
    for kind in ("g", "b"):
        flat[f"ln_f.{kinds[kind]}"] = params[kind]

    def descend(prefix: str, node: Mapping[str, Any]) -> None:
        for name, value in node.items():
            if isinstance(value, Mapping):
                descend(f"{prefix}.{name}", value)
            else:  # some readers leave the leading 1 of a convolution's kernel
                flat[f"{prefix}.{kinds.get(name, name)}"] = value[0] if value.ndim == 3 else value

    for i, block in enumerate(params["blocks"]):
        descend(f"h.{i}", block)
    return flat


def check_own_weights(cfg: GPTConfig, weights: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Return weights with our own names, a tied head filled in, or raise ValueError for the first that does not fit.

    Layers' causal masks, which checkpoints of the book carry, are left aside.
    """
    found = {name: weight for name, weight in weights.items() if not name.endswith(".att.mask")}
    if cfg.tie_weights and "tok_emb.weight" in found:
        head = found.setdefault("out_head.weight", found["tok_emb.weight"])
        if not torch.equal(head, found["tok_emb.weight"]):
            raise ValueError(
                f"{what}: out_head.weight differs from tok_emb.weight; the model must have tie_weights=False"
            )
    try:
        expected = {name: tuple(weight.shape) for name, weight in empty_model(cfg).state_dict().items()}
    except RuntimeError as error:  # sizes whose product is no number that torch can count to
        raise ValueError(f"{what} is of impossible size: {error}") from None
    for name in [*expected, *found]:
        shape = tuple(found[name].shape) if name in found else None
        if expected.get(name) != shape:
            raise ValueError(f"{what} should hold {name} as {expected.get(name)}, got {shape}")
    return found


def _fill(cfg: GPTConfig, tensors: Mapping[str, Tensor], place: Callable[[str, Tensor], Any]) -> None:
    """Check every name and shape, then hand each of our parameters its values."""
    table = translations(cfg.n_layers)
    _check(cfg, table, tensors)
    for theirs, ours, transposed in table:
        if theirs not in tensors:
            continue  # without qkv_bias, which _check knows
        tensor = tensors[theirs]
        tensor = tensor.T if transposed else tensor
        for name, part in zip(ours, tensor.chunk(len(ours))):
            place(name, part)
        if theirs == "wte.weight" and not cfg.tie_weights:
            place("out_head.weight", tensors[_HEAD] if _HEAD in tensors else tensor.clone())


def _check(cfg: GPTConfig, table: Iterable[Translation], tensors: Mapping[str, Tensor]) -> None:
    shapes = {name: tuple(weight.shape) for name, weight in empty_model(cfg).state_dict().items()}
    expected = {}
    for theirs, ours, transposed in table:
        if ours[0] in shapes:
            rows, *rest = shapes[ours[0]]
            shape = (len(ours) * rows, *rest)
            expected[theirs] = shape[::-1] if transposed else shape
    found = {name: tensors.shape(name) if hasattr(tensors, "shape") else tuple(tensors[name].shape) for name in tensors}
    if _HEAD in found:
        expected[_HEAD] = shapes["out_head.weight"]
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            hint = "; the model has qkv_bias=False" if name.endswith("c_attn.bias") and name not in expected else ""
            raise ValueError(f"{name}: the model needs {expected.get(name)}, the weights have {found.get(name)}{hint}")
    if cfg.tie_weights and _HEAD in tensors and not torch.equal(tensors[_HEAD], tensors["wte.weight"]):
        raise ValueError(f"{_HEAD} differs from wte.weight, so the model must have tie_weights=False")
