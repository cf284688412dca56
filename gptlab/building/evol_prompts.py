"""The prompts by which a model makes an instruction harder, or another one like it, and what its reply says.

Five operations go into the depth, one into the breadth:

    constraints   one more requirement                    deepen      ask about more sides of the matter
    concretise    special concepts instead of general     reasoning   ask for several steps of reasoning
    complicate    add data: XML, SQL, Python, ...         breadth     another, rarer prompt of the same domain

All in-depth prompts are one frame around one sentence. The frame and the sentences are English, and a Chinese prompt in
an English frame often comes back in English; so a prompt that holds Chinese gets one sentence more, KEEP_LANGUAGE.

A reply is a prompt and nothing else only when all goes well. `clean_reply` takes off what models put around it, and
only where it is certain that it is not the prompt itself: "Here is the rewritten prompt:" goes, and "Here is a list:"
stays.

Source: Xu et al. 2023, "WizardLM: Empowering Large Language Models to Follow Complex Instructions", and its release,
Evol_Instruct/depth.py and breadth.py; the frames' words are those of the paper. The release has no operation
"complicate": its sentence and demonstrations are this project's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import regex

from gptlab.building.thoughts import without_thoughts
from gptlab.rouge import CJK

IN_DEPTH = ("constraints", "deepen", "concretise", "reasoning", "complicate")
OPERATIONS = (*IN_DEPTH, "breadth")  # each as likely as any other; the release draws from five, without "complicate"
FORMATS = ("XML", "SQL", "Python", "HTML", "shell", "JSON")  # what "complicate" adds

MOST_LAYERS = 5  # around a reply, such as a sentence, a heading, quotes and bold marks; ours
JOIN = "\r\n"  # between instruction and input: WizardLM, Evol_Instruct/main.py:17

FRAME = """\
I want you act as a Prompt Rewriter.
Your objective is to rewrite a given prompt into a more complex version to make those famous AI systems (e.g., ChatGPT \
and GPT4) a bit harder to handle.
But the rewritten prompt must be reasonable and must be understood and responded by humans.
Your rewriting cannot omit the non-text parts such as the table and code in #Given Prompt#:. Also, please do not omit \
the input in #Given Prompt#.
You SHOULD complicate the given prompt using the following method:
{method}
You should try your best not to make the #Rewritten Prompt# become verbose, #Rewritten Prompt# can only add 10 to 20 \
words into #Given Prompt#.
'#Given Prompt#', '#Rewritten Prompt#', 'given prompt' and 'rewritten prompt' are not allowed to appear in \
#Rewritten Prompt#
"""
BREADTH_FRAME = """\
I want you act as a Prompt Creator.
Your goal is to draw inspiration from the #Given Prompt# to create a brand new prompt.
This new prompt should belong to the same domain as the #Given Prompt# but be even more rare.
The LENGTH and difficulty level of the #Created Prompt# should be similar to that of the #Given Prompt#.
The #Created Prompt# must be reasonable and must be understood and responded by humans.
'#Given Prompt#', '#Created Prompt#', 'given prompt' and 'created prompt' are not allowed to appear in #Created Prompt#.
"""
METHODS = {  # WizardLM, Evol_Instruct/depth.py, in its order; the last is ours
    "constraints": "Please add one more constraints/requirements into #Given Prompt#",
    "deepen": (
        "If #Given Prompt# contains inquiries about certain issues, the depth and breadth of the inquiry can be "
        "increased."
    ),
    "concretise": "Please replace general concepts with more specific concepts.",
    "reasoning": (
        "If #Given Prompt# can be solved with just a few simple thinking processes, you can rewrite it to explicitly "
        "request multiple-step reasoning."
    ),
    "complicate": (
        "Please add input data in the {format} format, which must be looked at to respond to #Rewritten Prompt#. "
        "The data does not count among the added words. An example comes first."
    ),
}
DEMONSTRATIONS = {  # for "complicate", of each format: a prompt, and what was made of it
    "XML": (
        "Which of my books are older than I am?",
        "I was born in 1990. Which books on my shelf are older than I am?\n"
        '<shelf><book year="1987">The Ferry</book><book year="2004">Salt</book><book>Untitled</book></shelf>',
    ),
    "SQL": (
        "How do I find customers who buy nothing any more?",
        "Write a query on these tables for the customers who ordered nothing since 2023, also those who never did.\n"
        "CREATE TABLE customers (id INT, name TEXT);\nCREATE TABLE orders (customer_id INT, day DATE);",
    ),
    "Python": (
        "Why is my program slow?",
        "Why does this function take so long for a list of a million words, and how is it made faster?\n"
        "def unique(words):\n    seen = []\n    for word in words:\n        if word not in seen:\n"
        "            seen.append(word)\n    return seen",
    ),
    "HTML": (
        "Make my page easier to read for blind people.",
        "Make this page easier to read for blind people without changing how it looks.\n"
        '<div onclick="send()"><img src="arrow.png"></div><font size="6">Our prices</font>',
    ),
    "shell": (
        "How do I make room on my disk?",
        "From what these commands show, say what I can delete first to make room, and why.\n"
        "$ df -h /\n/dev/sda1  40G  39G  1G  98%\n$ du -sh /var/log /home/ada/.cache\n11G  /var/log\n"
        "17G  /home/ada/.cache",
    ),
    "JSON": (
        "Is it warm enough for a walk?",
        "Between which hours is it above 15 degrees and dry, so that I can take a walk?\n"
        '{"hours": [9, 12, 15, 18], "degrees": [11, 16, 19, 14], "rain": [false, true, false, false]}',
    ),
}
KEEP_LANGUAGE = "Write the new prompt in the language of #Given Prompt#.\n"  # ours; only for a text that holds Chinese

# WizardLM, the paper's prompt for its eliminator; its wording agrees in three independent re-implementations.
EQUALITY = """\
Here are two Instructions to ChatGPT AI, do you think they are equal to each other, which meet the following \
requirements:
1. They have same constraints and requirments.
2. They have same depth and breadth of the inquiry.
"""
JUDGEMENT = "Your Judgement (Just answer: Equal or Not Equal. No need to explain the reason.):"

_CJK = regex.compile(f"[{CJK}]")


def join_input(entry: Mapping[str, str]) -> str:
    r"""Return an entry's instruction and input as the one text that is evolved, and that a model answers.

    Source: WizardLM, Evol_Instruct/main.py:17, without the line's end that is left there when there is no input.

    >>> join_input({"instruction": "Add them. ", "input": "1, 2"}), join_input({"instruction": "Hi!", "input": ""})
    ('Add them.\r\n1, 2', 'Hi!')
    """
    return f"{entry['instruction'].strip()}{JOIN}{(entry.get('input') or '').strip()}".strip()


def evol_prompt(text: str, operation: str, *, format: str = "JSON") -> str:
    """Return the question by which a model evolves a prompt.

    Args:
        text: the prompt, as `join_input` returns it. Whatever it holds stays as it is.
        operation: one of OPERATIONS.
        format: of the data that "complicate" adds, one of FORMATS; the others do not look at it.

    Raises:
        ValueError: there is no such operation or format.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"operation must be one of {', '.join(OPERATIONS)}, got {operation!r}")
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    language = KEEP_LANGUAGE if _CJK.search(text) else ""
    if operation == "breadth":
        return BREADTH_FRAME + language + _exchange("Created", text)
    frame = FRAME.format(method=METHODS[operation].format(format=format)) + language
    if operation == "complicate":
        given, rewritten = DEMONSTRATIONS[format]
        frame += f"{_exchange('Rewritten', given)}\n{rewritten}\n\n"
    return frame + _exchange("Rewritten", text)


def equality_prompt(first: str, second: str) -> str:
    """Return the question whether two prompts are equal, to which the reply is Equal or Not Equal."""
    return f"{EQUALITY}The First Prompt: {first}\nThe Second Prompt: {second}\n{JUDGEMENT}"


def _exchange(new: str, text: str) -> str:
    return f"#Given Prompt#:\n{text}\n\n#{new} Prompt#:"


# ---- the reply

_NEW = "rewritten|rewrite|revised|evolved|created|改写|重写"  # said of nothing else, so the prompt may go on behind it
_NEW_PERHAPS = rf"{_NEW}|new|modified|updated|improved|more complex|harder|新的"  # only at the end of a line
_PROMPT = "prompt|instruction|question|task|version|提示|指令|问题|版本"
_HEADING = "(?:the )?(?:rewritten|created|new|改写后?的?|重写后?的?|新的?) ?(?:prompt|instruction|提示词?|指令)"
_SURE = "(?:sure|certainly|of course|absolutely|okay|ok|好的|当然可以|没问题)[!,.:！，。：]"
_HERE = "(?:here (?:is|are|it is|you go)|here['’]s|this is|below is|以下是|下面是|这是)"


def _announced(new: str) -> str:
    return rf"\A[*_]*{_HERE}[^\n:：]{{0,60}}?(?:{new})[^\n:：]{{0,40}}?(?:{_PROMPT})[^\n:：]{{0,60}}[:：][*_]*"


_LEADS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\A[#*_ \t]*{_HEADING}[#*_]*(?:[ \t]*[:：][*_]*|[ \t]*\n)",  # #Rewritten Prompt#: or **Rewritten Prompt:**
        rf"\A[*_]*{_SURE}\s*{_HERE}[^\n:：]{{0,100}}[:：][*_]*",  # Sure, here you go:
        _announced(_NEW),  # Here is the rewritten prompt: Name ...
        _announced(_NEW_PERHAPS) + r"[ \t]*\n",  # Here's a more complex version:
        rf"\A[*_]*{_SURE}[*_]*[ \t]*\n",  # Certainly!
    )
]
_TEXTS = ("", "text", "plaintext", "markdown", "md")  # kinds of fences that hold no data
_AROUND = (("**", "**"), ('"', '"'), ("“", "”"), ("「", "」"), *((f"```{kind}\n", "\n```") for kind in _TEXTS))


def clean_reply(reply: str) -> str:
    """Return the prompt that a reply holds, without what is certainly not a part of it.

    Thoughts at the beginning, a heading, a sentence that announces the new prompt, and quotes, bold marks or a fence
    around all of it are taken off. A mark that also stands inside is left: there it may belong to the prompt.

    >>> clean_reply('Sure, here is the rewritten prompt:\\n\\n**"Name two fruits."**')
    'Name two fruits.'
    >>> clean_reply('Here is a list:\\n1, 2'), clean_reply('"A" or "B"?')
    ('Here is a list:\\n1, 2', '"A" or "B"?')
    """
    text = without_thoughts(reply)
    for _ in range(MOST_LAYERS):
        for lead in _LEADS:
            text = lead.sub("", text).strip()
        for opening, closing in _AROUND:
            inside = text[len(opening) : len(text) - len(closing)]
            if text == opening + inside + closing and not {opening.strip(), closing.strip()} & _marks(inside):
                text = inside.strip()
    return text


def _marks(text: str) -> set[str]:
    """Return which marks stand in a text."""
    return {mark.strip() for pair in _AROUND for mark in pair if mark.strip() in text}
