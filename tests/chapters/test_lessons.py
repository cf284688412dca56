"""The lessons run, in a small size, and the notebooks are theirs."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

import gptlab

REPOSITORY = Path(gptlab.__file__).parent.parent


def load(path: Path):
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = load(REPOSITORY / "notebooks" / "build.py")
LESSONS = BUILD.lessons()
run_quick, quick_cells = (getattr(load(Path(__file__).parent / "lessons.py"), n) for n in ("run_quick", "quick_cells"))


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_in_a_small_size(name, reader):
    assert run_quick(LESSONS[name]) >= 1, "a lesson has a picture"


@pytest.mark.parametrize("name", LESSONS)
def test_the_notebook_is_the_lesson_with_its_outputs(name):
    committed = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4)
    made = BUILD.notebook_of(LESSONS[name])
    assert [(cell.id, cell.cell_type, cell.source) for cell in committed.cells] == [
        (cell.id, cell.cell_type, cell.source) for cell in made.cells
    ]
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs), "a lesson has a picture"
    assert "/home/" not in str(outputs) and "/tmp/" not in str(outputs)


@pytest.mark.parametrize("name", LESSONS)
def test_the_parts_of_a_lesson_are_there(name):
    source = LESSONS[name].read_text(encoding="utf-8")
    marked = [line for line in source.splitlines() if line.endswith("# full size only")]
    assert all(line.startswith("assert ") for line in marked), "the mark leaves out its line alone"
    number = int(name[2:4])
    assert "inspect.getsource" in source, "it shows the library's own source"
    assert "assert " in source, "it ends in a comparison with the library"
    assert "exercises.py" in source
    if number >= 3:
        assert "## Find the mistake" in source
        assert "<details>" in source


def test_quick_values_take_the_place_of_full_ones():
    source = (
        "# %%\nSTEPS = 600  # quick: 5\nassert STEPS > 100  # full size only\n# %% [markdown]\n# text\n# %%\nSTEPS\n"
    )
    assert quick_cells(source) == ["STEPS = 5", "STEPS"]


def test_a_notebook_fails_when_a_cell_does(tmp_path):
    lesson = tmp_path / "lesson.py"
    lesson.write_text("# %%\nvalue = 2  # quick: 1\n# %%\nvalue / 0\n", encoding="utf-8")
    notebook = BUILD.notebook_of(lesson)
    assert [cell.source for cell in notebook.cells] == ["value = 2", "value / 0"]
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        BUILD.execute(notebook, tmp_path)


def test_a_notebook_keeps_what_its_cells_show(tmp_path):
    lesson = tmp_path / "lesson.py"
    lesson.write_text(
        "# %%\nimport sys\nprint(0, flush=True)\nprint('bar', file=sys.stderr)\nprint(1)\n2\n", encoding="utf-8"
    )
    [cell] = BUILD.execute(BUILD.notebook_of(lesson), tmp_path).cells
    assert [output.output_type for output in cell.outputs] == ["stream", "execute_result"]
    assert cell.outputs[0].text == "0\n1\n"
    assert cell.execution_count == 1
    assert "execution" not in cell.metadata
