"""A conversation with a model that remembers: the tokens are those that it was tuned on.

What the model has read it need not read again, until the oldest turns are forgotten: positions are absolute, so what is
left moves and must be read anew.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from gptlab.data import (
    ChatFormat,
    Conversation,
    Template,
    Turn,
    as_conversation,
    encode,
    find_format,
    render,
    to_record,
)
from gptlab.decoding.generate import generate, stream
from gptlab.decoding.respond import Response, endings, prompt_ids
from gptlab.decoding.text import Streamed
from gptlab.files import read_json, to_json, write_text
from gptlab.model import GPTModel, KVCache
from gptlab.tokenizer import Tokenizer, as_tokenizer

LONGEST_ANSWER = 128  # tokens, unless something else is said

SETTINGS = (  # what may be said about how an answer is written
    *("max_new_tokens", "temperature", "top_k", "top_p", "min_p"),
    *("repetition_penalty", "no_repeat_ngram", "seed"),
)


class ChatSession:
    """A conversation that goes on.

    What was said is written out by the format that the model was tuned with, in the same function, before every answer.
    The cache keeps the keys and values of what was read; only what differs from it is read. When what was said exceeds
    max_context, or leaves the model's context no room for an answer (of max_new_tokens, but at most a quarter of the
    context), the oldest turns are left out, whole. When the model itself has changed since the last answer, because
    another adapter is active or weights have learned, everything is read anew.

    Args:
        model: a GPTModel, or what `prepare_for_decoding` made of one.
        tokenizer: the model's.
        template: the form that the model was tuned with; see `find_format`. A template for single questions is
            stretched over turns.
        system: what is said to the model before the first turn.
        max_new_tokens: the longest answer.
        max_context: the most tokens that the model is shown before an answer; None is all that leave room for one. A
            small model may have read nothing at later positions; `format.tuned_length` says what tuning showed it.
        choices: how tokens are chosen, as in `generate`: temperature, top_k, top_p, repetition_penalty, seed and so on.

    Attributes:
        turns: what was said.
        forgotten: how many of the oldest turns the model no longer sees.
        choices: may be changed between two answers.
    """

    def __init__(
        self,
        model: GPTModel,
        tokenizer: Tokenizer,
        template: str | Path | Template | ChatFormat,
        *,
        system: str = "",
        max_new_tokens: int = LONGEST_ANSWER,
        max_context: int | None = None,
        **choices: Any,
    ) -> None:
        self.model, self.tokenizer, self.format = model, as_tokenizer(tokenizer), find_format(template)
        self.system, self.max_new_tokens, self.choices = system, max_new_tokens, {}
        context = model.cfg.context_length
        self.max_context = context if max_context is None else max_context
        if not 1 < self.max_context <= context:
            raise ValueError(f"max_context must be in [2, {context}], the model's context, got {max_context}")
        Conversation([Turn("?")], system)  # looks at the system message
        self.set(max_new_tokens=max_new_tokens, **choices)
        self.clear()

    def clear(self) -> None:
        """Forget everything that was said."""
        self.turns: list[Turn] = []
        self.forgotten = 0
        self._forget_what_was_read()

    def _forget_what_was_read(self) -> None:
        self._cache, self._read = KVCache(self.model.cfg.n_layers), []  # keys and values, and the ids that they are of
        self._read_by = _mark(self.model)

    @property
    def conversation(self) -> Conversation | None:
        """What was said, None before the first answer."""
        return Conversation(self.turns, self.system) if self.turns else None

    def ask(self, text: str) -> Generator[str, None, Response]:
        """Yield the answer to a message as it is written, and remember both when it is complete.

        The generator's return value is the whole answer and why it ended: see `Response`. When it is stopped in the
        middle, or the message is too long to be read at all, the conversation stays as it was.

        Raises:
            ValueError: the message is empty or broken text, or a setting is out of its range, when the first piece is
                asked for.
        """
        prompt, forgotten = self._prompt(Turn(text))
        if prompt is None:
            return Response("", "prompt too long")
        if self._read_by != _mark(self.model):
            self._forget_what_was_read()
        kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self._read, prompt[:-1])))
        self._cache.truncate(kept)
        self._read = prompt[:kept]
        try:
            response = yield from self._answer(prompt)
        finally:
            length = min(self._cache.length, len(self._read))
            self._cache.truncate(length)
            self._read = self._read[:length]
        if response.text.strip():
            self.turns.append(Turn(text, response.text))
            self.forgotten = forgotten
        return response

    def _prompt(self, asked: Turn) -> tuple[list[int] | None, int]:
        """Return the ids up to where the answer begins, with as many turns as fit, and how many do not."""
        context = self.model.cfg.context_length
        room = min(self.max_context, context - min(self.max_new_tokens, context // 4))
        for forgotten in range(min(self.forgotten, len(self.turns)), len(self.turns) + 1):
            conversation = Conversation([*self.turns[forgotten:], asked], self.system)
            ids = prompt_ids(self.format, conversation, self.tokenizer)
            if len(ids) <= room:
                return ids, forgotten
        return (ids, forgotten) if len(ids) < context else (None, self.forgotten)

    def _answer(self, prompt: list[int]) -> Generator[str, None, Response]:
        """Write an answer, without the space that the format puts before it."""
        space = self.format.answer("", last=True)[0].text
        ends = endings(self.format, self.tokenizer)
        settings = {"max_new_tokens": self.max_new_tokens, "cache": self._cache, **ends, **self.choices}
        pieces = Streamed(stream(self.model, prompt, tokenizer=self.tokenizer, **settings))
        self._read, begun = prompt, False
        for piece in pieces:
            piece, begun = (piece if begun else piece.removeprefix(space)), True
            if piece:
                yield piece
        self._read = prompt + pieces.result.ids
        return Response(pieces.result.text.removeprefix(space), pieces.result.reason)

    def set(self, **changes: Any) -> None:
        """Change how answers are written: `max_new_tokens` or one of the choices; None takes a choice back.

        Raises:
            ValueError: a value is out of its range, or the name is not known; nothing is changed.
        """
        unknown = sorted(set(changes) - set(SETTINGS))
        if unknown:
            raise ValueError(f"no setting is called {unknown[0]!r}; there are {', '.join(SETTINGS)}")
        settings = {name: value for name, value in {**self.settings(), **changes}.items() if value is not None}
        seed = settings.get("seed", 0)
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be a whole number >= 0, got {seed!r}")
        longest = settings.pop("max_new_tokens", LONGEST_ANSWER)
        generate(self.model, [], max_new_tokens=longest, **settings)  # looks at the values
        self.max_new_tokens, self.choices = longest, settings

    def correct(self, answer: str) -> None:
        """Put another answer in the place of the last one; the conversation goes on as if the model had given it.

        Raises:
            ValueError: nothing was said yet, or the answer is empty or broken text; nothing is changed.
        """
        if not self.turns:
            raise ValueError("there is no answer to correct: nothing was said yet")
        corrected = [*self.turns[:-1], replace(self.turns[-1], assistant=answer)]
        Conversation(corrected, self.system)  # looks at the text
        self.turns = corrected

    def settings(self) -> dict[str, Any]:
        """Return how answers are written."""
        return {"max_new_tokens": self.max_new_tokens, **self.choices}

    def save(self, path: str | Path) -> None:
        """Write the conversation as JSON: `{"messages": [...]}`; see `to_record`.

        Raises:
            ValueError: nothing was said yet, or the file is there and holds something else.
        """
        if self.conversation is None:
            raise ValueError("there is nothing to save: nothing was said yet")
        if Path(path).exists():
            as_conversation(read_json(path), f"{path} holds something else")
        write_text(path, to_json(to_record(self.conversation)))

    def load(self, path: str | Path) -> None:
        """Go on with a conversation from a file, of any form that `as_conversation` knows, and its system message.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no conversation, one whose last turn has no answer, or one that the format cannot
                write; the present one stays.
        """
        conversation = as_conversation(read_json(path), str(path))
        if not conversation.answered:
            raise ValueError(f"{path}: the last turn has no answer")
        render(conversation, self.format)
        self.clear()
        self.turns, self.system = list(conversation.turns), conversation.system or self.system

    def ids(self) -> list[int]:
        """Return the ids of the conversation so far, those that the model would be tuned on."""
        if self.conversation is None:
            return []
        return encode(render(self.conversation, self.format), self.tokenizer).ids


def _mark(model: GPTModel) -> tuple[list, list, object]:
    """Return what differs when the model has become another one, without looking at all of it.

    That is its modules, and which parts of them are active; a number of every weight, for few stay the same when a
    model learns; and what stands in place of a method of its class.
    """
    modules = [(module, vars(module).get("active")) for module in model.modules()]
    weights = [weight[(0,) * weight.dim()].item() for weight in model.parameters() if weight.numel()]
    return modules, weights, vars(model).get("forward_embeddings")
