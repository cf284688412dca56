"""The capstone's task, as an example of one's own: where did it happen? Writes a table and templates for it.

Run: python chapters/ch10_building/capstone_task.py FOLDER

The table has a column of what is asked, a sentence of the small grammar, and one of the right answer, its place. Yours
may have any two columns; `gptlab build templates` puts the templates around them.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from gptlab.building.tiny_corpus import SENTENCES, sentence
from gptlab.files import write_together

ROWS = 1500
TEMPLATES = (
    "Where did this happen? [input]",
    "Name the place in this sentence: [input]",
    "In which place was that? [input]",
    "Find the place: [input]",
    "[input] Where was it?",
    "Which words of this sentence tell the place? [input]",
)


def write_task(folder: str | Path, *, rows: int = ROWS, seed: int = 0) -> None:
    """Write where.tsv and where-templates.txt into a folder."""
    drawn = [sentence(number) for number in random.Random(seed).sample(range(SENTENCES), rows)]
    table = "\n".join(["source\ttarget", *(f"{one.english}\t{one.location[0]}" for one in drawn)])
    write_together(folder, {"where.tsv": f"{table}\n", "where-templates.txt": "\n".join(TEMPLATES) + "\n"})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("say where to: python chapters/ch10_building/capstone_task.py FOLDER")
    write_task(sys.argv[1])
    print(f"where.tsv and where-templates.txt are in {sys.argv[1]}")
