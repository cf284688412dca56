"""Any server that speaks OpenAI's chat API, through the official client: DeepSeek, vLLM, llama.cpp, Ollama's /v1.

A stream that ends without saying why is a failure, not a short answer: Ollama for one says nothing at all when a model
dies in the middle. The key comes from the environment, and goes nowhere but to the server.

Source: OpenAI's API reference, "Create chat completion" and "Streaming".
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from gptlab.servers.addresses import is_near, tidy_url
from gptlab.servers.ollama_server import check_format
from gptlab.servers.protocol import ServerError
from gptlab.servers.remote import CONNECT_SECONDS, RemoteServer, checked_options, listed
from gptlab.servers.retrying import TryAgain

DEFAULT_URL = "https://api.openai.com/v1"

# What servers of several makers give as finish_reason; before the end, some write "" or "null" where the API has null.
NOT_YET = {"", "none", "null"}
STOPPED = {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls", "function_call"}
CUT_SHORT = {"length", "max_tokens", "model_length", "model_context_window_exceeded"}
BROKEN = {"insufficient_system_resource", "error", "abort", "network_error"}  # of the machine, which may pass


class OpenAIServer(RemoteServer):
    """A model behind OpenAI's API.

    Args:
        model: what the server calls it.
        base_url: the address up to /v1, which is added to an "http://" address without a path: servers that one runs
            oneself have it there. This machine is never asked through a proxy.
        api_key_env: the variable of the environment that holds the key. On this machine, and at a
            private address such as 192.168.1.5, none is needed.
        temperature: 0 takes the most likely token; None leaves it to the server, as some models ask for.
        seed: of the drawing; None says nothing about it.
        max_tokens: the longest reply; None leaves it to the server.
        format: "json", or a JSON schema that the reply has to follow.
        timeout: seconds for a whole reply. It may last up to twice that when a server goes silent just before.
        retries: how often it is asked again when a failure may pass; see `ask_again`.
        sleep: waits so many seconds before that.

    Attributes:
        name: the model's.
        identity: all of these but the key, timeout, retries and sleep.

    Raises:
        ImportError: the package openai is missing.
        ValueError: the address is none, or a setting is out of its range.
        ServerError: the variable holds no key.
    """

    title = "OpenAI's API"

    def __init__(
        self,
        model: str,
        base_url: str = DEFAULT_URL,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        temperature: float | None = 0.0,
        seed: int | None = 123,
        max_tokens: int | None = None,
        format: str | Mapping[str, Any] | None = None,
        timeout: float = 120,
        retries: int = 3,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        try:
            import openai
        except ModuleNotFoundError:
            raise ImportError('OpenAIServer needs the package openai: pip install "gptlab[judge]"') from None
        url = tidy_url(base_url, endings=("/chat/completions", "/models"))
        if url.startswith("http://") and not urlsplit(url).path:
            url += "/v1"
        super().__init__(model, url, timeout=timeout, retries=retries, sleep=sleep)
        check_format(format)
        self.options = checked_options(temperature=temperature, seed=seed, max_tokens=max_tokens)
        self.identity = {"kind": "openai", "model": model, "url": self.url, "options": self.options}
        self.format, self._key_env = dict(format) if isinstance(format, Mapping) else format, api_key_env
        self.identity |= {"format": self.format}
        key = self._read_key()
        self._secrets = [key] if key != "none" else []
        waits = openai.Timeout(timeout, connect=min(CONNECT_SECONDS, timeout))
        http = self._opened(lambda: openai.DefaultHttpxClient(timeout=waits, **self._client_options()))
        self._client = openai.OpenAI(base_url=self.url, api_key=key, timeout=waits, max_retries=0, http_client=http)

    def _read_key(self) -> str:
        key = os.environ.get(self._key_env, "").strip()
        if not key and is_near(self.url):
            return "none"
        if not key:
            words = f"put it into the variable {self._key_env}, or any word if the server asks for none"
            raise ServerError(f"{self.url} needs a key: {words}", fatal=True)
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ServerError(f"the variable {self._key_env} holds characters that are in no key", fatal=True)
        return key

    def _pieces(self, messages: list[dict[str, str]]) -> Iterator[tuple[str, str | None]]:
        options = self.options | ({"response_format": _response_format(self.format)} if self.format else {})
        with self._client.chat.completions.create(
            model=self.model, messages=messages, stream=True, **options
        ) as chunks:
            if _is_json(chunks.response):  # a server that knows no streams
                yield self._whole(chunks.response.json())
                return
            for chunk in chunks:
                for choice in (chunk.choices or [])[:1]:
                    yield self._text(choice.delta.content if choice.delta else None), self._ended(choice.finish_reason)

    def _whole(self, reply: Any) -> tuple[str, str]:
        """Return the text of a reply that came at once, and how it ended."""
        if "choices" not in reply:
            raise TryAgain(f"{self.url} sent no reply, but {self._redacted(json.dumps(reply, ensure_ascii=False))}")
        [choice, *_] = reply["choices"]
        return self._text(choice["message"]["content"]), self._ended(choice.get("finish_reason")) or "stop"

    def _text(self, content: Any) -> str:
        """Return the text of a piece, which may come in parts, thoughts among them."""
        if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
            content = "".join(part.get("text", "") for part in content if part.get("type") == "text")
        if not isinstance(content, str | None):
            raise ServerError(f"{self.url} sent a reply of {self.model} that is no text: {content!r:.80}")
        return content or ""

    def _ended(self, finish: str | None) -> str | None:
        word = str(finish).lower()
        if word in NOT_YET:
            return None
        if word in STOPPED or word in CUT_SHORT:
            return "stop" if word in STOPPED else "length"
        failure = TryAgain if word in BROKEN else ServerError
        raise failure(f"{self.url} stopped the reply of {self.model}; as its reason it gives {finish!r:.80}")

    def _names(self) -> list[str]:
        return sorted(one.id for one in self._client.models.list().data)

    def _is_missing(self, names: Sequence[str] | None) -> str:
        pull = f"; ollama pull {self.model} fetches it" if self.url.endswith(":11434/v1") else ""
        return f"{self.url} has no model {self.model!r}; {listed(names)}{pull}"

    def _nobody(self, reason: str) -> str:
        return f"is the server running? nothing answers at {self.url} ({reason})"

    def _about_key(self) -> str:
        return f"the variable {self._key_env} holds the key" + ("" if self._secrets else ", and is not set")

    def _about_address(self) -> str:
        return "is the address right? most end in /v1"


def _is_json(response: Any) -> bool:
    """Whether a response is one piece of JSON; if it only says so, it can still be read as a stream."""
    return "json" in response.headers.get("content-type", "") and response.read().lstrip().startswith(b"{")


def _response_format(format: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return what the API calls response_format; a schema is strict where it is written for that."""
    if format == "json":
        return {"type": "json_object"}
    strict = format.get("additionalProperties") is False
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": format, "strict": strict}}
