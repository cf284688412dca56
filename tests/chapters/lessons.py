"""Lessons for tests: their cells in a small size, run as a notebook would run them."""

import ast
import re
from pathlib import Path
from types import ModuleType

import jupytext

SMALLER = re.compile(r"^(\s*\w+(?:: [^=]+)? = ).*  # quick: (.*)$", re.MULTILINE)
FULL_SIZE = re.compile(r"^.*# full size only\n?", re.MULTILINE)


def quick_cells(source: str) -> list[str]:
    """Return the code cells of a lesson with the small values in place, without what holds in full size only."""
    source = FULL_SIZE.sub("", SMALLER.sub(r"\1\2", source))
    return [cell.source for cell in jupytext.reads(source, fmt="py:percent").cells if cell.cell_type == "code"]


def run_quick(lesson: Path) -> int:
    """Run a lesson in the working directory, show what ends each cell as a notebook would, and count the pictures."""
    module, pictures = ModuleType("lesson"), 0
    for number, cell in enumerate(quick_cells(lesson.read_text(encoding="utf-8")), start=1):
        tree, where = ast.parse(cell), f"{lesson.parent.name}, code cell {number}"
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, where, "exec"), module.__dict__)
        if last is not None:
            pictures += _show(eval(compile(ast.Expression(last.value), where, "eval"), module.__dict__))
    return pictures


def _show(value) -> bool:
    """Draw or print a value, and say whether it was a picture."""
    for name in ("_repr_png_", "_repr_html_"):
        shown = getattr(value, name, None)
        if shown is not None:
            assert shown()
            return name == "_repr_png_"
    repr(value)
    return False
