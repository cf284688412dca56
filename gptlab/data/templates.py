"""How an Alpaca entry is written out as a prompt, and where its response begins.

An entry is `{"instruction": ..., "input": ..., "output": ...}`; `input` may be missing or empty, and a list of worked
`examples`, each with `output` and perhaps `input`, may stand before it. A template is a JSON file of the form that
alpaca-lora introduced, so that its files, and those of others, can be used as they are.

Source: Taori et al. 2023, Stanford Alpaca; alpaca-lora, templates/README.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from gptlab.data.segments import Segment
from gptlab.files import read_json
from gptlab.tokenizer import END_OF_TEXT

TrainOn = Literal["response", "all"]


@dataclass(frozen=True)
class Template:
    """The texts around an entry's fields. `{instruction}` and `{input}` are replaced, all else is literal.

    Attributes:
        name: what a checkpoint remembers.
        prompt_input: the prompt of an entry with an input, up to where the response begins.
        prompt_no_input: the prompt of an entry without.
        response_split: the words that close a prompt, such as "### Response:".
        description: for people.
        example: how one worked example is written; examples follow the instruction.
    """

    name: str
    prompt_input: str
    prompt_no_input: str
    response_split: str
    description: str = ""
    example: str = "Input: {input}\nOutput: {output}"

    def prompt(self, entry: Mapping[str, Any]) -> str:
        """Return everything that the model reads before it answers `entry`."""
        instruction, given = entry["instruction"], entry.get("input") or ""
        if entry.get("examples"):
            examples = [fill(self.example, {"input": "", **example}) for example in entry["examples"]]
            instruction = "\n\n".join([instruction, *examples])
        template = self.prompt_input if given else self.prompt_no_input
        return fill(template, {"instruction": instruction, "input": given})

    def prompt_segments(self, entry: Mapping[str, Any]) -> list[Segment]:
        """Return the prompt as a segment."""
        return [Segment(self.prompt(entry), trained=False)]

    @property
    def end_of_answer(self) -> Segment:
        """The token that ends an answer."""
        return Segment(END_OF_TEXT, trained=True, control=True)

    def segments(self, entry: Mapping[str, Any], train_on: TrainOn = "response") -> list[Segment]:
        """Return the prompt, the output and the end-of-text token that teaches where to stop.

        Args:
            entry: with an output.
            train_on: "response" trains on the output and end-of-text, "all" on the prompt too (as the book does).

        Raises:
            ValueError: train_on is neither.
        """
        if train_on not in ("response", "all"):
            raise ValueError(f"train_on must be 'response' or 'all', got {train_on!r}")
        return [
            Segment(self.prompt(entry), trained=train_on == "all"),
            Segment(entry["output"], trained=True),
            self.end_of_answer,
        ]

    def to_dict(self) -> dict[str, str]:
        """Return the template as a plain dictionary, the form of its JSON file with its name."""
        return asdict(self)


def template_names() -> list[str]:
    """Return the names of the templates that come with the library."""
    return sorted(file.name.removesuffix(".json") for file in _shipped().iterdir() if file.name.endswith(".json"))


def load_template(name: str | Path) -> Template:
    """Return a template by the name of a shipped one, or by the path of a JSON file.

    Raises:
        ValueError: the name is not known, or the file is not a template.
        FileNotFoundError: there is no such file.
    """
    if str(name) in template_names():
        return template_from_dict({"name": str(name), **read_json(_shipped() / f"{name}.json")})
    path = Path(name)
    if path.suffix != ".json":
        raise ValueError(f"no template is called {str(name)!r}; there are {template_names()}, or give a .json file")
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object")
    return template_from_dict({"name": path.stem, **content})


def template_from_dict(content: Mapping[str, Any]) -> Template:
    """Build a template from its dictionary; keys that a template does not have are left aside.

    Raises:
        ValueError: a key is missing or not text, or a prompt lacks its placeholder.
    """
    known = {field.name: content[field.name] for field in fields(Template) if field.name in content}
    for field in fields(Template):
        needed = field.name in known or field.default is MISSING
        if needed and not isinstance(known.get(field.name), str):
            found = known.get(field.name)
            raise ValueError(f"template {content.get('name', '?')!r}: {field.name!r} must be text, got {found!r}")
    for key, slots in (("prompt_input", ("{instruction}", "{input}")), ("prompt_no_input", ("{instruction}",))):
        lost = [slot for slot in slots if slot not in known[key]]
        if lost:
            raise ValueError(f"template {known['name']!r}: {key!r} must hold {' and '.join(lost)}")
        strange = [slot for slot in re.findall(r"\{[A-Za-z_]\w*\}", known[key]) if slot not in slots]
        if strange:
            raise ValueError(f"template {known['name']!r}: {key!r} has {strange[0]}; allowed are {' and '.join(slots)}")
    return Template(**known)


def _shipped() -> Any:
    return resources.files("gptlab") / "assets" / "templates"


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return `template` with its placeholders replaced in one pass: braces inside the values stay what they are."""
    return re.sub(r"\{(instruction|input|output)\}", lambda slot: values.get(slot[1], slot[0]), template)
