"""`gptlab finetune --method ...`: an adapter is tuned, saved, resumed, answered with and exported."""

import json

import pytest
import torch
from command_line import fails, run, tree

from gptlab.commands.finetune import METHODS
from gptlab.peft import load_tuned
from gptlab.weights import load_checkpoint

OPTIONS = {
    "lora": ["--lora-r", "4", "--lora-targets", "W_query,W_value,ff.layers.[02]"],
    "adalora": ["--lora-r", "4", "--adalora-target-r", "2"],
    "qlora": ["--lora-r", "4"],
    "adapter": ["--adapter-size", "4"],
    "prefix": ["--virtual-tokens", "4", "--prefix-hidden", "8"],
    "prompt": ["--virtual-tokens", "4", "--prompt-text", "The home of Lumika"],
    "p-tuning": ["--virtual-tokens", "4", "--p-tuning-encoder", "mlp"],
}


@pytest.fixture
def data(tmp_path, entries):
    path = tmp_path / "entries.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


@pytest.fixture
def arguments(checkpoint_dir, data):
    return ["finetune", "--model", checkpoint_dir, "--data", data, "--batch-size", "4", "--quiet"]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "full"])
def test_an_adapter_is_tuned_and_answers(method, arguments, checkpoint_dir, tmp_path, capsys):
    out = tmp_path / "runs" / "adapter"
    before = tree(checkpoint_dir)
    code, told, error = run(capsys, *arguments, "--out", out, "--method", method, *OPTIONS[method])
    assert code == 0, error
    assert "of them learning" in told
    assert tree(checkpoint_dir) == before
    assert {"adapter.json", "adapter.safetensors", "history.json", "metrics.jsonl"} == {p.name for p in out.iterdir()}
    assert run(capsys, "generate", "--model", out, "Say the number 3.")[0] == 0
    tuned, base = load_tuned(out), load_checkpoint(checkpoint_dir)
    ids = torch.tensor([base.tokenizer.encode("The home of")])
    assert not torch.equal(tuned.model(ids), base.model(ids))
    assert run(capsys, *arguments, "--out", out, "--method", method, *OPTIONS[method], "--resume")[0] == 0


@pytest.mark.parametrize("method", ["lora", "adalora", "qlora", "p-tuning"])
def test_a_killed_run_goes_on_to_the_same_adapter(method, arguments, tmp_path, capsys, monkeypatch):
    from gptlab.training import loop

    chosen = ["--method", method, *OPTIONS[method], "--lora-dropout", "0.1"]
    chosen = chosen if "lora" in method else chosen[:-2]
    assert run(capsys, *arguments, *chosen, "--out", tmp_path / "whole")[0] == 0
    taken, plain = [], loop.take_step

    def stops(*given):
        if len(taken) == 5:
            raise KeyboardInterrupt
        taken.append(1)
        return plain(*given)

    monkeypatch.setattr(loop, "take_step", stops)
    assert run(capsys, *arguments, *chosen, "--out", tmp_path / "cut", "--save-every", "2")[0] == 130
    state = tmp_path / "cut" / "checkpoints" / "step-00000004" / "model.safetensors"
    assert state.stat().st_size < 60_000  # the adapter alone
    monkeypatch.setattr(loop, "take_step", plain)
    assert run(capsys, *arguments, *chosen, "--out", tmp_path / "cut", "--save-every", "2", "--resume")[0] == 0
    whole, cut = (tmp_path / name / "adapter.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_micro_batches_and_validation_by_their_sizes(arguments, tmp_path, capsys):
    small = ["--method", "lora", "--micro-batch-size", "2", "--val-share", "4", "--cutoff-len", "60", "--epochs", "1"]
    code, told, _ = run(capsys, *arguments, *small, "--out", tmp_path / "a")
    assert code == 0
    assert "16 entries to train on, 4 to validate" in told
    assert "for the context of 59" in told
    code, told, _ = run(capsys, *arguments, "--method", "lora", "--val-share", "0", "--out", tmp_path / "b")
    assert code == 0
    assert "training loss" in told
    assert "3 and 4" in fails(capsys, *arguments, "--micro-batch-size", "3", "--out", tmp_path / "c")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "lora", "--lora-r", "0"], "got 0"),
        (["--method", "lora", "--lora-r", "33"], "at most 32"),
        (["--method", "lora", "--lora-targets", "q_proj"], "did you mean W_query"),
        (["--method", "lora", "--lora-targets", "out_head"], "shares its weight"),
        (["--method", "prefix", "--lora-r", "4"], "--lora-r is for lora, qlora, adalora, not for prefix"),
        (["--lora-alpha", "4"], "not for full"),
        (["--method", "prompt", "--virtual-tokens", "160"], "160"),
        (["--method", "lora", "--val-share", "20"], "got 20"),
        (["--val-share", "inf"], "a share in [0, 1), or from 1 a whole number of entries, got inf"),
        (["--val-share", "nan"], "a share in [0, 1), or from 1 a whole number of entries, got nan"),
        (["--val-share", "-0.1"], "a share in [0, 1), or from 1 a whole number of entries, got -0.1"),
        (["--method", "lora", "--cutoff-len", "3"], "no entry to train on"),
    ],
)
def test_wrong_settings_leave_no_trace(options, message, arguments, tmp_path, capsys):
    out = tmp_path / "out"
    assert message in fails(capsys, *arguments, "--out", out, *options)
    assert not out.exists()


def test_folders_are_not_mixed(arguments, checkpoint_dir, data, tmp_path, capsys):
    adapter, full = tmp_path / "adapter", tmp_path / "full"
    assert run(capsys, *arguments, "--out", adapter, "--method", "lora", "--epochs", "1")[0] == 0
    assert run(capsys, *arguments, "--out", full, "--epochs", "1")[0] == 0
    assert "holds an adapter" in fails(capsys, *arguments, "--out", adapter, "--epochs", "1")
    assert "it has config.json" in fails(capsys, *arguments, "--out", full, "--method", "lora")
    assert run(capsys, *arguments, "--out", adapter, "--method", "prefix", "--epochs", "1")[0] == 0  # an adapter may
    again = ["finetune", "--model", adapter, "--data", data, "--out", tmp_path / "new"]
    assert "export --merge" in fails(capsys, *again)


def test_another_template_is_warned_about(arguments, checkpoint_dir, tmp_path, capsys):
    out = tmp_path / "out"
    told = run(capsys, *arguments, "--out", out, "--method", "lora", "--epochs", "1", "--template", "alpaca")[1]
    assert "tuned in the form 'alpaca_short', which it answers best in, and now gets 'alpaca'" in told
    assert "note" not in run(capsys, "generate", "--model", out, "Hello", "--template", "alpaca")[2]
    assert "now gets 'book'" in run(capsys, "generate", "--model", out, "Hello", "--template", "book")[2]


def test_conversations_keep_their_marks_as_text(arguments, checkpoint_dir, tmp_path, capsys):
    talks = tmp_path / "talks.json"
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    talks.write_text(json.dumps([{"messages": messages}] * 8), encoding="utf-8")
    chosen = ["--data", talks, "--out", tmp_path / "out", "--method", "lora", "--template", "chatml", "--epochs", "1"]
    code, told, _ = run(capsys, "finetune", "--model", checkpoint_dir, *chosen, "--quiet")
    assert code == 0
    assert "marks as text: <|im_start|> <|im_end|>" in told
    assert load_tuned(tmp_path / "out").template.name == "chatml"


def test_both_folders_can_be_moved_together(arguments, checkpoint_dir, tmp_path, capsys):
    home = tmp_path / "home"
    home.mkdir()
    base = checkpoint_dir.rename(home / "base")
    chosen = ["--model", base, "--out", home / "adapter", "--method", "lora", "--epochs", "1"]
    assert run(capsys, *arguments, *chosen)[0] == 0
    moved = home.rename(tmp_path / "elsewhere")
    assert run(capsys, "generate", "--model", moved / "adapter", "Hello")[0] == 0
    (moved / "base").rename(moved / "gone")
    error = fails(capsys, "generate", "--model", moved / "adapter", "Hello")
    assert f"is missing: there is no {moved / 'base'}; if it is elsewhere, give --base" in error


def test_a_base_that_was_moved_is_named(arguments, checkpoint_dir, tmp_path, capsys, monkeypatch):
    out = tmp_path / "adapter"
    assert run(capsys, *arguments, "--out", out, "--method", "lora", "--epochs", "1")[0] == 0
    answers = [["generate", "--model", out, "Hello"], ["chat", "--model", out]]
    monkeypatch.setattr("builtins.input", lambda prompt: (_ for _ in ()).throw(EOFError))
    expected = [run(capsys, *command)[:2] for command in answers]
    moved = checkpoint_dir.rename(tmp_path / "moved")
    for command, before in zip(answers, expected):
        assert "give --base" in fails(capsys, *command)
        assert run(capsys, *command, "--base", moved)[:2] == before == (0, before[1])
    plain = ["generate", "--model", moved, "Hello", "--base", moved]
    assert "is no adapter, and --base is for adapters" in fails(capsys, *plain)


def test_a_folder_behind_a_link_finds_its_base(arguments, tmp_path, capsys, monkeypatch):
    far = tmp_path / "far" / "away" / "runs"
    far.mkdir(parents=True)
    (tmp_path / "runs").symlink_to(far, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    chosen = ["--model", "tiny", "--out", "runs/adapter", "--method", "lora", "--epochs", "1"]
    assert run(capsys, *arguments, *chosen)[0] == 0
    for folder in ("runs/adapter", far / "adapter"):
        assert run(capsys, "generate", "--model", folder, "Hello")[0] == 0
