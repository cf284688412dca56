"""`gptlab export` of an adapter: merged for transformers and for us, or alone for peft."""

import json
import warnings

import pytest
import torch
from command_line import fails, run

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


def test_what_cannot_be_meant(adapter, checkpoint_dir, tmp_path, capsys):
    out = ["--out", tmp_path / "out"]
    assert "--merge makes it part" in fails(capsys, "export", "--model", adapter, *out)
    assert "is no adapter" in fails(capsys, "export", "--model", checkpoint_dir, "--merge", *out)
    assert "is no adapter" in fails(capsys, "export", "--model", checkpoint_dir, "--format", "peft", *out)
    both = ["--merge", "--format", "peft"]
    assert "writes the adapter alone" in fails(capsys, "export", "--model", adapter, *both, *out)
    assert not (tmp_path / "out").exists()
