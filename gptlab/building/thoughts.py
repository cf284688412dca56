"""What a model writes around its answer: thoughts before it, and a fence that belongs to the whole of it.

Every module here that reads a reply takes them off in this one way, so that no thought gets into the data.
"""

from __future__ import annotations

import re

_THOUGHT = re.compile(
    r"(?:\A\s*<(thought|reasoning)>|^[ \t]*<(think|thinking)>).*?(?:</(?:\1|\2)>|\Z)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
# Where a server has the beginning of the thoughts in its prompt, a reply holds nothing but their end.
_UNOPENED_END = re.compile(r"</think(?:ing)?>[ \t]*$", re.MULTILINE | re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*```.*$", re.MULTILINE)


def without_thoughts(reply: str) -> str:
    r"""Return a reply without the thoughts that a model wrote down before it; without an end they are all of it.

    >>> without_thoughts("<think>Fruits ...</think> An apple."), without_thoughts("Fruits ...\n</think>\nAn apple.")
    ('An apple.', 'An apple.')
    """
    text = _THOUGHT.sub("", str(reply))
    if end := _UNOPENED_END.search(text):
        text = text[end.end() :]
    return text.strip()


def without_half_fence(text: str) -> str:
    r"""Return a part of a reply without the end of a fence that was opened before it, and what follows that.

    >>> without_half_fence("8, 9\n```\nI hope that helps!"), without_half_fence("```\nx = 1\n```")
    ('8, 9', '```\nx = 1\n```')
    """
    fences = list(_FENCE.finditer(text))
    if len(fences) % 2 and fences[-1][0].strip() == "```":
        return text[: fences[-1].start()].strip()
    return text
