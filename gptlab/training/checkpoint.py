"""A trained model as a directory of four plain files: config.json, model.safetensors, vocab.json, merges.txt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tiktoken
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from gptlab.config import GPTConfig
from gptlab.data.templates import Template, load_template, template_from_dict
from gptlab.files import read_json, to_json, write_together
from gptlab.model import GPTModel
from gptlab.tokenizer import load_tokenizer, tokenizer_files

FORMAT = "gptlab-1"


@dataclass(frozen=True)
class Checkpoint:
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
        ValueError: the tokenizer's vocabulary is not the model's.
        OSError: the directory cannot be written.
    """
    _check_vocabulary(model.cfg, tokenizer)
    if not isinstance(template, Template):
        template = load_template(template)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if model.cfg.tie_weights:
        del weights["out_head.weight"]
    config = {"format": FORMAT, "model": model.cfg.to_dict(), "template": template.to_dict()}
    files = {"model.safetensors": save(weights, metadata={"format": "pt"}), **tokenizer_files(tokenizer)}
    write_together(directory, {**files, "config.json": to_json(config)})


def load_checkpoint(directory: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read what `save_checkpoint` wrote; the model comes in evaluation mode.

    Raises:
        FileNotFoundError: the directory, or a file of the four, is missing.
        ValueError: a file is damaged, of another format, or the parts do not fit together.
    """
    directory = Path(directory)
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"{directory} is no checkpoint: it has no config.json")
    config = read_json(directory / "config.json")
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"{directory / 'config.json'} must say format {FORMAT!r}, got {found!r}")
    for part in ("model", "template"):
        if not isinstance(config.get(part), dict):
            raise ValueError(f"{directory / 'config.json'} must hold an object {part!r}, got {config.get(part)!r}")
    cfg, template = GPTConfig.of(config["model"]), template_from_dict(config["template"])
    tokenizer = load_tokenizer(directory)
    _check_vocabulary(cfg, tokenizer)
    model = GPTModel(cfg)
    _load_weights(model, directory / "model.safetensors")
    return Checkpoint(model.to(device).eval(), tokenizer, template)


def _check_vocabulary(cfg: GPTConfig, tokenizer: tiktoken.Encoding) -> None:
    if cfg.vocab_size != tokenizer.n_vocab:
        raise ValueError(f"the model has {cfg.vocab_size} tokens, the tokenizer {tokenizer.n_vocab}; they must agree")


def _load_weights(model: GPTModel, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is no checkpoint: it has no {path.name}")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if model.cfg.tie_weights and "tok_emb.weight" in weights:
        weights["out_head.weight"] = weights["tok_emb.weight"]
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit config.json: {error}") from None
