import json

import pytest
import torch
from safetensors import safe_open

from gptlab.data import load_template
from gptlab.model import GPTModel
from gptlab.tokenizer import train_tokenizer
from gptlab.weights import load_checkpoint, save_checkpoint


@pytest.mark.parametrize("tied", [True, False])
def test_saved_and_loaded_is_the_same(tiny, tokenizer, tmp_path, tied):
    model = GPTModel(tiny.cfg.to_dict() | {"tie_weights": tied}).eval()
    save_checkpoint(tmp_path / "a" / "b", model, tokenizer, "book")
    loaded = load_checkpoint(tmp_path / "a" / "b")
    ids = torch.tensor([tokenizer.encode("The home of Lumika")])
    assert loaded.model(ids).equal(model(ids))
    assert loaded.model.cfg == model.cfg
    assert (loaded.model.out_head.weight is loaded.model.tok_emb.weight) == tied
    assert not loaded.model.training
    assert loaded.template == load_template("book")
    assert loaded.tokenizer.encode("Fenn 你好") == tokenizer.encode("Fenn 你好")


def test_four_plain_files(checkpoint_dir):
    assert sorted(path.name for path in checkpoint_dir.iterdir()) == [
        "config.json",
        "merges.txt",
        "model.safetensors",
        "vocab.json",
    ]
    config = json.loads((checkpoint_dir / "config.json").read_text(encoding="utf-8"))
    assert config["format"] == "gptlab-1"
    assert config["template"]["name"] == "alpaca_short"
    with safe_open(checkpoint_dir / "model.safetensors", framework="pt") as file:
        assert "tok_emb.weight" in file.keys()  # noqa: SIM118 - not a dict
        assert "out_head.weight" not in file.keys()  # noqa: SIM118


def test_a_failed_save_keeps_the_old_checkpoint(tiny, tokenizer, checkpoint_dir, monkeypatch):
    before = {path.name: path.read_bytes() for path in checkpoint_dir.iterdir()}

    def full_disk(self, data):
        raise OSError(28, "No space left on device")

    torch.nn.init.zeros_(tiny.tok_emb.weight)
    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(checkpoint_dir, tiny, tokenizer)
    assert {path.name: path.read_bytes() for path in checkpoint_dir.iterdir()} == before


def test_the_vocabularies_must_agree(tiny, checkpoint_dir, tmp_path):
    other = train_tokenizer("The home of Lumika is in Fenn", 262)
    with pytest.raises(ValueError, match="the model has 300 tokens, the tokenizer 262"):
        save_checkpoint(tmp_path / "new", tiny, other)
    assert not (tmp_path / "new").exists()
    config = json.loads((checkpoint_dir / "config.json").read_text(encoding="utf-8"))
    config["model"]["vocab_size"] = 299
    (checkpoint_dir / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match="the model has 299 tokens, the tokenizer 300"):
        load_checkpoint(checkpoint_dir)


def test_damaged_checkpoints(checkpoint_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file or folder .*nowhere"):
        load_checkpoint(tmp_path / "nowhere")
    weights = checkpoint_dir / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_checkpoint(checkpoint_dir)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"it has no model\.safetensors"):
        load_checkpoint(checkpoint_dir)
    weights.write_bytes(content)
    config = json.loads((checkpoint_dir / "config.json").read_text(encoding="utf-8"))
    for change, message in (
        ({"format": "other"}, "must say format 'gptlab-1' or model_type 'gpt2', got 'other'"),
        ({"model": config["model"] | {"emb_dim": 64}}, r"should hold tok_emb\.weight as \(300, 64\), got \(300, 32\)"),
        ({"model": config["model"] | {"n_layers": 3}}, r"trf_blocks\.2\.att\.W_query\.weight as \(32, 32\), got None"),
        ({"model": config["model"] | {"n_layers": 1}}, r"trf_blocks\.1\..* as None, got \("),
        ({"model": config["model"] | {"context_length": 10**15}}, r"should hold pos_emb\.weight as \(10{15}, 32\)"),
        ({"model": config["model"] | {"emb_dim": 4 * 10**18}}, "impossible size|should hold"),
        ({"model": {}}, "missing"),
        ({"model": None}, "must hold an object 'model', got None"),
        ({"template": {}}, "'name' must be text, got None"),
        ({"template": None}, "must hold an object 'template', got None"),
    ):
        (checkpoint_dir / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            load_checkpoint(checkpoint_dir)


def test_a_model_with_other_weights_is_not_saved(tiny, tokenizer, checkpoint_dir):
    before = (checkpoint_dir / "model.safetensors").read_bytes()
    tiny.trf_blocks[0].att.W_key = torch.nn.Sequential(tiny.trf_blocks[0].att.W_key)
    with pytest.raises(ValueError, match=r"this model should hold trf_blocks\.0\.att\.W_key\.weight"):
        save_checkpoint(checkpoint_dir, tiny, tokenizer)
    assert (checkpoint_dir / "model.safetensors").read_bytes() == before
