"""Token-distribution shift: which tokens of a tuned model's answers would the base not have written?

The tuned model answers greedily, o = o_1 ... o_n. Then the base reads prompt and answer in one pass, and its logits say
what it would have put in each place:

    rank_t = 1 + #{w : logit_base(w) > logit_base(o_t)}        after the prompt and o_1 ... o_{t-1}

    rank 1     unshifted: the base would have written the same token
    rank 2, 3  marginal
    above      shifted

A token is judged after the tuned model's own beginning, so one shifted word at the start may be all that tuning changed
in an answer. Beside the rank there is KL(tuned || base), the sum of p_tuned log(p_tuned / p_base) over the vocabulary.

Logits of two models over a whole set of answers would be many gigabytes. Here the features of a batch are computed
once, and the logits of a few positions at a time are made of them and forgotten.

Greedy on purpose: a drawn token need not be the tuned model's own first choice. Both models get the same prompt, token
for token, unless `base_prompt` gives the base another one; whether the paper does is not verified.

Source: Lin et al. 2023, arXiv 2312.01552, "The Unlocking Spell on Base LLMs", section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from gptlab.analysis.shift_report import ShiftedAnswer, TokenShift
from gptlab.data import IGNORE_INDEX, ChatFormat, Example, Template, as_question, collate, find_template
from gptlab.data.instruction import check_entry
from gptlab.decoding import generate
from gptlab.decoding.respond import endings, prompt_ids
from gptlab.model import GPTModel, evaluation_mode
from gptlab.show import token_text
from gptlab.tokenizer import Tokenizer, as_tokenizer
from gptlab.weights import Checkpoint

END = -1  # stands for the end of an answer until the tuned model says with which of its end tokens
NO_TOKENIZER = "texts need a tokenizer and a template: give Checkpoints, or both by name, or prompts of ids"


class _Sides(NamedTuple):
    """What the arguments amount to."""

    base: GPTModel
    tuned: GPTModel
    tokenizer: Tokenizer | None
    template: Template | ChatFormat | None

    def ends(self) -> dict[str, Any]:
        """Return how `generate` knows that an answer is over."""
        if self.template is not None and self.tokenizer is not None:
            return endings(self.template, self.tokenizer)
        end = getattr(self.tokenizer, "eot_token", None)
        return {} if end is None else {"eos_id": [end]}


class _Row(NamedTuple):
    """What the base reads before an answer, what the tuned model does, and the answer, END at its end if it ended."""

    base_prompt: list[int]
    prompt: list[int]
    answer: list[int]


def token_shift(
    base: Checkpoint | GPTModel,
    tuned: Checkpoint | GPTModel,
    prompts: Sequence[Mapping[str, Any] | str | Sequence[int]],
    *,
    tokenizer: Tokenizer | None = None,
    template: str | Path | Template | ChatFormat | None = None,
    base_prompt: Callable[[Mapping[str, Any]], str] | None = None,
    responses: Sequence[str | Sequence[int]] | None = None,
    max_new_tokens: int = 128,
    batch_size: int = 16,
    chunk: int = 128,
    progress: bool = False,
) -> TokenShift:
    """Return how the base ranks every token of the tuned model's answers.

    Args:
        base: never tuned; a Checkpoint or its model alone. Left in the mode that it was in, as is the other.
        tuned: tuned from it.
        prompts: entries with an instruction (an output is not looked at), or instructions as text, or token ids, which
            are read as they are.
        tokenizer: of both; None is a checkpoint's.
        template: the form that the tuned model was tuned with; None is its checkpoint's.
        base_prompt: entry -> the text that the base reads in place of the template, such as
            `load_template("plain").prompt`, or `lambda entry: few_shot_prompt(examples, entry)`.
        responses: the tuned model's answers, if they were made before: texts, which are taken to have ended by
            themselves, or ids, with the end-of-answer token where they did. None answers greedily now.
        max_new_tokens: the longest answer.
        batch_size: prompts answered, and then read, together.
        chunk: positions whose logits there are at one time, of each of the two models.
        progress: whether to show bars.

    Raises:
        ValueError: the models have different vocabularies; there are no prompts, or not as many responses; an entry is
            not one; texts come without tokenizer and template, or `base_prompt` with ids; `base_prompt` returns no
            text; a response holds an id outside the vocabulary; a setting is below 1; no answer has a token; or a
            model's logits are not finite.
    """
    for name, value in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size), ("chunk", chunk)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")
    if isinstance(prompts, str | Mapping):
        raise ValueError(f"prompts must be a list, got one prompt alone: {prompts!r:.80}")
    if not len(prompts) or (responses is not None and len(responses) != len(prompts)):
        count = "" if responses is None else f" and {len(responses)} responses"
        raise ValueError(f"need prompts, and one response for each if there are any, got {len(prompts)} prompts{count}")
    sides = _settle(base, tuned, tokenizer, template)
    pairs = [_read_prompt(sides, prompt, number, base_prompt) for number, prompt in enumerate(prompts, start=1)]
    context = min(sides.base.cfg.context_length, sides.tuned.cfg.context_length)
    fits = [max(map(len, pair)) < context for pair in pairs]
    if responses is None:
        readable = [pair[1] for pair, fit in zip(pairs, fits) if fit]
        written = iter(_answer(sides, readable, max_new_tokens, batch_size, progress))
        answers = [next(written) if fit else [] for fit in fits]
    else:
        answers = [_read_answer(sides, response, number) for number, response in enumerate(responses, start=1)]
    rows = [_Row(*pair, answer) for pair, answer in zip(pairs, answers)]
    found = _measure(sides, rows, fits, context, batch_size=batch_size, chunk=chunk, progress=progress)
    if not any(answer.length for answer in found):
        raise ValueError(f"no answer has a token: {sum(fits)} of {len(fits)} prompts fit into {context} tokens")
    known = {*chain.from_iterable(answer.ids + answer.choices for answer in found)}
    texts = {token: _text(sides.tokenizer, token) for token in sorted(known)}
    return TokenShift(found, texts)


def _settle(base: Any, tuned: Any, tokenizer: Any, template: Any) -> _Sides:
    """Return models, tokenizer and template, whichever way they were given."""
    given = [side.tokenizer for side in (base, tuned) if isinstance(side, Checkpoint)]
    if isinstance(tuned, Checkpoint) and template is None:
        template = tuned.template
    if given and tokenizer is None:
        tokenizer = given[-1]
    models = [side.model if isinstance(side, Checkpoint) else side for side in (base, tuned)]
    sizes = [model.cfg.vocab_size for model in models]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"the models must share a vocabulary, got {sizes[0]} tokens for the base, {sizes[1]} for the tuned"
        )
    if len(given) == 2:
        _check_same_tokens(*map(as_tokenizer, given))
    return _Sides(
        *models,
        None if tokenizer is None else as_tokenizer(tokenizer),
        None if template is None else find_template(template),
    )


def _check_same_tokens(one: Tokenizer, other: Tokenizer) -> None:
    """Raise ValueError for the first id that is different text to the two tokenizers."""
    if one is other:
        return
    sizes = [getattr(tokenizer, "n_vocab", None) for tokenizer in (one, other)]
    if None not in sizes and sizes[0] != sizes[1]:
        raise ValueError(f"the models must share a vocabulary, got tokenizers of {sizes[0]} and {sizes[1]} tokens")
    for token in range(sizes[0] or 0):
        texts = token_text(one, token), token_text(other, token)
        if texts[0] != texts[1]:
            raise ValueError(
                f"the models must share a vocabulary, got token {token} as {texts[0]!r} for the base, {texts[1]!r} for "
                "the tuned"
            )


def _read_prompt(
    sides: _Sides, prompt: Any, number: int, base_prompt: Callable[[Mapping[str, Any]], str] | None
) -> tuple[list[int], list[int]]:
    """Return the ids that the base and the tuned model read before an answer."""
    prompt = prompt.tolist() if hasattr(prompt, "tolist") else prompt  # ids in an array or a tensor
    if not isinstance(prompt, str | Mapping) and all(isinstance(token, Integral) for token in prompt):
        if base_prompt is not None:
            raise ValueError(f"base_prompt makes a prompt of an entry, got ids as prompt {number}")
        if not len(prompt):
            raise ValueError(f"prompt {number} is empty; it needs at least 1 token")
        return list(prompt), list(prompt)
    if sides.tokenizer is None or sides.template is None:
        raise ValueError(NO_TOKENIZER)
    entry = {"instruction": prompt} if isinstance(prompt, str) else prompt
    if isinstance(sides.template, ChatFormat):
        as_question(entry, f"prompt {number}")
    else:
        check_entry(entry, f"prompt {number}", needs=["instruction"])
    ids = prompt_ids(sides.template, entry, sides.tokenizer)
    if base_prompt is None:
        return ids, ids
    text = base_prompt(entry)
    if not isinstance(text, str) or not text:
        raise ValueError(f"base_prompt must return a text that is not empty, got {text!r:.80} for prompt {number}")
    return sides.tokenizer.encode_ordinary(text), ids


def _answer(
    sides: _Sides, prompts: list[list[int]], max_new_tokens: int, batch_size: int, progress: bool
) -> list[list[int]]:
    ends = sides.ends()
    with tqdm(total=len(prompts), desc="answering", disable=not progress) as bar:
        written = generate(
            sides.tuned,
            prompts,
            max_new_tokens=max_new_tokens,
            **ends,
            tokenizer=sides.tokenizer,
            return_details=True,
            alternatives=None,
            batch_size=batch_size,
            on_finished=bar.update,
        )
    # What ends at a stop string has no single token for its end, so that end is not looked at.
    return [answer.ids + [END] * (answer.reason == "stop" and "stop" not in ends) for answer in written]


def _read_answer(sides: _Sides, response: str | Sequence[int], number: int) -> list[int]:
    ends = sides.ends()
    if isinstance(response, str):
        if sides.tokenizer is None:
            raise ValueError(NO_TOKENIZER)
        return sides.tokenizer.encode_ordinary(response) + [END] * (bool(ends) and "stop" not in ends)
    ids, V = [int(token) for token in response], sides.tuned.cfg.vocab_size
    if wrong := [token for token in ids if not 0 <= token < V]:
        raise ValueError(f"response {number} must hold ids in [0, {V}), the vocabulary, got {wrong[0]}")
    return ids


@torch.no_grad()
def _measure(
    sides: _Sides, rows: list[_Row], fits: list[bool], context: int, *, batch_size: int, chunk: int, progress: bool
) -> list[ShiftedAnswer]:
    """Return what the models think of each row's answer, in the rows' order."""
    device = next(sides.tuned.parameters()).device
    ends = torch.tensor(sorted(sides.ends().get("eos_id", [])), dtype=torch.int64, device=device)
    found = [ShiftedAnswer(note="" if fit else "prompt too long") for fit in fits]
    cut = {}
    for number, (row, fit) in enumerate(zip(rows, fits)):
        room = context + 1 - max(len(row.base_prompt), len(row.prompt))  # the last token is only a target
        if fit and row.answer:
            cut[number] = row._replace(answer=row.answer[:room])
    order = sorted(cut, key=lambda number: len(cut[number].prompt) + len(cut[number].answer))
    with evaluation_mode(sides.base), evaluation_mode(sides.tuned):
        for start in tqdm(range(0, len(order), batch_size), desc="reading", disable=not progress):
            numbers = order[start : start + batch_size]
            batch = [cut[number] for number in numbers]
            of_base, _ = _features(sides.base, [(row.base_prompt, row.answer) for row in batch])
            of_tuned, wanted = _features(sides.tuned, [(row.prompt, row.answer) for row in batch])
            pieces = zip(of_base.split(chunk), of_tuned.split(chunk), wanted.split(chunk))
            opinions = [
                compare_logits(sides.base.out_head(one).to(device), sides.tuned.out_head(other), targets, ends)
                for one, other, targets in pieces
            ]
            lengths = [len(row.answer) for row in batch]
            columns = [torch.cat(column).cpu().split(lengths) for column in zip(*opinions)]
            for number, values in zip(numbers, zip(*columns)):
                whole, lists = rows[number].answer, [value.tolist() for value in values]
                known = len(whole) == len(lists[0])
                ended = known and (whole[-1] == END or whole[-1] in ends)
                found[number] = ShiftedAnswer(*lists, ended=ended, note="" if known else "cut")
    return found


def _features(model: GPTModel, pairs: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Return the features that the tokens of all answers follow from, (N, D), and the tokens, (N,), row after row."""
    device = next(model.parameters()).device
    examples = [Example(prompt + answer, [False] * len(prompt) + [True] * len(answer)) for prompt, answer in pairs]
    inputs, targets = (part.to(device) for part in collate(examples, pad_id=0))  # (B, T) each
    features = model.forward_embeddings(model.embed(inputs))  # (B, T, D)
    counted = targets != IGNORE_INDEX
    return features[counted], targets[counted]


def compare_logits(
    base: Tensor, tuned: Tensor, wanted: Tensor, ends: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return what two models think of one token in each of N places.

    Args:
        base: its logits, (N, V).
        tuned: its logits, (N, V).
        wanted: the tokens, (N,) int64; END is that one of `ends` that the tuned model thinks likeliest.
        ends: the ids that END may stand for.

    Returns:
        The tokens; their ranks in the base's opinion, from 1, equal logits sharing the best; the base's own choices;
        the probabilities of the tokens to base and tuned; KL(tuned || base) in nats. Each (N,).

    Raises:
        ValueError: logits are not finite.
    """
    base, tuned = base.float(), tuned.float()
    if ends is not None and len(ends):
        wanted = torch.where(wanted == END, ends[tuned[:, ends].argmax(dim=-1)], wanted)
    right = wanted.unsqueeze(1)  # (N, 1)
    ranks = 1 + (base > base.gather(1, right)).sum(dim=-1)
    choices = base.argmax(dim=-1)
    base, tuned = base.log_softmax(dim=-1), tuned.log_softmax(dim=-1)
    kl = (tuned.exp() * (tuned - base)).sum(dim=-1).clamp(min=0)  # rounding may leave it a little below
    if not torch.isfinite(kl).all():
        raise ValueError("a model's logits are not finite, so that its tokens have no order; did training diverge?")
    p_base, p_tuned = (values.gather(1, right).squeeze(1).exp() for values in (base, tuned))
    return wanted, ranks, choices, p_base, p_tuned, kl


def _text(tokenizer: Tokenizer | None, token: int) -> str:
    return f"#{token}" if tokenizer is None else token_text(tokenizer, token)
