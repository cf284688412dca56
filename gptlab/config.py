"""The shape of a GPT: one frozen dataclass with the book's keys, and the sizes of GPT-2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class GPTConfig:
    """Everything that decides a GPT's shape. The keys are those of the book.

    Args:
        vocab_size: how many tokens there are (V).
        context_length: the longest sequence, in tokens.
        emb_dim: the width of the residual stream (D).
        n_heads: attention heads per block (H); must divide emb_dim.
        n_layers: transformer blocks.
        drop_rate: dropout probability, in [0, 1).
        qkv_bias: whether query, key and value projections have a bias (GPT-2's have).
        tie_weights: whether out_head shares its weight with tok_emb as one parameter (GPT-2 does).

    Raises:
        ValueError: a size is not a positive whole number, or emb_dim does not divide into n_heads.

    >>> GPTConfig(vocab_size=500, context_length=256, emb_dim=128, n_heads=4, n_layers=3).head_dim
    32
    """

    vocab_size: int
    context_length: int
    emb_dim: int
    n_heads: int
    n_layers: int
    drop_rate: float = 0.0
    qkv_bias: bool = False
    tie_weights: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"):
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{name} must be a whole number >= 1, got {size!r}")
        if self.emb_dim % self.n_heads:
            raise ValueError(f"emb_dim must be a multiple of n_heads, got {self.emb_dim} and {self.n_heads}")
        if not isinstance(self.drop_rate, (int, float)) or not 0 <= self.drop_rate < 1:
            raise ValueError(f"drop_rate must be in [0, 1), got {self.drop_rate!r}")
        for name in ("qkv_bias", "tie_weights"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        return self.emb_dim // self.n_heads

    @classmethod
    def of(cls, cfg: GPTConfig | Mapping) -> GPTConfig:
        """Return `cfg` as a GPTConfig; a mapping needs the book's seven keys and may have tie_weights.

        Raises:
            ValueError: a key is missing or unknown.
        """
        if isinstance(cfg, cls):
            return cfg
        if not isinstance(cfg, Mapping):
            raise ValueError(f"cfg must be a GPTConfig or a mapping, got {type(cfg).__name__}")
        known = [field.name for field in fields(cls)]
        missing = [key for key in known if key not in cfg and key != "tie_weights"]
        unknown = [key for key in cfg if key not in known]
        if missing or unknown:
            raise ValueError(f"config keys: missing {missing}, unknown {unknown}; the keys are {known}")
        return cls(**cfg)

    def to_dict(self) -> dict:
        """Return the config as a plain dictionary, the form that `of` and GPTModel take."""
        return asdict(self)


# Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", table 2; Sanh et al. 2019 (distilgpt2).
# The names are those of the model hub.
_GPT2 = {"vocab_size": 50257, "context_length": 1024, "drop_rate": 0.1, "qkv_bias": True, "tie_weights": True}
GPT2_SIZES: dict[str, GPTConfig] = {
    "gpt2": GPTConfig(**_GPT2, emb_dim=768, n_heads=12, n_layers=12),
    "gpt2-medium": GPTConfig(**_GPT2, emb_dim=1024, n_heads=16, n_layers=24),
    "gpt2-large": GPTConfig(**_GPT2, emb_dim=1280, n_heads=20, n_layers=36),
    "gpt2-xl": GPTConfig(**_GPT2, emb_dim=1600, n_heads=25, n_layers=48),
    "distilgpt2": GPTConfig(**_GPT2, emb_dim=768, n_heads=12, n_layers=6),
}
