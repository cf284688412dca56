"""Prompt tuning and P-tuning: learn vectors that the model reads in place of words, in front of the text or inside it.

    prompt tuning   [P; e(x)]                        P (tokens, D) is learned itself
    P-tuning        [h_1 ... h_i; e(x); h_i+1 ...]   h = f(E), E (tokens, D) and the network f are learned

What stands inside the text is written there by the caller, as ids behind the vocabulary's last: see `virtual_ids`. The
network is thrown away after training. Unlike a prefix, these vectors have positions and go through all the layers.

Source: Lester et al. 2021, arXiv 2104.08691 (prompt tuning); Liu et al. 2021, arXiv 2103.10385, section 3 (P-tuning).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from gptlab.data import Example
from gptlab.model import GPTModel
from gptlab.peft.adapted import Adapted, Branch
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
from gptlab.peft.method import Method
from gptlab.tokenizer import Tokenizer
from gptlab.training.random_states import own_random_numbers

ENCODERS = ("mlp", "lstm", "none")


@dataclass(frozen=True)
class PromptTuning(Method):
    """Settings of prompt tuning.

    Attributes:
        tokens: how many virtual tokens stand in front of every text; the context has so many less.
        start: what they begin as: the vectors of random tokens of the "vocabulary" or of a "text", or "random"
            numbers, normal and as large as the vocabulary's vectors.
        text: for start="text"; repeated or cut to the number of tokens.
    """

    tokens: int = 20
    start: str = "vocabulary"
    text: str = ""

    method: ClassVar[str] = "prompt"
    exact_start: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 1e-1

    @property
    def virtual_tokens(self) -> int:
        return self.tokens

    def __post_init__(self) -> None:
        check_virtual_tokens(self.tokens)
        check_start(self.start, self.text)

    def build(
        self, model: GPTModel, *, tokenizer: Tokenizer | None = None, generator: torch.Generator | None = None
    ) -> dict[str, nn.Module]:
        check_room(model, self.tokens)
        words = model.tok_emb.weight.detach().float()  # (V, D)
        if self.start == "random":
            drawn = torch.randn(self.tokens, words.shape[1], generator=generator)
            return {"": Vectors(drawn.to(words.device) * words.std())}
        return {"": Vectors(words[first_ids(model, self.tokens, self.text, tokenizer, generator)])}

    def blank(self, model: GPTModel) -> dict[str, nn.Module]:
        return replace(self, start="random", text="").build(model, generator=torch.Generator())


@dataclass(frozen=True)
class PTuning(Method):
    """Settings of P-tuning.

    Attributes:
        tokens: how many virtual tokens there are.
        encoder: the network: "mlp", three layers with ReLU between; "lstm", two layers that read the virtual tokens in
            both directions, and two layers behind; "none" learns the vectors themselves.
        hidden: the network's width; None is the model's.
        inside: how many of the tokens, the last ones, are for places inside the text, which the caller chooses; the
            others stand in front.
    """

    tokens: int = 20
    encoder: str = "mlp"
    hidden: int | None = None
    inside: int = 0

    method: ClassVar[str] = "p-tuning"
    exact_start: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 3e-3

    @property
    def virtual_tokens(self) -> int:
        return self.tokens - self.inside

    def __post_init__(self) -> None:
        check_virtual_tokens(self.tokens)
        if self.encoder not in ENCODERS:
            raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}, got {self.encoder!r}")
        if self.hidden is not None and (type(self.hidden) is not int or self.hidden < 1):
            raise ValueError(f"hidden must be None or a whole number >= 1, got {self.hidden!r}")
        if type(self.inside) is not int or not 0 <= self.inside <= self.tokens:
            raise ValueError(f"inside must be in [0, {self.tokens}], the tokens, got {self.inside!r}")

    def build(
        self, model: GPTModel, *, tokenizer: Tokenizer | None = None, generator: torch.Generator | None = None
    ) -> dict[str, nn.Module]:
        if self.encoder == "none":
            encoder = PromptTuning(self.tokens).build(model, generator=generator)[""]
        else:
            check_room(model, self.tokens)
            D, seed = model.cfg.emb_dim, int(torch.randint(2**62, (), generator=generator))
            kind = Lstm if self.encoder == "lstm" else Mlp
            with own_random_numbers(torch.device("cpu"), seed):
                encoder = kind(self.tokens, D, self.hidden or D)
                _begin_as_words(encoder, model.tok_emb.weight.std().item())
            encoder.to(model.tok_emb.weight.device)
        if not self.inside:
            return {"": encoder}
        front = {"": Rest(self.tokens - self.inside)} if self.inside < self.tokens else {}
        return {"tok_emb": Inside(encoder, self.inside), **front}

    def blank(self, model: GPTModel) -> dict[str, nn.Module]:
        return self.build(model, generator=torch.Generator())

    def prepare(self, model: GPTModel) -> None:
        embedding = model.tok_emb
        if not self.inside or isinstance(embedding, LongerVocabulary):
            return
        model.tok_emb = LongerVocabulary(embedding.base if isinstance(embedding, Adapted) else embedding)
        if isinstance(embedding, Adapted):
            model.tok_emb.adapters.update(embedding.adapters)

    def for_inference(
        self, model: GPTModel, modules: dict[str, nn.Module]
    ) -> tuple[Method, dict[str, dict[str, Tensor]]]:
        with torch.no_grad():
            if not self.inside:
                return PromptTuning(self.tokens), {"": {"vectors": modules[""]()}}
            flat = {"tok_emb": {"encoder.vectors": modules["tok_emb"].encoder()}}
            return replace(self, encoder="none", hidden=None), flat


def virtual_ids(model: GPTModel) -> list[int]:
    """Return the ids by which the active adapter's virtual tokens are put inside a text; none if it has none there."""
    branch = getattr(model.tok_emb, "branch", None)
    V = model.cfg.vocab_size
    return list(range(V, V + branch.inside)) if isinstance(branch, Inside) else []


def insert_virtual(text: Example | Sequence[int], virtual: Sequence[int], place: int) -> Example | list[int]:
    """Return ids, or an example, with virtual tokens before the token number `place`; they are no targets.

    >>> insert_virtual([5, 6, 7], [300, 301], place=2)
    [5, 6, 300, 301, 7]
    """
    if isinstance(text, Example):
        trained = [*text.trained[:place], *[False] * len(virtual), *text.trained[place:]]
        return Example(insert_virtual(text.ids, virtual, place), trained)
    return [*text[:place], *virtual, *text[place:]]


class Prompt(Beginning):
    """Vectors that the model reads as if they were words; calling it returns them, (tokens, D)."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens

    @abstractmethod
    def forward(self) -> Tensor:
        """Return the vectors, (tokens, D)."""

    def keys_and_values(self, model: GPTModel) -> KeysAndValues:
        return read_alone(model, self().unsqueeze(0))


class Vectors(Prompt):
    """The vectors themselves."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__(len(vectors))
        self.vectors = nn.Parameter(vectors)

    def forward(self) -> Tensor:
        return self.vectors


class Mlp(Prompt):
    """Vectors that three layers make, each of a vector of its own."""

    def __init__(self, tokens: int, D: int, hidden: int) -> None:
        super().__init__(tokens)
        self.embedding = nn.Parameter(torch.randn(tokens, D))
        self.layers = nn.Sequential(
            nn.Linear(D, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, D)
        )

    def forward(self) -> Tensor:
        with in_float32(self.embedding):
            return self.layers(self.embedding)


class Lstm(Prompt):
    """Vectors that know of each other: a network reads them from both ends before two layers make them."""

    def __init__(self, tokens: int, D: int, hidden: int) -> None:
        super().__init__(tokens)
        self.embedding = nn.Parameter(torch.randn(tokens, D))
        self.lstm = nn.LSTM(D, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.layers = nn.Sequential(nn.Linear(2 * hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, D))

    def forward(self) -> Tensor:
        with in_float32(self.embedding):
            states, _ = self.lstm(self.embedding.unsqueeze(0))  # (1, tokens, 2 hidden)
            return self.layers(states[0])


@torch.no_grad()
def _begin_as_words(encoder: Mlp | Lstm, std: float) -> None:
    """Draw the layers so that the vectors differ from each other, and are as large as words with this deviation.

    As PyTorch draws them, nearly all of what comes out is a bias that all the vectors share, and they learn slowly.
    """
    linears = [layer for layer in encoder.layers if isinstance(layer, nn.Linear)]
    for linear in linears:
        nn.init.kaiming_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
    spread = encoder().std()
    linears[-1].weight *= std / spread if spread > 0 else 1  # ReLU can silence a very narrow network


class Inside(Branch):
    """The embedding's further rows: ids from V on are virtual tokens, the last ones that the encoder makes."""

    def __init__(self, encoder: Prompt, inside: int) -> None:
        super().__init__()
        self.encoder, self.inside = encoder, inside

    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        V = base.num_embeddings
        virtual = x >= V  # (B, T)
        if not torch.is_grad_enabled() and not virtual.any():  # as in most steps of decoding
            return base(x)
        words = base(x.where(~virtual, 0))  # (B, T, D)
        rows = self.encoder()[-self.inside :].to(words.dtype)  # (inside, D)
        return torch.where(virtual.unsqueeze(2), rows[(x - V).clamp(min=0)], words)

    def merged(self, base: nn.Module) -> nn.Module:
        raise ValueError("its virtual tokens are no words of the vocabulary")


class Rest(Beginning):
    """Those of the encoder's vectors that stand in front, when the others stand inside the text."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens

    def keys_and_values(self, model: GPTModel) -> KeysAndValues:
        return read_alone(model, model.tok_emb.branch.encoder()[: self.tokens].unsqueeze(0))


class LongerVocabulary(Adapted):
    """An embedding with adapters on it, which knows how many ids can be looked up."""

    @property
    def num_embeddings(self) -> int:
        inside = self.branch.inside if isinstance(self.branch, Inside) else 0
        return self.base.num_embeddings + inside
