"""Make the notebooks from the lessons, run them in a real kernel, and keep what they show.

    make notebooks                              # all of them
    python notebooks/build.py ch03_attention    # one

A lesson, chapters/NAME/lesson.py, is a script in the percent format. Two marks in it are for the tests, which run every
lesson in a small size: `# quick: VALUE` gives a smaller value to the line that it stands in, and lines that end in
`# full size only` are left out there. Notebooks do not show the marks.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

REPOSITORY = Path(__file__).resolve().parent.parent
MARK = re.compile(r"  # (?:quick: .*|full size only)$", re.MULTILINE)


def lessons() -> dict[str, Path]:
    """Return the lessons that there are: name -> script."""
    return {path.parent.name: path for path in sorted((REPOSITORY / "chapters").glob("ch*/lesson.py"))}


def notebook_of(lesson: Path) -> nbformat.NotebookNode:
    """Return the lesson as a notebook without outputs; the same text gives the same notebook."""
    notebook = jupytext.reads(MARK.sub("", lesson.read_text(encoding="utf-8")), fmt="py:percent")
    notebook.nbformat_minor = 5
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id, cell.metadata = f"cell-{number:03d}", {}
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Run every cell in a kernel that starts in `folder`, and return the notebook with its outputs.

    Progress bars, which are written to standard error, are not kept.

    Raises:
        CellExecutionError: a cell failed.
        ValueError: a cell warned of something.
    """
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    for number, cell in enumerate(notebook.cells, start=1):
        cell.metadata.pop("execution", None)  # the times of day
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr" and "Warning" in output.text:
                raise ValueError(f"cell {number} warns: {output.text.strip()}")
        if "outputs" in cell:
            cell.outputs = _joined([output for output in cell.outputs if output.get("name") != "stderr"])
    notebook.metadata.language_info = {"name": "python"}  # without the version
    return notebook


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return the outputs with neighbouring pieces of printed text as one, wherever they happened to be flushed."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def build(name: str, lesson: Path) -> None:
    """Write one notebook with its outputs; the old one stays if a cell fails."""
    begin, target = time.perf_counter(), REPOSITORY / "notebooks" / f"{name}.ipynb"
    notebook = execute(notebook_of(lesson), target.parent)
    nbformat.validate(notebook)
    unfinished = target.with_suffix(".tmp")
    unfinished.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    unfinished.replace(target)
    print(f"{name}: {time.perf_counter() - begin:.0f} s, {target.stat().st_size / 1024:.0f} KiB", flush=True)


def main() -> int:
    """Build the notebooks that are named, or all; return 1 if one failed."""
    parser = argparse.ArgumentParser(description="Make the notebooks from the lessons, and run them.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(lessons())}; all if none is given")
    names = parser.parse_args().names or list(lessons())
    failed = 0
    for name in names:
        if name not in lessons():
            parser.error(f"there is no lesson {name!r}; there are {', '.join(lessons())}")
        try:
            build(name, lessons()[name])
        except (CellExecutionError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed += 1
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
