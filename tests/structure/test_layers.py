"""The order of the packages: each may import only from layers below its own."""

import ast
from pathlib import Path

import pytest

import gptlab

ROOT = Path(gptlab.__file__).parent
LAYERS = [
    {"files", "config", "devices"},
    {"tokenizer"},
    {"model", "data"},
    {"weights"},
    {"training", "decoding"},
    {"peft"},
    {"servers", "show", "rouge"},
    {"judging"},
    {"selection"},
    {"building", "analysis"},
    {"checks", "book", "demo", "doctor", "chapters", "chat"},
    {"commands"},
    {"__main__"},
]
LAYER_OF = {name: number for number, layer in enumerate(LAYERS) for name in layer}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def imported(path: Path) -> set[str]:
    """Return the dotted names that a file imports, at its top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    home = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert home in LAYER_OF, f"{home} has no layer"
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "gptlab" or parts[1] in (home, "__version__"):
            continue
        assert LAYER_OF[parts[1]] < LAYER_OF[home], f"{path.name} of layer {home} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert node.end_lineno - first.lineno < 50, f"{node.name} is long"


def test_the_rule_can_fail():
    assert LAYER_OF["data"] < LAYER_OF["training"]
    assert "torch.nn" in imported(ROOT / "model" / "gpt.py")
    assert "gptlab.config.GPTConfig" in imported(ROOT / "model" / "gpt.py")
