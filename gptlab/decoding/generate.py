"""Let a model write on: many prompts at once, or one as a stream of text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from typing import Any, NamedTuple

import torch

from gptlab.decoding.filters import Filter, compose
from gptlab.decoding.steps import Reason, Settings, Step, decode
from gptlab.decoding.text import TextWriter
from gptlab.model import GPTModel, KVCache, evaluation_mode


class Generated(NamedTuple):
    """What was written after one prompt.

    Attributes:
        ids: the new tokens, without an end-of-text id, and without those that hold a part of a stop string.
        reason: why it ended: "stop", an end-of-text id or a stop string came; "length", max_new_tokens were written;
            "context", the context is full.
        text: the same as text, up to the stop string; None without a tokenizer.
        logprobs: the model's own log-probability of each token in `ids`, in nats, before any filter.
        alternatives: for each token in `ids`, the most likely tokens at its place: (token, log-probability).
    """

    ids: list[int]
    reason: Reason
    text: str | None
    logprobs: list[float]
    alternatives: list[list[tuple[int, float]]]


def generate(
    model: GPTModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    no_repeat_ngram: int = 0,
    eos_id: int | Collection[int] | None = None,
    stop: str | Sequence[str] = (),
    filters: Sequence[Filter] = (),
    seed: int | None = None,
    tokenizer: Any = None,
    past_context: str = "stop",
    return_details: bool = False,
    alternatives: int | None = 5,
    batch_size: int = 32,
    on_finished: Callable[[int], None] | None = None,
) -> list[list[int]] | list[Generated]:
    """Return what the model writes after each prompt; the prompt is not part of it.

    Each prompt gets what it would get alone, whatever else is in the batch. Prompts are taken in order of their length,
    `batch_size` at a time; a row that has ended leaves the batch.

    Args:
        model: a GPTModel, or what `prepare_for_decoding` made of one; left in the mode that it was in.
        prompts: token ids, of any lengths.
        max_new_tokens: the most that is written.
        temperature: 0 takes the most likely token each time; above 0 it is drawn.
        top_k: draw from the k most likely tokens only.
        top_p: draw from the fewest most likely tokens whose probabilities add up to p.
        min_p: draw from tokens that are at least p times as likely as the most likely one.
        repetition_penalty: above 1, tokens that were seen, in the prompt too, become less likely.
        no_repeat_ngram: no n tokens in a row come twice; 0 sets no such rule.
        eos_id: the id, or ids, with which a row ends.
        stop: strings with which a row ends; they need a tokenizer.
        filters: more of them, applied before the temperature; see `gptlab.decoding.filters`.
        seed: row i draws from a stream made of (seed, i); None takes a seed from torch's global random state.
        tokenizer: for `stop`, and for the text in the details.
        past_context: "stop" ends a row when the context is full; "slide" goes on with the last tokens, as the book
            does, for which every token costs a whole reading.
        return_details: return `Generated` records, not only ids.
        alternatives: how many tokens the details report at each place; None leaves log-probabilities out as well.
        batch_size: prompts that are written together.
        on_finished: called with the number of rows that have just ended.

    Raises:
        ValueError: a setting is out of its range; a prompt is empty, holds an id outside the vocabulary, or, with
            "stop", is as long as the context; `stop` comes without a tokenizer.
    """
    choices = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "no_repeat_ngram": no_repeat_ngram,
        "filters": filters,
    }
    settings = _settings(
        model, max_new_tokens, eos_id, seed, past_context, alternatives if return_details else None, choices
    )
    stop = _check_stop(stop, tokenizer)
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    check_prompts(model, prompts, slide=settings.slide)
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    written = [_Written(None if tokenizer is None else TextWriter(tokenizer, stop)) for _ in prompts]
    with evaluation_mode(model):
        for start in range(0, len(order) if max_new_tokens else 0, batch_size):
            batch = {number: prompts[number] for number in order[start : start + batch_size]}
            ended: set[int] = set()
            for steps in decode(model, batch, settings, ended):
                finished = [step.row for step in steps if written[step.row].add(step)]
                ended.update(finished)
                if on_finished is not None and finished:
                    on_finished(len(finished))
    results = [row.result() for row in written]
    return results if return_details else [result.ids for result in results]


def stream(
    model: GPTModel,
    prompt: Sequence[int],
    *,
    tokenizer: Any,
    max_new_tokens: int,
    eos_id: int | Collection[int] | None = None,
    stop: str | Sequence[str] = (),
    seed: int | None = None,
    past_context: str = "stop",
    cache: KVCache | None = None,
    **choices: Any,
) -> Generator[str, None, Generated]:
    """Yield the text that the model writes after `prompt`, as it comes, never half a character.

    All pieces together are the text that `generate` gives for this prompt with the same settings. The generator's
    return value is its `Generated` record.

    Args:
        model: as for `generate`. It is in evaluation mode while it computes, not while the caller has a piece.
        prompt: token ids.
        tokenizer: what turns ids into text.
        max_new_tokens: the most that is written.
        eos_id: as for `generate`, and so are the rest.
        stop: strings with which it ends.
        seed: see there.
        past_context: see there.
        cache: keys and values of the prompt's first tokens, which are then not read again; not of its last, whose
            logits are wanted. It gets those of all that is read.
        choices: temperature, top_k, top_p, min_p, repetition_penalty, no_repeat_ngram, filters.

    Raises:
        ValueError: as for `generate`, when the first piece is asked for; or the cache holds too much.
    """
    settings = _settings(model, max_new_tokens, eos_id, seed, past_context, None, choices)
    written = _Written(TextWriter(tokenizer, _check_stop(stop, tokenizer)))
    check_prompts(model, [prompt], slide=settings.slide)
    if cache is not None and not cache.length < len(prompt) <= model.cfg.context_length:
        raise ValueError(f"the cache holds {cache.length} tokens, which must be fewer than the prompt's {len(prompt)}")
    ended: set[int] = set()
    all_steps = decode(model, {0: prompt}, settings, ended, cache) if max_new_tokens else iter(())
    while True:
        with evaluation_mode(model):
            steps = next(all_steps, None)
        if steps is None:
            break
        if written.add(steps[0]):
            ended.add(0)
        if written.new_text:
            yield written.new_text
    result = written.result()
    if written.new_text:
        yield written.new_text
    return result


class _Written:
    """What was written after one prompt until now."""

    def __init__(self, writer: TextWriter | None) -> None:
        self.writer, self.steps = writer, []
        self.reason: Reason | None = None
        self.new_text = ""  # what the last call made certain

    def add(self, step: Step) -> bool:
        """Take a step, and return whether the row ends with it."""
        self.reason, self.new_text = step.reason, ""
        if step.reason != "stop":
            self.steps.append(step)
            if self.writer is not None:
                self.new_text = self.writer.write(step.token)
                if self.writer.stopped:
                    self.reason = "stop"
        return self.reason is not None

    def result(self) -> Generated:
        self.new_text = "" if self.writer is None else self.writer.finish()
        kept = self.steps if self.writer is None else self.steps[: self.writer.kept]
        return Generated(
            ids=[step.token for step in kept],
            reason=self.reason or "length",  # with max_new_tokens=0 there was no step
            text=None if self.writer is None else self.writer.text,
            logprobs=[step.logprob for step in kept if step.logprob is not None],
            alternatives=[step.alternatives for step in kept if step.alternatives],
        )


def _settings(
    model: GPTModel,
    max_new_tokens: int,
    eos_id: int | Collection[int] | None,
    seed: int | None,
    past_context: str,
    alternatives: int | None,
    choices: dict[str, Any],
) -> Settings:
    """Return the settings, or raise ValueError for the first that is out of its range."""
    V = model.cfg.vocab_size
    if not isinstance(max_new_tokens, int) or max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be a whole number >= 0, got {max_new_tokens!r}")
    if past_context not in ("stop", "slide"):
        raise ValueError(f"past_context must be 'stop' or 'slide', got {past_context!r}")
    if alternatives is not None and not 0 <= alternatives <= V:
        raise ValueError(f"alternatives must be in [0, {V}], the vocabulary, got {alternatives}")
    if choices.get("top_k") is not None and choices["top_k"] > V:
        raise ValueError(f"top_k must be in [1, {V}], the vocabulary, got {choices['top_k']}")
    return Settings(
        max_new_tokens=max_new_tokens,
        chain=compose(**choices),
        sample=choices.get("temperature", 0) > 0,
        eos_ids=set_of_ids(eos_id, V),
        seed=int(torch.randint(2**62, ())) if seed is None and choices.get("temperature", 0) > 0 else seed or 0,
        slide=past_context == "slide",
        alternatives=alternatives,
    )


def set_of_ids(eos_id: int | Collection[int] | None, V: int) -> frozenset[int]:
    """Return the end-of-text ids, or raise ValueError for one outside the vocabulary of V tokens."""
    ids = () if eos_id is None else (eos_id,) if isinstance(eos_id, int) else eos_id
    for number in ids:
        if not 0 <= number < V:
            raise ValueError(f"eos_id must be in [0, {V}), the vocabulary, got {number}")
    return frozenset(ids)


def _check_stop(stop: str | Sequence[str], tokenizer: Any) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else tuple(stop)
    if strings and tokenizer is None:
        raise ValueError(f"stop strings need a tokenizer, got {list(strings)} and none")
    for string in strings:
        if not isinstance(string, str) or not string:
            raise ValueError(f"a stop string must be text and not empty, got {string!r}")
    return strings


def check_prompts(model: GPTModel, prompts: Sequence[Sequence[int]], *, slide: bool = False) -> None:
    """Raise ValueError for the first prompt that the model cannot go on from."""
    context = model.cfg.context_length
    known = getattr(model.tok_emb, "num_embeddings", model.cfg.vocab_size)  # more than V with virtual tokens
    for number, prompt in enumerate(prompts, start=1):
        if isinstance(prompt, int | str):
            raise ValueError(f"prompts must be a list of lists of ids, got {prompt!r:.40} in place of a list")
        if not len(prompt):
            raise ValueError(f"prompt {number} is empty; it needs at least 1 token")
        if len(prompt) >= context and not slide:
            raise ValueError(
                f"prompt {number} has {len(prompt)} tokens; the context of {context} has room for {context - 1} "
                "and a new one"
            )
        low, high = min(prompt), max(prompt)
        if low < 0 or high >= known:
            raise ValueError(f"prompt {number} holds the id {low if low < 0 else high}; ids must be in [0, {known})")
