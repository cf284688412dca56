"""Which evolved instructions are thrown away, and why.

WizardLM's eliminator has four rules:

    1. a model finds the evolved instruction equal to the one it was made from         "equal"
    2. the response holds "sorry" and has fewer than 80 words                          "sorry"
    3. the response holds nothing but punctuation and stop words                       "no words"
    4. the evolved instruction holds words of the prompt that asked for it             "markers"

and what any program meets that asks a model adds others: see VERDICTS. Rule 1 asks a model, and rules 2 and 3 look at
the response, not at the instruction.

Each rule has been got wrong in published code. `"equal" in reply.lower()` is true of "Not Equal", too, and then nothing
survives; so the longer answer is looked for first, and a reply has to be the answer, not only to hold it.

Source: Xu et al. 2023, "WizardLM: Empowering Large Language Models to Follow Complex Instructions", section 3.2,
Elimination Evolving. The release does not have it. Reckoning with Chinese is this project's own.
"""

from __future__ import annotations

import re

import regex

from gptlab.rouge import CJK

SORRY_WORDS = 80  # a response with an apology and fewer words than this is a refusal: WizardLM, rule 2
CHARACTERS_PER_WORD = 1.5  # ours: a Chinese text has about one and a half times as many characters as English has words

VERDICTS = {  # what may become of an attempt, in the order in which it is looked for
    "failed": "the server did not answer, or not to the end",
    "cut": "the evolved instruction was cut short by the longest reply that is allowed",
    "empty": "the reply holds no instruction",
    "unchanged": "it is the instruction that it was made from, but for spaces and capital letters",
    "duplicate": "another entry has this instruction already",
    "markers": "rule 4: it copies words of the prompt that asked for it",
    "answer cut": "the response was cut short by the longest reply that is allowed",
    "sorry": "rule 2: a short response with an apology",
    "no words": "rule 3: the response is empty, or only punctuation and stop words",
    "equal": "rule 1: a model finds it equal to the instruction that it was made from",
    "unjudged": "the model that was to say Equal or Not Equal said neither, or both",
    "kept": "it is an entry of the next generation",
}

_CJK = regex.compile(f"[{CJK}]")
_WORD = regex.compile(rf"[^\W{CJK}]+(?:['’.-][^\W{CJK}]+)*")
_SORRY = re.compile(r"sorry|抱歉|对不起|對不起", re.IGNORECASE)

# Without "yes", "no", "not", 是, 对 and 不, which answer a question, and "a" and "i", which choose an answer.
_STOP_WORDS = re.compile(
    "about|also|am|an|and|are|as|at|be|been|being|but|by|can|could|did|do|does|doing|for|from|had|has|have|having|he|"
    "her|here|hers|him|his|how|if|in|into|is|it|its|just|may|me|might|my|of|on|or|our|she|should|so|some|such|than|"
    "that|the|their|them|then|there|these|they|this|those|to|too|us|very|was|we|were|what|when|where|which|who|why|"
    "will|with|would|you|your",
    re.IGNORECASE,
)
_CHINESE_STOP_WORDS = re.compile(
    "以及|因为|所以|但是|如果|这个|那个|这些|那些|这里|那里|我们|你们|他们|她们|它们|什么|怎么|还是|或者|并且|而且|"
    "[的了和与及在也都就而或把被从到为以于之其这那此每各我你您他她它啊吧呢吗呀哦嗯么着过地得]"
)

_CLAUSE_END = re.compile(r"[.!;。！；\n(（]|\s[-–—]+\s|[,，]\s*(?=because|since|as\b|因为)")
_ANSWER = re.compile(
    "(?:(?:the(?:se)?|both|two|prompts?|instructions?|they|are|my|your|judge?ment|answer|verdict|is|:"
    "|两者|两个|这|提示|指令|它们) ?)*"
    "(?P<verdict>not[ -]?equal|unequal|equal|不相[等同]|不等|不同|相[等同])(?: to each other)?"
)
_MARKER = re.compile(
    r"#[^#\n]{0,40}(?:prompt|提示)[^#\n]{0,40}#"  # #Given Prompt#, #The Given Prompt#, #改写后的提示#
    r"|\b(?:given|rewritten|created)[\s_-]*prompts?\b"
    r"|(?:给定|改写后?|重写后?|创建)的?提示",
    re.IGNORECASE,
)


def says_equal(reply: str) -> bool | None:
    """Return what a model says of two prompts: True for equal, False for not equal, None for neither or both.

    A clause counts when it is the answer and nothing else, but for "The prompts are" and its like. What
    stands beside it, such as reasons, does not count.

    >>> says_equal("Not Equal"), says_equal("**Equal.**"), says_equal("I cannot say whether they are equal.")
    (False, True, None)
    """
    clauses = _CLAUSE_END.split(re.sub(r"""[*_`"'“”#]""", "", reply.casefold()))
    answers = (_ANSWER.fullmatch(" ".join(clause.split())) for clause in clauses)
    found = {answer["verdict"] in ("equal", "相等", "相同") for answer in answers if answer}
    return found.pop() if len(found) == 1 else None


def copied_markers(instruction: str, parent: str) -> list[str]:
    """Return the words of the evolving prompt that an instruction holds, and its parent does not.

    >>> copied_markers("Rewrite the GIVEN PROMPT as #New Prompt#.", "Write it anew.")
    ['GIVEN PROMPT', '#New Prompt#']
    """
    own = {_folded(marker) for marker in _MARKER.findall(parent)}
    return [marker for marker in _MARKER.findall(instruction) if _folded(marker) not in own]


def says_sorry(response: str) -> bool:
    """Return whether a response is a short one with an apology: fewer than SORRY_WORDS words.

    A Chinese character counts as 1 / CHARACTERS_PER_WORD words.

    >>> says_sorry("Sorry, I cannot do that."), says_sorry("对不起，我不知道。"), says_sorry("I do not know.")
    (True, True, False)
    """
    words = len(_WORD.findall(response)) + len(_CJK.findall(response)) / CHARACTERS_PER_WORD
    return bool(_SORRY.search(response)) and words < SORRY_WORDS


def says_nothing(response: str) -> bool:
    """Return whether a response is only punctuation and stop words. A number is something, and so is "No".

    >>> says_nothing("... and of the"), says_nothing("那么，这个……"), says_nothing("42"), says_nothing("No.")
    (True, True, False, False)
    """
    rest = _CHINESE_STOP_WORDS.sub(" ", response)
    words = _WORD.findall(rest) + _CJK.findall(rest)
    return all(_STOP_WORDS.fullmatch(word) or not word.strip("_") for word in words)


def judge_instruction(instruction: str, parent: str, *, cut_short: bool = False) -> tuple[str, str] | None:
    """Return verdict and detail about an evolved instruction by itself; None if nothing is wrong with it."""
    if cut_short:
        return "cut", ""
    if not instruction:
        return "empty", ""
    if same_text(instruction) == same_text(parent):
        return "unchanged", ""
    markers = copied_markers(instruction, parent)
    return ("markers", ", ".join(markers)) if markers else None


def judge_response(response: str, *, cut_short: bool = False) -> tuple[str, str] | None:
    """Return verdict and detail about the response to an evolved instruction; None if nothing is wrong with it."""
    if cut_short:
        return "answer cut", ""
    if says_sorry(response):
        return "sorry", ""
    return ("no words", "") if says_nothing(response) else None


def same_text(text: str) -> str:
    """Return a text such that two which differ only in spaces and capital letters become one."""
    return " ".join(text.casefold().split())


def _folded(marker: str) -> str:
    return re.sub(r"[\s_-]", "", marker).casefold()
