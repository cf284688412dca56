"""What a model's replies to Self-Instruct's questions say: new tasks, yes or no, instances.

New tasks. The prompt ends in "9.", so a model that goes on writes the first item without its number. One that chats
may begin with a sentence, number again from 1, write 9) or **9.** or 9、, or use bullets. All these are read. Which
numbers are items is decided by the whole reply: a list inside an item ("9. Sort these: 1. pears 2. plums") counts on
from 1, not from 9, and stays in its item. An item ends at an empty line, as the published stop "\\n\\n" has it: what
follows is an explanation. Its letters stay as they are; the original's `.capitalize()` makes "python" of "Python".

Instances. Input-first: "Example 1", then lines with fields, then "Output:"; where nothing is needed, "Output:" alone.
Output-first: "Class label:" and below it the fields. Stops that a server does not know are made up for: what follows
another "Task:", and examples after the fifth, are dropped. Then `clean_instances` throws away what is no example, by
the published rules.

Left out: the original takes every "Example" and "Output:" for a mark, also in the middle of a sentence; here a mark
begins a line. It draws 5 of more instances at random; here the first 5 stay.

Source: Wang et al. 2022, "Self-Instruct"; its code, bootstrap_instructions.py:41-47, identify_clf_or_not.py,
prepare_for_finetuning.py:96-191 and 275-283.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from gptlab.building.task_prompts import MOST_INSTANCES, SHOWN, one_line
from gptlab.building.thoughts import without_half_fence, without_thoughts

LONGEST_REPLY = 20_000  # characters; what a model writes after these is no answer to these questions
LARGEST_GAP = 3  # a model may skip a number, but a "40." inside an item is none

# Repetitions are possessive (*+) where two stand beside each other, or a line of junk would take minutes.
# What stands before a word that begins a line: marks of Markdown, and a number where all lines have one.
_LEAD = r"^[ \t#>*_-]*+(?:\d{1,2}[.)．、][ \t]*+[*_]*+)?"
_TAIL = r"[*_]*+[ \t]*+[:：][*_]*+[ \t]*"  # a colon, in bold or not
_NUMBER = re.compile(
    r"^ {0,3}(?:[-*+•#>]+ +)?(?:\*\*)?(?:(?:Task|任务) ?)?(\d{1,3}) ?(?:\*\*)?[.)．、:：）](?!\d)(?:\*\*)?[ \t]*",
    re.MULTILINE | re.IGNORECASE,
)
_BULLET = re.compile(r"^ {0,3}[-*+•][ \t]+", re.MULTILINE)
_BOLD = re.compile(r"(?<!\w)\*\*(?=\S)(.+?)(?<=\S)\*\*(?!\w)")
_TALK = re.compile(  # what a model that chats says around its list
    r"(?:sure|certainly|of course|absolutely|okay|(?:i'm |i am )?sorry|unfortunately|as an ai|i cannot|i can't)\b"
    r"|here(?:'s| is| are)\b.*:$|好的|当然|抱歉|很抱歉|对不起|作为(?:一个)?(?:AI|人工智能)|(?:以下|下面)是.*[:：]$",
    re.IGNORECASE | re.DOTALL,
)
_TASK = re.compile(rf"{_LEAD}(?:Task|任务){_TAIL}", re.MULTILINE | re.IGNORECASE)
_EXAMPLE = re.compile(
    rf"{_LEAD}(?:Example|示例|例子|例)[ \t]*+(?:\d+[*_]*[.:：)]?[*_]*[ \t]*|[*_:：]*+[ \t]*+$)",
    re.MULTILINE | re.IGNORECASE,
)
_OUTPUT = re.compile(rf"{_LEAD}(?:Output|输出)[ \t]*+\d*+{_TAIL}", re.MULTILINE | re.IGNORECASE)
_INPUT = re.compile(rf"{_LEAD}(?:Input|输入)[ \t]*+\d*+{_TAIL}", re.MULTILINE | re.IGNORECASE)
_LABEL = re.compile(rf"{_LEAD}(?:Class label|类别标签|类别)[ \t]*+\d*+{_TAIL}", re.MULTILINE | re.IGNORECASE)
_NO_INPUT = re.compile(
    r"[<(（\[]?(?:no ?input(?: (?:is )?(?:needed|required))?|none|n/a|无)[>)）\]]?[.。]?", re.IGNORECASE
)
_FIELD = re.compile(r"^([^\W\d][\w' -]{0,40}?)(?:: |:$|：)", re.MULTILINE)


class Instance(NamedTuple):
    """An example of a task: what is given, which may be nothing, and what is wanted."""

    input: str
    output: str


def parse_instructions(reply: str, *, first: int = SHOWN + 1) -> list[str]:
    """Return the items of a reply to a prompt that ended in the number `first`, each on one line; some may be empty.

    >>> parse_instructions(" Name a river.\\n10. Write a haiku\\nabout rain.\\n11. Add 2 and 3.")
    ['Name a river.', 'Write a haiku about rain.', 'Add 2 and 3.']
    >>> parse_instructions("Sure, here are some:\\n\\n**1.** Name a river.\\n\\n**2.** 写一首诗。")
    ['Name a river.', '写一首诗。']
    """
    text = without_thoughts(reply)[:LONGEST_REPLY]
    marks = _item_marks(text, first)
    head_is_item = not marks or int(marks[0][1]) in (first + 1, 2)
    if not marks:
        marks = list(_BULLET.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    items = [_item(text[mark.end() : end]) for mark, end in zip(marks, ends)]
    head = [_item(text[: marks[0].start()] if marks else text, talk=True)] if head_is_item else []
    return [item for item in head if item] + items


def parse_yes(reply: str) -> bool:
    """Return whether the first word of a reply is yes; every other reply is a no.

    Published is that the whole reply, of three tokens at most, is Yes, yes or YES; a model that chats adds a full stop.

    >>> parse_yes("Yes"), parse_yes("**yes**, since"), parse_yes("是。"), parse_yes("No"), parse_yes("Well, yes")
    (True, True, True, False, False)
    """
    word = re.match(r"[\s*_\"'“]*(yes\b|是(?!否))", without_thoughts(reply), re.IGNORECASE | re.ASCII)
    return word is not None


def parse_instances(reply: str, is_classification: bool, *, cut: bool = False) -> list[Instance]:
    """Return the instances in a reply, in order; none if it has no mark of one.

    Args:
        reply: as the model wrote it.
        is_classification: which of the two forms was asked for.
        cut: whether the reply was cut by length; then the last instance is dropped.

    >>> parse_instances("Example 1\\nList: 2, 1\\nOutput: 1, 2\\nExample 2\\nList: 9, 8\\nOutput: 8, 9", False)
    [Instance(input='List: 2, 1', output='1, 2'), Instance(input='List: 9, 8', output='8, 9')]
    >>> parse_instances("Class label: spam\\nMessage: You won!", True)
    [Instance(input='Message: You won!', output='spam')]
    """
    text = _first_task(without_thoughts(reply)[:LONGEST_REPLY])
    found = _labelled(text) if is_classification else _solved(text)
    return found[: len(found) - cut]


def clean_instances(instances: Sequence[Instance]) -> tuple[list[Instance], dict[str, int]]:
    """Return the instances of one task that are worth keeping, and of the others how many went out by which rule.

    If an input that is not empty came with two different outputs, none stays: one of them is wrong, and nobody knows
    which.

    Source: prepare_for_finetuning.py:110-140, and its limit of 5 for a task.
    """
    kept: list[Instance] = []
    rejected: Counter[str] = Counter()
    for instance in instances:
        reason = _why_not(instance)
        if reason is None:
            kept.append(instance)
        else:
            rejected[reason] += 1
    distinct = list(dict.fromkeys(kept))
    inputs = [instance.input for instance in distinct if instance.input]
    if len(set(inputs)) < len(inputs):
        rejected["one input, two outputs"] = len(kept)
        return [], dict(rejected)
    rejected += Counter({"duplicate": len(kept) - len(distinct)})
    rejected += Counter({f"more than {MOST_INSTANCES}": max(0, len(distinct) - MOST_INSTANCES)})
    return distinct[:MOST_INSTANCES], dict(rejected)


def strip_field(text: str) -> str:
    """Return an input without the name of its field, if it begins with one and has no other, and without empty lines.

    The original does so to half of the inputs, that a tuned model may see both. It takes each word before a colon for a
    field's name, and so makes "30" of "Meet at 10:30".

    Source: prepare_for_finetuning.py:275-283.

    >>> strip_field("List: 3, 1, 2"), strip_field("Name: Ada\\nJob: poet"), strip_field("Meet at 10:30")
    ('3, 1, 2', 'Name: Ada\\nJob: poet', 'Meet at 10:30')
    """
    fields = list(_FIELD.finditer(text))
    if len(fields) == 1 and fields[0].start() == 0:
        text = text[fields[0].end() :].strip()
    return text.replace("\n\n", "\n")


def _item_marks(text: str, first: int) -> list[re.Match[str]]:
    """Return the marks of the items, the numbers that count on from `first`, or from 1 where the model began again."""
    marks = list(_NUMBER.finditer(text))
    again = _counting_on(marks, 1) or _counting_on(marks, 2)
    going_on = _counting_on(marks, first) or _counting_on(marks, first + 1)
    return going_on if going_on and going_on[0] not in again else again or marks


def _counting_on(marks: Sequence[re.Match[str]], start: int) -> list[re.Match[str]]:
    """Return the marks that count up from the first one that says `start`; a number may come again or be skipped."""
    chain: list[re.Match[str]] = []
    for mark in marks:
        last = int(chain[-1][1]) if chain else start
        if last <= int(mark[1]) <= last + (LARGEST_GAP if chain else 0):
            chain.append(mark)
    return chain


def _item(text: str, *, talk: bool = False) -> str:
    """Return an item up to its first empty line, without Markdown's marks; with `talk`, what is talk is skipped."""
    blocks = [_tidy(block) for block in re.split(r"\n[ \t]*\n", without_half_fence(text.strip()))]
    return next((block for block in blocks if not (talk and _TALK.match(block))), "")


def _tidy(text: str) -> str:
    text = one_line(_BOLD.sub(r"\1", text))
    quoted = len(text) > 1 and text[0] + text[-1] in ('""', "“”") and not any(mark in text[1:-1] for mark in '"“”')
    return text[1:-1].strip() if quoted else text


def _first_task(text: str) -> str:
    """Return what belongs to the task that was asked about, without its repetition and without further tasks."""
    before, *tasks = _TASK.split(text)
    repeated = tasks and not (_OUTPUT.search(before) or _LABEL.search(before))
    return tasks[0].partition("\n")[2] if repeated else before


def _solved(text: str) -> list[Instance]:
    """Return the instances of an input-first reply."""
    pieces = _EXAMPLE.split(text)
    if len(pieces) == 1:
        return [_pair(text)] if _OUTPUT.search(text) else []
    return [_pair(piece) for piece in pieces[1:] if piece.strip()]


def _pair(text: str) -> Instance:
    """Return the input and the output of one example; without a mark all of it is output, as published."""
    output = _OUTPUT.search(text)
    given, wanted = (text[: output.start()], text[output.end() :]) if output else ("", text)
    for again in (_OUTPUT, _INPUT):  # a second pair, without an "Example" of its own
        wanted = again.split(wanted, maxsplit=1)[0]
    return Instance(_given(given), without_half_fence(wanted.strip()))


def _labelled(text: str) -> list[Instance]:
    """Return the instances of an output-first reply."""
    pieces = (piece.partition("\n") for piece in _LABEL.split(text)[1:])
    return [Instance(_given(rest), label.strip()) for label, _, rest in pieces]


def _given(text: str) -> str:
    """Return an input without a heading that only says so, and without words for nothing."""
    text = without_half_fence(text.strip())
    heading = _INPUT.match(text)
    text = text[heading.end() :].strip() if heading else text
    return "" if _NO_INPUT.fullmatch(text) else text


def _why_not(instance: Instance) -> str | None:
    """Return the rule by which an instance is thrown away.

    Source: prepare_for_finetuning.py:127-140.
    """
    if not instance.output:
        return "empty output"
    if instance.input == instance.output:
        return "output is the input"
    if instance.input.endswith((":", "：")) or instance.output.endswith((":", "：")):
        return "ends with a colon"
    return None
