"""The package from outside: what importing costs and brings, and which chapter each module belongs to."""

import json
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

import gptlab

REPOSITORY = Path(gptlab.__file__).parent.parent
HEAVY = {"matplotlib", "transformers", "openai", "ollama", "sklearn", "tensorflow", "pandas"}


def modules_after(code: str) -> set[str]:
    report = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_is_light():
    assert "torch" not in modules_after("import gptlab")
    everything = modules_after("import gptlab\nfor name in gptlab.__all__: getattr(gptlab, name)")
    assert not HEAVY & everything


def test_every_public_name_is_there():
    for name in gptlab.__all__:
        assert getattr(gptlab, name) is not None
    assert set(gptlab.__all__) <= set(dir(gptlab))
    with pytest.raises(AttributeError, match=r"gptlab has no 'GPTModle'; it has .*GPTModel"):
        _ = gptlab.GPTModle


def test_packages_are_there_without_being_imported():
    code = "import gptlab, sys; assert 'gptlab.peft' not in sys.modules; gptlab.peft.LoRA, gptlab.files.read_json"
    assert {"gptlab.peft", "gptlab.files"} <= modules_after(code)
    files = [*(REPOSITORY / "gptlab").glob("[a-z]*.py"), *(REPOSITORY / "gptlab").glob("*/__init__.py")]
    names = {path.parent.name if path.stem == "__init__" else path.stem for path in files}
    assert names <= set(dir(gptlab))
    assert not names & set(gptlab.__all__)  # one would stand for the other


def test_every_module_belongs_to_exactly_one_chapter():
    chapters = tomllib.loads((REPOSITORY / "chapters" / "chapters.toml").read_text(encoding="utf-8"))["chapters"]
    placed = [module for chapter in chapters.values() for module in chapter["modules"]]
    root = REPOSITORY / "gptlab"
    there = {
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in root.rglob("*.py")
        if path.name != "__init__.py"
    }
    assert len(placed) == len(set(placed))
    assert set(placed) == there
    assert sorted(chapters) == [f"{number:02d}" for number in range(2, 13)]


def test_the_constraints_pin_what_pyproject_asks_for():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").lower()
    assert "torch==2.13.0\n" in pins
    for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
        assert f"\n{requirement.split('>=')[0]}==" in pins
