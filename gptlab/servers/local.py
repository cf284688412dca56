"""A checkpoint of ours, or an adapter on one, as a server: it answers in the form that it was tuned with."""

from __future__ import annotations

import threading
from copy import copy
from pathlib import Path
from typing import Any

from gptlab.servers.protocol import Messages, Reply, ServerError, check_messages, reply_checked


class LocalModel:
    """A model on this machine; it takes the most likely token each time, so the same question gets the same reply.

    A single question is asked in the checkpoint's own template. Where more was said before, or by the system, the
    template is stretched over turns, as in a chat.

    Args:
        path: a checkpoint, an adapter's folder, or a name such as "355M"; see `load_checkpoint` and `load_tuned`.
        max_new_tokens: the longest reply.
        device: "auto", "cpu", "cuda", "mps" ...

    Attributes:
        name: the folder's name.
        identity: the name, a digest of the weights, the template and max_new_tokens.

    Raises:
        FileNotFoundError: there is no such checkpoint, or the base under the adapter is gone.
        ValueError: it is damaged, or max_new_tokens is below 1.
    """

    def __init__(self, path: str | Path, *, max_new_tokens: int = 256, device: str = "auto") -> None:
        from gptlab.devices import pick_device
        from gptlab.peft import is_adapter, load_tuned
        from gptlab.weights import load_checkpoint, weights_digest

        if not isinstance(max_new_tokens, int) or max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be a whole number >= 1, got {max_new_tokens!r}")
        load = load_tuned if is_adapter(path) else load_checkpoint
        self.checkpoint = load(path, pick_device(device), progress=False)
        self.name = Path(path).absolute().name
        self.max_new_tokens = max_new_tokens
        self.identity = {
            "kind": "local",
            "model": self.name,
            "digest": weights_digest(self.checkpoint.model),
            "template": self.checkpoint.template.to_dict(),
            "options": {"max_new_tokens": max_new_tokens},
        }
        self._lock = threading.Lock()  # one question at a time: the model has all the processors anyway

    def with_options(self, *, max_tokens: int | None = None, **_: Any) -> LocalModel:
        """Return the same model with another longest reply; see `gptlab.servers.with_options`.

        It takes the most likely token whatever the other options say, and ends where it was tuned to.
        """
        other = copy(self)
        other.max_new_tokens = max_tokens or self.max_new_tokens
        other.identity = self.identity | {"options": {"max_new_tokens": other.max_new_tokens}}
        return other

    def __call__(self, messages: Messages) -> Reply:
        """Return the reply to the last message.

        Raises:
            ValueError: these are no messages, or not in turn.
            ServerError: the question is longer than the context, or the reply is empty.
        """
        from gptlab.data import find_format
        from gptlab.decoding import respond

        messages = check_messages(messages)
        model, tokenizer, template = self.checkpoint
        asked, form = {"instruction": messages[-1]["content"]}, template
        if len(messages) > 1:
            asked, form = {"messages": messages}, find_format(template)
        with self._lock:
            [response] = respond(model, tokenizer, [asked], form, max_new_tokens=self.max_new_tokens)
        if response.reason == "prompt too long":
            raise ServerError(
                f"the question is longer than the context of {self.name}, {model.cfg.context_length} tokens"
            )
        return reply_checked(response.text, "stop" if response.reason == "stop" else "length", who=self.name)
