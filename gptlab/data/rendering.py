"""From a conversation, a format and a loss rule to segments; and formats by their names.

A format cuts a conversation into pieces, each of which knows what part of it it is; a loss rule is a set of parts. So a
mask follows from the text, never from where a token happens to begin.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptlab.data.chat_formats import FORMATS, ChatFormat, OverTurns, Part, Piece
from gptlab.data.conversation_files import as_conversation
from gptlab.data.segments import Segment
from gptlab.data.templates import Template, load_template, template_from_dict

# What carries loss. "frame" is everything between the parts, such as the words that announce an answer.
LOSS_RULES: Mapping[str, Collection[Part]] = {
    "assistant": ("assistant",),
    "last": ("assistant",),  # of the last turn only
    "moss": ("user", "thoughts", "commands", "frame", "assistant"),
    "all": ("system", "user", "thoughts", "commands", "results", "frame", "assistant"),
}


def render(
    conversation: Any, format: str | Path | Template | ChatFormat = "moss", *, loss_on: str | None = None
) -> list[Segment]:
    """Return a conversation as segments of text, each trained on or not.

    With a last turn that has no answer, the segments end where it begins.

    Args:
        conversation: a Conversation, a list of messages, or a record of a known form; see `as_conversation`.
        format: see `find_format`.
        loss_on: "assistant", the answers and the marks that end them; "last", the last answer only; "moss", everything
            but the system message and what tools told; "all". None is the format's own rule.

    Raises:
        ValueError: it is no conversation, the format or the rule is not known, or a turn has what the format has no
            place for.
    """
    conversation, form = as_conversation(conversation), find_format(format)
    opening, turns, closing = form.write_out(conversation)
    rule = form.loss_on if loss_on is None else loss_on
    segments = to_segments(opening, rule)
    for pieces, counts in zip(turns, counting(rule, len(turns))):
        segments += to_segments(pieces, rule, counts=counts)
    return segments + to_segments(closing, rule)


def counting(loss_on: str, turns: int) -> list[bool]:
    """Return for each of some turns whether a loss rule looks at it at all: all of them, but for "last"."""
    return [loss_on != "last" or place == turns - 1 for place in range(turns)]


def to_segments(pieces: Sequence[Piece], loss_on: str, *, counts: bool = True) -> list[Segment]:
    """Return pieces as segments, trained on by a loss rule, or not at all if they do not count.

    Raises:
        ValueError: the rule is not known.
    """
    if loss_on not in LOSS_RULES:
        raise ValueError(f"loss_on must be one of {list(LOSS_RULES)}, got {loss_on!r}")
    parts = LOSS_RULES[loss_on]
    return [piece.segment(counts and piece.part in parts) for piece in pieces]


def find_format(format: str | Path | Template | ChatFormat) -> ChatFormat:
    """Return a format by its name; or a template, its name or its file, stretched over turns.

    Raises:
        ValueError: the name is not known, or the file is no template.
        FileNotFoundError: there is no such file.
    """
    if isinstance(format, ChatFormat):
        return format
    if isinstance(format, str) and format in FORMATS:
        return FORMATS[format]()
    try:
        return OverTurns(format if isinstance(format, Template) else load_template(format))
    except ValueError as error:
        raise ValueError(f"{error}; formats of conversations are {list(FORMATS)}") from None


def find_template(template: str | Path | Template | ChatFormat) -> Template | ChatFormat:
    """Return a template for single questions by its name or file, or a format of conversations by its name.

    Raises as `find_format`.
    """
    if isinstance(template, Template):
        return template
    form = find_format(template)
    return form.template if isinstance(form, OverTurns) and form is not template else form


def another_template(tuned: Template | ChatFormat, wanted: Template | ChatFormat) -> str | None:
    """Return a warning if a model that was tuned in one form is asked in another; None if both write the same."""
    asked = [{"instruction": "?"}]
    if isinstance(tuned, Template) and isinstance(wanted, Template):
        asked.append({"instruction": "?", "input": "!"})
    forms = tuned, wanted
    written = [["".join(part.text for part in form.prompt_segments(each)) for each in asked] for form in forms]
    if written[0] == written[1] or tuned.name == "plain":
        return None
    names = [form.title if isinstance(form, ChatFormat) else form.name for form in forms]
    return f"note: the model was tuned in the form {names[0]!r}, which it answers best in, and now gets {names[1]!r}"


def template_or_format(content: Mapping[str, Any]) -> Template | ChatFormat:
    """Return what `to_dict` of a template or of a format made a dictionary of.

    Raises:
        ValueError: see `template_from_dict` and `format_from_dict`.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"a template must be an object, got {content!r:.80}")
    return format_from_dict(content) if "format" in content else template_from_dict(content)


def format_from_dict(content: Mapping[str, Any]) -> ChatFormat:
    """Return the format that `ChatFormat.to_dict` made a dictionary of.

    Raises:
        ValueError: the format or one of its options is not known.
    """
    options = {key: value for key, value in content.items() if key != "format"}
    kinds = {**FORMATS, OverTurns.name: OverTurns}
    if not isinstance(content["format"], str) or content["format"] not in kinds:
        raise ValueError(f"format must be one of {list(kinds)}, got {content['format']!r}")
    if not isinstance(options.get("tuned_length"), int | None):
        raise ValueError(f"tuned_length must be a number, got {options['tuned_length']!r}")
    if "template" in options:
        options["template"] = template_or_format(options["template"])
    try:
        return kinds[content["format"]](**options)
    except TypeError as error:
        raise ValueError(f"format {content['format']!r}: {error}") from None
