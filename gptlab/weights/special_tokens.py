"""New special tokens for a model that is trained already: an id in the tokenizer, a row in embeddings and head.

Where should a new row begin? Drawn at random, its logit may be the largest of all, and the model says the new token
everywhere. At the mean of the old rows its logit is the mean of the old logits, for every text:

    z_new = h · mean_i(w_i) = mean_i(z_i),   so   exp(z_new) <= mean_i(exp(z_i)) = Z / V   (Jensen)

and its probability at most 1 / (V + 1). What the model knew is left as good as whole. Several new rows begin equal;
they part at the first step, because each is the target in other places.

Source: Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from gptlab.model import GPTModel
from gptlab.tokenizer import Tokenizer, as_tokenizer, with_special_tokens
from gptlab.weights.huggingface import check_vocabulary


def add_special_tokens(model: GPTModel, tokenizer: Tokenizer, tokens: Iterable[str]) -> Tokenizer:
    """Grow `model` in place for the special tokens `tokens`, and return the tokenizer that has them.

    Old tokens keep their ids and their logits; `model.cfg` says the new size. Rows that the model has to spare are
    used first. Names that are special tokens already are passed over; if none is new, nothing changes and the same
    tokenizer comes back. The weights stay the same parameters, but an optimizer that has made a step remembers their
    old shape: make it afterwards.

    Args:
        model: a GPTModel, tied or not, trained or not.
        tokenizer: the model's own; see `with_special_tokens` for the kinds.
        tokens: names like `<eoh>` or `[role]`; their ids follow the tokenizer's last one, in this order.

    Raises:
        ValueError: a name or the tokenizer is refused by `with_special_tokens`; tokenizer and model differ in size; or
            `tok_emb` or `out_head` is no longer what GPTModel made. The model is then as it was.
    """
    tokenizer = as_tokenizer(tokenizer)
    check_vocabulary(model.cfg, tokenizer)
    _check_layers(model)
    extended = with_special_tokens(tokenizer, tokens)
    if extended is tokenizer:
        return tokenizer
    size = max(model.cfg.vocab_size, extended.n_vocab)
    weights = [model.tok_emb.weight] if model.cfg.tie_weights else [model.tok_emb.weight, model.out_head.weight]
    grown = [_grow(weight.data, tokenizer.n_vocab, extended.n_vocab, size) for weight in weights]
    for weight, rows in zip(weights, grown):
        weight.data, weight.grad = rows, None
    model.tok_emb.num_embeddings = model.out_head.out_features = size
    model.cfg = replace(model.cfg, vocab_size=size)
    return extended


def _check_layers(model: GPTModel) -> None:
    shape = (model.cfg.vocab_size, model.cfg.emb_dim)
    for name, kind in (("tok_emb", nn.Embedding), ("out_head", nn.Linear)):
        layer = getattr(model, name)
        if type(layer) is not kind:
            raise ValueError(f"{name} must be a plain nn.{kind.__name__}, got a {type(layer).__name__}; merge it first")
        if tuple(layer.weight.shape) != shape:
            raise ValueError(f"{name} must have weights of {shape}, got {tuple(layer.weight.shape)}")
    if model.out_head.bias is not None:
        raise ValueError("out_head must have no bias, got one")
    tied = model.out_head.weight is model.tok_emb.weight
    if tied != model.cfg.tie_weights:
        raise ValueError(f"the model's cfg says tie_weights={model.cfg.tie_weights}, but its weights are tied: {tied}")


def _grow(rows: Tensor, old: int, new: int, size: int) -> Tensor:
    """Return `rows` with at least `size` rows, those from `old` to `new` at the mean of the first `old`."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    parts = rows[:old].split(4096)  # torch would copy all rows at once to sum them in a wider type
    mean = sum(part.sum(dim=0, dtype=wide) for part in parts) / old  # (D,)
    if size > len(rows):
        small, rows = rows, rows.new_empty(size, rows.shape[1])  # (V, D)
        rows[: len(small)] = small
    rows[old:new] = mean
    return rows
