"""Seed tasks: those of the package, and files of others."""

import json
from collections import Counter

import pytest

from gptlab.building.seed_tasks import check_seed_task, load_seed_tasks, seed_entries
from gptlab.building.task_filters import InstructionFilter
from gptlab.data import load_entries, save_entries
from gptlab.rouge import rouge_tokens
from gptlab.selection.novelty import novel_instructions

GOOD = {"id": "a", "instruction": "Add the numbers.", "instances": [{"input": "1, 2", "output": "3"}]}
GOOD |= {"is_classification": False}


def test_those_of_the_package_are_varied_and_pass_their_own_filters():
    tasks = load_seed_tasks()
    instructions = [task["instruction"] for task in tasks]
    rules = InstructionFilter()
    assert [text for text in instructions if rules.why_not(text)] == []
    assert len(novel_instructions(instructions)) == len(tasks)
    chinese = [text for text in instructions if not text.isascii() and len(text.split()) == 1]
    assert len(chinese) * 3 == len(tasks)
    assert Counter(task["is_classification"] for task in tasks) == {True: 6, False: 30}
    lengths = [len(rouge_tokens(text)) for text in instructions]
    assert min(lengths) < 8 and max(lengths) > 40
    empty = [task for task in tasks if not task["instances"][0]["input"]]
    assert len(tasks) / 5 < len(empty) < len(tasks) / 2


def test_they_become_entries(tmp_path):
    entries = seed_entries(load_seed_tasks())
    save_entries(tmp_path / "entries.json", entries)
    assert load_entries(tmp_path / "entries.json") == entries
    assert entries[3]["output"] == "urgent" and entries[3]["id"] == "seed_task_3/0"


def test_a_file_of_others(tmp_path):
    path = tmp_path / "tasks.jsonl"
    other = {**GOOD, "id": "b", "instruction": "写一首关于雨的诗。", "name": "poem"}
    path.write_text(f"\ufeff{json.dumps(GOOD)}\n\n{json.dumps(other, ensure_ascii=False)}", encoding="utf-8")
    assert load_seed_tasks(path) == [GOOD, other]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruction": " "}, "'instruction' must be text, and not empty, got ' '"),
        ({"instruction": 5}, "'instruction' must be text, and not empty, got 5"),
        ({"instruction": "a \ud800"}, "line 2, 'instruction': .*ud800"),
        ({"id": ""}, "'id' must be text"),
        ({"id": "a"}, "the id 'a' is that of line 1, too"),
        ({"is_classification": "no"}, "'is_classification' must be true or false, got 'no'"),
        ({"instances": []}, r"'instances' must be a list of at least one, got \[\]"),
        ({"instances": [{"input": ""}]}, "line 2, instance 1, has no 'output'"),
        ({"instances": [{"input": "", "output": 3}]}, "'output' must be text, got 3"),
    ],
)
def test_a_wrong_task_is_named_by_its_line(tmp_path, change, message):
    path = tmp_path / "tasks.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps({**GOOD, 'id': 'b', **change})}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message) as raised:
        load_seed_tasks(path)
    assert "line 2" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "holds no seed tasks"), ("{]", "line 1, is not JSON"), ("[1]", r"line 1: a seed task must be an object")],
)
def test_what_is_no_file_of_tasks(tmp_path, text, message):
    path = tmp_path / "tasks.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_seed_tasks(path)
    with pytest.raises(FileNotFoundError, match="nowhere.jsonl"):
        load_seed_tasks(tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize("key", ["id", "instruction", "instances", "is_classification"])
def test_every_key_is_needed(key):
    with pytest.raises(ValueError, match=f"task 7: the seed task has no '{key}'; its keys are"):
        check_seed_task({name: value for name, value in GOOD.items() if name != key}, "task 7")
