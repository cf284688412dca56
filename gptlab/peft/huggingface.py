"""Adapters in the form of Hugging Face's peft, in and out: adapter_config.json and adapter_model.safetensors.

A folder that `export_peft` writes opens with `PeftModel.from_pretrained` on the GPT-2 of transformers.

Their GPT-2 holds query, key and value as one layer, c_attn, ours as three. Three LoRAs, (A_q, B_q) and so on, are one
LoRA on c_attn, whose A holds theirs one below the other and whose B holds theirs along its diagonal:

    A = [A_q; A_k; A_v]  (3 r, D),   B = [B_q 0 0; 0 B_k 0; 0 0 B_v]  (3 D, 3 r)

Its rank is three times theirs, so alpha is too. The other way round, a LoRA that peft trained on c_attn has one A for
all three: it is taken apart into three, with a copy of A each. Both are exact as long as nothing learns; trained on,
the copies of A part, and the zeros of B fill.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from gptlab.files import read_json, to_json, write_together
from gptlab.model import GPTModel
from gptlab.peft.io import adapter_to_write
from gptlab.peft.lora import LoRA
from gptlab.peft.manage import put_on_loaded, state_for_new
from gptlab.peft.method import Method, compiled
from gptlab.peft.prefix import PrefixTuning
from gptlab.peft.prompts import PromptTuning
from gptlab.weights.gpt2 import translations

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
Values = dict[str, dict[str, Tensor]]  # place -> name -> tensor
Setting = tuple[int, float]  # rank and alpha

_IN_MODEL = "base_model.model."  # what stands in front of the names of layers
_IN_BLOCK = re.compile(r"\D*\.\d+\.")  # what stands in front of a name that every block has
_HEAD_ITSELF = f"{_IN_MODEL}lm_head.base_layer.weight"  # peft saves a head that has an adapter, too
_VIRTUAL = {  # what is learned of virtual tokens is one matrix; peft calls it prompt_embeddings, whatever it is
    "PREFIX_TUNING": (PrefixTuning, "rows"),  # (tokens, 2 L D)
    "PROMPT_TUNING": (PromptTuning, "vectors"),  # (tokens, D)
    "P_TUNING": (PromptTuning, "vectors"),  # peft leaves its encoder out
}
_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")  # init_lora_weights that leave the model alone
_READ = ("peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern", "bias")
_WITHOUT_EFFECT = (  # on what a LoRA answers, once its weights are there
    *("base_model_name_or_path", "revision", "task_type", "auto_mapping", "peft_version", "inference_mode"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"),
    *("init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size"),
    *("megatron_config", "megatron_core", "ensure_weight_tying"),
)
V = TypeVar("V")


def export_peft(
    model: GPTModel, folder: str | Path, *, name: str | None = None, base_model_name_or_path: str | None = None
) -> None:
    """Write an adapter in peft's form, which it opens on transformers' GPT-2 with the same answers.

    Where `export_huggingface` writes the model itself, this writes the adapter alone. One of QLoRA was trained on the
    quantised weights; on the full ones it answers nearly the same.

    Args:
        model: has the adapter.
        folder: made when it is missing; an adapter of peft that is there is replaced.
        name: which adapter; None is the active one.
        base_model_name_or_path: where peft finds the base, such as "gpt2" or an exported folder.

    Raises:
        ValueError: there is no such adapter, it is merged or was never trained, peft has nothing like it, or the folder
            holds a model or an adapter of ours.
        RuntimeError: it was trained without what its method needs.
        OSError: the folder cannot be written.
    """
    name, method, modules = adapter_to_write(model, name, folder, own=CONFIG)
    plain, values = method.for_inference(model, modules)
    if isinstance(plain, LoRA):
        config, tensors = _lora_to_peft(model, plain, values)
    elif isinstance(plain, (PrefixTuning, PromptTuning)):
        config, tensors = _virtual_to_peft(model, plain, values)
    else:
        raise ValueError(
            f"peft has nothing like this adapter of method {method.method!r}; it has LoRA, prefix tuning, and prompt "
            "tuning in front of the text"
        )
    about = {"task_type": "CAUSAL_LM", "base_model_name_or_path": base_model_name_or_path, "inference_mode": True}
    ready = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    content = {WEIGHTS: save(ready, metadata={"format": "pt"}), CONFIG: to_json({**config, **about})}
    write_together(folder, content, stale=[PICKLE])


def import_peft(model: GPTModel, folder: str | Path, *, name: str = "default", trainable: bool = False) -> GPTModel:
    """Put an adapter that peft saved for transformers' GPT-2 on `model`, in place, let it answer, and return the model.

    P-tuning becomes prompt tuning, since peft does not save what made its vectors.

    Args:
        model: the base that it was trained on.
        folder: what peft's `save_pretrained`, or `export_peft`, wrote.
        name: of the adapter on this model.
        trainable: whether it goes on learning.

    Raises:
        FileNotFoundError: the folder has no such adapter.
        ValueError: a file is damaged, the adapter is of a kind that is not read or does not fit the model, or the model
            has an adapter of that name. The model is as it was.
    """
    config, tensors = _read_config(Path(folder)), _read_tensors(Path(folder))
    method, values = (_virtual_from_peft if config["peft_type"] in _VIRTUAL else _lora_from_peft)(
        model, config, tensors
    )
    if tensors:
        raise ValueError(f"{folder}: the adapter has {next(iter(tensors))!r}, which nothing in this model can take")
    state = state_for_new(model, name, method, any_base=True)  # peft says nothing of the weights under it
    made = method.blank(model)
    for place, module in made.items():
        module.load_state_dict(values[place])
    put_on_loaded(model, state, method, name, made, trainable)
    return model


class _Factors(NamedTuple):
    """The difference scale * B A of one layer."""

    A: Tensor  # (r, in)
    B: Tensor  # (out, r)
    scale: float


def _places(model: GPTModel) -> dict[str, tuple[str, ...]]:
    """Return their name of every linear layer, and ours, by the table that loading weights uses."""
    layers = {
        f"transformer.{theirs.removesuffix('.weight')}": tuple(name.removesuffix(".weight") for name in ours)
        for theirs, ours, transposed in translations(model.cfg.n_layers)
        if transposed
    }
    return {**layers, "lm_head": ("out_head",)}


def _lora_to_peft(model: GPTModel, method: LoRA, values: Values) -> tuple[dict[str, Any], dict[str, Tensor]]:
    blank = method.blank(model)  # knows the scales
    factors = {place: _Factors(of["A"], of["B"], blank[place].scale) for place, of in values.items()}
    tensors, found = {}, {}
    for theirs, ours in _places(model).items():
        parts = [factors.pop(place, None) for place in ours]
        if any(parts):
            A, B, scale = _joined(parts, [model.get_submodule(place).out_features for place in ours])
            tensors |= {f"{_IN_MODEL}{theirs}.lora_A.weight": A, f"{_IN_MODEL}{theirs}.lora_B.weight": B}
            found[theirs] = len(A), _alpha(scale, len(A), method.rank_stabilised)
    if factors or model.out_head.out_features != model.cfg.vocab_size:
        raise ValueError(f"transformers' GPT-2 has no layer like {next(iter(factors), 'out_head')!r} of this model")
    (rank, alpha), ranks, alphas = _settings(found, model)
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": method.dropout,
        "use_rslora": method.rank_stabilised,
        "bias": "none",
        "fan_in_fan_out": [*found] != ["lm_head"],  # all their other layers hold their weights transposed
        "target_modules": [*_short(dict.fromkeys(found), model)],
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
    }
    return config, tensors


def _joined(parts: list[_Factors | None], heights: list[int]) -> _Factors:
    """Return the factors of the layer that holds these, of these heights, one below the other."""
    found = [part for part in parts if part]
    scales = {part.scale for part in found}
    scale = scales.pop() if len(scales) == 1 else 1.0  # several scales go into the Bs
    A = torch.cat([part.A for part in found])  # (sum of r, in)
    blocks = [part.B * (part.scale / scale) if part else A.new_zeros(height, 0) for part, height in zip(parts, heights)]
    return _Factors(A, torch.block_diag(*blocks), scale)


def _lora_from_peft(model: GPTModel, config: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[LoRA, Values]:
    """Take the layers' tensors out of `tensors` and return them under our names."""
    targets, stabilised = _targets(config, model), bool(config.get("use_rslora"))
    values, found = {}, {}
    for theirs, ours in _places(model).items():
        A, B = (tensors.pop(f"{_IN_MODEL}{theirs}.lora_{which}.weight", None) for which in "AB")
        if A is None and B is None and theirs not in targets:
            continue
        factors = _checked(model, theirs, ours, A, B, config)
        for place, part in zip(ours, _apart(factors, len(ours))):
            if part is not None:
                values[place] = {"A": part.A, "B": part.B}
                found[place] = len(part.A), _alpha(part.scale, len(part.A), stabilised)
    head = tensors.pop(_HEAD_ITSELF, None)
    if head is not None and not torch.equal(model.get_submodule("out_head").weight.cpu().to(head.dtype), head):
        raise ValueError(f"the adapter brings a head of its own, {_HEAD_ITSELF!r}, which is not that of this model")
    (rank, alpha), ranks, alphas = _settings(found, model)
    dropout = _number("lora_dropout", config.get("lora_dropout", 0.0))
    short = tuple(_short(dict.fromkeys(found), model))
    return LoRA(rank, alpha, dropout, short, stabilised, rank_pattern=ranks, alpha_pattern=alphas), values


def _checked(
    model: GPTModel, theirs: str, ours: tuple[str, ...], A: Tensor | None, B: Tensor | None, config: dict[str, Any]
) -> _Factors:
    """Return the factors of one of their layers, or raise ValueError if the file does not hold them as it should."""
    rank = _number("r", _of_pattern(config, "rank_pattern", theirs, config.get("r", 8)))
    alpha = _number("lora_alpha", _of_pattern(config, "alpha_pattern", theirs, config.get("lora_alpha", 8)))
    layers = [model.get_submodule(place) for place in ours]
    expected = (rank, layers[0].in_features), (sum(layer.out_features for layer in layers), rank)
    found = tuple(None if tensor is None else tuple(tensor.shape) for tensor in (A, B))
    if found != expected or rank < 1:
        names = " and ".join(f"{which} as {shape}" for which, shape in zip("AB", expected))
        raise ValueError(f"{theirs}: the adapter should hold {names}, got {found[0]} and {found[1]}")
    return _Factors(A, B, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _apart(factors: _Factors, count: int) -> list[_Factors | None]:
    """Return the factors of each of the layers that one layer is; what does nothing there is left out."""
    if count == 1 or not factors.B.any():
        return [factors._replace(B=B) for B in factors.B.chunk(count)]
    parts = []
    for B in factors.B.chunk(count):  # (out, r)
        used = B.any(dim=0)
        parts.append(_Factors(factors.A[used], B[:, used], factors.scale) if used.any() else None)
    return parts


def _virtual_to_peft(model: GPTModel, method: Method, values: Values) -> tuple[dict[str, Any], dict[str, Tensor]]:
    kind, name = next((kind, name) for kind, (cls, name) in _VIRTUAL.items() if isinstance(method, cls))
    config = {
        "peft_type": kind,
        "num_virtual_tokens": method.tokens,
        "token_dim": model.cfg.emb_dim,
        "num_layers": model.cfg.n_layers,
        "num_attention_heads": model.cfg.n_heads,
        "num_transformer_submodules": 1,
    }
    return config, {"prompt_embeddings": values[""][name]}


def _virtual_from_peft(model: GPTModel, config: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[Method, Values]:
    method, name = _VIRTUAL[config["peft_type"]]
    width = model.cfg.emb_dim * (2 * model.cfg.n_layers if method is PrefixTuning else 1)
    rows = tensors.pop("prompt_embeddings", None)
    expected, found = (config.get("num_virtual_tokens"), width), None if rows is None else tuple(rows.shape)
    if found != expected:
        raise ValueError(f"the adapter should hold prompt_embeddings as {expected}, got {found}")
    return method(len(rows), start="random"), {"": {name: rows}}


def _targets(config: dict[str, Any], model: GPTModel) -> set[str]:
    """Return the layers that the adapter must have, in their names; others it may have."""
    targets = config.get("target_modules") or []
    if config.get("layers_to_transform") is not None or config.get("exclude_modules"):
        return set()
    if targets == "all-linear":
        return {*_places(model)} - {"lm_head"}
    if isinstance(targets, str):
        pattern = compiled(targets)
        return {name for name in _places(model) if pattern.fullmatch(name)}
    return {name for name in _places(model) if any(f".{name}".endswith(f".{target}") for target in targets)}


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).is_file():
        hint = "; load_adapter reads it" if (folder / "adapter.json").is_file() else ""
        raise FileNotFoundError(f"{folder} holds no adapter of peft: it has no {CONFIG}{hint}")
    config = read_json(folder / CONFIG)
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind in _VIRTUAL:
        return config
    if kind != "LORA":
        raise ValueError(f"{CONFIG}: peft_type must be one of LORA, {', '.join(_VIRTUAL)}, got {kind!r}")
    if config.get("init_lora_weights") not in _BEGINNINGS:
        raise ValueError(
            f"{CONFIG}: init_lora_weights {config['init_lora_weights']!r} changes the model under the adapter; peft's "
            "path_initial_model_for_weight_conversion saves such an adapter as an ordinary one"
        )
    on = {key: value for key, value in config.items() if value not in (None, False, [], {}, "", "none")}
    for key in on.keys() - {*_READ, *_WITHOUT_EFFECT} | on.keys() & {"bias"}:
        raise ValueError(f"{CONFIG}: {key} is not read, got {on[key]!r}")
    return config


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    path = next((folder / name for name in (WEIGHTS, PICKLE) if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} holds no adapter: it has neither {WEIGHTS} nor {PICKLE}")
    try:
        content = load_file(path) if path.name == WEIGHTS else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, pickle, zip and torch each have their own
        raise ValueError(f"{path} holds more than tensors, or is damaged: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} must hold names with their tensors")
    return dict(content)


def _settings(found: Mapping[str, Setting], model: GPTModel) -> tuple[Setting, dict[str, int], dict[str, float]]:
    """Return the rank and alpha that most layers have, and the patterns of rank and alpha for the others."""
    if not found:
        raise ValueError("the adapter is empty: it has no weights")
    [(most, _)] = Counter(found.values()).most_common(1)
    others = _short({name: setting for name, setting in found.items() if setting != most}, model)
    return most, *({name: setting[i] for name, setting in others.items()} for i in range(2))


def _short(values: Mapping[str, V], model: GPTModel) -> dict[str, V]:
    """Return the values by the ends of the names where that says it for all blocks, otherwise by the whole names."""
    alike: dict[str, list[str]] = {}
    for name in values:
        alike.setdefault(_IN_BLOCK.sub("", name, count=1), []).append(name)
    short = {}
    for end, names in alike.items():
        one = len(names) == model.cfg.n_layers and len({values[name] for name in names}) == 1
        short |= {end: values[names[0]]} if one else {name.removeprefix("transformer."): values[name] for name in names}
    return short


def _alpha(scale: float, rank: int, stabilised: bool) -> float:
    """Return the alpha that gives this scale."""
    alpha = scale * (math.sqrt(rank) if stabilised else rank)
    return round(alpha) if math.isclose(alpha, round(alpha), rel_tol=1e-12) else alpha


def _of_pattern(config: dict[str, Any], key: str, name: str, default: Any) -> Any:
    """Return what the patterns say about a layer, the end of whose name they match."""
    patterns = config.get(key) or {}
    return next((value for pattern, value in patterns.items() if compiled(pattern).fullmatch(name)), default)


def _number(key: str, value: Any) -> float:
    if not isinstance(value, (int, float)):
        raise ValueError(f"{CONFIG}: {key} must be a number, got {value!r}")
    return value
