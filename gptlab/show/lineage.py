"""Where evolved instructions come from: the tree of a run of Evol-Instruct, rounds from left to right."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from gptlab.show.figure import COLORS, new_figure
from gptlab.show.tokens import drawable, escape_formulas, families

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]

OPERATION_COLORS = dict(zip(("constraints", "deepen", "concretise", "reasoning", "complicate", "breadth"), COLORS))
SURVIVORS = ("given", "kept")
GREY = "#767676"

WIDTH, LINE_HEIGHT, GAP, LANE_GAP, BAND_GAP, HEAD = 2.5, 0.135, 0.3, 0.1, 0.22, 0.3  # inches
TEXT_LINES, FONT_SIZE, MARGIN = 3, 7.5, 0.07  # of an instruction in its box
WHOLE_PIXELS = 1.05  # letters are set on whole pixels, which may make a line this much longer
BOX_HEIGHT = (TEXT_LINES + 1) * LINE_HEIGHT + 0.08


def plot_lineage(records: Sequence[Record], *, roots: int = 5) -> Figure:
    """Return the tree as a picture: a row for each given entry, a column for each round.

    A box in colour is an entry that was given or kept, named by the operation that made it. Below the row hang the
    attempts that were thrown away, crossed, with the reason; the line goes on from their parent, which stayed in the
    pool. An instruction that is too long for its box begins where it parts from its parent, and is cut where the box is
    full. A character that no installed font has is drawn as a box, □; for
    Chinese, one of the fonts that `gptlab.show.tokens` looks for must be installed.

    Args:
        records: with id, parent, op, round, instruction and verdict, each after its parent, as
            `gptlab.building.EvolInstruct` reports them; perhaps with input and detail.
        roots: how many of the given entries are drawn, the first ones.

    Raises:
        ValueError: there are no records, roots is below 1, or a parent is missing.
    """
    if not records:
        raise ValueError("a tree needs at least one record, got none")
    if roots < 1:
        raise ValueError(f"roots must be >= 1, got {roots}")
    rows = list(_by_root(records).values())[:roots]
    places, heights = zip(*map(_places, rows))
    last = max(column for row in places for column, _ in row.values())
    width = (last + 1) * (WIDTH + GAP)
    height = HEAD + sum(heights) + len(rows) * BAND_GAP
    figure = new_figure(width, height)
    figure.get_layout_engine().set(w_pad=0, h_pad=0)
    axis = figure.add_subplot()
    axis.set(xlim=(-GAP / 2, width - GAP / 2), ylim=(height, 0))
    axis.set_axis_off()
    for column in range(last + 1):
        title = f"round {column}" if column else "given"
        axis.text(_left(column) + WIDTH / 2, HEAD / 2, title, ha="center", va="center", fontsize=10, weight="bold")
    top = HEAD
    for row, place, tall in zip(rows, places, heights):
        tops = {name: (_left(column), top + lane * (BOX_HEIGHT + LANE_GAP)) for name, (column, lane) in place.items()}
        by_name = {record["id"]: record for record in row}
        for record in row:
            if record["parent"] is not None:
                _draw_line(axis, tops[record["parent"]], tops[record["id"]], kept=record["verdict"] in SURVIVORS)
        for record in row:
            _draw_box(axis, record, by_name.get(record["parent"]), *tops[record["id"]])
        top += tall + BAND_GAP
    return figure


def told(record: Record) -> str:
    """Return a record's instruction and input on one line."""
    return " ".join(f"{record['instruction']} {record.get('input') or ''}".split())


def new_part(text: str, parent: str) -> str:
    """Return a text from the word on in which it parts from its parent, behind "…"; all of it if they begin otherwise.

    >>> new_part("Name three red fruits.", "Name three fruits."), new_part("为什么？请分三步。", "为什么？")
    ('… red fruits.', '… 请分三步。')
    >>> new_part("Name two.", "Say it."), new_part("Name", "Name two.")
    ('Name two.', 'Name')
    """
    pairs = enumerate(zip(text, parent))
    start = next((place for place, (one, other) in pairs if one != other), min(len(text), len(parent)))
    while 0 < start < len(text) and " " not in text[start - 1 : start + 1] and not _is_wide(text[start - 1]):
        start -= 1
    return f"… {text[start:].lstrip()}" if 0 < start < len(text) else text


def wrapped(text: str, width: float, lines: int, size: float = FONT_SIZE) -> list[str]:
    """Return a text in at most so many lines; what does not fit is cut, with "…" at the end.

    Lines end at spaces, between Chinese characters, but not before a comma or a full stop, and within words that are
    longer than a line.

    Args:
        text: what is drawn, in the fonts of `gptlab.show.tokens`.
        width: of a line, in inches.
        lines: how many there may be.
        size: of the letters, in points.
    """
    found = [""]
    for word in _words(" ".join(text.split())):
        if _inches(found[-1] + word.rstrip(), size) <= width:
            found[-1] += word
            continue
        found.append("")
        for character in word:  # one by one, for words that are longer than a line
            if _inches(found[-1] + character.rstrip(), size) > width:
                found.append("")
            found[-1] += character
    found = [line for line in map(str.strip, found) if line]
    if len(found) > lines:
        found = found[:lines]
        while _inches(f"{found[-1]}…", size) > width:
            found[-1] = found[-1][:-1].rstrip()
        found[-1] += "…"
    return found


def _words(text: str) -> list[str]:
    """Return the pieces between which a line may end: words with the space behind them, and wide characters."""
    words = [""]
    for character in text:
        before = words[-1][-1:]
        closes = unicodedata.category(character) in ("Po", "Pe", "Pf")
        if before == " " or (not closes and (_is_wide(before) or _is_wide(character))):
            words.append("")
        words[-1] += character
    return words


def _is_wide(character: str) -> bool:
    return character != "" and unicodedata.east_asian_width(character) in "WF"


def _inches(text: str, size: float) -> float:
    """Return how wide a text is drawn, at most."""
    return WHOLE_PIXELS * sum(map(_advance, text)) * size / 72  # points in an inch


@cache
def _advance(character: str) -> float:
    """Return how wide a character is, in units of the size of the letters."""
    from matplotlib import font_manager

    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in families()]
    font = next((font for font in fonts if font.get_char_index(ord(character))), None)
    if font is None:
        return 1.0  # as wide as a Chinese character is
    font.set_size(10, 72)
    return font.load_char(ord(character)).linearHoriAdvance / 65536 / 10  # is told in 1/65536 of a pixel


def _by_root(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the records of each root, that of the root first."""
    root_of: dict[str, str] = {}
    rows: dict[str, list[Record]] = {}
    for record in records:
        name, parent = record["id"], record["parent"]
        if parent is not None and parent not in root_of:
            raise ValueError(f"record {name!r} has the parent {parent!r}, which is not before it")
        root_of[name] = name if parent is None else root_of[parent]
        rows.setdefault(root_of[name], []).append(record)
    return rows


def _places(row: Sequence[Record]) -> tuple[dict[str, tuple[int, int]], float]:
    """Return column and lane of each record of one root, and how tall they are together."""
    places: dict[str, tuple[int, int]] = {}
    taken: set[tuple[int, int]] = set()
    for record in row:
        lane = 0 if record["verdict"] in SURVIVORS or record["parent"] is None else 1
        while (record["round"], lane) in taken:
            lane += 1
        taken.add((record["round"], lane))
        places[record["id"]] = (record["round"], lane)
    lanes = 1 + max(lane for _, lane in places.values())
    return places, lanes * BOX_HEIGHT + (lanes - 1) * LANE_GAP


def _left(column: int) -> float:
    return column * (WIDTH + GAP)


def _draw_line(axis: Axes, parent: tuple[float, float], child: tuple[float, float], *, kept: bool) -> None:
    """Draw the line from a parent's right side along its lane, and down to the child before the child's column."""
    middle = BOX_HEIGHT / 2
    turn = child[0] - GAP / 2
    xs = [parent[0] + WIDTH, turn, turn, child[0]]
    ys = [parent[1] + middle, parent[1] + middle, child[1] + middle, child[1] + middle]
    look = {"linestyle": "-", "color": "black", "zorder": 1} if kept else {"linestyle": ":", "color": GREY, "zorder": 0}
    axis.plot(xs, ys, linewidth=1.2, solid_capstyle="butt", **look)


def _draw_box(axis: Axes, record: Record, parent: Record | None, left: float, top: float) -> None:
    """Draw an instruction with its operation, and a cross and the reason if it was thrown away."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import FancyBboxPatch

    survives = record["verdict"] in SURVIVORS
    color = OPERATION_COLORS.get(record["op"], "black")
    tint = [1 - 0.13 * (1 - share) for share in to_rgb(color)] if survives and record["op"] else "white"
    look = {"edgecolor": color if survives else GREY, "linestyle": "-" if survives else ":", "facecolor": tint}
    style = "round,pad=0,rounding_size=0.06"
    axis.add_patch(FancyBboxPatch((left, top), WIDTH, BOX_HEIGHT, boxstyle=style, linewidth=1.2, zorder=2, **look))
    first, inside = top + 0.04 + LINE_HEIGHT / 2, left + MARGIN
    written = {"va": "center", "fontsize": FONT_SIZE, "zorder": 3}
    name = " ".join(filter(None, [record["id"], record["op"]]))
    axis.text(inside, first, escape_formulas([name])[0], color=color, weight="bold", **written)
    if not survives:
        axis.plot([left + WIDTH - 0.1], [first + 0.02], "x", color="black", markersize=6, mew=1.8, zorder=4)
        axis.text(left + WIDTH - 0.2, first, record["verdict"], ha="right", **written)
    lines = wrapped(_drawable(told(record)), WIDTH - 2 * MARGIN, TEXT_LINES)
    if lines[-1:] and lines[-1].endswith("…") and parent is not None:
        lines = wrapped(_drawable(new_part(told(record), told(parent))), WIDTH - 2 * MARGIN, TEXT_LINES)
    for number, line in enumerate(lines, start=1):
        place, shade = first + number * LINE_HEIGHT, "black" if survives else GREY
        axis.text(inside, place, escape_formulas([line])[0], color=shade, fontfamily=families(), **written)


def _drawable(text: str) -> str:
    """Return a text without the characters that no font has."""
    return text if drawable(text) else "".join(one if one.isspace() or drawable(one) else "□" for one in text)
