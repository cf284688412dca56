"""Ollama, asked in its own words through its official client.

Its own API and not the one that it shares with OpenAI, because only there can the context be set and thinking be turned
off. Three of its traps are closed here. Options count only inside `options`; elsewhere they are ignored without a word.
A question that is longer than the context is cut, also without a word. And an error in the middle of a reply comes
under the status 200.

Source: Ollama's API reference (docs/api.md) and server/routes.go.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from types import ModuleType
from typing import Any

from gptlab.servers.addresses import is_local, no_proxies, tidy_url
from gptlab.servers.protocol import ServerError
from gptlab.servers.remote import CONNECT_SECONDS, RemoteServer, checked_options, listed

DEFAULT_URL = "http://localhost:11434"
PORT = 11434
ROOM = 16  # tokens; a question that leaves no more than these for the reply has been cut, or will be


class OllamaServer(RemoteServer):
    """A model of Ollama.

    At temperature 0 and with a seed it mostly says the same again; a graphics card, or what was asked before, may still
    change a word.

    Args:
        model: such as "phi3"; `ollama list` tells which are there, `ollama pull phi3` fetches one.
        url: where Ollama listens; None is what the variable OLLAMA_HOST says, or this machine. This machine is never
            asked through a proxy.
        temperature: 0 takes the most likely token; None leaves it to the model's settings, as with the next three.
        seed: of the drawing.
        num_ctx: the context in tokens: question and reply together.
        num_predict: the longest reply in tokens.
        format: "json", or a JSON schema that the reply has to follow.
        think: whether a model that can thinks first, or "low", "medium", "high" where a model knows these; its thoughts
            are no part of the reply. None leaves it to the model.
        timeout: seconds for a whole reply, loading the model included. It may last up to twice that when a server goes
            silent just before.
        retries: how often it is asked again when a failure may pass; see `ask_again`.
        sleep: waits so many seconds before that.

    Attributes:
        name: the model's.
        identity: all of these but timeout, retries and sleep.

    Raises:
        ImportError: the package ollama is missing.
        ValueError: the address is none, or a setting is out of its range.
    """

    title = "Ollama"

    def __init__(
        self,
        model: str,
        url: str | None = DEFAULT_URL,
        *,
        temperature: float | None = 0.0,
        seed: int | None = 123,
        num_ctx: int | None = 2048,
        num_predict: int | None = None,
        format: str | Mapping[str, Any] | None = None,
        think: bool | str | None = False,
        timeout: float = 120,
        retries: int = 3,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        ollama = _import_ollama()
        url = os.environ.get("OLLAMA_HOST") or DEFAULT_URL if url is None else url
        endings = ("/v1/chat/completions", "/api/chat", "/api/generate", "/api/tags", "/v1", "/api")
        super().__init__(
            model, tidy_url(url, port=PORT, endings=endings), timeout=timeout, retries=retries, sleep=sleep
        )
        check_format(format)
        self.options = checked_options(temperature=temperature, seed=seed, num_ctx=num_ctx, num_predict=num_predict)
        if num_ctx is not None and num_ctx <= ROOM:
            raise ValueError(f"num_ctx must be > {ROOM}, got {num_ctx}")
        self.format, self.think = dict(format) if isinstance(format, Mapping) else format, think
        self.identity = {"kind": "ollama", "model": model, "url": self.url}
        self.identity |= {"options": self.options, "format": self.format, "think": think}
        self._secrets = [key] if (key := os.environ.get("OLLAMA_API_KEY")) else []  # the client sends it
        waits = (min(CONNECT_SECONDS, timeout), timeout, timeout, timeout)  # to connect, read, write, and for a place
        self._client = self._opened(lambda: ollama.Client(self.url, timeout=waits, **self._client_options()))

    def _pieces(self, messages: list[dict[str, str]]) -> Iterator[tuple[str, str | None]]:
        parts = self._client.chat(
            self.model, messages, stream=True, think=self.think, format=self.format, options=self.options
        )
        with closing(parts):
            for part in parts:
                if part.done:
                    self._check_context(part.prompt_eval_count or 0)
                ended = "length" if part.done_reason == "length" else "stop"
                yield part.message.content or "", ended if part.done else None

    def _own_name(self, option: str) -> str:
        return "num_predict" if option == "max_tokens" else option

    def _check_context(self, read: int) -> None:
        """Raise ServerError if the question filled the context, as one does that was cut to fit."""
        context = self.options.get("num_ctx")
        if context is not None and read > context - ROOM:
            raise ServerError(
                f"the prompt filled the context: {self.model} read {read} tokens of num_ctx={context}, so a part of it "
                "may be cut off; a larger num_ctx reads it whole"
            )

    def _names(self) -> list[str]:
        names = [one.model for one in self._client.list().models]
        if None in names:  # a gateway that says "name" alone, which the client drops
            names = [one["name"] for one in self._client._request(dict, "GET", "/api/tags")["models"]]
        return sorted(names)

    def _is_missing(self, names: Sequence[str] | None) -> str:
        return f"{self.url} has no model {self.model!r}; {listed(names)}; ollama pull {self.model} fetches it"

    def _nobody(self, reason: str) -> str:
        if is_local(self.url):
            return f"is Ollama running? nothing answers at {self.url}; start it with: ollama serve"
        there = "on its machine, OLLAMA_HOST=0.0.0.0 ollama serve lets others ask"
        return f"is Ollama running? nothing answers at {self.url} ({reason}); {there}"

    def _about_key(self) -> str:
        return "the variable OLLAMA_API_KEY holds the key that is sent"

    def _about_address(self) -> str:
        return f"is it Ollama's address? by default that is {DEFAULT_URL}"


def _import_ollama() -> ModuleType:
    """Import the client, which makes one of its own meanwhile and fails if that could not use the system's proxy."""
    try:
        with no_proxies():
            import ollama
    except ModuleNotFoundError:
        raise ImportError('OllamaServer needs the package ollama: pip install "gptlab[judge]"') from None
    return ollama


def check_format(format: Any) -> None:
    """Raise ValueError unless this is None, "json" or a schema."""
    if format not in (None, "json") and not isinstance(format, Mapping):
        raise ValueError(f'format must be None, "json" or a JSON schema, got {format!r:.80}')
