"""The loop under greedy and sampled decoding: many prompts at once, one new token for each at a time.

Prompts are padded on the left, so that all rows write at the same place; a mask hides the padding and the positions do
not count it, so that each row gets what it would get alone. What all prompts begin with is read once. A row that has
ended leaves the batch and its cache.

Positions are absolute. A row that goes on past the context reads its last tokens at new positions, so nothing that was
remembered is of use, and each of its steps reads the whole window again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gptlab.decoding.filters import Filter
from gptlab.model import GPTModel, KVCache

Reason = Literal["stop", "length", "context"]

_WORTH_A_READING = 32  # tokens that are saved; to read one token costs as much as to read some more with it


@dataclass(frozen=True)
class Settings:
    """How tokens are chosen, and when a row ends.

    Attributes:
        max_new_tokens: the most that is written.
        chain: filters on the logits, in order.
        sample: whether to draw; else the most likely token is taken.
        eos_ids: end-of-text ids.
        seed: of the drawing; each row has a stream of its own, made of the seed and the row's number.
        slide: past the context, whether to go on with the last tokens; else the row ends there.
        alternatives: how many to report, with log-probabilities; None reports neither.
    """

    max_new_tokens: int
    chain: Sequence[Filter] = ()
    sample: bool = False
    eos_ids: Collection[int] = ()
    seed: int = 0
    slide: bool = False
    alternatives: int | None = None


class Step(NamedTuple):
    """One new token of one row; an end-of-text id too.

    Attributes:
        row: the number of the prompt.
        token: the new token.
        reason: why the row ends with it; None when it goes on.
        logprob: its log-probability, in nats, as the model gives it, before any filter; None unless asked for.
        alternatives: (token, log-probability) of the most likely tokens.
    """

    row: int
    token: int
    reason: Reason | None
    logprob: float | None
    alternatives: list[tuple[int, float]]


@torch.no_grad()
def decode(
    model: GPTModel,
    prompts: dict[int, Sequence[int]],
    settings: Settings,
    ended: set[int],
    cache: KVCache | None = None,
) -> Iterator[list[Step]]:
    """Yield the new tokens of all rows, step by step, until every row has ended.

    Args:
        model: in evaluation mode.
        prompts: number -> token ids; the number decides what is drawn.
        settings: see there.
        ended: the caller adds the numbers of rows that are to end, between two steps.
        cache: holds the first tokens of a single prompt, but not its last, and gets all that is read.
    """
    context = model.cfg.context_length
    tokens = {number: list(prompt) for number, prompt in prompts.items()}
    streams = {number: _stream(settings.seed, number) for number in prompts} if settings.sample else {}
    sliding = [number for number in prompts if len(prompts[number]) > context]
    remembered = _Remembered(model, {number: tokens[number] for number in prompts if number not in sliding}, cache)
    while remembered.rows or sliding:
        parts = [remembered.read()] if remembered.rows else []
        if sliding:
            windows = torch.tensor([tokens[number][-context:] for number in sliding], device=_device(model))
            features = model.forward_embeddings(model.embed(windows))  # (B, T, D)
            parts.append(model.out_head(features[:, -1]))
        logits = torch.cat(parts).float()  # (B, V)
        rows = [*remembered.rows, *sliding]
        chosen = _choose(
            logits, [tokens[number] for number in rows], [streams.get(number) for number in rows], settings
        )

        steps = []
        for (number, token), details in zip(zip(rows, chosen.tolist()), _details(logits, chosen, settings)):
            tokens[number].append(token)
            written = len(tokens[number]) - len(prompts[number])
            reason: Reason | None = None
            if token in settings.eos_ids:
                reason = "stop"
            elif written == settings.max_new_tokens:
                reason = "length"
            elif len(tokens[number]) > context and not settings.slide:
                reason = "context"
            steps.append(Step(number, token, reason, *details))
            if reason is not None:
                ended.add(number)
        yield steps

        sliding = [number for number in rows if number not in ended and len(tokens[number]) > context]
        remembered.keep({number: tokens[number][-1] for number in remembered.rows if number not in {*ended, *sliding}})


class _Remembered:
    """The rows that fit into the context: a cache of what was read, and what is to be read next."""

    def __init__(self, model: GPTModel, prompts: dict[int, list[int]], cache: KVCache | None) -> None:
        self.model, self.rows = model, list(prompts)
        self.cache = KVCache(model.cfg.n_layers) if cache is None else cache
        past = self._read_shared_beginning(list(prompts.values())) if cache is None else cache.length
        T = max(map(len, prompts.values()), default=past) - past
        ids = torch.zeros(len(prompts), T, dtype=torch.int64)
        visible = torch.ones(len(prompts), past + T + model.cfg.context_length, dtype=torch.bool)
        for row, prompt in enumerate(prompts.values()):
            padding = T - (len(prompt) - past)
            ids[row, padding:] = torch.tensor(prompt[past:])
            visible[row, past : past + padding] = False
        self.ids, self.visible = ids.to(_device(model)), visible.to(_device(model))  # (B, T), (B, more than S)
        self.positions = (self.visible.cumsum(dim=1) - 1)[:, past : past + T].clamp(min=0)  # (B, T)
        self.padded = not visible.all()

    def _read_shared_beginning(self, prompts: list[list[int]]) -> int:
        """Read once what all prompts begin with, such as a template's first sentences, and return its length."""
        shortest = min(map(len, prompts), default=1)
        differ = (place for place in range(shortest - 1) if len({prompt[place] for prompt in prompts}) > 1)
        shared = next(differ, shortest - 1)  # the last token is left, since its logits are wanted
        if (len(prompts) - 1) * shared < _WORTH_A_READING:
            return 0
        ids = torch.tensor([prompts[0][:shared]], device=_device(self.model))
        self.model.forward_embeddings(self.model.embed(ids), cache=self.cache)
        self.cache.reorder(ids.new_zeros(len(prompts)))  # a copy for every row
        return shared

    def read(self) -> Tensor:
        """Read what is next and return the logits of what may follow, (B, V)."""
        S = self.cache.length + self.ids.shape[1]
        mask = self.visible[:, None, :S] if self.padded else None  # (B, 1, S)
        x = self.model.embed(self.ids)
        features = self.model.forward_embeddings(x, cache=self.cache, positions=self.positions, mask=mask)  # (B, T, D)
        return self.model.out_head(features[:, -1])

    def keep(self, chosen: dict[int, int]) -> None:
        """Go on with these rows only, number -> the token to read next; without any, the cache stays as it is."""
        if not chosen:
            self.rows = []
            return
        alive = [row for row, number in enumerate(self.rows) if number in chosen]
        if len(alive) < len(self.rows):
            last = [row for row in alive if row >= len(alive)]  # they move to where a row has ended: few are copied
            order = [row if self.rows[row] in chosen else last.pop() for row in range(len(alive))]
            self.rows = [self.rows[row] for row in order]
            rows = torch.tensor(order, dtype=torch.int64, device=self.ids.device)
            self.cache.reorder(rows)
            self.positions, self.visible = self.positions[rows], self.visible[rows]
            self.padded = not bool(self.visible.all())
        ids = [[chosen[number]] for number in self.rows]
        self.ids = torch.tensor(ids, dtype=torch.int64, device=self.ids.device)  # (B, 1)
        self.positions = self.positions[:, -1:] + 1


def _choose(
    logits: Tensor, tokens: list[list[int]], streams: list[torch.Generator | None], settings: Settings
) -> Tensor:
    """Return the next token of each row, (B,)."""
    for change in settings.chain:
        logits = change(tokens, logits)
    if settings.chain and bool((logits.amax(dim=-1) == float("-inf")).any()):
        raise ValueError("the filters forbid every token, so that none can be chosen")
    if not settings.sample:
        return logits.argmax(dim=-1)
    cumulative = torch.softmax(logits, dim=-1).double().cumsum(dim=-1)  # (B, V)
    drawn = torch.stack([torch.rand((), generator=stream, dtype=torch.float64) for stream in streams])
    heights = drawn.to(logits.device).unsqueeze(1) * cumulative[:, -1:]  # (B, 1), below the last
    return torch.searchsorted(cumulative, heights, right=True).squeeze(1)


def _details(logits: Tensor, chosen: Tensor, settings: Settings) -> list[tuple[float | None, list[tuple[int, float]]]]:
    """Return each row's log-probability and alternatives, when they are asked for."""
    if settings.alternatives is None:
        return [(None, [])] * len(logits)
    logprobs = logits.log_softmax(dim=-1)
    best = logprobs.topk(settings.alternatives)
    of_chosen = logprobs.gather(1, chosen.unsqueeze(1)).squeeze(1).tolist()
    return [
        (logprob, list(zip(ids, values)))
        for logprob, ids, values in zip(of_chosen, best.indices.tolist(), best.values.tolist())
    ]


def _stream(seed: int, number: int) -> torch.Generator:
    """Return the random numbers of one row: other rows and the size of the batch do not change them."""
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _device(model: GPTModel) -> torch.device:
    return next(model.parameters()).device
