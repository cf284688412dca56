"""`gptlab export` of an adapter: merged for transformers and for us, or alone for peft."""

import json
import warnings

import pytest
import torch
from command_line import fails, run, tree

from gptlab.peft import load_tuned
from gptlab.weights import load_checkpoint


@pytest.fixture
def adapter(checkpoint_dir, entries, tmp_path, capsys):
    data = tmp_path / "entries.json"
    data.write_text(json.dumps(entries), encoding="utf-8")
    chosen = ["--method", "lora", "--lora-targets", "all-linear", "--learning-rate", "1e-2", "--batch-size", "4"]
    out = tmp_path / "adapter"
    assert run(capsys, "finetune", "--model", checkpoint_dir, "--data", data, "--out", out, "--quiet", *chosen)[0] == 0
    return out


def logits(model, **options):
    with torch.no_grad():
        found = model(torch.arange(1, 40).unsqueeze(0), **options)
    return getattr(found, "logits", found)


def test_merged_for_transformers(adapter, tmp_path, capsys):
    from transformers import AutoModelForCausalLM

    out = tmp_path / "out"
    assert run(capsys, "export", "--model", adapter, "--merge", "--out", out, "--quiet")[0] == 0
    expected = logits(load_tuned(adapter).model)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(out).eval()), expected, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(logits(load_checkpoint(out).model), expected, atol=1e-4, rtol=1e-5)


def test_merged_as_a_checkpoint_that_can_be_tuned_further(adapter, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["export", "--model", adapter, "--merge", "--format", "gptlab", "--out", out, "--quiet"]
    assert run(capsys, *command)[0] == 0
    found, tuned = load_checkpoint(out), load_tuned(adapter)
    torch.testing.assert_close(logits(found.model), logits(tuned.model), atol=1e-4, rtol=1e-5)
    assert found.template == tuned.template
    assert all(parameter.requires_grad for parameter in found.model.parameters())


def test_alone_for_peft(adapter, checkpoint_dir, tmp_path, capsys):
    from transformers import AutoModelForCausalLM

    out = tmp_path / "out"
    assert run(capsys, "export", "--model", adapter, "--format", "peft", "--out", out, "--quiet")[0] == 0
    assert run(capsys, "export", "--model", checkpoint_dir, "--out", tmp_path / "base", "--quiet")[0] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of third parties, about each other
        from peft import PeftModel

        theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), out).eval()
        found = logits(theirs)
    torch.testing.assert_close(found, logits(load_tuned(adapter).model), atol=1e-4, rtol=1e-5)


def test_the_name_of_a_base_on_the_hub_is_kept(adapter, checkpoint_dir, tmp_path, capsys, monkeypatch):
    """Where "124M" lies, there is the small model of these tests."""
    from gptlab import weights

    plain = weights.load_checkpoint
    found = {"124M": checkpoint_dir}
    monkeypatch.setattr("gptlab.peft.io.load_checkpoint", lambda name, *a, **k: plain(found.get(name, name), *a, **k))
    for number, (base, kept) in enumerate({"124M": "openai-community/gpt2", str(checkpoint_dir): None}.items()):
        out = tmp_path / str(number)
        command = ["export", "--model", adapter, "--base", base, "--format", "peft", "--out", out, "--quiet"]
        assert run(capsys, *command)[0] == 0
        assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == kept


@pytest.mark.parametrize("chosen", [["--merge"], ["--merge", "--format", "gptlab"], ["--format", "peft"]], ids=str)
def test_nothing_that_was_read_is_written_over(chosen, adapter, checkpoint_dir, tmp_path, capsys):
    before = tree(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(checkpoint_dir, target_is_directory=True)
    for out, which in ((adapter, "--model"), (checkpoint_dir, "the adapter's base"), (link, "the adapter's base")):
        error = fails(capsys, "export", "--model", adapter, "--out", out, *chosen)
        assert f"--out must be another folder than {which}, {out}" in error
    link.unlink()
    assert tree(tmp_path) == before


def test_a_base_in_their_form_is_not_written_over(checkpoint_dir, entries, tmp_path, capsys):
    """Nothing but its being the base tells it from an earlier export, which may be replaced."""
    base, out, adapter = tmp_path / "theirs", tmp_path / "out", tmp_path / "adapter"
    data = tmp_path / "entries.json"
    data.write_text(json.dumps(entries), encoding="utf-8")
    for folder in (base, out):
        assert run(capsys, "export", "--model", checkpoint_dir, "--out", folder, "--quiet")[0] == 0
    tuned = ["finetune", "--model", base, "--data", data, "--out", adapter, "--method", "lora", "--quiet"]
    assert run(capsys, *tuned)[0] == 0
    before = tree(base)
    command = ["export", "--model", adapter, "--merge", "--quiet"]
    assert run(capsys, *command, "--out", out)[0] == 0
    assert tree(out) != before
    assert "the adapter's base" in fails(capsys, *command, "--out", base)
    assert "than --model" in fails(capsys, "export", "--model", base / "model.safetensors", "--out", base)
    assert tree(base) == before


def test_a_folder_with_an_adapter_gets_no_model(adapter, checkpoint_dir, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(capsys, "export", "--model", adapter, "--format", "peft", "--out", out, "--quiet")[0] == 0
    before = tree(out)
    for chosen in (["--model", checkpoint_dir], ["--model", adapter, "--merge", "--format", "gptlab"]):
        assert "holds an adapter, it has adapter_config.json" in fails(capsys, "export", *chosen, "--out", out)
    assert tree(out) == before


def test_a_base_that_was_moved_is_named(adapter, checkpoint_dir, tmp_path, capsys):
    expected = logits(load_tuned(adapter).model)
    moved = checkpoint_dir.rename(tmp_path / "moved")
    command = ["export", "--model", adapter, "--merge", "--out", tmp_path / "out", "--quiet"]
    assert f"there is no {checkpoint_dir}; if it is elsewhere, give --base" in fails(capsys, *command)
    assert run(capsys, *command, "--base", moved)[0] == 0
    torch.testing.assert_close(logits(load_checkpoint(tmp_path / "out").model), expected, atol=1e-4, rtol=1e-5)


def test_what_cannot_be_meant(adapter, checkpoint_dir, tmp_path, capsys):
    out = ["--out", tmp_path / "out"]
    assert "--merge makes it part" in fails(capsys, "export", "--model", adapter, *out)
    assert "is no adapter" in fails(capsys, "export", "--model", checkpoint_dir, "--merge", *out)
    assert "is no adapter" in fails(capsys, "export", "--model", checkpoint_dir, "--format", "peft", *out)
    assert "is no adapter" in fails(capsys, "export", "--model", checkpoint_dir, "--base", "124M", *out)
    both = ["--merge", "--format", "peft"]
    assert "writes the adapter alone" in fails(capsys, "export", "--model", adapter, *both, *out)
    assert not (tmp_path / "out").exists()
