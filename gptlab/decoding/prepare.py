"""A copy of a model for decoding on a CPU, with weights laid out to be read at the memory's speed.

Decoding one prompt reads every weight for every token and computes next to nothing with it, so that time is bytes over
bandwidth. PyTorch's linear layer reads a plain matrix at a fraction of the bandwidth when there are only a few rows.
Two layouts do better:

- "packed": the same numbers in the order in which oneDNN's kernels read them.
- "int8": one byte a weight, and a scale for each output: w = scale * q, q in [-127, 127]. A quarter of the bytes.

The operators are those that PyTorch's own compiler uses. They are not public, so they are probed for once; where one is
missing or gives wrong numbers, a warning says what will be slower, and everything works with plain layers.
"""

from __future__ import annotations

import copy
import warnings
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptlab.model import GPTModel

Layout = Literal["packed", "int8"]


class PackedLinear(nn.Module):
    """A linear layer whose weight is in oneDNN's layout: (..., in) -> (..., out)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.dtype = linear.weight.dtype if packs(linear.weight.dtype) else torch.float32
        self.bias = None if linear.bias is None else linear.bias.detach().to(self.dtype, copy=True)
        self.packed = _pack(linear.weight.detach().to(self.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return _packed_linear(x.to(self.dtype), self.packed, self.bias).to(x.dtype)


class Int8Linear(nn.Module):
    """A linear layer with one byte a weight, and bfloat16 in between: (..., in) -> (..., out).

    Source: Dettmers et al. 2022, arXiv 2208.07339, section 2 (absmax quantisation, here of the weights only).
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()  # (out, in)
        scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
        self.register_buffer("quantised", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale.squeeze(1).to(torch.bfloat16))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
        y = torch._weight_int8pack_mm(rows, self.quantised, self.scale).to(x.dtype)
        return (y if self.bias is None else y + self.bias).view(*x.shape[:-1], -1)


def prepare_for_decoding(model: GPTModel, weights: Layout = "packed") -> GPTModel:
    """Return a copy of `model` that decodes faster on a CPU; the model itself stays as it is.

    The copy is for reading: it cannot be trained or saved, and knows nothing of what the model learns later. It needs
    memory of its own, as much as the model has, for "int8" a quarter of that and the embeddings.

    Args:
        model: on the CPU; on another device, and where the operators are missing, the copy has plain layers.
        weights: "packed" gives the same logits up to rounding. "int8" rounds the weights; see benchmarks/README.md for
            what that does to perplexity.

    Raises:
        ValueError: `weights` is another word.
    """
    if weights not in ("packed", "int8"):
        raise ValueError(f"weights must be 'packed' or 'int8', got {weights!r}")
    linears = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    stay = {id(module.weight): module.weight for module in linears.values()}  # large, and soon replaced
    prepared = copy.deepcopy(model, {**stay}).eval().requires_grad_(False)
    make = _layer_for(weights, model)
    if make is None:
        return copy.deepcopy(model).eval()
    for name, linear in linears.items():
        parent, _, child = name.rpartition(".")
        setattr(prepared.get_submodule(parent), child, make(linear))
    if model.cfg.tie_weights:  # it was left out of the copy because the head has it
        prepared.tok_emb.weight = nn.Parameter(model.tok_emb.weight.detach().clone(), requires_grad=False)
    return prepared


def _layer_for(weights: Layout, model: GPTModel) -> type[nn.Module] | None:
    """Return the kind of layer to use, None if there is nothing better than the plain one."""
    device = model.tok_emb.weight.device
    if device.type != "cpu":
        warnings.warn(f"decoding is prepared for a CPU; on {device} plain layers are used", stacklevel=3)
        return None
    works = packs(torch.float32) if weights == "packed" else _int8_works()
    if not works:
        warnings.warn(
            f"this PyTorch or processor lacks the kernels for weights={weights!r}: decoding works, but every token "
            "takes about as long as with the plain model",
            stacklevel=3,
        )
        return None
    return PackedLinear if weights == "packed" else Int8Linear


@cache
def packs(dtype: torch.dtype) -> bool:
    """Say whether weights of this type can be packed, and the result is right."""
    x, weight, bias = (torch.linspace(-1, 1, size).to(dtype) for size in (3 * 32, 48 * 32, 48))
    x, weight = x.view(3, 32), weight.view(48, 32)
    try:
        found = _packed_linear(x, _pack(weight), bias)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.allclose(found.float(), F.linear(x.float(), weight.float(), bias.float()), rtol=2e-2, atol=2e-2)


@cache
def _int8_works() -> bool:
    linear = nn.Linear(64, 48)
    x = torch.linspace(-1, 1, 3 * 64).view(3, 64)
    try:
        found = Int8Linear(linear)(x)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.allclose(found, linear(x), atol=5e-2)


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 1)


def _packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
