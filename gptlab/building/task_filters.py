"""Which of a model's new instructions are thrown away at sight, and why.

The rules are the original's, in its order, and each has a name for the report:

    empty               nothing there
    too short           3 words or fewer
    too long            more than 150
    blocked word        it asks for what a text model cannot see or make: an image, a graph, a file, a map ...
    write a program     models repeat this one without end, and leave open whether the code or its result is wanted
    punctuation first   mostly the rest of something else
    foreign first       begins with a letter that is not ASCII: another language, or a bullet

For Chinese, three things are ours. It has no spaces between words, so each character counts as two thirds of one. Then
写一首诗 (write a poem) is too short, as it is in English, and 写一首关于春天的诗 is not. Blocked words are looked for
anywhere. And an instruction may begin with a Chinese character, or with an opening mark such as 《 or “. With
`chinese=False` these are off.

What the words cannot know: "file a complaint" and "draw a conclusion" go out, too, as published.

Source: Wang et al. 2022, "Self-Instruct", section 2.2; its code, bootstrap_instructions.py:41-70; Stanford Alpaca,
generate_instruction.py:67-86, for the words that it adds.
"""

from __future__ import annotations

import re
import string
import unicodedata
from dataclasses import dataclass

import regex

from gptlab.rouge import CJK

TOO_SHORT = 3  # words
LONGEST = 150
CHARACTERS_PER_WORD = 1.5  # of Chinese; ours

BLOCKED_WORDS = (  # bootstrap_instructions.py: 13 of them
    *("image", "images", "graph", "graphs", "picture", "pictures", "file", "files"),
    *("map", "maps", "draw", "plot", "go to"),
)
ALPACA_WORDS = ("video", "audio", "music", "flowchart", "diagram")  # generate_instruction.py adds these
CHINESE_WORDS = (  # ours, for the 13; 画 alone would block 动画 and 刻画, too
    *("图片", "图像", "照片", "图表", "图形", "曲线图", "文件", "地图"),
    *("画图", "绘图", "绘制", "画出", "画一张", "画一幅", "前往"),
)
PROGRAM = ("write a program", "写一个程序", "编写一个程序", "写个程序", "编写程序")  # the Chinese is ours

_CJK = regex.compile(rf"[{CJK}]")
_WIDE = regex.compile(rf"[{CJK}\u3000-\u303f\uff00-\uffef]")  # with the punctuation of Chinese


@dataclass(frozen=True)
class InstructionFilter:
    """The rules, in the original's order.

    Attributes:
        blocked: words and phrases; English ones as whole words, in small letters or capitals.
        openings: how an instruction may not begin, in small letters or capitals.
        chinese: whether Chinese instructions are welcome; False is as published.

    >>> InstructionFilter().why_not("Draw a picture of a cat.")
    ('blocked word', 'picture')
    >>> InstructionFilter().why_not("《静夜思》的作者是谁？") is None
    True
    """

    blocked: tuple[str, ...] = BLOCKED_WORDS + CHINESE_WORDS
    openings: tuple[str, ...] = PROGRAM
    chinese: bool = True

    def why_not(self, instruction: str) -> tuple[str, str] | None:
        """Return the rule by which an instruction is thrown away, and what it found; None if it may stay."""
        text = instruction.strip()
        if not text:
            return "empty", ""
        words = count_words(text) if self.chinese else len(text.split())
        if words <= TOO_SHORT or words > LONGEST:
            return "too short" if words <= TOO_SHORT else "too long", f"{words:.3g} words"
        for word in self.blocked:
            if _holds(text, word):
                return "blocked word", word
        for opening in self.openings:  # without a word boundary, as published: "Write a programming quiz" goes, too
            if text.lower().startswith(opening):
                return "write a program", opening
        first = text[0]
        if first in string.punctuation or (not first.isascii() and not (self.chinese and _begins_chinese(first))):
            marks = unicodedata.category(first)[0] in "PS"
            return "punctuation first" if marks else "foreign first", first
        return None


def count_words(text: str) -> float:
    """Return how many words a text has; a Chinese, Japanese or Korean character counts as two thirds of one.

    >>> count_words("Name three colours."), count_words("写一首诗"), count_words("用Python写一个函数")
    (3, 2.67, 5.0)
    """
    characters = len(_CJK.findall(text))
    if not characters:
        return len(text.split())
    return round(len(_WIDE.sub(" ", text).split()) + characters / CHARACTERS_PER_WORD, 2)


def _holds(text: str, word: str) -> bool:
    if word.isascii():
        return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE | re.ASCII) is not None
    return word in text


def _begins_chinese(first: str) -> bool:
    """Whether a Chinese sentence may begin so: with a character, a full-width letter, or an opening mark."""
    wide_letter = "\uff10" <= first <= "\uff5a" and first.isalnum()
    return bool(_CJK.match(first)) or wide_letter or unicodedata.category(first) in ("Ps", "Pi")
