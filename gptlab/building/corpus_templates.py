"""From a corpus to instructions: a template is put around each pair of it.

    Translate this sentence from [src_lang] to [tgt_lang]: [input]

A translation corpus has sentences and their translations, and no instructions. With a few templates each pair becomes
an Alpaca entry in each direction, in a wording drawn at random. The output is the reference and nothing else.

Five things go wrong easily. What is written in square brackets inside a *sentence* is data and must stay what it is; so
all placeholders of a template are replaced in one pass. The same pair must not come twice, and what is held out must be
decided before (see `pairs`). A model that saw one wording alone answers to that one; so some templates are held out, to
see whether the others were enough. It would also learn where the input stands; so that is now inside the instruction,
now in the field of its own.

Translation is the first case and no special one: any two columns of any table are a pair, and every other column may be
named in a template. Left out: how many entries of which corpus to take (see `gptlab.data.Mixture`).

Source: Wei et al. 2021, "Finetuned Language Models Are Zero-Shot Learners" (FLAN), section 2.1; the course's own
templates for BayLing (source 002); Wang et al. 2022, Self-Instruct, whose code draws among several layouts, too.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import regex

from gptlab.building.pairs import Pair, check_pair, directed, reversed_pair
from gptlab.data.instruction import read_records
from gptlab.files import read_text
from gptlab.tokenizer import check_utf8

Layout = Literal["mixed", "inside", "field"]

PLACEHOLDER = re.compile(r"\[([^\W\d]\w*)\]")

# What a value is called in a template of another language: value -> language of the template -> name.
NAMES: Mapping[str, Mapping[str, str]] = {
    "English": {"zh": "英语"},
    "Chinese": {"zh": "中文"},
    "German": {"zh": "德语"},
    "French": {"zh": "法语"},
    "Spanish": {"zh": "西班牙语"},
    "Russian": {"zh": "俄语"},
    "Japanese": {"zh": "日语"},
    "Korean": {"zh": "韩语"},
}
# What an instruction says instead of the input when that stands in its own field.
STAND_IN: Mapping[str, str] = {"en": "this sentence", "zh": "这句话"}

_QUOTED_INPUT = r"""["'“‘「《]?\[input\]["'”’」》]?"""
_INPUT_ENDS_IT = re.compile(rf"(?<=[:：,，.。?？!！])\s*{_QUOTED_INPUT}[.。]?$")
_INPUT_NAMED_BEFORE = re.compile(
    rf"(sentence|phrase|text|question|words?|句子|句话|文字|文本|问题)\s*[:：]?\s*{_QUOTED_INPUT}"
)


def load_templates(path: str | Path | None = None) -> list[str]:
    """Return the templates of a file.

    Args:
        path: a text file with a template on each line, where empty lines and those that begin with # are left out; or a
            JSON list of texts, also as JSON Lines. None is the file for translation that comes with the library.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not UTF-8 or not JSON, a template is empty or there twice, or there is none.
    """
    shipped = resources.files("gptlab") / "assets" / "building" / "translation_templates.txt"
    if path is None:
        lines: list[Any] = shipped.read_text(encoding="utf-8").splitlines()
    elif Path(path).suffix in (".json", ".jsonl"):
        lines = read_records(path)
    else:
        lines = read_text(path).splitlines()
    if path is None or Path(path).suffix not in (".json", ".jsonl"):
        lines = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not lines:
        raise ValueError(f"{path} holds no templates")
    _check_distinct(lines, f"{path}: ")
    return lines


def hold_out_templates(templates: Sequence[str], count: int, *, seed: int = 0) -> tuple[list[str], list[str]]:
    """Split off some templates: (for training, held out), each in their order.

    Raises:
        ValueError: one of the parts would be empty.
    """
    if not 0 < count < len(templates):
        raise ValueError(f"from {len(templates)} templates 1 to {len(templates) - 1} can be held out, got {count}")
    chosen = set(random.Random(seed).sample(range(len(templates)), k=count))
    parts: tuple[list[str], list[str]] = ([], [])
    for number, template in enumerate(templates):
        parts[number in chosen].append(template)
    return parts


def fault_of(
    template: Any, allowed: Collection[str], required: Collection[str] = ("input",), *, once: bool = False
) -> str | None:
    """Return what is wrong with a template, None if nothing is.

    Args:
        template: what shall be one.
        allowed: the names that may stand in its brackets.
        required: the names that it must have.
        once: whether it may have no name twice.

    >>> fault_of("Say [input] in [language].", allowed=["input", "tgt_lang"])
    '[language] is not known; allowed are [input], [tgt_lang]'
    """
    if not isinstance(template, str) or not template.strip():
        return f"it must be text and not empty, got {template!r:.80}"
    try:
        check_utf8(template)
    except ValueError as error:
        return str(error)
    found = PLACEHOLDER.findall(template)
    unknown = [name for name in found if name not in allowed]
    if unknown:
        return f"[{unknown[0]}] is not known; allowed are {', '.join(f'[{name}]' for name in sorted(allowed))}"
    for name in required:
        if name not in found:
            return f"it lacks [{name}]"
    for name in found if once else ():
        if found.count(name) > 1:
            return f"[{name}] is in it {found.count(name)} times"
    return None


def language_of(template: str) -> str:
    """Return the language that a template is in: "zh" if it has Chinese characters besides its placeholders, or "en".

    >>> language_of("用[tgt_lang]说：[input]"), language_of("Traduire en [tgt_lang] : [input]")
    ('zh', 'en')
    """
    return "zh" if regex.search(r"\p{Han}", PLACEHOLDER.sub("", template)) else "en"


def apply_templates(
    pairs: Sequence[Pair],
    templates: Sequence[str],
    *,
    seed: int = 0,
    per_pair: int = 1,
    both_directions: bool = True,
    layout: Layout = "mixed",
    source: str = "source",
    target: str = "target",
    names: Mapping[str, Mapping[str, str]] = NAMES,
    stand_in: Mapping[str, str] = STAND_IN,
) -> list[dict[str, Any]]:
    """Return the pairs as Alpaca entries: of each pair `per_pair` in the one direction, then as many in the other.

    An entry keeps where it is from: its pair's "id" (or number, from 1) as "pair", its template as "template", and
    every further column, such as "src_lang" and "tgt_lang", as they are in its direction.

    Args:
        pairs: each with a source and a target, and for both directions with "src_lang" and "tgt_lang".
        templates: with placeholders in square brackets. [input], or the source's own name, must be there; every other
            column but the target may be.
        seed: of templates and layouts.
        per_pair: how many different templates each pair gets; `len(templates)` is all of them.
        both_directions: whether a pair is used from target to source, too; see `reversed_pair`.
        layout: where the input goes: "inside" the instruction, into the "field" of its own, or drawn for each entry.
            For the field [input] is taken off the template's end, or `stand_in` takes its place.
        source: the column of what is asked.
        target: the column of the right answer.
        names: what values of the other columns are called in templates of another language, such as
            {"English": {"zh": "英语"}}; what is not there is written as it is.
        stand_in: by language what the instruction calls an input that stands elsewhere.

    Raises:
        ValueError: there are no pairs, one is none, or one comes twice (see `unique_pairs`); a template is empty, comes
            twice, lacks the input, or names what a pair does not have; per_pair is not in [1, number of templates]; or
            the layout is not known.

    Source: FLAN (templates drawn for each example); pitfalls as said above.

    >>> pair = {"source": "the cat", "target": "猫", "src_lang": "English", "tgt_lang": "Chinese"}
    >>> for entry in apply_templates([pair], ["用[tgt_lang]说：[input]"], layout="inside"):
    ...     print(entry["instruction"], "|", entry["output"])
    用中文说：the cat | 猫
    用英语说：猫 | the cat
    """
    columns = {"source": source, "target": target}
    if layout not in ("mixed", "inside", "field"):
        raise ValueError(f"layout must be 'mixed', 'inside' or 'field', got {layout!r}")
    if isinstance(per_pair, bool) or not isinstance(per_pair, int) or not 1 <= per_pair <= len(templates):
        raise ValueError(f"per_pair must be in [1, {len(templates)}], the number of templates, got {per_pair!r}")
    _check_distinct(templates)
    if not pairs:
        raise ValueError("there are no pairs to put templates around")
    traced = [{"id": number, **pair} for number, pair in _numbered(pairs, columns)]
    ways = _in_all_directions(traced, both_directions, columns)
    unfit = _unfit_pairs(ways)
    forms = [_with_input(template, number, source, target, unfit) for number, template in enumerate(templates, start=1)]
    rng, entries = random.Random(seed), []
    for way in ways:
        values = {**way, "input": way[source]}
        for number in rng.sample(range(len(templates)), k=per_pair):
            form, apart = forms[number], layout == "field" or (layout == "mixed" and rng.random() < 0.5)
            language = language_of(form)
            form = _without_input(form, stand_in[language]) if apart else form
            entries.append(
                {
                    "instruction": _filled(form, values, names, language),
                    "input": way[source] if apart else "",
                    "output": way[target],
                    "pair": way["id"],
                    "template": templates[number],
                    **{key: value for key, value in way.items() if key not in _ENTRY_KEYS | {source, target}},
                }
            )
    return entries


_ENTRY_KEYS = {"instruction", "input", "output", "pair", "template", "id"}


def _numbered(pairs: Sequence[Pair], columns: dict[str, str]) -> list[tuple[int, Pair]]:
    """Return the pairs with their numbers, checked one by one."""
    for number, pair in enumerate(pairs, start=1):
        check_pair(pair, f"pair {number}", **columns)
        if "input" in pair and columns["source"] != "input":
            raise ValueError(f"pair {number} has a column 'input', but [input] is {columns['source']!r}; rename it")
    return list(enumerate(pairs, start=1))


def _in_all_directions(pairs: list[dict], both_directions: bool, columns: dict[str, str]) -> list[dict[str, Any]]:
    """Return the pairs, each followed by its reverse if that is wanted; none is there twice."""
    ways: list[dict[str, Any]] = []
    seen: dict[tuple[Any, ...], Any] = {}
    for number, pair in enumerate(pairs, start=1):
        if both_directions and ("src_lang" not in pair or "tgt_lang" not in pair):
            raise ValueError(
                f"pair {number} has no 'src_lang' and 'tgt_lang', without which nobody can say which direction is "
                f"meant; its keys are {list(pair)}. For one direction pass both_directions=False"
            )
        for way in [pair, reversed_pair(pair, **columns)] if both_directions else [pair]:
            earlier = seen.setdefault(directed(way, **columns), number)
            if earlier != number:
                raise ValueError(
                    f"pairs {earlier} and {number} are the same: {way[columns['source']]!r:.60}; see unique_pairs"
                )
            ways.append(way)
    return ways


def _unfit_pairs(ways: list[dict[str, Any]]) -> dict[str, tuple[Any, Any] | None]:
    """Return every column with the first pair that has nothing to write there, and what it has; None if all have."""
    unfit: dict[str, tuple[Any, Any] | None] = {}
    for name in dict.fromkeys(key for way in ways for key in way):
        values = ((way["id"], way.get(name)) for way in ways)
        unfit[name] = next((pair for pair in values if not _can_be_written(pair[1])), None)
    return unfit


def _can_be_written(value: Any) -> bool:
    return isinstance(value, str | int | float) and str(value).strip() != ""


def _with_input(template: str, number: int, source: str, target: str, unfit: dict[str, tuple[Any, Any] | None]) -> str:
    """Return a template in which what is asked is called [input], once it is sure that all pairs can fill it."""
    where = f"template {number}, {template!r:.80}"
    if f"[{target}]" in template:
        raise ValueError(f"{where}: [{target}] would give the answer away")
    template = template.replace(f"[{source}]", "[input]").strip()
    if fault := fault_of(template, set(unfit) - {source, target} | {"input"}):
        raise ValueError(f"{where}: {fault}")
    for name in PLACEHOLDER.findall(template):
        if unfit.get(name):
            pair, value = unfit[name]
            raise ValueError(f"{where}: [{name}] must be text in every pair, pair {pair} has {value!r:.60}")
    return template


def _without_input(template: str, stand_in: str) -> str:
    """Return a template for an input that stands in its own field.

    >>> _without_input("Put it into [tgt_lang]: [input]", "this sentence")
    'Put it into [tgt_lang]:'
    >>> _without_input("What does '[input]' mean in [tgt_lang]?", "this sentence")
    'What does this sentence mean in [tgt_lang]?'
    >>> _without_input("Put the sentence [input] into [tgt_lang].", "this sentence")
    'Put the sentence into [tgt_lang].'
    """
    if _INPUT_ENDS_IT.search(template):
        return _INPUT_ENDS_IT.sub("", template)
    if _INPUT_NAMED_BEFORE.search(template):
        return _INPUT_NAMED_BEFORE.sub(r"\1", template)
    return re.sub(_QUOTED_INPUT, lambda _: stand_in, template)


def _filled(template: str, values: Mapping[str, Any], names: Mapping[str, Mapping[str, str]], language: str) -> str:
    """Return the template with its placeholders replaced in one pass: brackets in the values stay what they are."""

    def value(placeholder: re.Match[str]) -> str:
        text = str(values[placeholder[1]])
        return text if placeholder[1] == "input" else names.get(text, {}).get(language, text)

    return PLACEHOLDER.sub(value, template)


def _check_distinct(templates: Sequence[Any], where: str = "") -> None:
    if isinstance(templates, str) or not all(isinstance(template, str) and template.strip() for template in templates):
        bad = (
            templates if isinstance(templates, str) else next(t for t in templates if not str(t).strip() or t != str(t))
        )
        raise ValueError(f"{where}templates must be a list of texts, none of them empty, got {bad!r:.80}")
    for number, template in enumerate(templates):
        if template in templates[:number]:
            raise ValueError(
                f"{where}templates {templates.index(template) + 1} and {number + 1} are the same: {template!r:.80}"
            )
