"""docs/capstone.md: its commands for the town run one after the other, on a small model and a few entries."""

import re
import runpy
import shlex
from pathlib import Path

import gptlab
from gptlab.__main__ import main
from gptlab.data import load_entries, save_entries

REPOSITORY = Path(gptlab.__file__).parent.parent
PAGE = (REPOSITORY / "docs" / "capstone.md").read_text(encoding="utf-8")
SMALLER = {"--count 600": "--count 40", ":1400": ":10", ":600": ":30", "--epochs 4": "--epochs 1"}


def commands(block):
    return [shlex.split(line) for line in block.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def test_the_commands_for_the_town(checkpoint_dir, entries, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    checkpoint_dir.rename(tmp_path / "checkpoints" / "town")
    for name in ("train", "test"):
        save_entries(f"checkpoints/town/{name}.json", entries)
    monkeypatch.setattr("builtins.input", lambda *_: (_ for _ in ()).throw(EOFError))
    town, _ = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    for ours, smaller in SMALLER.items():
        assert ours in town
        town = town.replace(ours, smaller)
    for program, *arguments in commands(town):
        if program == "python":
            task = runpy.run_path(str(REPOSITORY / arguments[0]))
            task["write_task"](arguments[1], rows=60)
        else:
            assert program == "gptlab"
            assert main(arguments) == 0, arguments
    assert len(load_entries("checkpoints/capstone/train.json")) == 80
    asked = load_entries("checkpoints/capstone/where-test.json")
    assert len(asked) == 6 and len({entry["template"] for entry in asked}) == 1
    assert capsys.readouterr().out.count("exact match") == 3


def test_the_commands_for_gpt2_are_commands():
    from gptlab.__main__ import _parser

    _, gpt2 = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    parsed = [_parser().parse_args(arguments) for _, *arguments in commands(re.sub(r" +#.*", "", gpt2))]
    assert len(parsed) == 11
