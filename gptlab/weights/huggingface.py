"""A GPT-2 in Hugging Face's form, in and out: config.json, model.safetensors, vocab.json and merges.txt.

A folder that `export_huggingface` writes opens with AutoModelForCausalLM and AutoTokenizer of transformers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tiktoken
import torch
from safetensors.torch import save
from torch import Tensor

from gptlab.config import GPT2_SIZES, GPTConfig
from gptlab.data import ChatFormat, Template
from gptlab.files import read_json, to_json, write_together
from gptlab.model import GPTModel
from gptlab.tokenizer import (
    END_OF_TEXT,
    VOCABULARY_FILES,
    Tokenizer,
    as_tokenizer,
    gpt2_tokenizer,
    load_tokenizer,
    tokenizer_files,
)
from gptlab.weights.gpt2 import build_model, check_own_weights, empty_model, open_weights, translations

FORMAT = "gptlab-1"  # what config.json of our own checkpoints says
TEMPLATE_KEY = "gptlab_template"  # where an exported config.json keeps the template; transformers hands it through

# What transformers would read before or beside the files that an export writes.
_IN_THE_WAY = (
    *sorted(VOCABULARY_FILES),
    "special_tokens_map.json",
    "added_tokens.json",
    "model.safetensors.index.json",
    "pytorch_model.bin",
)
_OF_ADAPTERS = (  # of ours, and of peft's, which transformers would put on the model
    *("adapter.json", "adapter.safetensors"),
    *("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"),
)


def load_huggingface(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    tie_weights: bool | None = None,
    device: torch.device | str = "cpu",
) -> tuple[GPTModel, Tokenizer | None]:
    """Return the model and the tokenizer of a folder or a file; see `load_gpt2`."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    folder = path if path.is_dir() else path.parent
    if path.is_file() and path.suffix != ".safetensors":
        raise ValueError(f"{path.name} is not opened by itself; load_weights(model, path) reads the book's .pth files")
    tensors = open_weights(path)
    if (folder / "config.json").is_file():
        config = read_json(folder / "config.json")
        if not isinstance(config, dict):
            raise ValueError(f"{folder / 'config.json'} must hold an object, got a {type(config).__name__}")
        cfg = config_from_huggingface(config)
    else:
        cfg = config_of_known_size(tensors)
    if tie_weights is not None:
        cfg = replace(cfg, tie_weights=tie_weights)
    tokenizer = _tokenizer_of(folder, cfg)
    if tokenizer is not None:
        check_vocabulary(cfg, tokenizer)
    return build_model(cfg, tensors, dtype, device), tokenizer


def _tokenizer_of(folder: Path, cfg: GPTConfig) -> Tokenizer | None:
    """Return the tokenizer of a folder; None if there is none, or it is of a kind that cannot be read here."""
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return load_tokenizer(folder, name=folder.name)
    if any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        readable = importlib.util.find_spec("tokenizers") is not None
        return load_tokenizer(folder) if readable else None
    another = any((folder / name).is_file() for name in ("vocab.json", "spiece.model"))
    if another or not 0 <= cfg.vocab_size - GPT2_SIZES["gpt2"].vocab_size <= 100:
        return None
    return gpt2_tokenizer()


def check_vocabulary(cfg: GPTConfig, tokenizer: Tokenizer) -> None:
    """Make sure that a model has as many tokens as its tokenizer.

    The model may have up to a hundredth more, tokens that were added or rows that make its size a round number; with a
    tokenizer of another kind any number more.

    Raises:
        ValueError: they do not agree.
    """
    size = getattr(tokenizer, "n_vocab", None)
    spare = cfg.vocab_size // 100 if isinstance(tokenizer, tiktoken.Encoding) else cfg.vocab_size
    if size is not None and not 0 <= cfg.vocab_size - size <= spare:
        raise ValueError(f"the model has {cfg.vocab_size} tokens, the tokenizer {size}; they must agree")


def export_huggingface(
    model: GPTModel, tokenizer: Tokenizer, folder: str | Path, template: Template | ChatFormat | None = None
) -> None:
    """Write a folder that transformers opens without extra code, with the same logits and the same ids.

    A template is kept in config.json, so that `load_checkpoint` answers in the form that the model was tuned with.
    Special tokens are special there too.

    A model without query, key and value biases gets zeros, which change nothing. `tie_word_embeddings` is true only
    for a tied model: with an untied head in a folder that says tied, transformers would put the head over the
    embeddings.

    Raises:
        ValueError: the tokenizer's vocabulary is not the model's, the model holds other weights than a GPTModel's, or
            the folder holds a checkpoint of ours, an adapter, or files that transformers would read instead.
        OSError: the folder cannot be written.
    """
    cfg, folder = model.cfg, Path(folder)
    tokenizer = as_tokenizer(tokenizer)
    vocabulary = tokenizer_files(tokenizer)
    _check_free(folder, vocabulary)
    check_vocabulary(cfg, tokenizer)
    check_plain(model)
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    check_own_weights(cfg, weights, "this model")
    end = getattr(tokenizer, "eot_token", None)
    if end is None:
        raise ValueError("the tokenizer has no end-of-text id; as_tokenizer(tokenizer, end_of_text=ID) gives it one")
    config = config_to_huggingface(cfg, weights["tok_emb.weight"].dtype, end)
    if template is not None:
        config[TEMPLATE_KEY] = template.to_dict()
    name = tokenizer.decode([end])
    tokenizer_config = {
        "tokenizer_class": "GPT2Tokenizer" if "merges.txt" in vocabulary else "PreTrainedTokenizerFast",
        "model_max_length": cfg.context_length,
        "add_prefix_space": False,
        "bos_token": name,
        "eos_token": name,
    }
    if "merges.txt" in vocabulary:
        tokenizer_config["unk_token"] = name
    others = tokenizer.special_tokens_set - {END_OF_TEXT, name}  # in vocab.json nothing tells them from ordinary tokens
    if others:
        tokenizer_config["additional_special_tokens"] = sorted(others, key=tokenizer.encode_single_token)
    ends = {"bos_token_id": end, "eos_token_id": _ends(end, template, tokenizer), "pad_token_id": end}
    write_together(
        folder,
        {
            "model.safetensors": save(_to_huggingface(weights, cfg), metadata={"format": "pt"}),
            **vocabulary,
            "tokenizer_config.json": to_json(tokenizer_config),
            "generation_config.json": to_json(ends),
            "config.json": to_json(config),
        },
    )


def _ends(end: int, template: Template | ChatFormat | None, tokenizer: Tokenizer) -> int | list[int]:
    """Return what ends a text that transformers generates: end-of-text, and the mark that ends an answer."""
    mark = None if template is None else template.end_of_answer.text
    if mark in (None, END_OF_TEXT) or mark not in tokenizer.special_tokens_set:
        return end
    return [end, tokenizer.encode_single_token(mark)]


def check_plain(model: GPTModel) -> None:
    """Raise ValueError if a model has other weights than a GPTModel's, such as those of an adapter."""
    strange = set(model.state_dict()) ^ set(empty_model(model.cfg).state_dict())
    if strange:
        raise ValueError(f"the model is no plain GPTModel: {min(strange)} is missing or too many; merge it first")


def check_no_adapter(folder: str | Path) -> None:
    """Raise ValueError if a folder holds an adapter, ours or peft's, with which a model would be mixed up."""
    for name in _OF_ADAPTERS:
        if (Path(folder) / name).exists():
            raise ValueError(f"{folder} holds an adapter, it has {name}; choose another folder for a model")


def _check_free(folder: Path, vocabulary: Mapping[str, str]) -> None:
    check_no_adapter(folder)
    in_the_way = [name for name in _IN_THE_WAY if (folder / name).exists() and name not in vocabulary]
    if in_the_way:
        raise ValueError(f"{folder} holds {in_the_way[0]}, which transformers would read too; export to another folder")
    if (folder / "config.json").is_file():
        config = read_json(folder / "config.json")
        if not isinstance(config, dict) or config.get("model_type") != "gpt2":
            raise ValueError(f"{folder} holds another model, which the export would overwrite")


def _to_huggingface(weights: Mapping[str, Tensor], cfg: GPTConfig) -> dict[str, Tensor]:
    """Return the weights under their names, by the table that loading uses."""
    theirs: dict[str, Tensor] = {}
    for name, ours, transposed in translations(cfg.n_layers):
        parts = [weights[part] if part in weights else torch.zeros(cfg.emb_dim) for part in ours]
        joined = torch.cat(parts) if len(parts) > 1 else parts[0]
        theirs[f"transformer.{name}"] = (joined.T if transposed else joined).contiguous()
    if not cfg.tie_weights:
        theirs["lm_head.weight"] = weights["out_head.weight"].contiguous()
    return theirs


def config_from_huggingface(config: Mapping[str, Any]) -> GPTConfig:
    """Return the GPTConfig of a `config.json` for GPT-2.

    Raises:
        ValueError: it describes another architecture, or a variant of GPT-2 that GPTModel is not.
    """
    if str(config.get("format", "")).startswith("gptlab-classifier"):
        raise ValueError("config.json describes a classifier; load_classifier opens it")
    if config.get("model_type") != "gpt2":
        raise ValueError(f"config.json must describe a 'gpt2', got model_type {config.get('model_type')!r}")
    variants = {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "layer_norm_epsilon": (1e-5,),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
        "n_inner": (None, 4 * config["n_embd"] if isinstance(config.get("n_embd"), int) else 3072),
    }
    for key, known in variants.items():
        if config.get(key, known[0]) not in known:
            raise ValueError(f"config.json: {key} must be {' or '.join(map(repr, known))}, got {config[key]!r}")
    return GPTConfig(
        vocab_size=config.get("vocab_size", 50257),
        context_length=config.get("n_positions", 1024),
        emb_dim=config.get("n_embd", 768),
        n_heads=config.get("n_head", 12),
        n_layers=config.get("n_layer", 12),
        drop_rate=config.get("resid_pdrop", 0.1),
        qkv_bias=True,
        tie_weights=config.get("tie_word_embeddings", True),
    )


def config_to_huggingface(cfg: GPTConfig, dtype: torch.dtype, end: int | None) -> dict[str, Any]:
    """Return the `config.json` of a model whose weights have `dtype` and whose end-of-text token has the id `end`."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "vocab_size": cfg.vocab_size,
        "n_positions": cfg.context_length,
        "n_ctx": cfg.context_length,
        "n_embd": cfg.emb_dim,
        "n_head": cfg.n_heads,
        "n_layer": cfg.n_layers,
        "n_inner": None,
        "layer_norm_epsilon": 1e-5,
        "embd_pdrop": cfg.drop_rate,
        "attn_pdrop": cfg.drop_rate,
        "resid_pdrop": cfg.drop_rate,
        "tie_word_embeddings": cfg.tie_weights,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "bos_token_id": end,
        "eos_token_id": end,
    }


def config_of_known_size(tensors: Mapping[str, Tensor]) -> GPTConfig:
    """Return the config of weights that come without one, when they have the shapes of an OpenAI GPT-2 or distilgpt2.

    Raises:
        ValueError: they do not; the number of heads cannot be seen in weights.
    """
    vocab_size, emb_dim = tensors["wte.weight"].shape if "wte.weight" in tensors else (0, 0)
    n_layers = sum(name.endswith(".ln_1.weight") for name in tensors)
    for cfg in GPT2_SIZES.values():
        if (cfg.vocab_size, cfg.emb_dim, cfg.n_layers) == (vocab_size, emb_dim, n_layers):
            return cfg
    raise ValueError(
        f"weights of {n_layers} layers, width {emb_dim} and {vocab_size} tokens need a config.json beside them: "
        "the number of heads cannot be seen in weights"
    )
