"""Attention maps: which token looks at which, in every head of every layer.

The model itself computes attention by a fused function that never holds the weights. So it reads the text once as
always while the inputs of its attention layers are kept, and then each layer computes its weights by hand from those.

A weight says where a head looks, not what it takes from there nor what comes of it. Many heads that have nothing to do
look at the first token.

Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1; Jain and Wallace 2019, arXiv 1902.10186 (weights are no
explanation); Xiao et al. 2023, arXiv 2309.17453 (the first token).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gptlab.model import GPTModel, MultiHeadAttention, evaluation_mode


@torch.no_grad()
def attention_maps(model: GPTModel, ids: Sequence[int] | Tensor) -> Tensor:
    """Return the attention weights of a text, (layers, H, T, T); each row, what a query sees, adds up to 1.

    With virtual tokens in front, as prefix tuning puts them, there are as many more keys, the first ones.

    Args:
        model: left in the mode that it was in.
        ids: of one text.

    Raises:
        ValueError: ids are not those of one text, are none, or do not fit into the context.
    """
    layers = [module for module in model.modules() if isinstance(module, MultiHeadAttention)]
    given: dict[MultiHeadAttention, tuple[tuple, dict[str, Any]]] = {}

    def keep(layer: MultiHeadAttention, arguments: tuple, options: dict[str, Any]) -> None:
        given[layer] = arguments, options

    row = one_text(model, ids)
    handles = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
    try:
        with evaluation_mode(model):
            model.forward_embeddings(model.embed(row))
    finally:
        for handle in handles:
            handle.remove()
    with evaluation_mode(model):
        found = [layer(*arguments, **options, return_weights=True)[1] for layer, (arguments, options) in given.items()]
    return torch.stack([weights[0] for weights in found])  # (layers, H, T, S)


def one_text(model: GPTModel, ids: Sequence[int] | Tensor) -> Tensor:
    """Return the ids of one text as a batch of one, (1, T) int64, on the model's device.

    Raises:
        ValueError: they are not those of one text, or are none.
    """
    try:
        row = torch.as_tensor(ids)
    except (TypeError, ValueError):
        raise ValueError(f"ids must be the token ids of one text, (T,), got {ids!r:.80}") from None
    row = row[0] if row.dim() == 2 and len(row) == 1 else row
    if row.dim() != 1 or not len(row) or row.is_floating_point():
        raise ValueError(f"ids must be the token ids of one text, (T,), got shape {tuple(row.shape)} of {row.dtype}")
    return row.to(next(model.parameters()).device, torch.int64).unsqueeze(0)
