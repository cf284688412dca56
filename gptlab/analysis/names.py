"""Any GPT by the book's names: which of its modules and parameters are which of GPTModel's.

Readers name their modules as they like, and Hugging Face has names of its own. Here is the table that translates; what
it does not know, a caller can add. A layer that makes queries, keys and values at once stands for all three.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gptlab.weights.gpt2 import translations

_QKV = ("att.W_query", "att.W_key", "att.W_value")
_ATT = r"(?:att|attn|attention|self_attn|self_attention|mha|sa)"
_IN_ATT = rf"{_ATT}\.(?:\w+\.)?"  # perhaps one wrapper deeper
_FF = r"(?:ff|mlp|ffn|ffwd|feed_?forward)"

# Our names, and what else is usual. Parts of a block have no number here.
_PATTERNS = {
    ("tok_emb",): r"tok(en)?_emb\w*|embed_tokens",
    ("pos_emb",): r"pos(ition(al)?)?_emb\w*|embed_positions",
    ("final_norm",): r"final_(layer_?)?norm|norm_f|ln_final",
    ("out_head",): r"(out_|lm_|output_)?head",
    ("norm1",): r"(layer_?)?norm_?1|ln_?1",
    ("norm2",): r"(layer_?)?norm_?2|ln_?2",
    ("att",): _ATT,
    ("att.W_query",): rf"{_IN_ATT}(W_query|W_?q|q_proj|query|to_q)",
    ("att.W_key",): rf"{_IN_ATT}(W_key|W_?k|k_proj|key|to_k)",
    ("att.W_value",): rf"{_IN_ATT}(W_value|W_?v|v_proj|value|to_v)",
    _QKV: rf"{_IN_ATT}(W_?qkv|qkv|qkv_proj|to_qkv|in_proj)",
    ("att.out_proj",): rf"{_IN_ATT}(out_proj|o_proj|proj|W_?o|to_out)",
    ("ff",): _FF,
    ("ff.layers.0",): rf"{_FF}\.((\w+\.)?0|fc_?1|linear_?1)",
    ("ff.layers.1",): rf"{_FF}\.((\w+\.)?1|act|activation|gelu)",
    ("ff.layers.2",): rf"{_FF}\.((\w+\.)?2|fc_?2|linear_?2)",
}
_OF_THE_MODEL = ("tok_emb", "pos_emb", "final_norm", "out_head")
# No number may come before a block's: the `layers.0` of a feed-forward is no block.
_BLOCK = re.compile(r"(?:[^\d.][^.]*\.)*?(?:trf_blocks|transformer_blocks|blocks|layers|h)\.(\d+)(?:\.(.+))?")
_KINDS = {"weight": "weight", "scale": "weight", "gamma": "weight", "bias": "bias", "shift": "bias", "beta": "bias"}


def _hugging_face() -> dict[str, tuple[str, ...]]:
    """Return their module names, without a block's number, from the table that loads their weights."""
    return {
        theirs.rpartition(".")[0].removeprefix("h.0."): tuple(
            name.rpartition(".")[0].removeprefix("trf_blocks.0.") for name in ours
        )
        for theirs, ours, _ in translations(1)
    }


_EXACT = _hugging_face()


def book_names(name: str, names: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the book's names for a dotted module name: one, three for a fused layer, or none when it is unknown.

    Args:
        name: as `named_modules` gives it.
        names: more translations, regular expression -> the book's name (it may say `\\1`); they are tried first.

    >>> book_names("transformer.h.3.attn.c_attn")
    ('trf_blocks.3.att.W_query', 'trf_blocks.3.att.W_key', 'trf_blocks.3.att.W_value')
    """
    for pattern, ours in (names or {}).items():
        name = re.sub(rf"^(?:{pattern})(?=\.|$)", ours, name)
    in_block = _BLOCK.fullmatch(name)
    if in_block is None:
        ours = _look_up(name.rpartition(".")[2])
        return ours if ours and ours[0] in _OF_THE_MODEL else ()
    block = f"trf_blocks.{in_block[1]}"
    if in_block[2] is None:
        return (block,)
    return tuple(f"{block}.{part}" for part in _look_up(in_block[2]) if part not in _OF_THE_MODEL)


def _look_up(part: str) -> tuple[str, ...]:
    if part in _EXACT:
        return _EXACT[part]
    matching = (ours for ours, pattern in _PATTERNS.items() if re.fullmatch(pattern, part, re.IGNORECASE))
    return next(matching, ())


@dataclass(frozen=True)
class Slot:
    """Where a model keeps one of our parameters.

    Attributes:
        parameter: its own name for the tensor.
        part: which of `parts` pieces of the tensor it is, counted after transposing.
        transposed: whether it is stored as (in, out).
        certain: whether the kind of layer says so; a layer of the reader's own may store it either way.
    """

    parameter: str
    part: int = 0
    parts: int = 1
    transposed: bool = False
    certain: bool = True

    def view(self, tensor: Tensor) -> Tensor:
        """Return our parameter as a view of the stored tensor, so that writing into it writes there."""
        if tensor.dim() == 3:  # positions that are kept as (1, T, D)
            tensor = tensor.squeeze(0)
        if self.transposed:
            tensor = tensor.T
        rows = tensor.shape[0] // self.parts
        return tensor[self.part * rows : (self.part + 1) * rows] if self.parts > 1 else tensor


def find_slots(model: nn.Module, names: Mapping[str, str] | None = None) -> dict[str, Slot]:
    """Return where each of our parameters is, by the book's name, for those that are found."""
    modules = dict(model.named_modules(remove_duplicate=False))
    slots: dict[str, Slot] = {}
    for own, parameter in model.named_parameters(remove_duplicate=False):
        path, _, kind = own.replace("in_proj_", "in_proj.").rpartition(".")
        if book_names(own, names):  # a bare parameter, used as x @ W
            path, kind, transposed, certain = own, "weight", "pos_emb" not in book_names(own, names), False
        else:
            layer = modules.get(path)
            transposed = type(layer).__name__ == "Conv1D"
            certain = transposed or layer is None or isinstance(layer, nn.Linear | nn.Embedding)
        ours = book_names(path, names) if kind in _KINDS else ()
        for part, name in enumerate(ours):
            two = parameter.dim() > 1
            slot = Slot(own, part, len(ours), transposed and two, certain or not two)
            slots.setdefault(f"{name}.{_our_kind(name, kind)}", slot)
    return slots


def _our_kind(name: str, kind: str) -> str:
    kind = _KINDS[kind]
    return {"weight": "scale", "bias": "shift"}[kind] if "norm" in name.rpartition(".")[2] else kind


def read(model: nn.Module, slots: Mapping[str, Slot]) -> dict[str, Tensor]:
    """Return our parameters as the model has them, on the CPU in float32 or more."""
    found = {}
    for name, slot in slots.items():
        stored = model.get_parameter(slot.parameter).detach()
        found[name] = slot.view(stored.to("cpu", torch.promote_types(stored.dtype, torch.float32)))
    return found


def settle(slots: dict[str, Slot], weights: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> dict[str, Slot]:
    """Return the slots, turned where a layer of the reader's own holds the reference's matrix the other way round."""
    turned = {}
    for name, slot in slots.items():
        theirs = reference.get(name)
        if theirs is not None and not slot.certain and slot.parts == 1 and theirs.dim() == 2:
            now = weights[name]
            other_way = now.T.shape == theirs.shape and torch.allclose(now.T, theirs, rtol=1e-4, atol=1e-6)
            if now.shape != theirs.shape or (other_way and not torch.allclose(now, theirs, rtol=1e-4, atol=1e-6)):
                slot = replace(slot, transposed=not slot.transposed)
        turned[name] = slot
    return turned


def put_in(model: nn.Module, slots: Mapping[str, Slot], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's parameters with `weights` in their places, by its own names, as new tensors.

    A bias that `weights` does not know becomes 0. The model keeps what it has.
    """
    new: dict[int, tuple[str, Tensor]] = {}
    for name, slot in slots.items():
        stored = model.get_parameter(slot.parameter)
        own, tensor = new.setdefault(id(stored), (slot.parameter, stored.detach().clone()))
        place = slot.view(tensor)
        if own != slot.parameter:
            continue  # tied: the first name has filled it
        if name not in weights and name.endswith("bias"):
            place.zero_()
        elif name in weights and weights[name].shape[1:] == place.shape[1:]:
            rows = min(len(place), len(weights[name]))  # contexts may be of different lengths
            place[:rows] = weights[name][:rows]
    return dict(new.values())
