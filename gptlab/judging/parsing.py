"""What a judge's reply says: a score from 0 to 100, or which of two responses is the better one.

A judge is asked for a number and nothing else, and small models write something else all the same. What they add holds
numbers too: "On a scale from 0 to 100 I give 85" is not a 0, and "8/10" is neither 8 nor 10. So a number counts only
where the reply says what it is:

    alone on the first or the last line      85    **85**    85/100    85 out of 100    85分
    behind a word for a score                Score: 85    I'd rate this response as 85.    评分：85    {"score": 85}
    out of a hundred                         ... which makes 60 out of 100, I think ...

All the numbers of a reply that count must be one and the same, a whole number in [0, 100]. A reply that contradicts
itself, or that states a score which is none (-5, 850, 8/10, 85.5, 80-90), gives None: nobody can tell a wrong score
from a right one later, and a missing one is seen.

Numbers in words (eighty-five, 八十五) are left out, and so are those that are only near (about 85, 85+).

Source: Raschka 2024, "Build a Large Language Model (From Scratch)", section 7.8, which takes `int(reply)`; Zheng et al.
2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", for the verdicts [[A]], [[B]] and [[C]].
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from gptlab.rouge import FULL_WIDTH

Verdict = Literal["A", "B", "tie"]

LONGEST_ANSWER = 20_000  # characters after the thinking; who writes more did not answer what was asked

# Ways to write the same: "８５：" is "85:", 【】 is [], a byte-order mark and a space without width are nothing.
_PLAIN = FULL_WIDTH | {ord(one): other for one, other in zip("\u3000\xa0‘’“”【】「」", "  ''\"\"[][]")}
_PLAIN |= dict.fromkeys([0xFEFF, 0x200B])

# A number is one token with all that changes its meaning: 85.5 is not 85 and the end of a sentence.
_TOKEN = re.compile(
    r"""
      (?P<scale> [01] [ ]* (?:[-−–—~]|to|and|到|至) [ ]* 100 (?![0-9.][0-9]) [ ]* 分? | \( (?:out[ ])?of[ ]100 \)
               | 满分 [ ]* [:为是]? [ ]* 100 [ ]* 分? | 100 [ ]* 分制 | 百分制 )
    | (?P<other_scale> [0-9五十]{1,3} [ ]* 分制 )
    | (?P<number>
          (?P<sign> [-−–+.] )?
          (?P<digits> [0-9]+ (?:[.,_][0-9]+)* [a-z0-9]* )
          (?: [ ]* (?P<unit> % | points? \b | marks? \b | percent \b | 分 ) )?
          (?: [ ]* (?: (?P<out_of> /|out[ ]of\b ) | of\b ) [ ]* (?P<full> [0-9]+ (?:[.,][0-9]+)* )
              (?: [ ]* (?:points?\b|分) )? )?
          (?P<range> [ ]* (?:[-−–—~]|to\b|or\b|and\b|到|至|或) [ ]* [0-9]+ )?
      )
    | (?P<word> </?score> | [a-z] (?: [a-z_']* [a-z] )? | 评分 | 得分 | 分数 | 打分 | 给分 | 总分 | 满分 | 因为 | 由于 )
    | (?P<character> [^ ] )
    """,
    re.VERBOSE | re.ASCII,
)


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


_SCORES = _words("score scores scored scoring <score> rating rated deserves boxed 评分 得分 分数 打分 给分 总分")
_LIMITS = _words("best highest top max maximum perfect full possible worst lowest min minimum 高 低")
_SCALES = _words("scale 满分")
_GIVING = _words("rate give gave assign award")  # "I give 85", not "9 times 5 gives 45"
_GIVING_CHINESE = _words("给 打 值 评")  # 给这个回答打85分, not 给3个例子
_FIRST_PERSON = _words("i i'd i'll i've")

# What may stand between such a word and its number: "score of the response is: **85**".
_BETWEEN = _words(
    "a an as at be final for in is it its model model's my of output overall response response's that the"
)
_BETWEEN |= _words("this to total was with would") | set("这个该此模型的回答复响应输出予为是了它其一在会可以最终综合我")
_BETWEEN |= set("\n:=|*_`\"'()[]{}-–—")

# Behind a score its sentence ends, pauses or goes on like this; "3 errors" and "4 stars" are no scores.
_AFTER = _words("and as because but due for is on seems since to which with would </score> 因 因为 由于 但")
_AFTER |= {""} | set("\n.,;:!?()[]{}<\"'*_`|#\\=-–—。、")

_AROUND = frozenset("|*_`\"'()[]{}")
_ENDS = frozenset(".。!")

_VERDICT = re.compile(r"\[\[ *(a|b|c|tie) *\]\]")
_LETTER = re.compile(r"[\s*_`\"'()\[\]{}.]*(a|b|c|tie)[\s*_`\"'()\[\]{}.]*")
_MEANING: dict[str, Verdict] = {"a": "A", "b": "B", "c": "tie", "tie": "tie"}


def parse_score(text: str) -> int | None:
    """Return the score that a reply states, or None when it states none, an impossible one, or several.

    What stands inside <think> is not looked at.

    >>> parse_score("**85**"), parse_score("The score is 85."), parse_score("评分：85分")
    (85, 85, 85)
    >>> parse_score("8/10"), parse_score("-5"), parse_score("Score: 85, no, score: 20")
    (None, None, None)
    """
    answer = _answer(text)
    if answer is None:
        return None
    answer = re.sub(r"^```[a-z]*$", "", answer, flags=re.MULTILINE | re.ASCII).strip()
    stated = set(_stated(list(_TOKEN.finditer(answer))))
    return stated.pop() if len(stated) == 1 else None


def parse_verdict(text: str) -> Verdict | None:
    """Return the verdict of a pairwise reply: "A" or "B", the first or the second response shown, "tie", or None.

    Judges quote the tokens that they may choose from before they choose, so the last one in double brackets counts. A
    reply that is nothing but the letter is a verdict, too. What stands inside <think> is not looked at.

    >>> parse_verdict("[[A]] would be too kind, and [[C]] unjust. [[B]]")
    'B'
    """
    answer = _answer(text)
    if answer is None:
        return None
    chosen = _VERDICT.findall(answer)
    if chosen:
        return _MEANING[chosen[-1]]
    letter = _LETTER.fullmatch(answer)
    return _MEANING[letter[1]] if letter else None


def _answer(text: str) -> str | None:
    """Return what follows the thinking, written plainly and in lower case; None if that is too long to be an answer.

    Models whose template opens the thinking give its end alone; one that was cut short gives its beginning alone.
    """
    answer = text.rpartition("</think>")[2].partition("<think>")[0]
    if len(answer) > LONGEST_ANSWER:
        return None
    return re.sub(r"[^\S\n]+", " ", answer.translate(_PLAIN).strip().lower())


def _stated(tokens: list[re.Match[str]]) -> Iterator[int | None]:
    """Yield every score that the tokens state; None for one that is no score."""
    alone = _alone_on_a_line(tokens)
    for place, token in enumerate(tokens):
        if token.lastgroup == "other_scale":
            yield None
        if token.lastgroup != "number":
            continue
        label = _label(tokens, place)
        if place in alone or (token["out_of"] and token["full"] == "100"):
            yield _value(token)
        elif _word(tokens, label) in _SCALES and token["digits"] != "100":
            yield None
        elif _word(tokens, label) in _SCORES and _word(tokens, label - 1) not in _LIMITS:
            yield _value(token) if _is_complete(tokens, label, place) else None
        elif _is_given(tokens, label, place) and _is_complete(tokens, label, place):
            yield _value(token)


def _alone_on_a_line(tokens: list[re.Match[str]]) -> set[int]:
    """Return the places of the numbers that fill the first or the last line. "85." ends a reply, "1." begins a list."""
    breaks = [place for place, token in enumerate(tokens) if token[0] == "\n"]
    first = range(breaks[0] if breaks else len(tokens))
    last = range(breaks[-1] + 1 if breaks else 0, len(tokens))
    found = set()
    for line, around in ((last, _AROUND | _ENDS), (first, _AROUND)):
        numbers = [place for place in line if tokens[place].lastgroup == "number"]
        others = [token for token in tokens[line.start : line.stop] if token.lastgroup not in ("number", "scale")]
        if len(numbers) == 1 and all(token[0] in around for token in others):
            found.add(numbers[0])
    return found


def _label(tokens: list[re.Match[str]], place: int) -> int:
    """Return the place of the word that leads to the number at `place`, past "of the response is" and the like."""
    place -= 1
    while place >= 0 and (tokens[place].lastgroup == "scale" or tokens[place][0] in _BETWEEN):
        place -= 1
    return place


def _is_given(tokens: list[re.Match[str]], label: int, place: int) -> bool:
    """Whether the judge gives the number: "I would give it 85", 打85分."""
    if _word(tokens, label) in _GIVING_CHINESE:
        return tokens[place]["unit"] == "分"
    person = {_word(tokens, label - 1), _word(tokens, label - 2)} & _FIRST_PERSON
    return bool(person) and _word(tokens, label) in _GIVING


def _is_complete(tokens: list[re.Match[str]], label: int, place: int) -> bool:
    """Whether nothing behind the number makes it a number of things, or of a list ("Score:", and below "1. It is")."""
    if any(token[0] == "\n" for token in tokens[label + 1 : place]):
        return _word(tokens, place + 1) in _AROUND | set("\n,") or place + 1 == len(tokens)
    return _word(tokens, place + 1) in _AFTER or tokens[place + 1].lastgroup == "scale"


def _word(tokens: list[re.Match[str]], place: int) -> str:
    return tokens[place][0] if 0 <= place < len(tokens) else ""


def _value(number: re.Match[str]) -> int | None:
    """Return a number's value as a score, or None."""
    whole = re.fullmatch(r"([0-9]{1,3})(?:\.0+)?", number["digits"])
    if not whole or number["sign"] or number["range"] or number["full"] not in (None, "100"):
        return None
    return int(whole[1]) if int(whole[1]) <= 100 else None
