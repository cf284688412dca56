"""The GPT itself: embeddings, transformer blocks, a final norm and the output head.

The model knows ids and vectors. Losses, decoding, files and tuning methods stand on three seams:
the names of the submodules, the keyword arguments of `forward`, and the steps under it
(`embed`, `forward_embeddings`, `out_head`).

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gptlab.config import GPTConfig
from gptlab.model.attention import MultiHeadAttention, causal_mask
from gptlab.model.cache import KVCache, LayerCache
from gptlab.model.layers import FeedForward, LayerNorm


class TransformerBlock(nn.Module):
    """Attention, then feed-forward, each on a normalised copy and added back: (B, T, D) -> (B, T, D)."""

    def __init__(self, cfg: GPTConfig | Mapping) -> None:
        super().__init__()
        cfg = GPTConfig.of(cfg)
        self.att = MultiHeadAttention(cfg)
        self.ff = FeedForward(cfg)
        self.norm1 = LayerNorm(cfg.emb_dim)
        self.norm2 = LayerNorm(cfg.emb_dim)
        self.drop_resid = nn.Dropout(cfg.drop_rate)

    def forward(self, x: Tensor, *, cache: LayerCache | None = None, mask: Tensor | None = None) -> Tensor:
        x = x + self.drop_resid(self.att(self.norm1(x), cache=cache, mask=mask))
        x = x + self.drop_resid(self.ff(self.norm2(x)))
        return x

    @property
    def drop_shortcut(self) -> nn.Dropout:
        """What the printed book calls `drop_resid`."""
        return self.drop_resid


class GPTModel(nn.Module):
    """A GPT-2 with the book's names: token ids in, a score for every possible next token out.

    Args:
        cfg: a GPTConfig, or a mapping with the book's keys.
    """

    def __init__(self, cfg: GPTConfig | Mapping) -> None:
        super().__init__()
        self.cfg = cfg = GPTConfig.of(cfg)
        self.tok_emb = nn.Embedding(cfg.vocab_size, cfg.emb_dim)
        self.pos_emb = nn.Embedding(cfg.context_length, cfg.emb_dim)
        self.drop_emb = nn.Dropout(cfg.drop_rate)
        self.trf_blocks = nn.Sequential(*[TransformerBlock(cfg) for _ in range(cfg.n_layers)])
        self.final_norm = LayerNorm(cfg.emb_dim)
        self.out_head = nn.Linear(cfg.emb_dim, cfg.vocab_size, bias=False)
        if cfg.tie_weights:
            self.out_head.weight = self.tok_emb.weight

    def forward(
        self,
        token_ids: Tensor,
        *,
        cache: KVCache | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the logits of the next token at each position, (B, T, V).

        Args:
            token_ids: (B, T) int64.
            cache: what was read before; the new tokens are added to it.
            positions: (B, T) or (1, T) int64; by default they count on from what the cache holds.
            mask: bool, (B, T, S) or broadcastable to it, True where a query may see a key. It can only hide
                more than the causal mask hides.

        Raises:
            ValueError: the ids are not (B, T), exceed the context length or, on the CPU, lie outside the vocabulary.
        """
        features = self.forward_embeddings(self.embed(token_ids), cache=cache, positions=positions, mask=mask)
        return self.out_head(features)

    def embed(self, token_ids: Tensor) -> Tensor:
        """Return the tokens' own vectors, without positions, (B, T, D)."""
        if token_ids.dim() != 2:
            raise ValueError(f"token_ids must be (batch, tokens), got shape {tuple(token_ids.shape)}")
        if token_ids.device.type == "cpu" and not torch.compiler.is_compiling() and token_ids.numel():
            low, high = token_ids.min().item(), token_ids.max().item()  # on a GPU this would wait for the device
            known = getattr(self.tok_emb, "num_embeddings", self.cfg.vocab_size)  # more than V with virtual tokens
            if low < 0 or high >= known:
                raise ValueError(f"token ids must be in [0, {known}), got {low} to {high}")
        return self.tok_emb(token_ids)

    def forward_embeddings(
        self,
        x: Tensor,
        *,
        cache: KVCache | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the features that `out_head` turns into logits, (B, T, D), from the tokens' vectors `x`.

        Adds positions, then runs dropout, the blocks and the final norm. Arguments as in `forward`.
        """
        past, T = (cache.length if cache is not None else 0), x.shape[1]
        if positions is None:
            positions = torch.arange(past, past + T, device=x.device).unsqueeze(0)  # (1, T)
            longest = past + T
        else:
            longest = int(positions.max()) + 1
        context = getattr(self.pos_emb, "num_embeddings", self.cfg.context_length)  # what is put in may have no end
        if longest > context:
            raise ValueError(f"the context holds {context} tokens, got {longest}")
        if mask is not None:
            mask = causal_mask(T, past + T, mask, x.device)  # once for all blocks

        x = self.drop_emb(x + self.pos_emb(positions))  # (B, T, D)
        for number, block in enumerate(self.trf_blocks):
            x = block(x, cache=cache.layers[number] if cache is not None else None, mask=mask)
        return self.final_norm(x)


def initialize_like_gpt2(model: GPTModel, generator: torch.Generator | None = None) -> None:
    """Draw the weights anew as GPT-2 did, in place: N(0, 0.02), biases 0, paths into the residual stream smaller.

    GPT-2's 0.02 belongs to its width of 768. The matrices of a narrower model are drawn larger, by
    sqrt(768 / emb_dim), so that every layer starts at the same strength; embeddings stay at 0.02.

    The constructor keeps PyTorch's defaults, as the book does; with those, tied embeddings start far too large.

    Source: Radford et al. 2019, section 2.3 (the factor 1 / sqrt(2 n_layers)).
    """
    matrix_std = 0.02 * math.sqrt(768 / model.cfg.emb_dim)
    into_residual = ("att.out_proj.weight", "ff.layers.2.weight")
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "shift")):
            nn.init.zeros_(parameter)
        elif name.endswith("scale"):
            nn.init.ones_(parameter)
        elif name in ("tok_emb.weight", "pos_emb.weight", "out_head.weight"):
            nn.init.normal_(parameter, std=0.02, generator=generator)
        elif name.endswith(into_residual):
            nn.init.normal_(parameter, std=matrix_std / math.sqrt(2 * model.cfg.n_layers), generator=generator)
        else:
            nn.init.normal_(parameter, std=matrix_std, generator=generator)


def count_parameters(model: nn.Module) -> int:
    """Return how many numbers the model learns or holds; a shared weight counts once."""
    return sum(parameter.numel() for parameter in model.parameters())
