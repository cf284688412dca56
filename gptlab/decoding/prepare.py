"""A copy of a model for decoding on a CPU, with weights laid out to be read at the memory's speed.

Decoding one prompt reads every weight for every token and computes next to nothing with it, so that time is bytes over
bandwidth. PyTorch's linear layer reads a plain matrix at a fraction of the bandwidth when there are only a few rows.
Three layouts do better:

- "packed": the same numbers in the order in which oneDNN's kernels read them.
- "half": two bytes a weight, float16, in the order of FBGEMM's kernels; they compute in float32. Half of the bytes.
- "int8": one byte a weight, and a scale for each output: w = scale * q, q in [-127, 127]. A quarter of the bytes.

Query, key and value are one matrix in the copy: a large one is read faster than three small ones.

The operators are those that PyTorch's own compiler and quantisation use. They are not public, so they are probed for
once; where one is missing or gives wrong numbers, a warning says what will be slower, and plain layers do the work.
"""

from __future__ import annotations

import copy
import warnings
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gptlab.model import GPTModel, MultiHeadAttention

Layout = Literal["packed", "half", "int8"]


def prepare_for_decoding(model: GPTModel, weights: Layout = "packed") -> GPTModel:
    """Return a copy of `model` that decodes faster on a CPU; the model itself stays as it is.

    The copy is for reading: it cannot be trained or saved, and knows nothing of what the model learns later. It needs
    memory of its own, as much as the model has; "half" takes half of that, "int8" a quarter, and the embeddings.

    Args:
        model: on the CPU; on another device, and where the operators are missing, the copy has plain layers.
        weights: "packed" gives the same logits up to rounding. "half" rounds the weights to float16, "int8" to one
            byte; see benchmarks/README.md for what that does to speed and perplexity.

    Raises:
        ValueError: `weights` is another word.
    """
    if weights not in _LAYERS:
        raise ValueError(f"weights must be 'packed', 'half' or 'int8', got {weights!r}")
    layer = _layer_for(weights, model)
    if layer is None:
        return copy.deepcopy(model).eval()
    linears = [module for module in model.modules() if type(module) is nn.Linear]
    large = {id(linear.weight): linear.weight for linear in linears}  # not copied, for they are soon replaced
    prepared = copy.deepcopy(model, {**large})
    for name, attention in list(prepared.named_modules()):
        if _is_plain(attention):
            _replace(prepared, name, JoinedAttention(attention))
    for name, linear in list(prepared.named_modules()):
        if type(linear) is nn.Linear:
            _replace(prepared, name, layer(linear))
    for module in prepared.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if id(weight) in large:  # an embedding's, left out of the copy because a tied head has it too
                setattr(module, name, nn.Parameter(weight.detach().clone()))
    return prepared.requires_grad_(False).eval()


class JoinedAttention(MultiHeadAttention):
    """Attention whose query, key and value weights are one matrix."""

    def __init__(self, attention: MultiHeadAttention) -> None:
        nn.Module.__init__(self)
        self.n_heads, self.dropout, self.out_proj = attention.n_heads, attention.dropout, attention.out_proj
        parts = (attention.W_query, attention.W_key, attention.W_value)
        bias = None if parts[0].bias is None else torch.cat([part.bias for part in parts])
        self.W_joined = _linear(torch.cat([part.weight for part in parts]), bias)  # D -> 3 D

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        B, T, D = x.shape
        joined = self.W_joined(x).view(B, T, 3, self.n_heads, D // self.n_heads)
        return joined.permute(2, 0, 3, 1, 4).unbind()  # each (B, H, T, head_dim)


class PreparedLinear(nn.Module):
    """A linear layer for reading only: (..., in) -> (..., out)."""

    def _save_to_state_dict(self, *_: Any) -> None:
        raise ValueError("a model that was prepared for decoding cannot be saved; save the one that it was made from")


class PackedLinear(PreparedLinear):
    """The weight in oneDNN's layout."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        rows = 16  # which the layout is made for; a single one is read as fast as with 1, and 16 are 20 % faster
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().contiguous(), rows)
        self.bias = None if linear.bias is None else linear.bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


class HalfLinear(PreparedLinear):
    """The weight in float16 and FBGEMM's layout; the arithmetic is float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        bias = None if linear.bias is None else linear.bias.detach().float()
        self.packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach().float(), bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic_fp16(x.float(), self.packed).to(x.dtype)


class Int8Linear(PreparedLinear):
    """One byte a weight, and bfloat16 in between.

    Source: Dettmers et al. 2022, arXiv 2208.07339, section 2 (absmax quantisation, here of the weights only).
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()  # (out, in)
        scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
        self.quantised = (weight / scale).round().to(torch.int8)
        self.scale = scale.squeeze(1).to(torch.bfloat16)
        self.bias = None if linear.bias is None else linear.bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
        y = torch._weight_int8pack_mm(rows, self.quantised, self.scale).to(x.dtype)
        return (y if self.bias is None else y + self.bias).view(*x.shape[:-1], -1)


_LAYERS: dict[str, type[PreparedLinear]] = {"packed": PackedLinear, "half": HalfLinear, "int8": Int8Linear}


def _layer_for(weights: Layout, model: GPTModel) -> type[PreparedLinear] | None:
    """Return the kind of layer to use, None if there is nothing better than the plain one."""
    device, dtype = model.tok_emb.weight.device, model.tok_emb.weight.dtype
    if device.type != "cpu":
        warnings.warn(f"decoding is prepared for the CPU only; on {device} plain layers are used", stacklevel=3)
        return None
    choices = [_LAYERS[weights]]
    if weights == "packed" and dtype in (torch.float16, torch.bfloat16):
        choices.append(HalfLinear)  # where oneDNN has no kernels for these; it holds the same numbers, to 3e-8
    for layer in choices:
        if _is_right(layer, dtype):
            return layer
    warnings.warn(
        f"this PyTorch or processor lacks the kernels for weights={weights!r} of {dtype}: decoding works, but every "
        "token takes about as long as with the plain model",
        stacklevel=3,
    )
    return None


@cache
def _is_right(layer: type[PreparedLinear], dtype: torch.dtype) -> bool:
    """Say whether this kind of layer works here with weights of this type, and computes what a plain one does."""
    values = torch.linspace(-3, 3, 48 * 64).sin().view(48, 64)
    linear, x = _linear(values.to(dtype), values[:, 0].to(dtype)), values[:3].cos()
    try:
        found = layer(linear)(x.to(dtype)).float()
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    expected = x @ values.T + values[:, 0]
    return bool((found - expected).norm() < 0.02 * expected.norm())


def _is_plain(attention: nn.Module) -> bool:
    """Say whether this is the library's own attention with nothing put in place of its projections."""
    if type(attention) is not MultiHeadAttention:
        return False
    parts = (attention.W_query, attention.W_key, attention.W_value)
    return all(type(part) is nn.Linear for part in parts) and len({part.bias is None for part in parts}) == 1


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a linear layer of these numbers; none are drawn, which would disturb the random state."""
    linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
