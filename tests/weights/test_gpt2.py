import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from gptlab.config import GPT2_SIZES, GPTConfig
from gptlab.model import GPTModel
from gptlab.weights import save_checkpoint
from gptlab.weights.gpt2 import (
    assign_check,
    build_model,
    empty_model,
    load_weights,
    open_weights,
    translations,
)
from gptlab.weights.huggingface import config_from_huggingface, config_of_known_size
from gptlab.weights.safetensors_file import SafetensorsFile

SHAPE = {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 40, "vocab_size": 101}
CFG = GPTConfig(vocab_size=101, context_length=40, emb_dim=48, n_heads=4, n_layers=3, qkv_bias=True, tie_weights=True)
UNTIED = GPTConfig.of(CFG.to_dict() | {"tie_weights": False})
IDS = torch.arange(20).view(2, 10)


@pytest.fixture
def theirs():
    """A transformers model in which every number is random, norms and biases too."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**SHAPE)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def folder(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"


def logits(model):
    with torch.no_grad():
        output = model(IDS)
    return output.logits if hasattr(output, "logits") else output


def assert_equal(ours, theirs):
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-5, rtol=1e-5)


def openai_params(state):
    """The nested dictionary that the book's TensorFlow reader returns."""
    params = {"wte": state["wte.weight"].numpy(), "wpe": state["wpe.weight"].numpy(), "blocks": []}
    params |= {"g": state["ln_f.weight"].numpy(), "b": state["ln_f.bias"].numpy()}
    for i in range(3):
        block: dict = {}
        for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
            outer, inner = name.split(".")
            node = block.setdefault(outer, {}).setdefault(inner, {})
            node["w"] = state[f"h.{i}.{name}.weight"].numpy()
            node["b"] = state[f"h.{i}.{name}.bias"].numpy()
        for norm in ("ln_1", "ln_2"):
            block[norm] = {"g": state[f"h.{i}.{norm}.weight"].numpy(), "b": state[f"h.{i}.{norm}.bias"].numpy()}
        params["blocks"].append(block)
    return params


SOURCES = {
    "model with head": lambda theirs, folder: theirs,
    "bare model": lambda theirs, folder: theirs.transformer,
    "state dictionary": lambda theirs, folder: theirs.state_dict(),
    "without prefix": lambda theirs, folder: theirs.transformer.state_dict(),
    "numpy": lambda theirs, folder: {name: w.numpy() for name, w in theirs.transformer.state_dict().items()},
    "nested dictionary": lambda theirs, folder: openai_params(theirs.transformer.state_dict()),
    "folder": lambda theirs, folder: folder,
    "file": lambda theirs, folder: str(folder / "model.safetensors"),
}


@pytest.mark.parametrize("cfg", [CFG, UNTIED], ids=["tied", "untied"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_transformers_logits(theirs, folder, source, cfg):
    model = GPTModel(cfg).eval()
    load_weights(model, SOURCES[source](theirs, folder))
    assert_equal(model, theirs)
    assert (model.out_head.weight is model.tok_emb.weight) == cfg.tie_weights


def test_an_untied_head_is_loaded(tmp_path):
    theirs = GPT2LMHeadModel(GPT2Config(**SHAPE, tie_word_embeddings=False)).eval()
    torch.nn.init.normal_(theirs.lm_head.weight)
    model = GPTModel(UNTIED).eval()
    load_weights(model, theirs)
    assert_equal(model, theirs)
    before = model.state_dict()["tok_emb.weight"].clone()
    with pytest.raises(ValueError, match="lm_head.weight differs from wte.weight"):
        load_weights(GPTModel(CFG), theirs)
    assert model.tok_emb.weight.equal(before)


def test_nothing_stays_connected(theirs):
    model = GPTModel(CFG)
    load_weights(model, theirs)
    before = model.pos_emb.weight.clone()
    torch.nn.init.zeros_(theirs.transformer.wpe.weight)
    assert model.pos_emb.weight.equal(before)


def test_the_masks_of_old_files_are_left_aside(theirs):
    state = theirs.transformer.state_dict()
    for i in range(3):
        state[f"h.{i}.attn.bias"] = torch.ones(1, 1, 40, 40).tril()
        state[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    model = GPTModel(CFG).eval()
    load_weights(model, state)
    assert_equal(model, theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("h.1.mlp.c_fc.bias"),
            r"h\.1\.mlp\.c_fc\.bias: the model needs \(192,\), the weights have None",
        ),
        (lambda s: s.update(extra=torch.ones(2)), r"extra: the model needs None, the weights have \(2,\)"),
        (
            lambda s: s.update({"wpe.weight": torch.ones(41, 48)}),
            r"wpe\.weight: .* \(40, 48\), the weights have \(41, 48\)",
        ),
        (
            lambda s: s.update({"h.0.attn.c_attn.weight": torch.ones(144, 48)}),
            r"h\.0\.attn\.c_attn\.weight: the model needs \(48, 144\), the weights have \(144, 48\)",
        ),
        (lambda s: s.update({"transformer.wte.weight": torch.ones(1)}), "hold some names twice"),
        (lambda s: s.update({"h.3.ln_1.weight": torch.ones(48)}), r"h\.3\.ln_1\.weight: the model needs None"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(theirs, change, message):
    state = theirs.transformer.state_dict()
    change(state)
    model = GPTModel(CFG)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_weights(model, state)
    assert all(weight.equal(before[name]) for name, weight in model.state_dict().items())


def test_a_model_without_biases_says_which_setting_is_meant(theirs):
    with pytest.raises(ValueError, match="c_attn.bias.*the model has qkv_bias=False"):
        load_weights(GPTModel(CFG.to_dict() | {"qkv_bias": False}), theirs)


def test_the_table_names_every_tensor_and_every_parameter_once():
    table = translations(3)
    assert {row.theirs for row in table} == set(GPT2Model(GPT2Config(**SHAPE)).state_dict())
    ours = [name for row in table for name in row.ours]
    assert len(ours) == len(set(ours))
    assert {*ours, "out_head.weight"} == set(GPTModel(CFG).state_dict())


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_any_stored_type_becomes_the_wanted_one(theirs, tmp_path, stored, wanted):
    path = tmp_path / "m.safetensors"
    save_file({name: w.to(stored).contiguous() for name, w in theirs.transformer.state_dict().items()}, path)
    model = build_model(CFG, open_weights(path), wanted, "cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {wanted}
    expected = GPTModel(CFG)
    load_weights(expected, {name: w.to(stored) for name, w in theirs.transformer.state_dict().items()})
    for name, weight in model.state_dict().items():
        assert weight.equal(expected.to(wanted).state_dict()[name])


def test_a_built_model_owns_separate_whole_tensors(folder):
    model = build_model(CFG, open_weights(folder), torch.float32, "cpu")
    for parameter in model.parameters():
        assert parameter.is_contiguous()
        assert parameter.untyped_storage().nbytes() == parameter.nbytes
        assert parameter.requires_grad
    assert not model.training
    assert_equal(model, GPT2LMHeadModel.from_pretrained(folder).eval())


def test_an_empty_model_has_shapes_and_costs_nothing():
    model = empty_model(GPT2_SIZES["gpt2-xl"])
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_557_611_200
    assert all(parameter.is_meta for parameter in model.parameters())
    code = (
        "import sys; from gptlab.weights.gpt2 import empty_model; from gptlab.config import GPT2_SIZES\n"
        "empty_model(GPT2_SIZES['gpt2']); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_tensor_is_read_once(folder, monkeypatch):
    read = []
    real = SafetensorsFile.__getitem__
    monkeypatch.setattr(SafetensorsFile, "__getitem__", lambda self, name: read.append(name) or real(self, name))
    build_model(CFG, open_weights(folder), torch.float32, "cpu")
    assert len(read) == len(set(read)) == len(translations(3))


def test_shards_written_by_transformers(theirs, tmp_path):
    theirs.save_pretrained(tmp_path, max_shard_size="50KB")
    assert not (tmp_path / "model.safetensors").exists()
    assert_equal(build_model(CFG, open_weights(tmp_path), torch.float32, "cpu"), theirs)


def test_book_checkpoints_load_with_and_without_masks(tmp_path):
    saved = GPTModel(UNTIED).eval()
    state = dict(saved.state_dict()) | {f"trf_blocks.{i}.att.mask": torch.ones(40, 40).triu(1) for i in range(3)}
    for content in (state, {"model_state_dict": state, "optimizer_state_dict": {"state": {}, "param_groups": []}}):
        torch.save(content, tmp_path / "model.pth")
        model = GPTModel(UNTIED).eval()
        load_weights(model, tmp_path / "model.pth")
        assert logits(model).equal(logits(saved))
    other = GPTModel(UNTIED.to_dict() | {"n_layers": 4})
    before = {name: weight.clone() for name, weight in other.state_dict().items()}
    with pytest.raises(ValueError, match="should hold trf_blocks.3.att.W_query.weight"):
        load_weights(other, tmp_path / "model.pth")
    assert all(weight.equal(before[name]) for name, weight in other.state_dict().items())
    with pytest.raises(ValueError, match="out_head.weight differs from tok_emb.weight"):
        load_weights(GPTModel(CFG), tmp_path / "model.pth")


def test_our_own_folders_fill_a_model_too(tmp_path, tokenizer):
    cfg = CFG.to_dict() | {"vocab_size": tokenizer.n_vocab}
    saved = GPTModel(cfg)
    save_checkpoint(tmp_path, saved, tokenizer)
    for tied in (True, False):
        model = GPTModel(cfg | {"tie_weights": tied})
        if tied:
            load_weights(model, tmp_path)
            assert logits(model).equal(logits(saved))
        else:
            with pytest.raises(ValueError, match="should hold out_head.weight"):
                load_weights(model, tmp_path)


def test_pickles_are_refused_and_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"tok_emb.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="evil.pth holds more than tensors"):
        load_weights(GPTModel(CFG), tmp_path / "evil.pth")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="pytorch_model.bin is not read"):
        load_weights(GPTModel(CFG), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds pytorch_model.bin, a pickle"):
        load_weights(GPTModel(CFG), tmp_path)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        load_weights(GPTModel(CFG), tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has neither model.safetensors nor"):
        load_weights(GPTModel(CFG), tmp_path / "empty")


def test_configs(theirs):
    assert config_from_huggingface(theirs.config.to_dict()).to_dict() == CFG.to_dict() | {"drop_rate": 0.1}
    assert config_from_huggingface({"model_type": "gpt2"}) == GPT2_SIZES["gpt2"]
    for change, message in (
        ({"model_type": "llama"}, "must describe a 'gpt2', got model_type 'llama'"),
        ({"activation_function": "relu"}, "activation_function must be 'gelu_new' or 'gelu_pytorch_tanh', got 'relu'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx must be False, got True"),
        ({"n_inner": 100}, "n_inner must be None or 3072, got 100"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            config_from_huggingface({"model_type": "gpt2"} | change)


def test_known_sizes_are_recognised_without_a_config(theirs):
    for cfg in GPT2_SIZES.values():
        names = {f"h.{i}.ln_1.weight": torch.empty(0) for i in range(cfg.n_layers)}
        names["wte.weight"] = torch.empty(cfg.vocab_size, cfg.emb_dim, device="meta")
        assert config_of_known_size(names) == cfg
    with pytest.raises(ValueError, match="3 layers, width 48 and 101 tokens need a config.json"):
        config_of_known_size(theirs.transformer.state_dict())


def test_assign_check():
    right = torch.ones(2, 3)
    copy = assign_check(torch.zeros(2, 3), right)
    right.zero_()
    assert copy.eq(1).all()
    assert assign_check(torch.zeros(2), np.ones(2)).eq(1).all()
    with pytest.raises(ValueError, match=r"Left: \(2, 3\), Right: \(3, 2\)"):
        assign_check(torch.zeros(2, 3), torch.zeros(3, 2))


def test_load_file_of_the_library_agrees(folder):
    for name, weight in load_file(folder / "model.safetensors").items():
        assert open_weights(folder)[name.removeprefix("transformer.")].equal(weight)
