"""The options by which a command asks a language model: which, where, how, and how much at most."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.commands.arguments import at_least, path, text

if TYPE_CHECKING:
    from gptlab.servers import Server

MODEL_OF_THE_SOURCE = "phi3"


def add_server(
    parser: argparse.ArgumentParser,
    title: str,
    *,
    model: str,
    without: str | None = None,
    context: int = 2048,
    temperature: float = 0.0,
    workers: bool = True,
) -> argparse._ArgumentGroup:
    """Add the options that `open_server` takes.

    Args:
        parser: of the command.
        title: of these options in its help.
        model: of Ollama, where none is named.
        without: what the command does when no server is named; None if it needs one.
        context: tokens of question and reply, for Ollama.
        temperature: where none is named.
        workers: whether the command can ask several questions at the same time.
    """
    group = parser.add_argument_group(title)
    kinds = "ollama, openai (any server with its API), or a checkpoint"
    group.add_argument("--server", type=text, help=f"{kinds}; None: {without}" if without else kinds)
    group.add_argument("--model", type=text, help=f"of the server; None is {model}")
    group.add_argument("--url", type=text, help="of the server; None is OLLAMA_HOST or this machine, or OpenAI's own")
    group.add_argument("--api-key-env", type=text, default="OPENAI_API_KEY", help="the variable that holds the key")
    if workers:
        group.add_argument("--workers", type=at_least(1), default=1, help="questions at the same time")
    group.add_argument("--timeout", type=float, default=120.0, help="seconds for a whole reply")
    group.add_argument(
        "--temperature",
        type=_temperature,
        default=temperature,
        help="none leaves it to the server, as some models ask for",
    )
    group.add_argument("--context", type=at_least(1), default=context, help="ollama: tokens of question and reply")
    group.add_argument("--replay", type=path, help="take all replies from such a file; nobody is asked")
    return group


def add_bounds(group: argparse._ArgumentGroup) -> None:
    """Add the options that end the asking."""
    group.add_argument("--calls", type=at_least(0), help="ask at most so often")
    group.add_argument("--cost", type=float, help="spend at most so much, in the currency of --price")
    group.add_argument(
        "--price",
        type=_price,
        default=(0.0, 0.0),
        help="of a million tokens of question, and of reply: 0.15,0.6",
    )


def open_server(options: argparse.Namespace, cache: Path | None) -> Server | None:
    """Return who is asked, with a cache and, where the command has them, bounds; None for nobody.

    Raises:
        ValueError: the settings fit no server.
    """
    from gptlab.servers import Bounded, Cached, Recorded

    if options.replay is not None:
        return Recorded(options.replay, server=options.server, model=options.model)
    if options.server is None:
        return None
    server = _named(options)
    if hasattr(options, "calls"):
        server = Bounded(server, calls=options.calls, cost=options.cost, price=options.price)
    return server if cache is None else Cached(server, cache)


def _named(options: argparse.Namespace) -> Any:
    from gptlab.servers import LocalModel, OllamaServer, OpenAIServer

    if options.server == "ollama":
        limits = {"num_ctx": options.context, "temperature": options.temperature, "timeout": options.timeout}
        return OllamaServer(options.model or MODEL_OF_THE_SOURCE, options.url, **limits)
    if options.server == "openai":
        if options.model is None:
            raise ValueError("--server openai needs --model, the name that the server calls it by")
        where = {} if options.url is None else {"base_url": options.url}
        limits = {"api_key_env": options.api_key_env, "temperature": options.temperature, "timeout": options.timeout}
        return OpenAIServer(options.model, **where, **limits)
    if not Path(options.server).is_dir():
        raise ValueError(f"--server must be ollama, openai or the folder of a checkpoint, got {options.server!r}")
    if options.model is not None or options.url is not None:
        raise ValueError("--model and --url are for --server ollama and openai")
    return LocalModel(options.server, device=options.device)


def _temperature(value: str) -> float | None:
    try:
        return None if value == "none" else float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, or none, got {value!r}") from None


def _price(value: str) -> tuple[float, float]:
    try:
        question, reply = map(float, value.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be two numbers with a comma between them, got {value!r}") from None
    return question, reply
