"""Causal multi-head attention: every token asks all tokens before it, and itself, what they have to say.

    attention(Q, K, V) = softmax(Q K^T / sqrt(head_dim) + mask) V

Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1 and section 3.2.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptlab.config import GPTConfig
from gptlab.model.cache import LayerCache


def causal_mask(queries: int, keys: int, mask: Tensor | None = None, device: torch.device | None = None) -> Tensor:
    """Return which keys each query may see: the ones before it that `mask` allows, and itself.

    A query sees itself whatever `mask` says: a row without any key would be 0 / 0 in the softmax.

    Args:
        queries: T, the new tokens, which are the last T of the keys.
        keys: S, the past and the new tokens.
        mask: bool, True where seeing is allowed, (B, T, S) or broadcastable to it, such as (B, 1, S) for padding.

    Returns:
        bool, (T, S) without a mask, (B, 1, T, S) with one; the 1 stands for the heads.

    Raises:
        ValueError: the mask is not bool or not of three dimensions.

    >>> causal_mask(2, 3).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    past = keys - queries
    causal = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(diagonal=past)  # (T, S)
    if mask is None:
        return causal
    if mask.dtype != torch.bool or mask.dim() != 3:
        raise ValueError(f"mask must be bool with dimensions (B, T, S), got {mask.dtype} {tuple(mask.shape)}")
    itself = causal ^ causal.tril(diagonal=past - 1)  # (T, S)
    return ((causal & mask) | itself).unsqueeze(1)  # (B, 1, T, S)


class MultiHeadAttention(nn.Module):
    """H attentions side by side, each on its own slice of the features: (B, T, D) -> (B, T, D)."""

    def __init__(self, cfg: GPTConfig) -> None:
        super().__init__()
        self.n_heads = cfg.n_heads
        self.W_query = nn.Linear(cfg.emb_dim, cfg.emb_dim, bias=cfg.qkv_bias)
        self.W_key = nn.Linear(cfg.emb_dim, cfg.emb_dim, bias=cfg.qkv_bias)
        self.W_value = nn.Linear(cfg.emb_dim, cfg.emb_dim, bias=cfg.qkv_bias)
        self.out_proj = nn.Linear(cfg.emb_dim, cfg.emb_dim)
        self.dropout = nn.Dropout(cfg.drop_rate)
        self.register_load_state_dict_pre_hook(leave_out_old_mask)

    def forward(
        self, x: Tensor, *, cache: LayerCache | None = None, mask: Tensor | None = None, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return what each token gathered, (B, T, D).

        Args:
            x: the tokens' vectors, (B, T, D).
            cache: keys and values of earlier tokens; the new ones are added to it.
            mask: what `causal_mask` returns; None means that each token sees all before it.
            return_weights: also return the weights after the softmax and before dropout, (B, H, T, S), computed
                by hand; the result is the same to rounding, only slower.
        """
        queries, keys, values = self.project(x)  # (B, H, T, head_dim)
        if cache is not None:
            keys, values = cache.append(keys, values)  # (B, H, S, head_dim)
        T, S = queries.shape[2], keys.shape[2]

        if return_weights:
            if mask is None:
                mask = causal_mask(T, S, device=x.device)
            scores = queries @ keys.transpose(2, 3) / math.sqrt(keys.shape[3])  # (B, H, T, S)
            weights = torch.softmax(scores.masked_fill(~mask, -math.inf), dim=-1)
            return self._join_heads(self.dropout(weights) @ values), weights

        if mask is None and 1 < T < S:  # is_causal would align the queries with the first keys, not the last
            mask = causal_mask(T, S, device=x.device)
        gathered = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            dropout_p=self.dropout.p if self.training else 0.0,
            is_causal=mask is None and T == S,
        )
        return self._join_heads(gathered)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return every token's query, key and value in each head, (B, H, T, head_dim) each."""
        return (
            self._split_heads(self.W_query(x)),
            self._split_heads(self.W_key(x)),
            self._split_heads(self.W_value(x)),
        )

    def _split_heads(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        return x.view(B, T, self.n_heads, D // self.n_heads).transpose(1, 2)  # (B, H, T, head_dim)

    def _join_heads(self, x: Tensor) -> Tensor:
        B, H, T, head_dim = x.shape
        return self.out_proj(x.transpose(1, 2).reshape(B, T, H * head_dim))  # (B, T, D)


def leave_out_old_mask(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Checkpoints of the book's class carry each layer's causal mask; ours computes it."""
    state_dict.pop(f"{prefix}mask", None)
