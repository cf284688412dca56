"""Chapter 3 under the book's names: from one head without a mask to the attention that a GPT has.

    attention(Q, K, V) = softmax(Q K^T / sqrt(d) + mask) V

The equation is written once, in `attend`; each class shows what it adds. The final form of all of them is
`gptlab.model.MultiHeadAttention`.

The causal mask can be read as `.mask`, as in the book, but is no part of a checkpoint, where it would be computable
numbers, as many as context_length squared in every layer. Checkpoints of the book's classes, which carry it, load all
the same; the book's classes load ours with `strict=False`.

Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1 and section 3.2.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptlab.model.attention import leave_out_old_mask


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, dropout: nn.Module | None = None
) -> Tensor:
    """Return the values that each query gathers, (..., T, d).

    Args:
        queries: (..., T, d), as keys and values.
        keys: what the queries are compared with.
        values: what is gathered.
        mask: (context_length, context_length), not zero where a query, the row, must not look.
        dropout: applied to the weights.

    Raises:
        ValueError: there are more tokens than the mask has rows.
    """
    T = queries.shape[-2]
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(keys.shape[-1])  # (..., T, T)
    if mask is not None:
        if len(mask) < T:
            raise ValueError(f"the context holds {len(mask)} tokens, got {T}")
        scores = scores.masked_fill(mask[:T, :T].bool(), -math.inf)
    weights = torch.softmax(scores, dim=-1)
    return (weights if dropout is None else dropout(weights)) @ values


class SelfAttention_v1(nn.Module):
    """One head, every token sees every token: (..., T, d_in) -> (..., T, d_out).

    The three projections are bare matrices (d_in, d_out), drawn from [0, 1), to show that a linear layer is nothing
    else. The final form is `gptlab.model.MultiHeadAttention`.
    """

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.W_query = nn.Parameter(torch.rand(d_in, d_out))
        self.W_key = nn.Parameter(torch.rand(d_in, d_out))
        self.W_value = nn.Parameter(torch.rand(d_in, d_out))

    def forward(self, x: Tensor) -> Tensor:
        return attend(x @ self.W_query, x @ self.W_key, x @ self.W_value)


class SelfAttention_v2(nn.Module):
    """The same with linear layers, which are initialised better and hold their matrices transposed.

    The final form is `gptlab.model.MultiHeadAttention`.
    """

    def __init__(self, d_in: int, d_out: int, qkv_bias: bool = False) -> None:
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)

    def forward(self, x: Tensor) -> Tensor:
        return attend(self.W_query(x), self.W_key(x), self.W_value(x))


class CausalAttention(nn.Module):
    """One head in which no token sees the ones after it, with dropout on the weights.

    The final form, `gptlab.model.MultiHeadAttention`, needs no stored mask.

    Raises:
        ValueError: in forward, when there are more tokens than context_length.
    """

    def __init__(self, d_in: int, d_out: int, context_length: int, dropout: float, qkv_bias: bool = False) -> None:
        super().__init__()
        self.d_out = d_out
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.dropout = nn.Dropout(dropout)
        _hide_the_future(self, context_length)

    def forward(self, x: Tensor) -> Tensor:
        return attend(self.W_query(x), self.W_key(x), self.W_value(x), self.mask, self.dropout)


class MultiHeadAttentionWrapper(nn.Module):
    """Several causal heads, one after the other, their results side by side: (..., T, num_heads * d_out).

    Here d_out is the width of one head; in `MultiHeadAttention` it is the width of all together. The final form,
    `gptlab.model.MultiHeadAttention`, computes all heads at once.
    """

    def __init__(
        self, d_in: int, d_out: int, context_length: int, dropout: float, num_heads: int, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            CausalAttention(d_in, d_out, context_length, dropout, qkv_bias) for _ in range(num_heads)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([head(x) for head in self.heads], dim=-1)


class MultiHeadAttention(nn.Module):
    """Causal attention with num_heads heads in one multiplication, and a last projection: (..., T, d_out).

    The final form is `gptlab.model.MultiHeadAttention`: the same weights under the same names, a fused kernel, no
    stored mask, a cache. `gptlab.book.ch04.GPTModel` is built of that one.

    Raises:
        ValueError: d_out is no multiple of num_heads; in forward, more tokens than context_length.
    """

    def __init__(
        self, d_in: int, d_out: int, context_length: int, dropout: float, num_heads: int, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        self.d_out = d_out
        self.num_heads = num_heads
        self.head_dim = _head_dim(d_out, num_heads)
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = nn.Dropout(dropout)
        _hide_the_future(self, context_length)

    def forward(self, x: Tensor) -> Tensor:
        queries = self._split_heads(self.W_query(x))  # (..., num_heads, T, head_dim)
        keys = self._split_heads(self.W_key(x))
        values = self._split_heads(self.W_value(x))
        gathered = attend(queries, keys, values, self.mask, self.dropout)
        return self.out_proj(gathered.transpose(-3, -2).flatten(-2))  # (..., T, d_out)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(-3, -2)


class PyTorchMultiHeadAttention(nn.Module):
    """The same attention by PyTorch's fused kernel, with one matrix for queries, keys and values: (..., T, d_out).

    The kernel makes the causal mask itself, so there is no context_length. The final form,
    `gptlab.model.MultiHeadAttention`, uses the kernel and keeps three matrices, which LoRA can tell apart.

    Raises:
        ValueError: d_out is no multiple of num_heads.
    """

    def __init__(self, d_in: int, d_out: int, num_heads: int, dropout: float = 0.0, qkv_bias: bool = False) -> None:
        super().__init__()
        self.d_out = d_out
        self.num_heads = num_heads
        self.head_dim = _head_dim(d_out, num_heads)
        self.qkv = nn.Linear(d_in, 3 * d_out, bias=qkv_bias)
        self.proj = nn.Linear(d_out, d_out)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))  # (..., T, 3, num_heads, head_dim)
        queries, keys, values = (part.transpose(-3, -2) for part in qkv.unbind(-3))  # (..., num_heads, T, head_dim)
        dropout = self.dropout if self.training else 0.0
        gathered = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout, is_causal=True)
        return self.proj(gathered.transpose(-3, -2).flatten(-2))  # (..., T, d_out)


def _head_dim(d_out: int, num_heads: int) -> int:
    if num_heads < 1 or d_out % num_heads:
        raise ValueError(f"d_out must be a multiple of num_heads, got {d_out} and {num_heads}")
    return d_out // num_heads


def _hide_the_future(attention: nn.Module, context_length: int) -> None:
    """Give `attention` the buffer `mask`, 1 above the diagonal; it is not saved, and a saved one is left aside."""
    future = torch.ones(context_length, context_length).triu(diagonal=1)
    attention.register_buffer("mask", future, persistent=False)
    attention.register_load_state_dict_pre_hook(leave_out_old_mask)
