"""Ask a base model, which was never tuned, by showing it worked examples: in-context learning in URIAL's form.

A base model goes on with what it reads. A page that explains itself, followed by a few questions with good answers, is
best gone on with by a good answer. If a tuned model does no better than that, tuning has taught it a form and no more.

    what this page is

    # Query:
    ```
    a question
    ```

    # Answer:
    ```
    its answer
    ```
    ...
    # Query:
    ```
    the new question
    ```

    # Answer:
    ```

The model closes the fence, or begins the next query, when its answer is over. A text that holds a fence itself would
end the form too early, so the fence is longer than any run of backticks on the page, as in Markdown.

Source: Lin et al. 2023, arXiv 2312.01552 (URIAL), with an opening in our own words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

from gptlab.data import Template, load_template
from gptlab.data.instruction import check_entry
from gptlab.decoding import Response, respond
from gptlab.judging.prompts import Entry, longest_run
from gptlab.model import GPTModel
from gptlab.tokenizer import Tokenizer

OPENING = """\
# Instruction

This page holds questions that people asked an assistant, and the assistant's answers.
A question stands under "# Query:", its answer under "# Answer:".
The answers are correct, helpful and polite; they do what the question asks and stop there."""
NEXT_QUERY = "# Query"  # the model goes on with another question, and has forgotten the fence


def few_shot_prompt(examples: Sequence[Entry], entry: Entry, *, opening: str = OPENING) -> str:
    """Return the page that a base model goes on with: the opening, the examples, and the question of `entry`.

    Args:
        examples: with instruction and output, input if they have one; in this order for every question. Take them from
            the training part. Without any, the model is asked in the same form zero-shot.
        entry: the question; an output is not looked at.
        opening: what the page says about itself.

    Raises:
        ValueError: an example or the entry is not one.

    Source: Lin et al. 2023, arXiv 2312.01552; FastChat's "urial" form in its authors' code.
    """
    fence = fence_for(examples, entry, opening=opening)
    page = [opening]
    for example in examples:
        page += [_section("# Query:", _question(example), fence), _section("# Answer:", example["output"], fence)]
    page += [_section("# Query:", _question(entry), fence), f"# Answer:\n{fence}\n"]
    return "\n\n".join(page)


def fence_for(examples: Sequence[Entry], entry: Entry, *, opening: str = OPENING) -> str:
    """Return the fence of the page that `few_shot_prompt` writes: three backticks, or one more than the page holds.

    Arguments and errors as there.
    """
    for number, example in enumerate(examples, start=1):
        check_entry(example, f"example {number}")
    check_entry(entry, "the entry", needs=["instruction"])
    texts = [opening, _question(entry), *(text for each in examples for text in (_question(each), each["output"]))]
    return "`" * max(3, longest_run(texts) + 1)


def respond_few_shot(
    model: GPTModel,
    tokenizer: Tokenizer,
    entries: Sequence[Entry],
    examples: Sequence[Entry],
    *,
    opening: str = OPENING,
    max_new_tokens: int = 128,
    batch_size: int = 32,
    progress: bool = False,
    **choices: Any,
) -> list[Response]:
    """Return a base model's response to each entry after the worked examples, in the entries' order.

    A response ends at the fence or where the next query begins; neither is part of it. An entry whose page is longer
    than the context gets an empty response with that reason.

    Args:
        model: never tuned, or the comparison says little; left in the mode that it was in.
        tokenizer: the model's, with an end-of-text token.
        entries: with an instruction; an output is not looked at.
        examples: see `few_shot_prompt`.
        opening: see there.
        max_new_tokens: the longest response.
        batch_size: entries answered together.
        progress: whether to show a bar.
        choices: how tokens are chosen, as in `gptlab.decoding.generate`; none is greedy. URIAL's authors take
            temperature 0.3 and repetition_penalty 1.1.

    Raises:
        ValueError: an entry or an example is not one, or a setting is out of its range.
    """
    pages: dict[str, dict[int, str]] = defaultdict(dict)  # fence -> number of the entry -> its page
    for number, entry in enumerate(entries):
        check_entry(entry, f"entry {number + 1}", needs=["instruction"])
        fence = fence_for(examples, entry, opening=opening)
        pages[fence][number] = few_shot_prompt(examples, entry, opening=opening)
    responses: dict[int, Response] = {}
    for fence, numbered in pages.items():  # nearly always one: what ends an answer must be the fence of its own page
        found = respond(
            model,
            tokenizer,
            [{"instruction": page} for page in numbered.values()],
            _plain(),
            stop=(fence, NEXT_QUERY),
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            progress=progress,
            **choices,
        )
        responses.update(zip(numbered, found))
    return [responses[number] for number in range(len(entries))]


def _question(entry: Entry) -> str:
    return _plain().prompt(entry)


@cache
def _plain() -> Template:
    return load_template("plain")


def _section(title: str, text: str, fence: str) -> str:
    return f"{title}\n{fence}\n{text}\n{fence}"
