"""gptlab: how a GPT is built, pretrained, tuned to follow instructions and judged, in code to be read.

    >>> import gptlab
    >>> gptlab.GPTConfig(vocab_size=500, context_length=256, emb_dim=128, n_heads=4, n_layers=3).head_dim
    32

The names below, and the packages that they are from, are loaded when they are first used, so that importing gptlab
costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "gptlab.analysis": ("Comparison", "compare"),
    "gptlab.checks": ("check",),
    "gptlab.config": ("GPT2_SIZES", "GPTConfig"),
    "gptlab.data": (
        "IGNORE_INDEX",
        "Conversation",
        "ConversationDataset",
        "Example",
        "InstructionDataset",
        "LabelledTexts",
        "Mixture",
        "Segment",
        "SlidingWindows",
        "Template",
        "build_town",
        "collate",
        "collate_labelled",
        "collate_packed",
        "encode",
        "encode_documents",
        "load_conversations",
        "load_entries",
        "load_labelled",
        "load_template",
        "make_loader",
        "open_tokens",
        "render",
        "save_entries",
        "split_entries",
        "text_examples",
        "write_tokens",
    ),
    "gptlab.decoding": (
        "ChatSession",
        "beam_search",
        "exact_match",
        "generate",
        "perplexity",
        "prepare_for_decoding",
        "respond",
        "stream",
    ),
    "gptlab.demo": ("SMALL_TOWN", "run_demo", "town_base"),
    "gptlab.devices": ("empty_cache", "pick_device"),
    "gptlab.files": ("checkpoints_folder",),
    "gptlab.model": ("GPTModel", "KVCache", "MultiHeadAttention", "count_parameters", "initialize_like_gpt2"),
    "gptlab.peft": ("replace_modules",),
    "gptlab.tokenizer": ("as_tokenizer", "gpt2_tokenizer", "load_tokenizer", "save_tokenizer", "train_tokenizer"),
    "gptlab.training": (
        "TrainingCheckpoints",
        "History",
        "Hook",
        "Stage",
        "accuracy",
        "classify",
        "estimate",
        "evaluate",
        "find_learning_rate",
        "finetune",
        "load_classifier",
        "make_classifier",
        "make_optimizer",
        "next_token_loss",
        "save_classifier",
        "train",
        "train_stages",
        "warmup_constant",
        "warmup_cosine",
    ),
    "gptlab.weights": (
        "Checkpoint",
        "add_special_tokens",
        "assign_check",
        "export_huggingface",
        "load_checkpoint",
        "load_gpt2",
        "load_weights",
        "save_checkpoint",
    ),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    elif name in _modules():
        value = importlib.import_module(f"gptlab.{name}")
    else:
        raise AttributeError(f"gptlab has no {name!r}; it has {', '.join([*__all__, *_modules()])}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_modules()})


def _modules() -> list[str]:
    """Return the names of the packages and modules here, such as "peft"."""
    import pkgutil

    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
