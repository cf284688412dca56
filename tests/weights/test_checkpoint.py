import json

import pytest
import torch
from safetensors import safe_open

from gptlab.data import load_template
from gptlab.model import GPTModel
from gptlab.tokenizer import train_tokenizer
from gptlab.weights import export_huggingface, load_checkpoint, load_gpt2, save_checkpoint


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


def test_the_file_that_is_named_is_the_file_that_is_read(tiny, tokenizer, checkpoint_dir):
    """Weights of another epoch may lie beside the first ones."""
    for parameter in tiny.parameters():
        torch.nn.init.normal_(parameter)
    save_checkpoint(checkpoint_dir.parent / "later", tiny, tokenizer)
    (checkpoint_dir.parent / "later" / "model.safetensors").rename(checkpoint_dir / "epoch2.safetensors")
    ids = torch.arange(6).view(1, 6)
    assert load_gpt2(checkpoint_dir / "epoch2.safetensors")[0](ids).equal(tiny(ids))
    assert load_checkpoint(checkpoint_dir / "epoch2.safetensors").model(ids).equal(tiny(ids))
    assert not load_checkpoint(checkpoint_dir).model(ids).equal(tiny(ids))
    for load in (load_gpt2, load_checkpoint):
        with pytest.raises(ValueError, match=r"config\.json"):
            load(checkpoint_dir / "config.json")


def test_another_model_is_not_overwritten(tiny, tokenizer, tmp_path):
    export_huggingface(tiny, tokenizer, tmp_path)
    with pytest.raises(ValueError, match="holds another model, which would be overwritten"):
        save_checkpoint(tmp_path, tiny, tokenizer)
    tiny.out_head = torch.nn.Linear(32, 2)
    with pytest.raises(ValueError, match="out_head scores 2 classes, not 300 tokens: see save_classifier"):
        save_checkpoint(tmp_path / "new", tiny, tokenizer)


def test_a_model_may_have_a_few_spare_tokens(tiny, tokenizer, tmp_path):
    """Added tokens, or a size that was made round, as 50,304 for GPT-2."""
    cfg = tiny.cfg.to_dict() | {"vocab_size": 303}
    save_checkpoint(tmp_path / "ours", GPTModel(cfg), tokenizer)
    export_huggingface(GPTModel(cfg), tokenizer, tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        model, read = load_gpt2(tmp_path / folder)
        assert (model.cfg.vocab_size, read.n_vocab) == (303, 300)
    with pytest.raises(ValueError, match="the model has 304 tokens, the tokenizer 300"):
        save_checkpoint(tmp_path / "more", GPTModel(cfg | {"vocab_size": 304}), tokenizer)


@pytest.mark.parametrize(
    "name",
    ["adapter.json", "adapter.safetensors", "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"],
)
def test_a_folder_with_an_adapter_gets_no_model(tiny, tokenizer, tmp_path, name):
    (tmp_path / name).write_bytes(b"{}")
    message = f"holds an adapter, it has {name}; choose another folder for a model"
    with pytest.raises(ValueError, match=message):
        save_checkpoint(tmp_path, tiny, tokenizer)
    with pytest.raises(ValueError, match=message):
        export_huggingface(tiny, tokenizer, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
