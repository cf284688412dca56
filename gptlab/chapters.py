"""The table of chapters, from chapters/chapters.toml of the repository: which lesson teaches which module."""

from __future__ import annotations

import textwrap
import tomllib
from pathlib import Path
from typing import NamedTuple

from gptlab.files import read_text

_FOLDER = Path(__file__).resolve().parents[1] / "chapters"


class Chapter(NamedTuple):
    """One chapter.

    Attributes:
        number: two digits.
        title: what it is about.
        modules: those of gptlab that it explains, without "gptlab.".
        folder: of its lesson and exercises; None if it is not written yet.
    """

    number: str
    title: str
    modules: tuple[str, ...]
    folder: Path | None


def load_chapters() -> list[Chapter]:
    """Return all chapters in order.

    Raises:
        FileNotFoundError: gptlab was installed without its repository, which holds the lessons.
    """
    listed = tomllib.loads(read_text(_FOLDER / "chapters.toml"))["chapters"]
    folders = {path.parent.name[2:4]: path.parent for path in _FOLDER.glob("ch*/lesson.py")}
    return [
        Chapter(number, chapter["title"], tuple(chapter["modules"]), folders.get(number))
        for number, chapter in sorted(listed.items())
    ]


def table(chapters: list[Chapter]) -> str:
    """Return the chapters as text: title, folder and modules of each."""
    parts = []
    for chapter in chapters:
        where = "planned" if chapter.folder is None else f"chapters/{chapter.folder.name}"
        parts.append(f"{chapter.number}  {chapter.title} ({where})")
        names = ", ".join(chapter.modules)
        parts += textwrap.wrap(names, 110, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(parts)
