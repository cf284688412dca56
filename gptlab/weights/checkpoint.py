"""A trained model as a directory of four plain files: config.json, model.safetensors, vocab.json, merges.txt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from gptlab.config import GPTConfig
from gptlab.data import ChatFormat, Template, find_template, load_template, template_or_format
from gptlab.files import read_json, to_json, write_together
from gptlab.model import GPTModel
from gptlab.tokenizer import VOCABULARY_FILES, Tokenizer, as_tokenizer, load_tokenizer, tokenizer_files
from gptlab.weights.gpt2 import check_own_weights
from gptlab.weights.hub import locate
from gptlab.weights.huggingface import (
    FORMAT,
    TEMPLATE_KEY,
    check_no_adapter,
    check_vocabulary,
    load_huggingface,
)


class Checkpoint(NamedTuple):
    """What a checkpoint directory holds: a model, its tokenizer, and the form that it answers in.

    The form is a template for single questions, or the format of the conversations that the model was tuned on.
    """

    model: GPTModel
    tokenizer: Tokenizer
    template: Template | ChatFormat


def save_checkpoint(
    directory: str | Path,
    model: GPTModel,
    tokenizer: Tokenizer,
    template: str | Path | Template | ChatFormat = "alpaca",
) -> None:
    """Write model, tokenizer and template; a checkpoint that is there is replaced when all files are complete.

    The whole template is saved, not only its name, so that a checkpoint answers in the form it was tuned with
    wherever it goes. A tied weight is saved once.

    Raises:
        ValueError: the tokenizer's vocabulary is not the model's or cannot be saved; the model holds more or other
            weights than a GPTModel of its config, as one with adapters does; or the directory holds another model, or
            an adapter.
        OSError: the directory cannot be written.
    """
    tokenizer = as_tokenizer(tokenizer)
    check_vocabulary(model.cfg, tokenizer)
    template = find_template(template)
    check_replaceable(directory, FORMAT)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    head = tuple(weights["out_head.weight"].shape) if "out_head.weight" in weights else None
    if head is not None and head[0] != model.cfg.vocab_size:
        raise ValueError(f"out_head scores {head[0]} classes, not {model.cfg.vocab_size} tokens: see save_classifier")
    check_own_weights(model.cfg, weights, "this model")
    if model.cfg.tie_weights:
        del weights["out_head.weight"]
    config = {"format": FORMAT, "model": model.cfg.to_dict(), "template": template.to_dict()}
    vocabulary = tokenizer_files(tokenizer)
    files = {
        "model.safetensors": save(weights, metadata={"format": "pt"}),
        **vocabulary,
        "config.json": to_json(config),
    }
    write_together(directory, files, stale=VOCABULARY_FILES - set(vocabulary))


def check_replaceable(directory: str | Path, form: str) -> None:
    """Make sure that `directory` holds no model but one of this format, and no adapter, which would be mixed up.

    Raises:
        ValueError: it does.
    """
    config_file = Path(directory) / "config.json"
    config = read_json(config_file) if config_file.is_file() else {"format": form}
    if not isinstance(config, dict) or config.get("format") != form:
        raise ValueError(f"{directory} holds another model, which would be overwritten")
    check_no_adapter(directory)


def load_checkpoint(
    name_or_path: str | Path,
    device: torch.device | str = "cpu",
    *,
    cache_dir: str | Path = "checkpoints",
    progress: bool = True,
) -> Checkpoint:
    """Read what `save_checkpoint` wrote, or a GPT-2 in Hugging Face's form; the model comes in evaluation mode.

    `config.json` says which of the two it is. Hugging Face's form has a template only when `export_huggingface` wrote
    it; otherwise it gets the template "plain", with which a model that was never tuned goes on with a text.

    Args:
        name_or_path: a directory, a .safetensors file in one, or a name such as "355M", which is downloaded if it is
            not here; see `locate`.
        device: where the weights go.
        cache_dir: where downloads are.
        progress: whether a download shows bars.

    Raises:
        FileNotFoundError: the directory, or one of its files, is missing.
        ValueError: a file is damaged, of another format, or the parts do not fit together; or the name is not known.
    """
    path = locate(name_or_path, cache_dir, progress=progress)
    if path.is_file() and path.suffix != ".safetensors":
        raise ValueError(f"{path} is no checkpoint; it must be a folder or a .safetensors file")
    directory, weights_file = (path.parent, path) if path.is_file() else (path, path / "model.safetensors")
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"{directory} is no checkpoint: it has no config.json")
    config = read_json(directory / "config.json")
    if isinstance(config, dict) and "model_type" in config:
        model, tokenizer = load_huggingface(path, device=device)
        if tokenizer is None:
            raise ValueError(
                f"{directory} has no tokenizer that can be read here; load_gpt2 loads the model without one (a "
                "tokenizer of another kind than byte-level BPE is read by the package tokenizers)"
            )
        exported = config.get(TEMPLATE_KEY)
        return Checkpoint(model, tokenizer, template_or_format(exported) if exported else load_template("plain"))
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        if str(found).startswith("gptlab-classifier"):
            raise ValueError(f"{directory} holds a classifier; load_classifier opens it")
        raise ValueError(f"{directory / 'config.json'} must say format {FORMAT!r} or model_type 'gpt2', got {found!r}")
    for part in ("model", "template"):
        if not isinstance(config.get(part), dict):
            raise ValueError(f"{directory / 'config.json'} must hold an object {part!r}, got {config.get(part)!r}")
    cfg, template = GPTConfig.of(config["model"]), template_or_format(config["template"])
    tokenizer = load_tokenizer(directory)
    check_vocabulary(cfg, tokenizer)
    weights = _read_weights(cfg, weights_file)
    model = GPTModel(cfg)
    model.load_state_dict(weights)
    return Checkpoint(model.to(device).eval(), tokenizer, template)


def load_gpt2(
    name_or_path: str | Path,
    *,
    cache_dir: str | Path = "checkpoints",
    dtype: torch.dtype = torch.float32,
    tie_weights: bool | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> tuple[GPTModel, Tokenizer | None]:
    """Return a model and its tokenizer: a GPT-2 by name or in Hugging Face's form, or a checkpoint of our own.

    Args:
        name_or_path: a name such as "124M", "gpt2-medium", "gpt2-medium (355M)" or "openai-community/gpt2-medium",
            which is downloaded if it is not on this machine; a folder with config.json; or a single .safetensors
            file (with config.json beside it, or of the shape of one of OpenAI's models).
        cache_dir: where downloads are, and are looked for; the layout is that of transformers.
        dtype: of the weights that come out, whatever the file holds.
        tie_weights: None does as the file says. False gives the head a copy of the embeddings, as the book has it.
        device: where the weights go.
        progress: whether a download shows bars.

    Returns:
        The model, in evaluation mode, and its tokenizer. The tokenizer is None if the folder has none and its
        vocabulary is not GPT-2's, or if it is not byte-level BPE and the package tokenizers is not installed. Any
        object with `encode` and `decode` can take its place.

    Raises:
        FileNotFoundError: the folder or a file is missing; the model is not here and cannot be downloaded; or GPT-2's
            vocabulary is nowhere to be found.
        ValueError: a file is damaged, of another architecture, or does not fit the others; or the name is not known.
    """
    path = locate(name_or_path, cache_dir, progress=progress)
    own = (path.parent if path.is_file() else path) / "config.json"
    if own.is_file() and isinstance(config := read_json(own), dict) and config.get("format") == FORMAT:
        model, tokenizer, _ = load_checkpoint(path)
        wanted = model.cfg.tie_weights if tie_weights is None else tie_weights
        return _with_ties(model, wanted).to(device, dtype), tokenizer
    return load_huggingface(path, dtype=dtype, tie_weights=tie_weights, device=device)


def _with_ties(model: GPTModel, tie_weights: bool) -> GPTModel:
    if tie_weights == model.cfg.tie_weights:
        return model
    changed = GPTModel(replace(model.cfg, tie_weights=tie_weights))
    changed.load_state_dict(check_own_weights(changed.cfg, model.state_dict(), "the checkpoint"))
    return changed.eval()


def _read_weights(cfg: GPTConfig, path: Path) -> dict[str, Tensor]:
    """Return the weights of a file after comparing every name and shape; no model is built before that."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is no checkpoint: it has no {path.name}")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return check_own_weights(cfg, weights, f"{path}, by its config.json,")
