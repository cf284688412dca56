"""The book's downloads: one file, and OpenAI's GPT-2 as the dictionary of numpy arrays that the book loads.

The book reads OpenAI's checkpoint with TensorFlow. Here the same numbers come from safetensors.
"""

from __future__ import annotations

import os
import urllib.request
import warnings
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from gptlab.book.pending import refuse_pending
from gptlab.files import check_writable, read_json
from gptlab.weights.gpt2 import open_weights, translations
from gptlab.weights.hub import locate
from gptlab.weights.huggingface import config_from_huggingface

__all__ = ["download_and_load_gpt2", "download_file"]

__getattr__ = refuse_pending(__name__)
MODEL_SIZES = ("124M", "355M", "774M", "1558M")


def download_and_load_gpt2(model_size: str, models_dir: str | Path) -> tuple[dict[str, int], dict[str, Any]]:
    """Return the settings and the weights of a GPT-2, downloaded into `models_dir` if they are not there.

    Args:
        model_size: "124M", "355M", "774M" or "1558M".
        models_dir: where downloads go, and where models are looked for first.

    Returns:
        The settings n_vocab, n_ctx, n_embd, n_head and n_layer, and OpenAI's nested dictionary of float32 arrays: wpe,
        wte, g, b (of the final norm) and blocks, each with attn, mlp, ln_1 and ln_2. Matrices are (in, out).

    Raises:
        ValueError: the size is none of these.
        FileNotFoundError: the model is not here and cannot be downloaded; the message says what to do.
    """
    if model_size not in MODEL_SIZES:
        raise ValueError(f"model_size must be one of {', '.join(MODEL_SIZES)}, got {model_size!r}")
    folder = locate(model_size, models_dir)
    cfg = config_from_huggingface(read_json(folder / "config.json"))
    settings = {
        "n_vocab": cfg.vocab_size,
        "n_ctx": cfg.context_length,
        "n_embd": cfg.emb_dim,
        "n_head": cfg.n_heads,
        "n_layer": cfg.n_layers,
    }
    return settings, _nested(open_weights(folder), cfg.n_layers)


def _nested(tensors: Mapping[str, Tensor], n_layers: int) -> dict[str, Any]:
    """Return OpenAI's nested dictionary from Hugging Face's names, such as `h.0.attn.c_attn.weight`."""
    params: dict[str, Any] = {"blocks": [{} for _ in range(n_layers)]}
    for name, _, _ in translations(n_layers):
        array = tensors[name].float().numpy()
        *path, kind = name.split(".")
        if path[0] in ("wte", "wpe"):
            params[path[0]] = array
            continue
        node = params
        if path[0] == "h":
            node = params["blocks"][int(path[1])]
            for part in path[2:]:
                node = node.setdefault(part, {})
        is_gain = kind == "weight" and path[-1].startswith("ln_")
        node["g" if is_gain else kind[0]] = array
    return params


def download_file(url: str, destination: str | Path, backup_url: str | None = None) -> None:
    """Download a file, from `backup_url` when `url` fails. A file that is there with the right size is kept.

    The file takes its name when it is complete. If neither address answers, a file that is there is kept with a
    warning; the book prints the failure and goes on either way.

    Raises:
        ConnectionError: neither address gave the file, and there is none.
        OSError: the folder cannot be written to.
    """
    destination = Path(destination)
    if destination.is_dir():
        raise IsADirectoryError(f"destination must be a file, {destination} is a directory")
    check_writable(destination.parent)
    failures = []
    for source in (url, backup_url):
        if source is None:
            continue
        try:
            return _fetch(source, destination)
        except (OSError, HTTPException, ValueError) as error:  # ValueError: no address at all
            failures.append(f"{source} ({error})")
    if not destination.exists():
        raise ConnectionError(
            f"{destination} could not be downloaded from {' nor from '.join(failures)}; "
            "check the connection, or put the file there by hand"
        )
    warnings.warn(f"{destination} is kept as it is: nothing came from {' nor from '.join(failures)}", stacklevel=2)
    return None


def _fetch(url: str, destination: Path) -> None:
    with urllib.request.urlopen(url, timeout=60) as response:
        size = int(response.headers.get("Content-Length") or 0)
        if size and destination.exists() and destination.stat().st_size == size:
            return
        destination.parent.mkdir(parents=True, exist_ok=True)
        part = destination.with_name(f".{destination.name}.{os.getpid()}.part")
        try:
            with (
                part.open("wb") as file,
                tqdm(total=size or None, unit="iB", unit_scale=True, desc=destination.name, delay=1) as bar,
            ):
                while chunk := response.read(1 << 16):
                    file.write(chunk)
                    bar.update(len(chunk))
            if size and part.stat().st_size != size:
                raise ConnectionError(f"the connection ended after {part.stat().st_size} of {size} bytes")
            part.replace(destination)
        finally:
            part.unlink(missing_ok=True)
