"""Answer Alpaca entries: one, or a whole test set."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tqdm import tqdm

from gptlab.data import ChatFormat, Template, as_question, encode, find_template
from gptlab.data.instruction import check_entry
from gptlab.decoding.generate import generate, stream
from gptlab.decoding.text import Streamed
from gptlab.model import GPTModel
from gptlab.tokenizer import END_OF_TEXT, Tokenizer, as_tokenizer, control_id


class Response(NamedTuple):
    """The answer to one entry, and why it ended: as for `generate`, or the prompt was too long to be read at all."""

    text: str
    reason: Literal["stop", "length", "context", "prompt too long"]


def respond(
    model: GPTModel,
    tokenizer: Tokenizer,
    entries: Sequence[Mapping[str, Any]],
    template: str | Path | Template | ChatFormat,
    *,
    max_new_tokens: int = 128,
    batch_size: int = 32,
    progress: bool = False,
    **choices: Any,
) -> list[Response]:
    """Return the model's response to each entry, in the entries' order.

    An entry whose prompt is longer than the context gets an empty response with that reason.

    Args:
        model: left in the mode that it was in.
        tokenizer: the model's.
        entries: with an instruction; an output is not looked at. For a ChatFormat conversations, too, whose last
            question is answered.
        template: the form that the model was tuned with: a Template, a ChatFormat, a name, or a path. The name of a
            template means single questions; `find_format(name)` stretches it over turns.
        max_new_tokens: the longest response.
        batch_size: entries answered together; they are taken in order of length.
        progress: whether to show a bar.
        choices: how tokens are chosen, as in `generate`: temperature, top_k, seed and so on; none is greedy.

    Raises:
        ValueError: an entry has no instruction, or a setting is out of its range.
    """
    template, tokenizer = find_template(template), as_tokenizer(tokenizer)
    for number, entry in enumerate(entries, start=1):
        _check(entry, f"entry {number}", template)
    prompts = [prompt_ids(template, entry, tokenizer) for entry in entries]
    readable = [number for number, prompt in enumerate(prompts) if len(prompt) < model.cfg.context_length]
    responses = [Response("", "prompt too long")] * len(prompts)
    with tqdm(total=len(readable), desc="answering", disable=not progress) as bar:
        generated = generate(
            model,
            [prompts[number] for number in readable],
            max_new_tokens=max_new_tokens,
            **endings(template, tokenizer),
            tokenizer=tokenizer,
            return_details=True,
            alternatives=None,
            batch_size=batch_size,
            on_finished=bar.update,
            **choices,
        )
    for number, written in zip(readable, generated):
        responses[number] = Response(written.text.strip(), written.reason)
    return responses


def stream_response(
    model: GPTModel,
    tokenizer: Tokenizer,
    entry: Mapping[str, Any],
    template: str | Path | Template | ChatFormat,
    *,
    max_new_tokens: int = 128,
    **choices: Any,
) -> Generator[str, None, Response]:
    """Yield the response to one entry as it is written, without white space before it.

    The generator's return value is the `Response` that `respond` gives. Arguments as there.

    Raises:
        ValueError: as `respond`, when the first piece is asked for.
    """
    template, tokenizer = find_template(template), as_tokenizer(tokenizer)
    _check(entry, "the entry", template)
    prompt = prompt_ids(template, entry, tokenizer)
    if len(prompt) >= model.cfg.context_length:
        return Response("", "prompt too long")
    ends = endings(template, tokenizer)
    pieces = Streamed(stream(model, prompt, tokenizer=tokenizer, max_new_tokens=max_new_tokens, **ends, **choices))
    begun = False
    for piece in pieces:
        piece = piece if begun else piece.lstrip()
        if piece:
            begun = True
            yield piece
    return Response(pieces.result.text.strip(), pieces.result.reason)


def _check(entry: Any, where: str, template: Template | ChatFormat) -> None:
    if isinstance(template, ChatFormat):
        as_question(entry, where)
    else:
        check_entry(entry, where, needs=["instruction"])


def prompt_ids(template: Template | ChatFormat, asked: Any, tokenizer: Tokenizer) -> list[int]:
    """Return what the model reads before it answers an entry, or the last question of a conversation."""
    return encode(template.prompt_segments(asked), tokenizer).ids


def endings(template: Template | ChatFormat, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return how `generate` knows that an answer is over: `eos_id`, and `stop` where the mark is no token.

    Raises:
        ValueError: the mark is end-of-text, and the tokenizer has none.
    """
    mark = template.end_of_answer
    if mark.text != END_OF_TEXT and (not mark.control or mark.text not in tokenizer.special_tokens_set):
        known = {END_OF_TEXT} & set(tokenizer.special_tokens_set)
        return {"eos_id": [control_id(tokenizer, name) for name in known], "stop": mark.text}
    ends = {mark.text, *({END_OF_TEXT} & set(tokenizer.special_tokens_set))}
    return {"eos_id": [control_id(tokenizer, name) for name in ends]}


def exact_match(responses: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of responses that are the entry's output to the letter.

    Raises:
        ValueError: there are no entries, or not as many responses.
    """
    if not entries or len(responses) != len(entries):
        raise ValueError(f"need one response for each entry, got {len(responses)} for {len(entries)}")
    hits = sum(response == entry["output"] for response, entry in zip(responses, entries))
    return hits / len(entries)
