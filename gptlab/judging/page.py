"""A report of judging as one HTML page to look through: entries, scores, filters, and a blind mode for people.

The page is one file that loads nothing: it opens by a double click, without a network, and can be sent to a class. The
report stands in it as JSON, the parts of gptlab/assets/judging around it. What models and judges wrote is data: it is
escaped here and becomes text there, never markup, and a policy in the page's head lets no other script run.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from gptlab.files import write_text

FORMAT = "gptlab-judging-1"
_SCRIPTS = ("logic.js", "blind.js", "page.js")


def write_page(report: Mapping[str, Any], path: str | Path) -> None:
    """Write one self-contained HTML file that shows a report of `gptlab judge`.

    Args:
        report: what the JSON file of `gptlab judge` holds; scores, a comparison and metrics may each be there or not.
        path: the file to write.

    Raises:
        ValueError: the report has another format, or no list of entries.
        OSError: the file cannot be written.
    """
    if not isinstance(report, Mapping) or report.get("format") != FORMAT:
        found = report.get("format") if isinstance(report, Mapping) else type(report).__name__
        raise ValueError(f"a page is made from a report of the format {FORMAT!r}, got {found!r}")
    if not isinstance(report.get("entries"), list):
        raise ValueError(f"a report needs a list of entries, got {type(report.get('entries')).__name__}")
    style, script = _asset("page.css"), "".join(map(_asset, _SCRIPTS))
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "style": style,
        "script": script,
        "report": _embedded(report),
        "words": _embedded(json.loads(_asset("words.json"))),
    }
    write_text(path, re.sub(r"\{\{(\w+)\}\}", lambda slot: parts[slot[1]], _asset("page.html")))


def _asset(name: str) -> str:
    return (resources.files("gptlab") / "assets" / "judging" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Return the name by which a page's policy allows exactly this script or style."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _embedded(value: Any) -> str:
    r"""Return JSON that stays inside a <script> whatever its texts hold, and that every browser reads.

    `<` becomes \u003c, so nothing closes the element; half a character, which UTF-8 cannot hold, is written as \ud83d.
    """
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return re.sub("[\ud800-\udfff\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain(value: Any) -> Any:
    """Return `value` with numbers that JSON lacks (a perplexity may be infinite) as their names."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
