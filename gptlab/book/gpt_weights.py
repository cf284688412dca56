"""GPT-2's weights into a model, under the book's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.config import GPTConfig
from gptlab.model import GPTModel
from gptlab.weights import assign_check, load_weights

__all__ = ["assign", "load_weights_into_gpt"]


def assign(left: Tensor, right: Any) -> nn.Parameter:
    """Return a copy of `right`, a tensor or an array, as a parameter to put where `left` is.

    Raises:
        ValueError: the shapes differ.
    """
    return nn.Parameter(assign_check(left, right).detach().contiguous())


def load_weights_into_gpt(gpt: nn.Module, params: Mapping[str, Any]) -> None:
    """Fill `gpt` with GPT-2's weights, in place and on its device; nothing is changed unless everything fits.

    Args:
        gpt: a GPTModel, or a class of your own with the book's names; an untied head gets the token embeddings.
        params: OpenAI's nested dictionary, or a flat one with Hugging Face's names.

    Raises:
        ValueError: a weight is missing, left over or of another shape.
    """
    if isinstance(gpt, GPTModel):
        load_weights(gpt, params)
        return
    own = gpt.state_dict()
    filled = GPTModel(_config_of(own))
    load_weights(filled, params)
    for name, weight in filled.state_dict().items():
        shape = tuple(own[name].shape) if name in own else None
        if shape != tuple(weight.shape):
            raise ValueError(f"{name} should be {tuple(weight.shape)}, the model has {shape}")
    with torch.no_grad():
        for name, weight in filled.state_dict().items():
            own[name].copy_(weight)


def _config_of(weights: Mapping[str, Tensor]) -> GPTConfig:
    """Return the config of a model with the book's names; the heads, which cannot be seen in weights, stay one."""
    for name in ("tok_emb.weight", "pos_emb.weight"):
        if name not in weights:
            raise ValueError(f"the model has no {name}; it needs the book's names, and has {list(weights)[:3]}")
    vocab_size, emb_dim = weights["tok_emb.weight"].shape
    return GPTConfig(
        vocab_size=vocab_size,
        context_length=len(weights["pos_emb.weight"]),
        emb_dim=emb_dim,
        n_heads=1,
        n_layers=sum(name.endswith(".att.W_query.weight") for name in weights),
        qkv_bias="trf_blocks.0.att.W_query.bias" in weights,
    )
