"""A trained model as a directory of four plain files: config.json, model.safetensors, vocab.json, merges.txt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import tiktoken
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from gptlab.config import GPTConfig
from gptlab.data.templates import Template, load_template, template_from_dict
from gptlab.files import read_json, to_json, write_together
from gptlab.model import GPTModel
from gptlab.tokenizer import load_tokenizer, tokenizer_files
from gptlab.weights.gpt2 import check_own_weights
from gptlab.weights.huggingface import FORMAT, TEMPLATE_KEY, load_huggingface


class Checkpoint(NamedTuple):
    """What a checkpoint directory holds: a model, its tokenizer, and the template that it answers in."""

    model: GPTModel
    tokenizer: tiktoken.Encoding
    template: Template


def save_checkpoint(
    directory: str | Path,
    model: GPTModel,
    tokenizer: tiktoken.Encoding,
    template: str | Path | Template = "alpaca",
) -> None:
    """Write model, tokenizer and template; a checkpoint that is there is replaced when all files are complete.

    The whole template is saved, not only its name, so that a checkpoint answers in the form it was tuned with
    wherever it goes. A tied weight is saved once.

    Raises:
        ValueError: the tokenizer's vocabulary is not the model's, or the model holds more or other weights than a
            GPTModel of its config, as one with adapters does.
        OSError: the directory cannot be written.
    """
    _check_vocabulary(model.cfg, tokenizer)
    if not isinstance(template, Template):
        template = load_template(template)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    check_own_weights(model.cfg, weights, "this model")
    if model.cfg.tie_weights:
        del weights["out_head.weight"]
    config = {"format": FORMAT, "model": model.cfg.to_dict(), "template": template.to_dict()}
    files = {"model.safetensors": save(weights, metadata={"format": "pt"}), **tokenizer_files(tokenizer)}
    write_together(directory, {**files, "config.json": to_json(config)})


def load_checkpoint(directory: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read what `save_checkpoint` wrote, or a GPT-2 in Hugging Face's form; the model comes in evaluation mode.

    `config.json` says which of the two it is. Hugging Face's form has a template only when `export_huggingface` wrote
    it; otherwise it gets Alpaca's.

    Raises:
        FileNotFoundError: the directory, or one of its files, is missing.
        ValueError: a file is damaged, of another format, or the parts do not fit together.
    """
    directory = Path(directory)
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"{directory} is no checkpoint: it has no config.json")
    config = read_json(directory / "config.json")
    if isinstance(config, dict) and "model_type" in config:
        model, tokenizer = load_huggingface(directory, device=device)
        if tokenizer is None:
            raise ValueError(f"{directory} has no vocab.json and merges.txt; load_gpt2 loads the model without them")
        exported = config.get(TEMPLATE_KEY)
        return Checkpoint(model, tokenizer, template_from_dict(exported) if exported else load_template("alpaca"))
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"{directory / 'config.json'} must say format {FORMAT!r} or model_type 'gpt2', got {found!r}")
    for part in ("model", "template"):
        if not isinstance(config.get(part), dict):
            raise ValueError(f"{directory / 'config.json'} must hold an object {part!r}, got {config.get(part)!r}")
    cfg, template = GPTConfig.of(config["model"]), template_from_dict(config["template"])
    tokenizer = load_tokenizer(directory)
    _check_vocabulary(cfg, tokenizer)
    weights = _read_weights(cfg, directory / "model.safetensors")
    model = GPTModel(cfg)
    model.load_state_dict(weights)
    return Checkpoint(model.to(device).eval(), tokenizer, template)


def load_gpt2(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    tie_weights: bool | None = None,
    device: torch.device | str = "cpu",
) -> tuple[GPTModel, tiktoken.Encoding | None]:
    """Return a model and its tokenizer from a folder on the disk: a GPT-2 in Hugging Face's form, or one of our own.

    Args:
        path: a folder with config.json, or a single .safetensors file (with config.json beside it, or of the shape
            of one of OpenAI's models).
        dtype: of the weights that come out, whatever the file holds.
        tie_weights: None does as the file says. False gives the head a copy of the embeddings, as the book has it.
        device: where the weights go.

    Returns:
        The model, in evaluation mode, and its tokenizer; None for a vocabulary that is not byte-level BPE.

    Raises:
        FileNotFoundError: the folder or a file is missing.
        ValueError: a file is damaged, of another architecture, or does not fit the others.
    """
    path = Path(path)
    own = (path.parent if path.is_file() else path) / "config.json"
    if own.is_file() and isinstance(config := read_json(own), dict) and config.get("format") == FORMAT:
        model, tokenizer, _ = load_checkpoint(own.parent)
        wanted = model.cfg.tie_weights if tie_weights is None else tie_weights
        return _with_ties(model, wanted).to(device, dtype), tokenizer
    return load_huggingface(path, dtype=dtype, tie_weights=tie_weights, device=device)


def _with_ties(model: GPTModel, tie_weights: bool) -> GPTModel:
    if tie_weights == model.cfg.tie_weights:
        return model
    changed = GPTModel(replace(model.cfg, tie_weights=tie_weights))
    changed.load_state_dict(check_own_weights(changed.cfg, model.state_dict(), "the checkpoint"))
    return changed.eval()


def _check_vocabulary(cfg: GPTConfig, tokenizer: tiktoken.Encoding) -> None:
    if cfg.vocab_size != tokenizer.n_vocab:
        raise ValueError(f"the model has {cfg.vocab_size} tokens, the tokenizer {tokenizer.n_vocab}; they must agree")


def _read_weights(cfg: GPTConfig, path: Path) -> dict[str, Tensor]:
    """Return the weights of a file after comparing every name and shape; no model is built before that."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is no checkpoint: it has no {path.name}")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return check_own_weights(cfg, weights, f"{path}, by its config.json,")
