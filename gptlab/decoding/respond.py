"""Answer Alpaca entries: one, or a whole test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from gptlab.data.instruction import check_entry
from gptlab.data.templates import Template
from gptlab.decoding.generate import generate
from gptlab.model import GPTModel
from gptlab.tokenizer import END_OF_TEXT, Tokenizer, control_id, encode_text


def respond(
    model: GPTModel,
    tokenizer: Tokenizer,
    entries: Sequence[Mapping[str, Any]],
    template: Template,
    *,
    max_new_tokens: int = 64,
    batch_size: int = 32,
    progress: bool = False,
) -> list[str]:
    """Return the model's response to each entry, in the entries' order.

    Args:
        model: left in the mode that it was in.
        tokenizer: the model's.
        entries: with an instruction; an output is not looked at.
        template: the form that the model was tuned with.
        max_new_tokens: the longest response.
        batch_size: entries answered together; they are taken in order of length.
        progress: whether to show a bar.

    Raises:
        ValueError: an entry has no instruction, or its prompt is longer than the context.
    """
    for number, entry in enumerate(entries, start=1):
        check_entry(entry, f"entry {number}", needs=["instruction"])
    prompts = [encode_text(tokenizer, template.prompt(entry)) for entry in entries]
    for number, prompt in enumerate(prompts, start=1):
        if len(prompt) > model.cfg.context_length:
            raise ValueError(
                f"entry {number} has a prompt of {len(prompt)} tokens, the context holds {model.cfg.context_length}"
            )
    by_length = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    stop = control_id(tokenizer, END_OF_TEXT)
    responses = [""] * len(prompts)
    was_training = model.training
    model.eval()
    with tqdm(total=len(prompts), desc="answering", disable=not progress) as bar:
        for start in range(0, len(by_length), batch_size):
            numbers = by_length[start : start + batch_size]
            batch = [prompts[number] for number in numbers]
            written = generate(model, batch, max_new_tokens=max_new_tokens, stop_ids=[stop], on_finished=bar.update)
            for number, ids in zip(numbers, written):
                responses[number] = tokenizer.decode(ids).strip()
    model.train(was_training)
    return responses


def exact_match(responses: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of responses that are the entry's output to the letter.

    Raises:
        ValueError: there are no entries, or not as many responses.
    """
    if not entries or len(responses) != len(entries):
        raise ValueError(f"need one response for each entry, got {len(responses)} for {len(entries)}")
    hits = sum(response == entry["output"] for response, entry in zip(responses, entries))
    return hits / len(entries)
