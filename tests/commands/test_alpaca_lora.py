"""alpaca-lora's own options, as the source document has them."""

import json
import shlex
from dataclasses import replace

import pytest
import torch
from command_line import fails, run

from gptlab.commands.alpaca_lora import from_alpaca_lora
from gptlab.model import GPTModel
from gptlab.peft import load_tuned
from gptlab.peft.manage import active_adapter
from gptlab.peft.method import find_targets
from gptlab.weights import save_checkpoint

SCRIPT = r"""
--base_model BASE --data_path DATA --output_dir OUT --batch_size 8 --micro_batch_size 4 --num_epochs 1
--learning_rate 1e-4 --cutoff_len 300 --lora_r 8 --lora_alpha 16 --lora_dropout 0.05
--lora_target_modules '[q_proj,k_proj,v_proj,o_proj]' --train_on_inputs False --prompt_template_name 'bayling'
--group_by_length --val_set_size 4
"""


@pytest.fixture
def script(tiny, tokenizer, entries, tmp_path):
    torch.manual_seed(0)
    base = tmp_path / "base"
    save_checkpoint(base, GPTModel(replace(tiny.cfg, context_length=320)), tokenizer)  # bayling's prompt is long
    data = tmp_path / "alpaca_data.json"
    data.write_text(json.dumps(entries), encoding="utf-8")
    text = SCRIPT.replace("BASE", f"'{base}'").replace("DATA", f"'{data}'")
    return shlex.split(text.replace("OUT", f"'{tmp_path / 'lora-bayling'}'"))


def test_the_scripts_options_run(script, tmp_path, capsys):
    code, told, error = run(capsys, "finetune", *script, "--quiet")
    assert code == 0, error
    assert "16 entries to train on, 4 to validate; 0 dropped and 0 cut for the context of 299" in told
    tuned = load_tuned(tmp_path / "lora-bayling")
    _, method, _ = active_adapter(tuned.model)
    assert (method.rank, method.alpha, method.dropout) == (8, 16, 0.05)
    assert list(method.targets) == ["W_query", "W_key", "W_value", "out_proj"]
    assert tuned.template.name == "bayling"


def test_what_it_takes_for_granted():
    translated = from_alpaca_lora(["--base_model=m", "--data_path", "d"])
    for pair in (
        ["--method", "lora"],
        ["--model", "m"],
        ["--data", "d"],
        ["--out", "./lora-alpaca"],
        ["--batch-size", "128"],
        ["--micro-batch-size", "4"],
        ["--epochs", "3"],
        ["--learning-rate", "3e-4"],
        ["--cutoff-len", "256"],
        ["--val-share", "2000"],
        ["--lora-r", "8"],
        ["--lora-alpha", "16"],
        ["--lora-dropout", "0.05"],
        ["--lora-targets", "W_query,W_value"],
        ["--train-on", "all"],
        ["--template", "alpaca"],
        ["--too-long", "cut"],
    ):
        assert translated[translated.index(pair[0]) + 1] == pair[1]
    assert "--no-group-by-length" in translated


@pytest.mark.parametrize(
    ("given", "micro"), [("128", "4"), ("6", "3"), ("2", "2"), ("1", "1"), ("7", "1")], ids=lambda value: value
)
def test_the_parts_divide_the_batch(given, micro):
    translated = from_alpaca_lora(["--base_model", "m", "--data_path", "d", "--batch_size", given])
    assert translated[translated.index("--micro-batch-size") + 1] == micro


def test_a_small_batch_alone_is_enough(script, capsys):
    """Parts of four, which the script takes for granted, would be more than the batch."""
    at = script.index("--micro_batch_size")
    code, _, error = run(capsys, "finetune", *script[:at], *script[at + 2 :], "--batch_size", "2", "--quiet")
    assert code == 0, error
    assert "got 4 and 6" in fails(capsys, "finetune", *script, "--batch_size", "6")


def test_their_layers_are_ours(tiny):
    """What each name stands for in LLaMA and in GPT-2: query, key and value; out; and the two of the feed-forward."""
    theirs = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "c_attn", "c_fc"]
    options = ["--base_model", "m", "--data_path", "d", "--lora_target_modules", ",".join(theirs[:6])]
    translated = from_alpaca_lora(options)
    found = translated[translated.index("--lora-targets") + 1].split(",")
    layers = [find_targets(tiny.trf_blocks[0], name) for name in found]
    assert [[*layer] for layer in layers[:4]] == [["att.W_query"], ["att.W_key"], ["att.W_value"], ["att.out_proj"]]
    up, down = (next(iter(layer.values())) for layer in layers[4:])
    assert (up.in_features, up.out_features) == (down.out_features, down.in_features) == (32, 128)
    joined = from_alpaca_lora([*options[:-1], "[c_attn, c_fc]"])
    assert joined[joined.index("--lora-targets") + 1] == "W_query,W_key,W_value,ff.layers.0"


def test_a_run_goes_on_from_its_own_checkpoints_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--base_model", "m", "--data_path", "d", "--output_dir", "out", "--resume_from_checkpoint"]
    for value in ("True", "out/checkpoints", "./out/checkpoints/", str(tmp_path / "out" / "checkpoints")):
        assert "--resume" in from_alpaca_lora([*options, value])
    for value in ("", "None", "False", "false"):
        assert "--resume" not in from_alpaca_lora([*options, value])
    with pytest.raises(ValueError, match="must be True, or the folder of this run's own .*; got 'elsewhere'"):
        from_alpaca_lora([*options, "elsewhere"])


def test_other_arguments_are_left_alone():
    ours = ["--model", "m", "--data", "d", "--batch-size", "4"]
    assert from_alpaca_lora(ours) == ours
    mixed = from_alpaca_lora(["--base_model", "m", "--data_path", "d", "--seed", "3", "--wandb_project", "x"])
    assert mixed[-2:] == ["--seed", "3"]
    assert "x" not in mixed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train_on_inputs", "maybe"], "must be True or False, got 'maybe'"),
        (["--lora_target_modules", "[gate_proj]"], "no 'gate_proj'"),
        (["--lora_target_modules", "[]"], "--lora_target_modules must be names with commas between them, got '[]'"),
        (["--lora_target_modules", "[q_proj,]"], "got '[q_proj,]', such as '[q_proj,v_proj]'"),
        (["--resume_from_checkpoint", "elsewhere"], "got 'elsewhere'"),
        (["--lora_target_modules", "[Wqkv]"], "no module matches 'Wqkv'"),
        (["--num_epochs"], "--num_epochs needs a value"),
        (["--prompt_template_name", "nowhere"], "no template is called 'nowhere'"),
    ],
)
def test_wrong_options(options, message, script, tmp_path, capsys):
    assert message in fails(capsys, "finetune", *script, *options)
    assert not (tmp_path / "lora-bayling").exists()


def test_data_has_to_be_given(capsys):
    assert "--data_path is missing" in fails(capsys, "finetune", "--base_model", "m")
