"""Prefix tuning: learn keys and values that every layer's attention finds in front of the text.

    attention(Q, [P_K; K], [P_V; V])

P is learned itself, or made by a small network, which is thrown away after training:

    P = W_2 tanh(W_1 E + b_1) + b_2,   E (tokens, D), W_1 (hidden, D), W_2 (2 L D, hidden)

A prefix of zeros is not nothing: its scores are 0 and take their share of the softmax. Keys and values of real tokens
are a better beginning than random numbers: the loss comes out the same, and what was learned holds for more than it.

Source: Li and Liang 2021, arXiv 2101.00190, section 4 (equations 2 and 3).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from gptlab.config import GPTConfig
from gptlab.model import GPTModel, evaluation_mode
from gptlab.peft.beginning import (
    Beginning,
    KeysAndValues,
    check_room,
    check_start,
    check_virtual_tokens,
    first_ids,
    in_float32,
    read_alone,
)
from gptlab.peft.manage import adapters_of, disable
from gptlab.peft.method import Method
from gptlab.tokenizer import Tokenizer
from gptlab.training.random_states import own_random_numbers


@dataclass(frozen=True)
class PrefixTuning(Method):
    """Settings of prefix tuning.

    Attributes:
        tokens: how many virtual tokens stand in front of every text; the context has so many less.
        hidden: the width of the network that makes the prefix while it is trained; None learns the prefix itself.
        start: what the prefix itself begins as: the keys and values of random tokens of the "vocabulary" or of a
            "text", as the model alone reads them, or "random" numbers, N(0, 1). A network always begins at random.
        text: for start="text"; repeated or cut to the number of tokens.
    """

    tokens: int = 20
    hidden: int | None = None
    start: str = "vocabulary"
    text: str = ""

    method: ClassVar[str] = "prefix"
    exact_start: ClassVar[bool] = False

    @property
    def learning_rate(self) -> float:
        return 1e-1 if self.hidden is None else 1e-2

    @property
    def virtual_tokens(self) -> int:
        return self.tokens

    def __post_init__(self) -> None:
        check_virtual_tokens(self.tokens)
        check_start(self.start, self.text)
        if self.hidden is not None and (type(self.hidden) is not int or self.hidden < 1):
            raise ValueError(f"hidden must be None or a whole number >= 1, got {self.hidden!r}")
        if self.hidden is not None and self.text:
            raise ValueError(f"a network cannot begin as a text: give hidden={self.hidden} or a text, not both")

    def build(
        self, model: GPTModel, *, tokenizer: Tokenizer | None = None, generator: torch.Generator | None = None
    ) -> dict[str, nn.Module]:
        check_room(model, self.tokens)
        cfg, device = model.cfg, model.tok_emb.weight.device
        if self.hidden is not None:
            seed = int(torch.randint(2**62, (), generator=generator))
            with own_random_numbers(torch.device("cpu"), seed):
                return {"": EncodedPrefix(self.tokens, self.hidden, cfg).to(device)}
        if self.start == "random":
            rows = torch.randn(self.tokens, 2 * cfg.n_layers * cfg.emb_dim, generator=generator).to(device)
        else:
            rows = _as_read(model, first_ids(model, self.tokens, self.text, tokenizer, generator))
        return {"": Prefix(rows)}

    def blank(self, model: GPTModel) -> dict[str, nn.Module]:
        return replace(self, start="random", text="").build(model, generator=torch.Generator())

    def for_inference(
        self, model: GPTModel, modules: dict[str, nn.Module]
    ) -> tuple[Method, dict[str, dict[str, Tensor]]]:
        with torch.no_grad():
            return replace(self, hidden=None), {"": {"rows": modules[""]()}}


class Prefix(Beginning):
    """The prefix itself: row t holds the keys and values of virtual token t: key of layer 0, value of layer 0, ..."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.tokens = len(rows)
        self.rows = nn.Parameter(rows)  # (tokens, 2 L D)

    def forward(self) -> Tensor:
        return self.rows

    def keys_and_values(self, model: GPTModel) -> KeysAndValues:
        cfg = model.cfg
        parts = self().view(1, self.tokens, cfg.n_layers, 2, cfg.n_heads, cfg.head_dim)
        keys, values = parts.permute(3, 2, 0, 4, 1, 5)  # (L, 1, H, tokens, head_dim) each
        return list(zip(keys, values))


class EncodedPrefix(Prefix):
    """A prefix that a network makes of one vector for each virtual token."""

    def __init__(self, tokens: int, hidden: int, cfg: GPTConfig) -> None:
        Beginning.__init__(self)
        self.tokens = tokens
        self.embedding = nn.Parameter(torch.randn(tokens, cfg.emb_dim))
        self.layers = nn.Sequential(
            nn.Linear(cfg.emb_dim, hidden), nn.Tanh(), nn.Linear(hidden, 2 * cfg.n_layers * cfg.emb_dim)
        )

    def forward(self) -> Tensor:
        with in_float32(self.embedding):
            return self.layers(self.embedding)  # (tokens, 2 L D)


@torch.no_grad()
def _as_read(model: GPTModel, ids: Tensor) -> Tensor:
    """Return the keys and values of these tokens, (tokens, 2 L D), as the model without adapters reads them."""
    alone = nullcontext() if adapters_of(model) is None else disable(model)
    with alone, evaluation_mode(model):
        pairs = read_alone(model, model.embed(ids.unsqueeze(0)))
    parts = torch.stack([part for pair in pairs for part in pair])  # (2 L, 1, H, tokens, head_dim)
    return parts.permute(3, 0, 1, 2, 4).flatten(1).float()
