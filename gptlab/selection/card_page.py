"""A report card as one HTML page: no script, nothing loaded, and every text of the data set escaped.

What an entry says is data, and may be HTML that would run. It passes through `html.escape` without exception, and a
policy in the page's head allows no script and no style but the page's own.
"""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import resources
from typing import Any

WIDTH = 520  # of a histogram, in its own units
WIDE = 1000
ROW = 26  # height of one verb's bar
SHADES = (1.0, 0.82, 0.66, 0.52)  # of a verb's nouns, the most frequent first
LABEL = 110  # units of the words at the right end of a histogram's axis
NARROWEST = 7.5  # units that a character of a label needs; half-width ones


def card_page(card: Mapping[str, Any]) -> str:
    """Return the page of what `ReportCard.to_dict` returns."""
    style = _asset("card.css")
    policy = f"default-src 'none'; style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'"
    parts = {"policy": policy, "style": style, "title": _text(card["title"]), "body": _body(card)}
    return re.sub(r"\{\{(\w+)\}\}", lambda slot: parts[slot[1]], _asset("card.html"))


def _asset(name: str) -> str:
    return (resources.files("gptlab") / "assets" / "selection" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _text(value: Any) -> str:
    """Return a text for HTML; half a character, which UTF-8 cannot hold, becomes a question mark in a box."""
    return html.escape(re.sub("[\ud800-\udfff]", "\ufffd", str(value)))


def _body(card: Mapping[str, Any]) -> str:
    sections = [_numbers(card), *(_lengths(part, found, card["unit"]) for part, found in card["lengths"].items())]
    sections += [_roots(card["roots"]), _near(card["near"], card["n"])]
    if card["rejected"] is not None:
        sections.append(_rejected(card["rejected"]))
    if card["contamination"] is not None:
        sections.append(_contamination(card["contamination"]))
    return "\n".join(sections)


def _section(title: str, *parts: str, wide: bool = False) -> str:
    opening = '<section class="wide">' if wide else "<section>"
    return "\n".join([opening, f"<h2>{title}</h2>", *parts, "</section>"])


def _numbers(card: Mapping[str, Any]) -> str:
    n, near, distinct = card["n"], card["near"], card["distinct"]
    cells = [
        ("entries", f"{n:,}", f"{card['n_with_input']:,} with an input"),
        ("different entries", f"{distinct['entries'] / n:.1%}", f"{distinct['entries']:,}"),
        ("different instructions", f"{distinct['instructions'] / n:.1%}", f"{distinct['instructions']:,}"),
        ("different outputs", f"{distinct['outputs'] / n:.1%}", f"{distinct['outputs']:,}"),
        ("near-duplicates", f"{near['dropped'] / n:.1%}", f"{near['by']} above {near['threshold']:g}"),
        ("novel instructions", f"{card['novel_share']:.1%}", "ROUGE-L at most 0.7, in order"),
    ]
    if card["mean_distance"] is not None:
        cells.append(("mean distance", f"{card['mean_distance']:.3f}", "1 - cosine of two entries"))
    if card["n_empty"]:
        cells.append(("empty", f'<span class="warn">{card["n_empty"]:,}</span>', "no instruction, or no output"))
    items = [f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in cells]
    return _section("In numbers", f"<dl>{''.join(items)}</dl>", wide=True)


def _lengths(part: str, found: Mapping[str, Any], unit: str) -> str:
    names = {"prompt": "Instruction and input", "output": "Output"}
    columns = [(f"{at} %", value) for at, value in found["percentiles"].items()]
    columns = [("shortest", found["least"]), *columns, ("longest", found["most"]), ("mean", found["mean"])]
    heads = "".join(f"<th>{name}</th>" for name, _ in columns)
    cells = "".join(f"<td>{value:,.0f}</td>" for _, value in columns)
    table = f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody><tr>{cells}</tr></tbody></table></div>'
    return _section(f"{names[part]}, in {unit}", _histogram(found["edges"], found["counts"]), table)


def _histogram(edges: Sequence[int], counts: Sequence[int]) -> str:
    """Return bars of 120 units for the fullest bin; the last bin is open and says so."""
    most, step = max(counts), WIDTH / len(counts)
    parts = []
    for place, (edge, count) in enumerate(zip(edges, counts)):
        left, tall = place * step, 120 * count / most
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{140 - tall:.1f}" width="{step - 1:.1f}" height="{tall:.1f}">'
        )
        parts.append(f"<title>from {edge:,}: {count:,}</title></rect>")
        if count == most:
            parts.append(f'<text x="{left + step / 2:.1f}" y="14" text-anchor="middle">{count:,}</text>')
        if place % max(1, len(edges) // 6) == 0 and left < WIDTH - LABEL:
            parts.append(f'<text x="{left:.1f}" y="155">{edge:,}</text>')
    parts.append(f'<text x="{WIDTH}" y="155" text-anchor="end">{edges[-1]:,} and more</text>')
    parts.append(f'<line x1="0" y1="140.5" x2="{WIDTH}" y2="140.5"/>')
    return f'<svg viewBox="0 0 {WIDTH} 160" role="img" aria-label="histogram">{"".join(parts)}</svg>'


def _roots(roots: Mapping[str, Any]) -> str:
    rows = roots["rows"]
    about = (
        f'<p class="quiet">Found in {roots["n_found"]:,} of {roots["n_total"]:,} instructions, by a light heuristic. '
        "Each bar is a verb, its parts the most frequent nouns; grey is all others, and what has none.</p>"
    )
    most, left = max((row["count"] for row in rows), default=1), 130
    parts = []
    for place, row in enumerate(rows):
        top, start = place * ROW, left + 60.0
        parts.append(f'<text class="name" x="{left - 8}" y="{top + 17}" text-anchor="end">{_text(row["verb"])}</text>')
        parts.append(f'<text x="{left + 52}" y="{top + 17}" text-anchor="end">{row["count"]:,}</text>')
        unit = (WIDE - left - 60) / most
        nouns = [*row["nouns"], (None, row["count"] - sum(count for _, count in row["nouns"]))]
        outside = []
        for (noun, count), shade in zip(nouns, [*SHADES[: len(row["nouns"])], 1.0]):
            named = noun is not None and _room(noun) <= count * unit
            outside += [] if named or noun is None else [f"{noun} {count:,}"]
            parts.append(_part(noun, count, start, top, count * unit, shade, named))
            start += count * unit
        if outside and start + _room(", ".join(outside)) < WIDE:
            parts.append(f'<text x="{start + 6:.1f}" y="{top + 17}">{_text(", ".join(outside))}</text>')
    svg = (
        f'<svg viewBox="0 0 {WIDE} {max(1, len(rows)) * ROW}" role="img" aria-label="root verbs">{"".join(parts)}</svg>'
    )
    return _section("What is asked for", about, f'<div class="scroll">{svg}</div>', wide=True)


def _part(noun: str | None, count: int, left: float, top: float, wide: float, shade: float, named: bool) -> str:
    """Return one part of a verb's bar, with its noun where that has room."""
    if not count:
        return ""
    kind = "other" if noun is None else "bar"
    name = "others" if noun is None else _text(noun)
    box = f'x="{left:.1f}" y="{top + 2}" width="{max(wide - 1, 0.5):.1f}" height="{ROW - 4}"'
    part = f'<rect class="{kind}" {box} fill-opacity="{shade}"><title>{name}: {count:,}</title></rect>'
    if named:
        part += f'<text class="in" x="{left + 4:.1f}" y="{top + 17}">{name}</text>'
    return part


def _room(label: str) -> float:
    return NARROWEST * sum(1 if ord(character) < 0x1100 else 2 for character in label) + 6


def _near(near: Mapping[str, Any], n: int) -> str:
    about = (
        f"<p>{near['dropped']:,} of {n:,} entries ask again what an earlier one asked: {near['exact']:,} literally, "
        f"{near['dropped'] - near['exact']:,} by {near['by']} above {near['threshold']:g}. "
        f"That makes {near['groups']:,} groups; the largest are:</p>"
    )
    groups = []
    for group in near["shown"]:
        head = f"{group['size']:,} x {_text(group['texts'][0][:90])}"
        numbers = ", ".join(f"{index + 1:,}" for index in group["indices"])
        more = ", …" if group["size"] > len(group["indices"]) else ""
        texts = "".join(f"<blockquote>{_text(text)}</blockquote>" for text in group["texts"])
        note = f'<p class="quiet">entries {numbers}{more}; what is literally the same is shown once</p>'
        groups.append(f"<details><summary>{head}</summary>{texts}{note}</details>")
    return _section("Near-duplicates", about if groups else "<p>There are none.</p>", *groups)


def _rejected(rejected: Mapping[str, int]) -> str:
    rows = "".join(f'<tr><td class="text">{_text(why)}</td><td>{count:,}</td></tr>' for why, count in rejected.items())
    total = f"<p>{sum(rejected.values()):,} were left out before:</p>"
    return _section("Rejected", total, f"<table><tbody>{rows}</tbody></table>")


def _contamination(found: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{rule} {count:,}" for rule, count in found["by_rule"].items())
    kind = ' class="warn"' if found["n_contaminated"] else ""
    about = (
        f"<p{kind}>{found['n_contaminated']:,} of {found['n_entries']:,} entries meet {found['n_rows_met']:,} of "
        f"{found['n_rows']:,} test rows ({counts}).</p>"
    )
    shown = []
    for match in found["shown"]:
        head = f"entry {match['index'] + 1:,}, row {match['row'] + 1:,}: {match['rule']} {match['score']:.2f}"
        texts = [match["entry_text"], match["row_text"]]
        quotes = "".join(f"<blockquote>{_text(text)}</blockquote>" for text in texts if text is not None)
        shared = f'<p class="quiet">both hold: {_text(match["shared"])}</p>' if match["shared"] else ""
        shown.append(f"<details><summary>{head}</summary>{quotes}{shared}</details>")
    return _section("Meets the test", about, *shown)
