"""Adapters in peft's form: peft opens what is exported, and what peft saves is imported, with the same logits."""

import copy
import json
import pickle
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GPT2LMHeadModel

from gptlab.config import GPTConfig
from gptlab.model import GPTModel, initialize_like_gpt2
from gptlab.peft import LoRA, QLoRA, apply, merge, remove, save_adapter, trainable_parameters
from gptlab.peft.adalora import AdaLoRA
from gptlab.peft.adapters import Adapter
from gptlab.peft.huggingface import export_peft, import_peft
from gptlab.peft.manage import adapter_modules, adapters_of
from gptlab.peft.nf4 import NF4Linear
from gptlab.peft.prefix import PrefixTuning
from gptlab.peft.prompts import PromptTuning, PTuning
from gptlab.training import make_optimizer, train
from gptlab.weights import export_huggingface

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of third parties, about each other
    import peft

IDS = torch.randint(0, 256, (3, 21), generator=torch.Generator().manual_seed(5))
ALL = ["c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]  # in their names
CAUSAL = {"task_type": peft.TaskType.CAUSAL_LM}
# peft says this of the head among layers that hold their weights transposed; it reads it rightly all the same.
OF_THE_HEAD = "ignore:fan_in_fan_out is set to True but the target module is `torch.nn.Linear`"
OF_A_SAVED_HEAD = "ignore:Setting `save_embedding_layers` to `True` as embedding layers found in `target_modules`"


def model_of(tokenizer, **changes):
    shape = {"vocab_size": tokenizer.n_vocab, "context_length": 40, "emb_dim": 32, "n_heads": 4, "n_layers": 2}
    model = GPTModel(GPTConfig(**shape | {"qkv_bias": True, "tie_weights": True} | changes)).eval()
    generator = torch.Generator().manual_seed(0)
    initialize_like_gpt2(model, generator)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1, generator=generator)
    return model


def in_transformers(model, tokenizer, folder):
    export_huggingface(model, tokenizer, folder)
    return GPT2LMHeadModel.from_pretrained(folder).eval()


def randomize(parameters, std=0.1):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(std=std, generator=generator)


@torch.no_grad()
def logits(model):
    made = model.eval()(IDS)
    return made if isinstance(made, torch.Tensor) else made.logits[:, -IDS.shape[1] :]  # peft's prompts have some too


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def config_of(folder):
    return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))


def change_config(folder, **changes):
    (folder / "adapter_config.json").write_text(json.dumps(config_of(folder) | changes), encoding="utf-8")


@pytest.mark.filterwarnings(OF_THE_HEAD)
@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize(
    "method",
    [
        LoRA(targets="W_query"),
        LoRA(dropout=0.1),
        LoRA(rank=3, alpha=5, targets="all-linear"),
        LoRA(rank=3, alpha=5, targets=("all-linear", "out_head"), rank_stabilised=True),
        LoRA(rank=4, targets=("W_key", "ff.layers.2", "out_head"), rank_pattern={"W_key": 2, "1.ff.layers.2": 7}),
        LoRA(targets="all-linear", rank_pattern={"W_query": 3}, alpha_pattern={"W_value": 7, "0.*out_proj": 2}),
        LoRA(rank_stabilised=True, rank_pattern={"W_value": 3}),
        LoRA(targets=("trf_blocks.1.att.W_value", "trf_blocks.0.ff.layers.0")),
        LoRA(targets="out_head"),
    ],
    ids=["q", "q-v", "linear", "stabilised-head", "ranks", "ranks-alphas", "stabilised-ranks", "two-layers", "head"],
)
def test_peft_opens_what_is_exported(tokenizer, tmp_path, method, qkv_bias):
    model = model_of(tokenizer, qkv_bias=qkv_bias, tie_weights="out_head" not in method.targets)
    plain, theirs = copy.deepcopy(model), in_transformers(model, tokenizer, tmp_path / "base")
    before = logits(model)
    apply(model, method)
    randomize(trainable_parameters(model))
    expected, random_state = logits(model), torch.get_rng_state()
    assert (expected - before).abs().max() > 0.01
    export_peft(model, tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "base"))
    assert torch.get_rng_state().equal(random_state)
    assert_same(logits(peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")), expected)

    assert_same(logits(import_peft(plain, tmp_path / "adapter", name="back")), expected)
    ours, back = adapter_modules(model, "default"), adapter_modules(plain, "back")
    assert {place: len(branch.A) for place, branch in back.items()} == {p: len(b.A) for p, b in ours.items()}
    assert {branch.dropout.p for branch in back.values()} == {method.dropout}


def test_what_is_in_the_files(tokenizer, tmp_path):
    """Query and value of rank 2 make one LoRA of rank 4, in which the key's rows of B are zero."""
    model = model_of(tokenizer)
    apply(model, LoRA(rank=2, alpha=3, targets=("W_query", "W_value", "out_proj")))
    randomize(trainable_parameters(model))
    export_peft(model, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    config, tensors = config_of(tmp_path), load_file(tmp_path / "adapter_model.safetensors")
    assert config["target_modules"] == ["attn.c_attn", "attn.c_proj"]
    of_c_attn = config["rank_pattern"].get("attn.c_attn", config["r"])
    assert (of_c_attn, config["alpha_pattern"].get("attn.c_attn", config["lora_alpha"])) == (4, 6)
    assert (config["rank_pattern"].get("attn.c_proj", config["r"])) == 2
    B = tensors["base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"]
    blocks = adapter_modules(model, "default")
    zeros, of_value = torch.zeros(32, 2), blocks["trf_blocks.1.att.W_value"].B
    rows = [[blocks["trf_blocks.1.att.W_query"].B, zeros], [zeros, zeros], [zeros, of_value]]
    assert B.equal(torch.cat([torch.cat(row, dim=1) for row in rows]))
    assert len(tensors) == 2 * 2 * 2


@pytest.mark.parametrize(
    "method",
    [PrefixTuning(tokens=4), PrefixTuning(tokens=4, hidden=6), PromptTuning(tokens=4), PTuning(tokens=4)],
    ids=["prefix", "encoded-prefix", "prompt", "p-tuning"],
)
def test_peft_opens_virtual_tokens(tokenizer, tmp_path, method):
    model = model_of(tokenizer)
    plain, theirs = copy.deepcopy(model), in_transformers(model, tokenizer, tmp_path / "base")
    apply(model, method)
    randomize(trainable_parameters(model), std=0.3)
    expected = logits(model)
    assert (expected - logits(plain)).abs().max() > 0.01
    export_peft(model, tmp_path / "adapter")
    assert_same(logits(peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")), expected)
    assert_same(logits(import_peft(plain, tmp_path / "adapter")), expected)


def test_peft_opens_adalora_as_lora_of_many_ranks(tokenizer, tmp_path):
    model, method = model_of(tokenizer), AdaLoRA(init_rank=4, target_rank=2, targets="all-linear")
    theirs, before = in_transformers(model, tokenizer, tmp_path / "base"), logits(model)
    apply(model, method)
    optimizer, batches = make_optimizer(model, 0.02, weight_decay=0), [(IDS[:, :-1], IDS[:, 1:])]
    train(model, batches, optimizer=optimizer, epochs=12, hooks=method.hooks(model, 12), progress=False)
    expected = logits(model)
    assert (expected - before).abs().max() > 0.01
    export_peft(model, tmp_path / "adapter")
    assert len(set(config_of(tmp_path / "adapter")["rank_pattern"].values())) > 1
    assert_same(logits(peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")), expected)


def test_peft_opens_qlora_on_the_quantised_weights(tokenizer, tmp_path):
    model = model_of(tokenizer)
    apply(model, QLoRA(rank=2))
    randomize(trainable_parameters(model))
    full = remove(copy.deepcopy(model))
    for name, module in list(full.named_modules()):
        if isinstance(module, NF4Linear):
            parent, _, child = name.rpartition(".")
            setattr(full.get_submodule(parent), child, module.to_linear())
    theirs = in_transformers(full, tokenizer, tmp_path / "base")
    export_peft(model, tmp_path / "adapter")
    assert_same(logits(peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")), logits(model))


@pytest.mark.filterwarnings(OF_THE_HEAD, OF_A_SAVED_HEAD)
@pytest.mark.parametrize("safetensors", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_modules": ALL, "r": 3, "use_rslora": True},
        {"target_modules": ALL, "rank_pattern": {"c_attn": 4, r"h\.1\..*c_fc": 2}, "alpha_pattern": {"^tra.*proj": 5}},
        {"target_modules": "all-linear", "lora_dropout": 0.2},
        {"target_modules": r".*\.1\.(attn|mlp)\.c_proj"},
        {"target_modules": ["c_proj"], "layers_to_transform": 0, "layers_pattern": "h"},
        {"target_modules": ["c_attn", "lm_head"]},
    ],
    ids=["c_attn", "stabilised", "patterns", "all-linear", "regex", "one-layer", "head"],
)
def test_what_peft_saved_is_imported(tokenizer, tmp_path, settings, safetensors):
    model = model_of(tokenizer, tie_weights="lm_head" not in settings.get("target_modules", ()))
    theirs, before = in_transformers(model, tokenizer, tmp_path / "base"), logits(model)
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(**CAUSAL, fan_in_fan_out=True, **settings))
    randomize(parameter for parameter in theirs.parameters() if parameter.requires_grad)
    theirs.save_pretrained(tmp_path / "adapter", safe_serialization=safetensors)
    assert (tmp_path / "adapter" / "adapter_model.bin").is_file() != safetensors
    import_peft(model, tmp_path / "adapter")
    expected = logits(theirs)
    assert_same(logits(model), expected)
    assert (expected - before).abs().max() > 0.01
    assert not trainable_parameters(model)
    export_peft(model, tmp_path / "again")
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "base")
    assert_same(logits(peft.PeftModel.from_pretrained(again, tmp_path / "again")), expected)


@pytest.mark.parametrize(
    "config",
    [
        peft.PrefixTuningConfig(**CAUSAL, num_virtual_tokens=4),
        peft.PrefixTuningConfig(**CAUSAL, num_virtual_tokens=4, prefix_projection=True, encoder_hidden_size=6),
        peft.PromptTuningConfig(**CAUSAL, num_virtual_tokens=4),
        peft.PromptEncoderConfig(**CAUSAL, num_virtual_tokens=4, encoder_hidden_size=6),
    ],
    ids=["prefix", "encoded-prefix", "prompt", "p-tuning"],
)
def test_virtual_tokens_that_peft_saved_are_imported(tokenizer, tmp_path, config):
    model = model_of(tokenizer)
    theirs, before = in_transformers(model, tokenizer, tmp_path / "base"), logits(model)
    theirs = peft.get_peft_model(theirs, config)
    randomize((parameter for parameter in theirs.parameters() if parameter.requires_grad), std=0.3)
    theirs.save_pretrained(tmp_path / "adapter")
    import_peft(model, tmp_path / "adapter")
    assert_same(logits(model), logits(theirs))
    assert (logits(model) - before).abs().max() > 0.01


def test_query_key_and_value_get_the_a_that_they_shared(tokenizer, tmp_path):
    theirs = in_transformers(model_of(tokenizer), tokenizer, tmp_path / "base")
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(**CAUSAL, fan_in_fan_out=True))
    theirs.save_pretrained(tmp_path / "adapter")  # untrained: all of B is zero
    model = import_peft(model_of(tokenizer), tmp_path / "adapter", trainable=True)
    branches = adapter_modules(model, "default")
    assert len(branches) == 3 * model.cfg.n_layers
    A = theirs.base_model.model.transformer.h[0].attn.c_attn.lora_A["default"].weight
    for kind in ("query", "key", "value"):
        assert branches[f"trf_blocks.0.att.W_{kind}"].A.equal(A)
    assert len(trainable_parameters(model)) == 2 * len(branches)
    model(IDS).square().mean().backward()
    assert all(branch.B.grad.any() for branch in branches.values())


@pytest.fixture
def tuned(tokenizer):
    model = model_of(tokenizer)
    apply(model, LoRA(rank=2))
    randomize(trainable_parameters(model))
    return model


@pytest.fixture
def exported(tuned, tmp_path):
    export_peft(tuned, tmp_path / "exported")
    return tmp_path / "exported"


def test_an_export_replaces_an_export_and_nothing_else(tuned, exported, tokenizer, tmp_path):
    torch.save({}, exported / "adapter_model.bin")
    randomize(trainable_parameters(tuned), std=0.4)
    export_peft(tuned, exported)
    assert not (exported / "adapter_model.bin").exists()
    assert_same(logits(import_peft(model_of(tokenizer), exported)), logits(tuned))
    save_adapter(tuned, tmp_path / "ours")
    export_huggingface(model_of(tokenizer), tokenizer, tmp_path / "model")
    for folder, file in (("ours", "adapter.json"), ("model", "config.json")):
        before = {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        with pytest.raises(ValueError, match=f"{folder} holds another model or adapter, it has {file}"):
            export_peft(tuned, tmp_path / folder)
        assert {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} == before


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Adapter(), "peft has nothing like this adapter of method 'adapter'; it has LoRA"),
        (PTuning(tokens=3, inside=1), "peft has nothing like this adapter of method 'p-tuning'"),
    ],
)
def test_methods_that_peft_does_not_have(tokenizer, tmp_path, method, message):
    model = apply(model_of(tokenizer), method)
    randomize(trainable_parameters(model))
    with pytest.raises(ValueError, match=message):
        export_peft(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_exports_that_would_be_of_no_use(tokenizer, tmp_path):
    model = apply(model_of(tokenizer), LoRA(rank=2))
    with pytest.raises(ValueError, match="'default' holds the numbers that it began with: train it"):
        export_peft(model, tmp_path / "new")
    randomize(trainable_parameters(model))
    with pytest.raises(ValueError, match="the model has no adapter 'other'"):
        export_peft(model, tmp_path / "new", name="other")
    with pytest.raises(ValueError, match="'default' is merged already"):
        export_peft(merge(copy.deepcopy(model)), tmp_path / "new")
    with pytest.raises(ValueError, match="the model has no adapter; apply"):
        export_peft(remove(copy.deepcopy(model)), tmp_path / "new")
    model.out_head = nn.Linear(32, 2)
    with pytest.raises(ValueError, match="transformers' GPT-2 has no layer like 'out_head' of this model"):
        export_peft(model, tmp_path / "new")
    model = apply(model_of(tokenizer), AdaLoRA(init_rank=2, target_rank=1))
    randomize(trainable_parameters(model))
    with pytest.raises(RuntimeError, match="AdaLoRA was trained without its hook"):
        export_peft(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def assert_refused(tokenizer, folder, message, error=ValueError, **changes):
    """The import fails, and the model is as it was."""
    model = model_of(tokenizer, **changes)
    before = copy.deepcopy(model)
    with pytest.raises(error, match=message):
        import_peft(model, folder)
    assert adapters_of(model) is None
    assert [type(module) for module in model.modules()] == [type(module) for module in before.modules()]
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": None}, "peft_type must be one of LORA, PREFIX_TUNING, PROMPT_TUNING, P_TUNING, got None"),
        ({"peft_type": "IA3"}, "got 'IA3'"),
        ({"use_dora": True}, "use_dora is not read, got True"),
        ({"bias": "lora_only"}, "bias is not read, got 'lora_only'"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save is not read, got \['lm_head'\]"),
        ({"a_new_setting": {"on": 1}}, "a_new_setting is not read"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa' changes the model under the adapter"),
        ({"r": 5}, r"transformer.h.0.attn.c_attn: .* A as \(5, 32\) and B as \(96, 5\), got \(4, 32\) and \(96, 4\)"),
        ({"rank_pattern": {"c_attn": "4"}}, "r must be a number, got '4'"),
        ({"lora_alpha": "16"}, "lora_alpha must be a number, got '16'"),
        ({"lora_dropout": "no"}, "lora_dropout must be a number, got 'no'"),
        ({"lora_alpha": 0}, "alpha must be a positive number, got 0"),
        ({"target_modules": ["c_attn", "c_fc"]}, r"mlp.c_fc: .* A as \(4, 32\) and B as \(128, 4\), got None and None"),
        ({"target_modules": "(c_attn"}, r"'\(c_attn' is no regular expression"),
    ],
)
def test_adapters_of_other_kinds_are_refused(tokenizer, exported, changes, message):
    change_config(exported, **changes)
    assert_refused(tokenizer, exported, message)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"n_layers": 3}, "transformer.h.2.attn.c_attn: the adapter should hold .* got None and None"),
        ({"n_layers": 1}, "has 'base_model.model.transformer.h.1.attn.c_attn.lora_A.weight', which nothing in this"),
        ({"emb_dim": 36}, r"A as \(4, 36\) and B as \(108, 4\), got \(4, 32\) and \(96, 4\)"),
    ],
)
def test_models_of_another_size_are_refused(tokenizer, exported, shape, message):
    change_config(exported, target_modules=["c_attn"])
    assert_refused(tokenizer, exported, message, **shape)


def test_files_that_are_not_whole(tokenizer, exported, tmp_path):
    path = exported / "adapter_model.safetensors"
    tensors = load_file(path)
    key = "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"
    save_file({name: tensor for name, tensor in tensors.items() if name != key}, path)
    assert_refused(tokenizer, exported, r"transformer.h.0.attn.c_attn: .* got \(4, 32\) and None")
    save_file({}, path)
    change_config(exported, target_modules=None)
    assert_refused(tokenizer, exported, "the adapter is empty: it has no weights")
    path.write_bytes(b"no weights")
    assert_refused(tokenizer, exported, "adapter_model.safetensors holds more than tensors, or is damaged")
    path.unlink()
    assert_refused(tokenizer, exported, "neither adapter_model.safetensors nor adapter_model.bin", FileNotFoundError)
    (exported / "adapter_model.bin").write_bytes(pickle.dumps(print))
    assert_refused(tokenizer, exported, "adapter_model.bin holds more than tensors, or is damaged")
    torch.save([torch.zeros(2)], exported / "adapter_model.bin")
    assert_refused(tokenizer, exported, "adapter_model.bin must hold names with their tensors")
    (exported / "adapter_config.json").write_text("[]", encoding="utf-8")
    assert_refused(tokenizer, exported, "got None")
    (exported / "adapter_config.json").unlink()
    assert_refused(tokenizer, exported, "it has no adapter_config.json", FileNotFoundError)


def test_a_folder_of_ours_is_read_by_load_adapter(tuned, tokenizer, tmp_path):
    save_adapter(tuned, tmp_path)
    assert_refused(tokenizer, tmp_path, "it has no adapter_config.json; load_adapter reads it", FileNotFoundError)


def test_a_name_that_is_taken(tuned, exported):
    before = logits(tuned)
    with pytest.raises(ValueError, match="the model has an adapter 'default' already"):
        import_peft(tuned, exported)
    import_peft(tuned, exported, name="other")
    assert_same(logits(tuned), before)


def test_virtual_tokens_that_do_not_fit(tokenizer, tmp_path):
    model = apply(model_of(tokenizer), PrefixTuning(tokens=4))
    randomize(trainable_parameters(model))
    export_peft(model, tmp_path)
    assert_refused(tokenizer, tmp_path, r"prompt_embeddings as \(4, 192\), got \(4, 128\)", n_layers=3)
    assert_refused(tokenizer, tmp_path, "tokens must be below 4, the context", context_length=4)
    change_config(tmp_path, num_virtual_tokens=5)
    assert_refused(tokenizer, tmp_path, r"prompt_embeddings as \(5, 128\), got \(4, 128\)")
    save_file({"score.weight": torch.zeros(2, 32)}, tmp_path / "adapter_model.safetensors")
    assert_refused(tokenizer, tmp_path, "got None")


@pytest.mark.filterwarnings(OF_A_SAVED_HEAD)
def test_a_head_must_be_the_models_own(tokenizer, tmp_path):
    model = model_of(tokenizer, tie_weights=False)
    theirs = in_transformers(model, tokenizer, tmp_path / "base")
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(**CAUSAL, target_modules=["lm_head"]))
    theirs.save_pretrained(tmp_path / "adapter")
    model.out_head.weight.data.mul_(2)
    with pytest.raises(ValueError, match="the adapter brings a head of its own, 'base_model.model.lm_head.base_layer"):
        import_peft(model, tmp_path / "adapter")
    assert adapters_of(model) is None
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if "base_layer" not in name}, path)
    assert_refused(tokenizer, tmp_path / "adapter", "'out_head' shares its weight with the embeddings")
