"""The README is true: its code runs, its files are there, its demo output is what the demo prints."""

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

import gptlab
from gptlab.__main__ import main
from gptlab.chapters import load_chapters
from gptlab.demo import _tell_table

REPOSITORY = Path(gptlab.__file__).parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CHINESE = (REPOSITORY / "README.zh-CN.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


@pytest.mark.filterwarnings("ignore:this PyTorch or processor lacks")
def test_python_blocks_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    """Where the README loads "124M", a small GPT-2 with random weights lies, so that nothing is downloaded."""
    monkeypatch.chdir(tmp_path)
    GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4)).save_pretrained(tmp_path / "checkpoints" / "gpt2")
    names: dict = {}
    told = ""
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), names)
        printed = capsys.readouterr().out
        for line in re.findall(r"# prints (.*)", code):
            assert line in printed.splitlines()[-1]
        told += printed
    for beginning in ("First difference", "failed "):
        [shown] = [block for block in blocks("text") if block.startswith(beginning)]
        assert shown in told


def test_the_table_of_chapters_is_that_of_chapters_toml():
    rows = re.findall(r"^\| (\d\d) \| (.*?) \| (.*?) \| (.*?)\|$", README, re.MULTILINE)
    chapters = load_chapters()
    assert [(number, title) for number, title, _, _ in rows] == [(one.number, one.title) for one in chapters]
    for (_, _, lesson, exercises), chapter in zip(rows, chapters):
        if chapter.folder is None:
            assert lesson == "planned"
        else:
            assert f"(notebooks/{chapter.folder.name}.ipynb)" in lesson
            assert f"(chapters/{chapter.folder.name}/exercises.py)" in exercises


def test_the_comparison_of_methods_is_what_was_measured():
    folder = REPOSITORY / "chapters" / "ch09_peft"
    compare = runpy.run_path(str(folder / "compare.py"))
    rows = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["rows"]
    for line in compare["table"](rows).splitlines()[2:]:
        _, _, learns, file, memory, _, _, people, _, kept, _ = (cell.strip() for cell in line.split("|"))
        assert f"| {learns} | {file} | {memory} | {people} | {kept} |" in README


def test_the_recorded_judge_says_what_it_said(tmp_path, monkeypatch, capsys):
    [command] = [part for part in blocks("sh") if "--replay" in part]
    (tmp_path / "chapters").symlink_to(REPOSITORY / "chapters")
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command.replace("\\\n", " "))[1:]) == 0
    [shown] = [block for block in blocks("text") if block.startswith("A is ")]
    assert shown in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"chapters", "judged.json", "report.html"}


def test_the_demos_output_is_that_of_todays_demo(tmp_path):
    """Its numbers come from a full run; its lines must be the ones that the demo still prints."""
    [printed] = [block for block in blocks("text") if "exact match" in block]
    report = {"parameters": 1, "seconds": 1.0, "held_out_accuracy_before": 0.0, "held_out_accuracy_after": 1.0}
    report |= {"held_out_accuracy_control": 0.0, "skill_accuracy": 1.0, "chance": 0.1}
    today: list[str] = []
    _tell_table(report, 1.0, today.append)
    without_numbers = [re.sub(r"[\d.,]+", "", line).split() for line in "\n".join(today).splitlines()]
    assert [re.sub(r"[\d.,]+", "", line).split() for line in printed.strip().splitlines()][: len(without_numbers)] == (
        without_numbers
    )


def test_there_is_code():
    assert len(blocks("python")) >= 1
    assert "make demo" in blocks("sh")[0]
    assert "make test" in blocks("sh")[0]


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^gptlab (\w+)", "\n".join(blocks("sh")), re.MULTILINE))))
def test_commands_of_the_readme_exist(command):
    from gptlab.__main__ import _parser

    with pytest.raises(SystemExit) as stopped:
        _parser().parse_args([command, "--help"])
    assert stopped.value.code == 0


def without_comments(code: str) -> str:
    return re.sub(r" *# .*", "", code)


def test_the_chinese_readme_has_the_same_code_and_output():
    """Its comments are translated; what runs, what is printed and the pictures are the same."""
    for language in ("python", "text"):
        ours, theirs = blocks(language), blocks(language, CHINESE)
        assert sorted(map(without_comments, theirs)) == sorted(map(without_comments, ours))
    for found in (r"!\[[^\]]*\]\(([^)]*)\)", r"\b(?:\d+\.\d+)\b"):
        assert sorted(set(re.findall(found, CHINESE))) == sorted(set(re.findall(found, README)))


PAGES = (
    "README.md",
    "README.zh-CN.md",
    "CONTRIBUTING.md",
    "docs/sources.md",
    "docs/capstone.md",
    "benchmarks/README.md",
)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
LINKS = [
    (page, target)
    for page in PAGES
    for target in sorted(set(LINK.findall((REPOSITORY / page).read_text(encoding="utf-8"))))
]


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_links_and_pictures_are_there(page, target):
    assert (REPOSITORY / page).parent.joinpath(target).exists()
