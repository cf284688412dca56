"""More templates, written by a model that is shown a few: in-context learning.

The prompt says what a template is for and what each placeholder means, begins a numbered list with the examples, and
asks for the rest of it. What comes back is a list in some form or other, from which every line is taken that could be a
template, and then checked: a template without [input] would ask for the translation of nothing, and one with a
placeholder of its own invention would show it to the model that is tuned. What fails is reported with the reason.

A model that is asked the same again answers the same again; so each further prompt shows other examples, drawn from the
first ones and from what was written since.

Source: the course's own prompt (source 002), after Wang et al. 2022, "Self-Instruct", figure 5.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gptlab.building.corpus_templates import fault_of
from gptlab.building.thoughts import without_thoughts
from gptlab.rouge import rouge_l
from gptlab.servers import ServerError

# What stands in a template for translation, and what it means, in the source's words.
TRANSLATION = (
    "[src_lang] and [tgt_lang] indicate the source language and the target language. "
    "[input] indicates the source sentence."
)

_TRIES = 100  # draws of examples, after which there are probably no others

_NUMBER = re.compile(r"^[_#>\s]*(?:\(\d{1,4}\)|（\d{1,4}）|\d{1,4}\s*[.):、．）：])[_\s]*")
_BULLET = re.compile(r"^[-*•·–]\s+")
_ESCAPED = re.compile(r"\\([\[\]_*.()\"'-])")
_WRAPPERS = (
    *(("__", "__"), ("``", "``"), ("`", "`"), ("*", "*")),
    *(('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("「", "」"), ("『", "』")),
)


class Rejected(NamedTuple):
    """What a model wrote as a template, and why it was not taken."""

    text: str
    reason: str
    kind: Literal["invalid", "too long", "repeated", "alike"]  # to be counted by


@dataclass(frozen=True)
class TemplatesReport:
    """What `write_templates` got.

    Attributes:
        templates: what was taken, without the examples.
        rejected: what was not.
        calls: how often the server was asked.
        errors: what it said when it had no reply.
        ended: why the asking ended: "enough", "calls" (the bound), or the error that made further asking pointless.
    """

    templates: tuple[str, ...]
    rejected: tuple[Rejected, ...]
    calls: int
    errors: tuple[str, ...]
    ended: str

    def __str__(self) -> str:
        kinds = Counter(rejected.kind for rejected in self.rejected)
        reasons = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        lines = [
            f"{len(self.templates)} templates in {self.calls} calls; {len(self.rejected)} rejected"
            + (f" ({reasons})" if reasons else ""),
            f"ended by: {self.ended}",
        ]
        return "\n".join(lines)


def template_prompt(
    examples: Sequence[str],
    n: int = 20,
    *,
    task: str = "machine translation",
    meaning: str = TRANSLATION,
) -> str:
    """Return the prompt that asks for a list of `n` templates, of which the examples are the first.

    For Chinese templates show Chinese examples.

    Raises:
        ValueError: there are no examples, or not fewer than n.

    Source: source 002, whose prompt this is to the letter for n = 20 and translation.
    """
    if not 0 < len(examples) < n:
        raise ValueError(f"a list of {n} templates needs 1 to {n - 1} examples, got {len(examples)}")
    listed = "\n".join(f"{number}. {example}" for number, example in enumerate(examples, start=1))
    return (
        f"You are asked to come up with a set of {n} instruction templates for the {task} task. "
        f"Specifically, {meaning}\n\nList of {n} templates:\n\n{listed}\n"
    )


def parse_templates(reply: str) -> list[str]:
    """Return the items of a list, without the marks that its form puts around them.

    Numbered lines are the items, or else lines with a bullet, or else those with something in square brackets; what a
    model says around its list is none of them. The last item of a reply that was cut short (its `reason` is "length")
    is left out.

    >>> parse_templates("Sure!\\n\\n4. Say [input].\\n**5.** `Put it into [tgt\\\\_lang]: [input]`\\n6、翻译[input]。")
    ['Say [input].', 'Put it into [tgt_lang]: [input]', '翻译[input]。']
    """
    lines = [line for line in map(_bare, without_thoughts(reply).splitlines()) if line]
    if getattr(reply, "reason", "stop") == "length":
        lines = lines[:-1]
    for mark in (_NUMBER, _BULLET):
        items = [mark.sub("", line) for line in lines if mark.match(line)]
        if items:
            break
    else:
        items = [line for line in lines if "[" in line]
    return [item for item in map(_bare, items) if item]


def _bare(item: str) -> str:
    """Return an item without bold print and Markdown's escapes, and without what stands around it as a whole."""
    item = _ESCAPED.sub(r"\1", item).replace("**", "").strip()
    for _ in range(3):  # quotes in code in italics: nobody goes further
        for begin, end in _WRAPPERS:
            inside = item[len(begin) : len(item) - len(end)]
            if len(item) > len(begin + end) and item.startswith(begin) and item.endswith(end) and begin not in inside:
                item = inside.strip()
    return item


def write_templates(
    server: Callable[[list[dict[str, str]]], str],
    examples: Sequence[str],
    n: int,
    *,
    task: str = "machine translation",
    meaning: str = TRANSLATION,
    required: Collection[str] = ("input", "tgt_lang"),
    optional: Collection[str] = ("src_lang",),
    longest: int = 200,
    threshold: float = 0.8,
    calls: int = 10,
    per_call: int = 20,
    seed: int = 0,
) -> TemplatesReport:
    """Ask a model for templates until there are `n`, or it was asked `calls` times.

    Args:
        server: a server, or any function from messages to text.
        examples: what the first prompt shows; they are checked as what is written is.
        n: how many templates are wanted, the examples not counted.
        task: what the templates are for, in the prompt.
        meaning: what the placeholders stand for, in the prompt.
        required: the placeholders that a template must have, each once.
        optional: those that it may have besides.
        longest: the most characters of a template.
        threshold: templates with a higher ROUGE-L to one that is there already are left out, in [0, 1]. Templates for
            one task are alike, so it is above the 0.7 of Self-Instruct, which would take 15 of the source's own 20.
        calls: the most calls.
        per_call: how long the list is that a prompt asks for, examples counted.
        seed: of the examples that later prompts show.

    Raises:
        ValueError: an example is no template, or a setting is out of its range.
        ServerError: the server never replied; this was its first error. Once it replied, errors are in the report.
    """
    _check_settings(n, longest, threshold, calls)
    template_prompt(examples, per_call)  # looks at their number
    asking = _Asking(list(examples), n, [*required, *optional], required, longest, threshold)
    for number, example in enumerate(examples, start=1):
        if fault := fault_of(example, asking.allowed, required):
            raise ValueError(f"example {number}, {example!r:.80}: {fault}")
    errors: list[ServerError] = []
    made, ended = 0, "calls"
    while made < calls and ended == "calls":
        shown = asking.next_examples(len(examples), random.Random(f"{seed}/{made}"))
        made += 1
        try:
            reply = server([{"role": "user", "content": template_prompt(shown, per_call, task=task, meaning=meaning)}])
        except ServerError as error:
            errors.append(error)
            ended = str(error) if error.fatal else ended
        else:
            asking.read(reply)
            ended = "enough" if asking.enough else ended
    if len(errors) == made:
        raise errors[0]
    written = tuple(asking.taken[len(examples) :])
    return TemplatesReport(written, tuple(asking.rejected), made, tuple(map(str, errors)), ended)


class _Asking:
    """What was taken so far, the examples first, and what was not."""

    def __init__(
        self,
        taken: list[str],
        n: int,
        allowed: Collection[str],
        required: Collection[str],
        longest: int,
        threshold: float,
    ) -> None:
        self.taken, self.wanted, self.rejected = taken, len(taken) + n, list[Rejected]()
        self.allowed, self.required, self.longest, self.threshold = allowed, required, longest, threshold
        self._shown: set[tuple[str, ...]] = set()

    @property
    def enough(self) -> bool:
        return len(self.taken) >= self.wanted

    def next_examples(self, count: int, rng: random.Random) -> tuple[str, ...]:
        """Return what the next prompt shows: the examples first, later others, and never the same twice if it can."""
        drawn = tuple(self.taken[:count])
        for _ in range(_TRIES):
            if drawn not in self._shown:
                break
            drawn = tuple(rng.sample(self.taken, k=count))
        self._shown.add(drawn)
        return drawn

    def read(self, reply: str) -> None:
        """Take from a reply what is good."""
        for text in parse_templates(reply):
            if self.enough:
                return
            if refusal := self._refusal(text):
                self.rejected.append(refusal)
            else:
                self.taken.append(text)

    def _refusal(self, text: str) -> Rejected | None:
        if fault := fault_of(text, self.allowed, self.required, once=True):
            return Rejected(text, fault, "invalid")
        if len(text) > self.longest:
            return Rejected(text, f"it has {len(text)} characters, more than {self.longest}", "too long")
        if text in self.taken:
            return Rejected(text, f"it is number {self.taken.index(text) + 1}", "repeated")
        nearest = max(self.taken, key=lambda other: rouge_l(text, other))
        if (overlap := rouge_l(text, nearest)) > self.threshold:
            return Rejected(text, f"its ROUGE-L is {overlap:.2f} to {nearest!r}", "alike")
        return None


def _check_settings(n: int, longest: int, threshold: float, calls: int) -> None:
    for name, value in (("n", n), ("longest", longest), ("calls", calls)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], got {threshold!r}")
