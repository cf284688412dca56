"""`gptlab generate` with worked examples in place of a template; what else it does is in tests/test_main.py."""

import json
import re
from dataclasses import replace

import pytest
from command_line import fails, run

from gptlab.data import load_entries
from gptlab.judging.few_shot import respond_few_shot
from gptlab.model import GPTModel
from gptlab.weights import load_checkpoint, save_checkpoint


@pytest.fixture
def checkpoint_dir(tiny, tokenizer, tmp_path):
    """A model whose context holds the page of examples."""
    folder = tmp_path / "long"
    save_checkpoint(folder, GPTModel(replace(tiny.cfg, context_length=1024)).eval(), tokenizer, "alpaca_short")
    return folder


@pytest.fixture
def files(tmp_path, entries):
    """Questions, and other entries to show as examples."""
    paths = tmp_path / "asked.json", tmp_path / "examples.json"
    for path, some in zip(paths, (entries[:3], entries[3:6])):
        path.write_text(json.dumps(some), encoding="utf-8")
    return paths


def test_a_file_is_answered_after_worked_examples(checkpoint_dir, files, tmp_path, capsys):
    asked, examples = files
    out = tmp_path / "out.json"
    chosen = ["--few-shot", "1", "--examples", examples, "--max-new-tokens", "5", "--quiet"]
    code, _, error = run(capsys, "generate", "--model", checkpoint_dir, "--data", asked, "--out", out, *chosen)
    assert code == 0, error
    found = load_checkpoint(checkpoint_dir)
    shown = load_entries(examples)[:1]
    expected = respond_few_shot(found.model, found.tokenizer, load_entries(asked), shown, max_new_tokens=5)
    answered = json.loads(out.read_text(encoding="utf-8"))
    assert {one.reason for one in expected} <= {"stop", "length"}  # the pages fit
    assert [(entry["model_response"], entry["ended_by"]) for entry in answered] == [tuple(one) for one in expected]


def test_one_question_is_answered_after_no_example_at_all(checkpoint_dir, capsys):
    chosen = ["--few-shot", "0", "--max-new-tokens", "5", "--quiet"]
    code, said, _ = run(capsys, "generate", "Say five.", "--model", checkpoint_dir, *chosen)
    found = load_checkpoint(checkpoint_dir)
    [expected] = respond_few_shot(found.model, found.tokenizer, [{"instruction": "Say five."}], [], max_new_tokens=5)
    assert code == 0
    assert said == f"{expected.text}\n"


def test_a_page_that_is_too_long_for_one_question(tiny, tokenizer, tmp_path, capsys):
    save_checkpoint(tmp_path / "short", tiny, tokenizer, "alpaca_short")
    error = fails(capsys, "generate", "Say five.", "--model", tmp_path / "short", "--few-shot", "0", "--quiet")
    assert "longer than the context of 160 tokens" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--examples", "examples.json"], "--examples goes with --few-shot"),
        (["--few-shot", "2"], "--few-shot needs --examples"),
        (
            ["--few-shot", "4", "--examples", "examples.json"],
            "--few-shot 4 is more than the 3 entries in examples.json",
        ),
        (["--few-shot", "1", "--examples", "asked.json"], "entry 1 is also one of the examples"),
        (["--few-shot", "1", "--examples", "examples.json", "--template", "alpaca"], "takes no --template"),
    ],
)
def test_wrong_examples(checkpoint_dir, files, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    call = ["generate", "--model", checkpoint_dir, "--data", "asked.json", "--out", "out.json", *arguments]
    assert re.search(message, fails(capsys, *call))
    assert not (tmp_path / "out.json").exists()
