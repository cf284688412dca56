"""Rules: an entry stays if its answer passes one simple test after another, and a report says what each one cost.

LIMA's authors filtered their 1,000 examples by such rules: an answer is neither short nor very long, is not written in
the first person, does not speak of other answers on its page, and is free of links, pictures and HTML. None of this
needs a model. Each rule has a name, and an entry goes out by the first one that it breaks; so their order decides which
is blamed, never which entries are left.

The rules read the output. They read words and know no grammar: an answer that quotes "I love you" speaks in the first
person by them. What is quoted as code, between backticks or in <code> or <pre>, is not looked at. LIMA itself removes
links and tags and keeps the answer; `strip_markup` does that, and the rule `no_markup` finds what it would remove.

Source: Zhou et al. 2023, "LIMA: Less Is More for Alignment", section 2.1; the Chinese forms are this project's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import regex

from gptlab.selection.entries import Entry, check_count, check_entries

SHORTEST, LONGEST = 1200, 4096  # characters; LIMA, section 2.1
LEAST_VOTES = 10  # LIMA, section 2.1: a community's score of an answer
SHOWN = 60  # characters of an example

_CODE = r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`|<pre\b.*?</pre>|<code\b.*?</code>"
_CODE_BLOCK = regex.compile(_CODE, regex.DOTALL | regex.IGNORECASE)

# "World War I", "Type I" and "Elizabeth I" hold a number, and so do "I and II" and the "I." that begins a line.
_NUMBERED = "War|Part|Type|Phase|Class|Level|Chapter|Volume|Act|Stage|Grade|Article|Section|Step"
_NUMBERED += "|Elizabeth|James|Charles|Nicholas|Napoleon|Francis|Peter|Alexander|George|William|Wilhelm|Henry"
_FIRST_PERSON = regex.compile(
    rf"(?<!\b(?:{_NUMBERED}) )(?<![\p{{Latin}}\d_/&.-])I(?![\p{{Latin}}\d_/&-]|[.)]\s|,? (?:and |or )?II)"
    r"|(?<![\p{Latin}\d_-])(?:(?i:my|myself|mine)|me)(?![\p{Latin}\d_-])"
    r"|(?<![自忘唯])我(?![们国方军校省市])|本人|笔者"
)
_OTHER_ANSWERS = regex.compile(
    r"\bas (?:\w+ ){0,2}(?:mentioned|pointed out)\b|\b(?:already|been) (?:mentioned|pointed out|said) by\b"
    r"|\b(?:other|previous|above|earlier|accepted|top) (?:answers?|repl(?:y|ies)|posters?|commenters?)\b"
    r"|\b(?:answers?|repl(?:y|ies)|comments?) (?:above|below)\b|\bstack ?(?:exchange|overflow)\b|\bthe (?-i:OP)\b"
    r"|如上所述|正如前面|(?:其他|其它|上面|楼上|前面)的?(?:回答|答案|答主|回复)|楼上|楼主|题主|答主",
    regex.IGNORECASE,
)

_TAGS = (
    "a abbr article aside b big blockquote body br button center dd div dl dt em embed figcaption figure font footer "
    "form h1 h2 h3 h4 h5 h6 head header hr html i iframe img input ins label link main meta nav p script "
    "section small source span strike strong style sub sup svg table tbody td tfoot th thead title tr u video audio"
).replace(" ", "|")
_MARKUP = regex.compile(
    rf"(?P<code>{_CODE})"
    r"|!\[[^\]\n]*\]\([^)\n]*\)"  # a picture in Markdown
    r"|\[(?P<words>[^\]\n]+)\]\((?:https?:|www\.|mailto:|/|\#)[^)\n]*\)"  # a link in Markdown; its words stay
    r"|<(?:https?|ftp)://[^>\s]+>|(?<![a-z\d.@/])(?:(?:https?|ftp)://|www\.[\w-]+\.)[^\s<>）)\]，。；]*[^\s<>）)\]，。；.,;:!?]"
    rf"|<!--.*?-->|<!doctype[^>]*>|</?(?:{_TAGS})(?:\s[^<>]*=[^<>]*)?\s*/?>",
    regex.DOTALL | regex.IGNORECASE,
)


@dataclass(frozen=True)
class Rule:
    """One test of an entry.

    Attributes:
        name: what the report calls it.
        keeps: whether an entry passes.
    """

    name: str
    keeps: Callable[[Entry], Any]


@dataclass(frozen=True)
class RulesReport:
    """What became of all entries.

    Attributes:
        kept: the indices of the entries that pass every rule, in order.
        rejected: (index, rule) of the others, in order: the first rule that each breaks.
        rules: the names, in the order in which they were asked.
        examples: for each rule the beginnings of outputs that it rejected, a few.
    """

    kept: list[int]
    rejected: list[tuple[int, str]]
    rules: tuple[str, ...]
    examples: dict[str, list[str]]

    @property
    def dropped(self) -> dict[str, int]:
        """How many entries each rule rejected."""
        counts = dict.fromkeys(self.rules, 0)
        for _, rule in self.rejected:
            counts[rule] += 1
        return counts

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        rejected = [[index, rule] for index, rule in self.rejected]
        return {"kept": self.kept, "rejected": rejected, "dropped": self.dropped, "examples": self.examples}

    def __str__(self) -> str:
        left = len(self.kept) + len(self.rejected)
        wide = max(map(len, (*self.rules, "all entries")))
        lines = [f"{'':<{wide}}  dropped    left  for example", f"{'all entries':<{wide}}  {'':>7}  {left:>6,}"]
        for rule, count in self.dropped.items():
            left -= count
            example = repr(self.examples[rule][0]) if self.examples[rule] else ""
            lines.append(f"{rule:<{wide}}  {count:>7,}  {left:>6,}  {example}".rstrip())
        return "\n".join(lines)


def apply_rules(entries: Sequence[Entry], rules: Sequence[Rule] | None = None, *, examples: int = 3) -> RulesReport:
    """Return which entries pass all rules, and by which rule each of the others goes out.

    Args:
        entries: with instruction and output.
        rules: in the order in which they are asked; None takes `lima_rules()`.
        examples: how many of the rejected are kept for each rule, to be looked at.

    Raises:
        ValueError: the entries are no list of entries, or there is no rule, or two have one name.

    Source: Zhou et al. 2023, section 2.1.

    >>> entries = [{"instruction": "Hi", "output": text} for text in ("Hello!", "I say hello.", "", "你好！")]
    >>> print(apply_rules(entries, lima_rules(shortest=1)))
                      dropped    left  for example
    all entries                     4
    length >= 1             1       3  ''
    length <= 4096          0       3
    no first person         1       2  'I say hello.'
    no other answers        0       2
    no markup               0       2
    """
    check_entries(entries)
    rules = lima_rules() if rules is None else list(rules)
    names = tuple(rule.name for rule in rules)
    if not rules or len(set(names)) < len(names):
        raise ValueError(f"rules must be there and have different names, got {list(names)}")
    kept: list[int] = []
    rejected: list[tuple[int, str]] = []
    shown: dict[str, list[str]] = {name: [] for name in names}
    for index, entry in enumerate(entries):
        broken = next((rule.name for rule in rules if not rule.keeps(entry)), None)
        if broken is None:
            kept.append(index)
            continue
        rejected.append((index, broken))
        if len(shown[broken]) < examples:
            shown[broken].append(_beginning(entry["output"]))
    return RulesReport(kept, rejected, names, shown)


def lima_rules(shortest: int = SHORTEST, longest: int = LONGEST) -> list[Rule]:
    """Return LIMA's rules: length of the output in characters, no first person, no other answers, no markup.

    Raises:
        ValueError: the lengths are no whole numbers >= 0, or the shortest is above the longest.

    Source: Zhou et al. 2023, section 2.1.
    """
    check_count(shortest, "shortest", 0)
    check_count(longest, "longest", shortest)
    return [
        Rule(f"length >= {shortest}", lambda entry: len(entry["output"]) >= shortest),
        Rule(f"length <= {longest}", lambda entry: len(entry["output"]) <= longest),
        Rule("no first person", lambda entry: no_first_person(entry["output"])),
        Rule("no other answers", lambda entry: no_other_answers(entry["output"])),
        Rule("no markup", lambda entry: no_markup(entry["output"])),
    ]


def votes_rule(key: str = "score", least: int = LEAST_VOTES) -> Rule:
    """Return the rule that a community's score, under `key`, is at least so much; an entry without one goes out.

    Source: Zhou et al. 2023, section 2.1.
    """

    def keeps(entry: Entry) -> bool:
        votes = entry.get(key)
        return isinstance(votes, int | float) and not isinstance(votes, bool) and votes >= least

    return Rule(f"{key} at least {least}", keeps)


def no_first_person(text: str) -> bool:
    """Whether nobody says I, me, my or mine, in English or Chinese; we and 我们 may stand, as in LIMA.

    >>> [no_first_person(text) for text in ("In World War I, tanks were new.", "In my opinion, yes.", "我是学生")]
    [True, False, False]
    """
    return not _FIRST_PERSON.search(_CODE_BLOCK.sub(" ", text))


def no_other_answers(text: str) -> bool:
    """Whether the text speaks of no other answer on its page: "as mentioned", "the answer above", 楼上.

    >>> no_other_answers("As mentioned by others, it is 3."), no_other_answers("It is 3.")
    (False, True)
    """
    return not _OTHER_ANSWERS.search(_CODE_BLOCK.sub(" ", text))


def no_markup(text: str) -> bool:
    """Whether the text holds no link, picture or HTML tag outside code; tags of lists and of code may stand.

    >>> no_markup("Look at https://a.org"), no_markup("Write `<b>` for bold."), no_markup("<ul><li>one</ul>")
    (False, True, True)
    """
    return all(found["code"] is not None for found in _MARKUP.finditer(text))


def strip_markup(text: str) -> str:
    """Return the text without links, pictures and HTML tags, as LIMA does; code and lists stay as they are.

    >>> strip_markup("<p>See [the page](https://a.org): <b>yes</b>.</p>")
    'See the page: yes.'
    """
    return _MARKUP.sub(lambda found: found["code"] or found["words"] or "", text)


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
