"""What a judge's reply says: a score from 0 to 100, or which of two responses is the better one.

A judge is asked for a number and nothing else, and small models write something else all the same. What they add holds
numbers too: "On a scale from 0 to 100 I give 85" is not a 0, and "8/10" is neither 8 nor 10. So a number counts only
where the reply says what it is:

    alone on the first or the last line      85    **85**    85/100    85 out of 100    85分
    behind a word for a score                Score: 85    I'd rate this response as 85.    评分：85    {"score": 85}
    out of a hundred                         ... which makes 60 out of 100, I think ...
    the only number, and a clause of its own 85, because it is right    85 (good)    回答错误，0分。

A reply is read in three steps. "Strip" takes away thoughts, the marks of its end, and fences. "Reject" gives up a reply
with a scale that does not end at 100 (1 to 5, 8/10, max 10), and blots out numbers that a sentence negates ("I would
not give it 100") or supposes ("If it were complete, ..."). "Find" looks for the above.

All the numbers of a reply that count must be one and the same, a whole number in [0, 100]. A reply that contradicts
itself, or that states a score which is none (-5, 850, 85.5, 80-90), gives None: nobody can tell a wrong score from a
right one later, and a missing one is seen. So each doubt is a None, also where "lines 3-5" is no scale, and where "not"
is said of something else. Numbers in words (eighty-five, 八十五) and those only near (about 85, 85+) are left out.

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

# Strip
_THOUGHT = re.compile(r"(</?(?:think|thinking|thought|reasoning|reflection)>)")
_END = re.compile(r"<\|[^<>|\n]{1,40}\|>|</s>|<eos>|<end_of_turn>|<end_of_text>")
_FENCE = re.compile(r"^```[a-z]*$", re.MULTILINE | re.ASCII)
_FORMULA = re.compile(r"(\${1,2}) *([0-9]{1,3}) *\1")

# Reject: scales that do not end at 100
_OTHER = r"""(?: (?!100(?:\.0+)?(?![.,]?[0-9])) [0-9]{1,9}(?:[.,][0-9]{1,9})? (?![0-9])
             | (?:two|three|four|five|six|seven|eight|nine|ten|twenty|fifty)\b | [一二三四五六七八九十]{1,3} (?!百) )"""
_NO_NOUN = r"(?! [ ]* (?!points?\b|marks?\b) [a-z])"  # "top 5 countries", "3 of 4 planets" are no scales
_LIMIT_OF_SCALE = r"max(?:imum)? | best | highest | top | full | perfect | up[ ]to | scale[ ](?:of|to)"
_OTHER_SCALE = re.compile(
    rf"""
      (?<![0-9.a-z]) (?:[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?|zero|one) [ ]* 分? [ ]* (?:[-−–—~]|to\b|到|至) [ ]* {_OTHER}
    | \b between[ ] [0-9]{{1,9}} [ ] and[ ] {_OTHER}
    | [0-9] [ ]* / [ ]* {_OTHER} | [\[(] [01] , [ ]? {_OTHER} [\])]
    | \b out [ ] of [ ] (?:(?:a|total|possible|maximum|of)[ ])* {_OTHER}
    | [0-9] [ ]* of [ ] {_OTHER} {_NO_NOUN}
    | \b (?:{_LIMIT_OF_SCALE}) (?:[_ ](?:possible|score|rating|marks?|grade|of|is|being))* [ "':=]* {_OTHER} {_NO_NOUN}
          (?! [ ]* (?:[-−–—~]|to\b) [ ]* 100)
    | (?:满分|最高(?:得分|评分|分数?)?) [ :为是]* {_OTHER}
    | (?<![0-9.a-z]) {_OTHER} (?:
          [ ](?:is|being|means|as)[ ](?:the[ ])? (?:best|max|maximum|highest|top)\b
        | [- ]* (?:points?|stars?|marks?)? [- ]* (?:scale|system)\b
        | [ ]* 分[制中里]
      )
    """,
    re.VERBOSE | re.ASCII,
)

# Reject: what makes the numbers of a sentence count for nothing; a key of JSON begins a sentence, "e.g." ends none
_SENTENCE_END = re.compile(
    r"""[!?。] | (?<!,)\n | (?<![ .(][a-z]) \. (?=[\s"'*)\]}]|\Z) | , (?=\s*"[a-z_ ]{1,40}"[ ]*:)""", re.VERBOSE
)
_SUPPOSED = re.compile(  # wherever in the sentence
    r"\b(?:if|unless|without|(?:were|had|should) it|(?:would|could|should|might) have|could|might)\b"
    r"|\btoo (?:low|high|much|generous|harsh|kind|strict)\b|[0-9] (?:is not|isn't|would be)\b|[0-9] ?分不"
    r"|如果|若|假如|要是|除非|否则|本可|本应",
    re.ASCII,
)
_FIELD = re.compile(r"(?:\b(?:score|rating|grade)|评分|得分|分数|打分)\s*[:：]")
_NEGATED = re.compile(r"\b(?:not|cannot|never|unable|nor|neither|hardly)\b|n't\b|不(?!错)|无法|没", re.ASCII)

# Find: replies with one number, in a clause of its own
_CLAUSE = re.compile(
    r"""
      (?P<first> [0-9]{1,3} ) (?: /100 | [ ]*分 )?
          (?: [ ]*,[ ]*(?:because\b|since\b|as\b|因为|由于)[^0-9\n]* | [ ][-–—][ ][^0-9\n]* | [ ]*\([^()0-9\n]*\)[.!]? )
    | [^0-9\n扣减]*,[ ]* (?P<last> [0-9]{1,3} ) [ ]*分[.。!]?
    """,
    re.VERBOSE,
)

# Find: a number is one token with all that changes its meaning: 85.5 is not 85 and the end of a sentence.
_TOKEN = re.compile(
    r"""
      (?P<scale> (?:from[ ]|从)? [01] [ ]* (?:[-−–—~]|to|and|到|至) [ ]* 100 (?![0-9.][0-9]) [ ]* 分?
               | \( (?:out[ ])?of[ ]100 \) | 满分 [ ]* [:为是]? [ ]* 100 [ ]* 分? | 100 [ ]* 分制 | 百分制 )
    | (?P<number>
          (?P<sign> [-−–+.] )?
          (?P<digits> [0-9]+ (?:[.,_][0-9]+)* [a-z0-9]* )
          (?: [ ]* (?P<unit> % | points? \b | pts \b | marks? \b | percent \b | 分 ) )?
          (?: [ ]* (?: (?P<out_of> /|out[ ]of\b ) | of\b ) [ ]* (?P<full> [0-9]+ (?:[.,][0-9]+)* )
              (?: [ ]* (?:points?\b|分) )? )?
          (?P<range> [ ]* (?:[-−–—~]|to\b|or\b|and\b|到|至|或) [ ]* [0-9]+ )?
      )
    | (?P<word> </?score> | 因为 | 由于 | 评分 | 得分 | 分数 | 打分 | 给分 | 总分 | (?:得|给|打)?满分
              | [a-z] (?: [a-z_']* [a-z] )? )
    | (?P<character> [^ ] )
    """,
    re.VERBOSE | re.ASCII,
)


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


_SCORES = _words("score scores scored scoring <score> rating rated deserves boxed 评分 得分 分数 打分 给分 总分")
_SCORES |= {"得满分", "给满分", "打满分"}
_FIELDS = _words("grade overall")  # and a colon: "Grade: 85", not "grade 5 pupils"
_LIMITS = _words("best highest top max maximum perfect full possible worst lowest min minimum 高 低")
_GIVING = _words("rate give gave assign award")  # "I give 85", not "9 times 5 gives 45"
_GIVING_CHINESE = _words("给 打 值 评")  # 给这个回答打85分, not 给3个例子
_BEFORE_GETTING = frozenset(["", *",.。:;"])  # 该回答可得85分, not 改正后可得100分
_FIRST_PERSON = _words("i i'd i'll i've")

# What may stand between such a word and its number: "score of the response is: **85**".
_BETWEEN = _words("a an as at be final for in is it its model model's my of output response response's should that the")
_BETWEEN |= _words("this to total was with would") | set("这个该此模型的回答复响应输出予为是了它其一在会可以最终")
_BETWEEN |= set("综合我结果\n:=|*_`\"'()[]{}-–—")

# Behind a score its sentence ends, pauses or goes on like this; "3 errors" and "4 stars" are no scores.
_AFTER = _words("and as because but due for is on seems since to which with would </score> 因 因为 由于 但")
_AFTER |= {""} | set("\n.,;:!?()[]{}<\"'*_`|#\\=-–—。、")

# What joins a score to a second number, and leaves open which of them is meant: 85 -> 75, 85;75, 85, or 75.
_JOINING = _words("or then maybe perhaps rather now") | set(",;|&<>/\\-–—=→⇒+*_\"'或")

_AROUND = frozenset("|*_`\"'()[]{}")
_ENDS = frozenset(".。!")

_DRESS = r"\s*_`\"'()\[\]{}"
_VERDICT = re.compile(r"\[\[ *(a|b|c|tie) *\]\]")
_LETTER = re.compile(rf"(?:[{_DRESS}.$]|\\boxed)*(a|b|c|tie)[{_DRESS}.。$]*")
_NAMED = re.compile(
    rf"(?:verdict|判决|结论|判断|裁决)[{_DRESS}:=]{{0,9}}(?:(?:is|为|是)[{_DRESS}:]{{1,9}})?(a|b|c|tie)"
    rf"(?: *\]\](?!,? *(?:/|\[\[|or\b|and\b|if\b|或|和))|[*_`\"')\]}}.。 ]*$)",
    re.MULTILINE,
)
_ALONE_AT_THE_END = re.compile(rf"(?:\A|[.!。\n])[*_`\"'( ]*\[\[ *(a|b|c|tie) *\]\][{_DRESS}.。!]*\Z")
_MEANING: dict[str, Verdict] = {"a": "A", "b": "B", "c": "tie", "tie": "tie"}


def parse_score(text: str) -> int | None:
    """Return the score that a reply states, or None when it states none, an impossible one, or several.

    What stands in a block of thoughts, as <think>, is not looked at.

    >>> parse_score("**85**"), parse_score("The score is 85."), parse_score("评分：85分")
    (85, 85, 85)
    >>> parse_score("8/10"), parse_score("-5"), parse_score("Score: 85, no, score: 20")
    (None, None, None)
    """
    answer = plain_answer(text)
    if answer is None or _OTHER_SCALE.search(answer):
        return None
    answer = _blot_out(answer)
    stated = set(_stated(list(_TOKEN.finditer(answer))))
    if clause := _CLAUSE.fullmatch(answer):
        stated.add(int(clause["first"] or clause["last"]))
    score = stated.pop() if len(stated) == 1 else None
    return score if score in range(101) else None


def parse_verdict(text: str) -> Verdict | None:
    """Return the verdict of a pairwise reply: "A" or "B", the first or the second response shown, "tie", or None.

    Judges quote the tokens that they may choose from. So where a reply holds different tokens in double brackets, that
    counts which stands alone at the end, or else behind a word as "verdict": "[[A]] is better than [[B]]" is None. A
    letter counts without brackets if it is all of the reply, or all that follows such a word in its line.

    >>> parse_verdict("[[A]] would be too kind, and [[C]] unjust. [[B]]")
    'B'
    """
    answer = plain_answer(text)
    if answer is None:
        return None
    if last := _ALONE_AT_THE_END.search(answer) or _LETTER.fullmatch(answer):
        return _MEANING[last[1]]
    tokens = set(_VERDICT.findall(answer))
    chosen = tokens if len(tokens) == 1 else set(_NAMED.findall(answer))
    return _MEANING[chosen.pop()] if len(chosen) == 1 else None


def plain_answer(text: str) -> str | None:
    """Return what follows the thinking, written plainly and in lower case; None if that is no single short answer.

    Models whose template opens the thinking give its end alone; one that was cut short gives its beginning alone.
    """
    kept: list[str] = []
    thinking = False
    for part in _THOUGHT.split(text.lower()):
        if not _THOUGHT.fullmatch(part):
            kept += [] if thinking else [part]
        elif part.startswith("</"):
            kept, thinking = kept if thinking else [], False
        else:
            thinking = True
    answer = "\n".join(kept)
    if len(answer) > LONGEST_ANSWER:
        return None
    answer, *further = _END.split(re.sub(r"[^\S\n]+", " ", answer.translate(_PLAIN).replace("**", " ")))
    if any(part.strip() for part in further):  # it went on with a next turn, and nobody knows whose
        return None
    return _FORMULA.sub(r"\2", _FENCE.sub("", answer.strip())).strip()


def _blot_out(answer: str) -> str:
    """Return the answer with # for the numbers that a sentence negates, or that it only supposes.

    A field, such as "score: 40", says what it says: "it is not complete, score: 40" has a score.
    """
    sentences, start = [], 0
    for end in [*(found.end() for found in _SENTENCE_END.finditer(answer)), len(answer)]:
        sentence, start = answer[start:end], end
        first, last = len(sentence), len(sentence)
        if _SUPPOSED.search(sentence):
            first = 0
        elif negation := _NEGATED.search(sentence):
            first = negation.end()
            field = _FIELD.search(sentence, first)
            last = field.start() if field else last
        sentences.append(sentence[:first] + re.sub("[0-9]+", "#", sentence[first:last]) + sentence[last:])
    return "".join(sentences)


def _stated(tokens: list[re.Match[str]]) -> Iterator[int | None]:
    """Yield every score that the tokens state; None for one that is no score."""
    alone = _alone_on_a_line(tokens)
    for place, token in enumerate(tokens):
        if token.lastgroup != "number":
            continue
        label = _label(tokens, place)
        word, before = _word(tokens, label), _word(tokens, label - 1)
        if place in alone:
            yield _value(token)
        elif word in _LIMITS or (word in _SCORES and before in _LIMITS):
            continue
        elif token["out_of"]:
            yield _value(token)
        elif word in _SCORES or (word in _FIELDS and _word(tokens, label + 1) in set(":=|")):
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
    word = _word(tokens, label)
    if word in _GIVING_CHINESE or (word == "得" and _word(tokens, _label(tokens, label)) in _BEFORE_GETTING):
        return tokens[place]["unit"] == "分"
    return word in _GIVING and not _FIRST_PERSON.isdisjoint([_word(tokens, label - 1), _word(tokens, label - 2)])


def _is_complete(tokens: list[re.Match[str]], label: int, place: int) -> bool:
    """Whether nothing behind the number makes it a number of things, of a list, or the first of two numbers."""
    following = place + 1
    while _word(tokens, following) in _JOINING:
        following += 1
    if following < len(tokens) and tokens[following].lastgroup == "number":
        return False
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
