"""Every chapter's exercises: stubs are not started, solutions pass, and usual mistakes get the hint that fits them."""

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import gptlab
from gptlab.checks import names

CHAPTERS = Path(gptlab.__file__).parent.parent / "chapters"
FOLDERS = sorted(path.parent for path in CHAPTERS.glob("ch*/exercises.py"))


def load(path: Path):
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STUBS = {folder.name: load(folder / "exercises.py").EXERCISES for folder in FOLDERS}
SOLVED = {folder.name: load(folder / "solutions.py") for folder in FOLDERS}  # functions of the same names
SOLUTIONS = {
    chapter: {name: getattr(SOLVED[chapter], stub.__name__) for name, stub in stubs.items()}
    for chapter, stubs in STUBS.items()
}
WRONG = [wrong for path in sorted((Path(__file__).parent / "wrong_answers").glob("*.py")) for wrong in load(path).WRONG]


def test_every_check_is_an_exercise_of_one_chapter_and_knows_mistakes():
    asked = [name for exercises in STUBS.values() for name in exercises]
    assert sorted(asked) == sorted(names())
    assert {name for name, _, _ in WRONG} == set(asked)
    for chapter, exercises in STUBS.items():
        assert len(exercises) >= 4, chapter


@pytest.mark.parametrize("name", [name for exercises in STUBS.values() for name in exercises])
def test_a_stub_is_not_started_and_the_solution_passes(name):
    [(stub, solution)] = [(STUBS[c][name], SOLUTIONS[c][name]) for c in STUBS if name in STUBS[c]]
    assert gptlab.check(name, stub).status == "not started"
    assert gptlab.check(name, solution) == gptlab.checks.Result(name, gptlab.check(name, stub).title, "passed")
    assert stub.__doc__, "the stub says what to write"


@pytest.mark.parametrize(("name", "wrong", "words"), WRONG, ids=[f"{name}-{words}" for name, _, words in WRONG])
def test_a_usual_mistake_gets_its_hint(name, wrong, words):
    result = gptlab.check(name, wrong)
    assert result.status == "failed"
    assert words in result.hint


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_files_run_as_the_reader_runs_them(folder):
    done = subprocess.run([sys.executable, folder / "exercises.py", "--json"], capture_output=True, check=False)
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["chapter"] == folder.name
    assert {exercise["status"] for exercise in report["exercises"]} == {"not started"}
    assert subprocess.run([sys.executable, folder / "solutions.py"], capture_output=True, check=False).returncode == 0
