"""Chapter 4 under the book's names: the GPT, its parts, a skeleton of it, a faster variant, and greedy text.

`LayerNorm`, `GELU`, `FeedForward`, `TransformerBlock` and `GPTModel` are the library's own classes. They take the
book's dictionary as well as a `gptlab.GPTConfig`, and create their parameters in the book's order, so that a seed gives
the book's weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.book.ch03 import PyTorchMultiHeadAttention
from gptlab.config import GPT2_SIZES, GPTConfig
from gptlab.model import GELU, FeedForward, GPTModel, LayerNorm, TransformerBlock

__all__ = [
    "BASE_CONFIG",
    "GELU",
    "GPT_CONFIG_124M",
    "DummyGPTModel",
    "DummyLayerNorm",
    "DummyTransformerBlock",
    "FeedForward",
    "FeedForwardFast",
    "GPTModel",
    "GPTModelFast",
    "LayerNorm",
    "TransformerBlock",
    "TransformerBlockFast",
    "generate_text_simple",
    "model_configs",
]

# The sizes of GPT-2, by the book's names for them, and what is common to all when OpenAI's weights are loaded.
BASE_CONFIG = {"vocab_size": 50257, "context_length": 1024, "drop_rate": 0.0, "qkv_bias": True}
model_configs = {
    book_name: {key: getattr(GPT2_SIZES[size], key) for key in ("emb_dim", "n_layers", "n_heads")}
    for book_name, size in {
        "gpt2-small (124M)": "gpt2",
        "gpt2-medium (355M)": "gpt2-medium",
        "gpt2-large (774M)": "gpt2-large",
        "gpt2-xl (1558M)": "gpt2-xl",
    }.items()
}
# What chapters 4 and 5 train from scratch: the smallest size, with dropout and without query, key and value biases.
GPT_CONFIG_124M = BASE_CONFIG | model_configs["gpt2-small (124M)"] | {"drop_rate": 0.1, "qkv_bias": False}


@torch.no_grad()
def generate_text_simple(model: nn.Module, idx: Tensor, max_new_tokens: int, context_size: int) -> Tensor:
    """Return the prompts followed by the most likely tokens, one after the other, (B, T + max_new_tokens) int64.

    The model reads the last `context_size` tokens anew for each one, in the mode that it is in: call `model.eval()`
    first. The final form, `gptlab.generate`, remembers what was read and takes prompts of unequal length.

    Args:
        model: token ids (B, T) -> logits (B, T, V).
        idx: the prompts, (B, T) int64, T at least 1.
        max_new_tokens: how many tokens to add.
        context_size: how many tokens the model reads at most.

    Raises:
        ValueError: idx is not (B, T) or has no tokens, or context_size is below 1.
    """
    if idx.dim() != 2 or idx.shape[1] < 1:
        raise ValueError(f"idx must be (batch, tokens) with at least one token, got shape {tuple(idx.shape)}")
    if context_size < 1:
        raise ValueError(f"context_size must be >= 1, got {context_size}")
    for _ in range(max_new_tokens):
        logits = model(idx[:, -context_size:])[:, -1]  # (B, V)
        idx = torch.cat([idx, logits.argmax(dim=-1, keepdim=True)], dim=1)
    return idx


class _Shell(nn.Module):
    """Embeddings, blocks, a norm and the output head, as in `GPTModel`; subclasses say which blocks and norms."""

    block: type[nn.Module]
    norm: type[nn.Module]

    def __init__(self, cfg: GPTConfig | Mapping) -> None:
        super().__init__()
        cfg = GPTConfig.of(cfg)
        self.tok_emb = nn.Embedding(cfg.vocab_size, cfg.emb_dim)
        self.pos_emb = nn.Embedding(cfg.context_length, cfg.emb_dim)
        self.drop_emb = nn.Dropout(cfg.drop_rate)
        self.trf_blocks = nn.Sequential(*[self.block(cfg) for _ in range(cfg.n_layers)])
        self.final_norm = self.norm(cfg.emb_dim)
        self.out_head = nn.Linear(cfg.emb_dim, cfg.vocab_size, bias=False)
        if cfg.tie_weights:
            self.out_head.weight = self.tok_emb.weight

    def forward(self, in_idx: Tensor) -> Tensor:
        """Return the logits of the next token at each position, (B, T, V).

        Raises:
            ValueError: the ids (B, T) exceed the context length.
        """
        T, longest = in_idx.shape[1], self.pos_emb.num_embeddings
        if longest < T:
            raise ValueError(f"the context holds {longest} tokens, got {T}")
        positions = torch.arange(T, device=in_idx.device)
        x = self.drop_emb(self.tok_emb(in_idx) + self.pos_emb(positions))  # (B, T, D)
        return self.out_head(self.final_norm(self.trf_blocks(x)))


class DummyTransformerBlock(nn.Module):
    """A place for a block, which gives back what it gets; the final form is `TransformerBlock`."""

    def __init__(self, cfg: GPTConfig | Mapping) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


class DummyLayerNorm(nn.Module):
    """A place for a norm, which gives back what it gets; the final form is `LayerNorm`."""

    def __init__(self, normalized_shape: Any, eps: float = 1e-5) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


class DummyGPTModel(_Shell):
    """A GPT before its blocks and norms are written: shapes are right, tokens do not see each other.

    The final form is `GPTModel`.
    """

    block, norm = DummyTransformerBlock, DummyLayerNorm


class FeedForwardFast(nn.Module):
    """`FeedForward` with PyTorch's own GELU; the library's GELU runs the same kernel."""

    def __init__(self, cfg: GPTConfig | Mapping) -> None:
        super().__init__()
        emb_dim = GPTConfig.of(cfg).emb_dim
        self.layers = nn.Sequential(
            nn.Linear(emb_dim, 4 * emb_dim), nn.GELU(approximate="tanh"), nn.Linear(4 * emb_dim, emb_dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class TransformerBlockFast(nn.Module):
    """`TransformerBlock` of PyTorch's parts: one matrix for queries, keys and values, norms with weight and bias."""

    def __init__(self, cfg: GPTConfig | Mapping) -> None:
        super().__init__()
        cfg = GPTConfig.of(cfg)
        self.att = PyTorchMultiHeadAttention(cfg.emb_dim, cfg.emb_dim, cfg.n_heads, cfg.drop_rate, cfg.qkv_bias)
        self.ff = FeedForwardFast(cfg)
        self.norm1 = nn.LayerNorm(cfg.emb_dim)
        self.norm2 = nn.LayerNorm(cfg.emb_dim)
        self.drop_shortcut = nn.Dropout(cfg.drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_shortcut(self.att(self.norm1(x)))
        return x + self.drop_shortcut(self.ff(self.norm2(x)))


class GPTModelFast(_Shell):
    """The book's faster GPT, of PyTorch's parts; the logits are those of `GPTModel` with the same weights.

    The final form is `GPTModel`, which runs the same kernels under the names that checkpoints use.
    """

    block, norm = TransformerBlockFast, nn.LayerNorm
