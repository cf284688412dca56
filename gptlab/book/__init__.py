"""The names that teaching code written for "Build a Large Language Model (From Scratch)" imports.

They have that book's signatures, defaults and return values, over this library:

    from llms_from_scratch.ch05 import X    becomes    from gptlab.book.ch05 import X
    from previous_chapters import X         becomes    from gptlab.book import X

A name does what it does in the book wherever that works. Where it does not - a batch of more than one prompt, a
validation loader with fully masked rows, a failed download - it does the right thing, and its docstring says so.
Two chapters define `calc_loss_batch`, `calc_loss_loader` and `evaluate_model` differently; the ones from here tell by
the targets which is meant.

Source: Raschka 2024, "Build a Large Language Model (From Scratch)", Manning.
"""

from __future__ import annotations

import importlib
from typing import Any

from gptlab.book.pending import PENDING

_HOME = {
    "gptlab.book.ch02": (
        "BPETokenizerSimple",
        "GPTDatasetV1",
        "SimpleTokenizerV1",
        "SimpleTokenizerV2",
        "create_dataloader_v1",
    ),
    "gptlab.book.ch03": (
        "CausalAttention",
        "MultiHeadAttention",
        "MultiHeadAttentionWrapper",
        "PyTorchMultiHeadAttention",
        "SelfAttention_v1",
        "SelfAttention_v2",
    ),
    "gptlab.book.ch04": (
        "BASE_CONFIG",
        "DummyGPTModel",
        "DummyLayerNorm",
        "DummyTransformerBlock",
        "FeedForward",
        "FeedForwardFast",
        "GELU",
        "GPTModel",
        "GPTModelFast",
        "GPT_CONFIG_124M",
        "LayerNorm",
        "TransformerBlock",
        "TransformerBlockFast",
        "generate_text_simple",
        "model_configs",
    ),
    "gptlab.book.ch05": (
        "assign",
        "download_and_load_gpt2",
        "download_file",
        "generate",
        "generate_and_print_sample",
        "load_weights_into_gpt",
        "plot_losses",
        "print_sampled_tokens",
        "softmax_with_temperature",
        "text_to_token_ids",
        "token_ids_to_text",
        "train_model_simple",
    ),
    "gptlab.book.ch06": (
        "SpamDataset",
        "calc_accuracy_loader",
        "classify_review",
        "create_balanced_dataset",
        "download_and_unzip_spam_data",
        "plot_values",
        "random_split",
        "train_classifier_simple",
    ),
    "gptlab.book.by_targets": ("calc_loss_batch", "calc_loss_loader", "evaluate_model"),
    "gptlab.book.ch07": (
        "InstructionDataset",
        "InstructionDatasetPhi",
        "InstructionDatasetWithMasking",
        "custom_collate_draft_1",
        "custom_collate_draft_2",
        "custom_collate_fn",
        "custom_collate_with_masking_fn",
        "download_and_load_file",
        "format_input",
        "format_input_phi",
    ),
    "gptlab.book.appendix_d": ("find_highest_gradient", "train_model"),
    "gptlab.book.appendix_e": ("LinearWithLoRA", "LoRALayer", "replace_linear_with_lora"),
    "gptlab.book.kv_cache": (
        "KVCache",
        "generate_text_simple_cached",
        "generate_text_simple_stream",
        "trim_input_tensor",
    ),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
_PENDING_IN = {name: module for module, names in PENDING.items() for name in names if name not in _MODULE_OF}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name) or _PENDING_IN.get(name)
    if module is None:
        raise AttributeError(f"gptlab.book has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
