import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from gptlab.config import GPTConfig
from gptlab.model import GPTModel
from gptlab.tokenizer import save_tokenizer, tokenizer_files, train_tokenizer
from gptlab.weights import export_huggingface, load_checkpoint, load_gpt2, save_checkpoint

TEXTS = ["The home of Lumika", "  two  spaces\n\n", "从零开始 🙂", "it's they've", "", "<|endoftext|>"]


def model_of(tokenizer, **changes):
    torch.manual_seed(0)
    shape = {"vocab_size": tokenizer.n_vocab, "context_length": 40, "emb_dim": 32, "n_heads": 4, "n_layers": 2}
    model = GPTModel(GPTConfig(**shape | changes)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_transformers_opens_what_is_exported(tokenizer, tmp_path, tied, qkv_bias):
    model = model_of(tokenizer, tie_weights=tied, qkv_bias=qkv_bias)
    export_huggingface(model, tokenizer, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    their_tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(theirs, GPT2LMHeadModel)
    assert theirs.config.tie_word_embeddings is tied
    assert (theirs.lm_head.weight is theirs.transformer.wte.weight) == tied
    assert theirs.generation_config.eos_token_id == tokenizer.eot_token == their_tokenizer.eos_token_id
    ids = torch.randint(0, tokenizer.n_vocab, (2, 40))
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids), atol=1e-5, rtol=1e-5)
    for text in TEXTS:
        ours = tokenizer.encode(text, allowed_special="all")
        assert their_tokenizer(text)["input_ids"] == ours
        assert their_tokenizer.decode(ours) == tokenizer.decode(ours)

    back, back_tokenizer = load_gpt2(tmp_path)
    assert tokenizer_files(back_tokenizer) == tokenizer_files(tokenizer)
    assert back.cfg.tie_weights == tied
    for name, weight in model.state_dict().items():
        assert back.state_dict()[name].equal(weight), name
    assert back(ids).equal(model(ids)) or not qkv_bias


def test_every_loading_function_takes_both_forms(tokenizer, tmp_path):
    model = model_of(tokenizer, tie_weights=True, qkv_bias=True)
    export_huggingface(model, tokenizer, tmp_path / "theirs")
    save_checkpoint(tmp_path / "ours", model, tokenizer, "book")
    ids = torch.arange(10).view(1, 10)
    for folder, template in (("theirs", "plain"), ("ours", "book")):
        checkpoint = load_checkpoint(tmp_path / folder)
        assert checkpoint.model(ids).equal(model(ids))
        assert checkpoint.template.name == template
        for tie_weights in (None, True, False):
            loaded, _ = load_gpt2(tmp_path / folder, tie_weights=tie_weights)
            assert loaded(ids).equal(model(ids))
            assert (loaded.out_head.weight is loaded.tok_emb.weight) == (tie_weights is not False)
        half, _ = load_gpt2(tmp_path / folder, dtype=torch.bfloat16)
        assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_a_vocabulary_of_another_kind(tmp_path, monkeypatch):
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=211, n_embd=32, n_layer=1, n_head=2, n_positions=16)).eval()
    theirs.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n我\n", encoding="utf-8")
    model, tokenizer = load_gpt2(tmp_path)
    assert tokenizer.encode("我") == [1]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # without the package that reads it
    assert load_gpt2(tmp_path)[1] is None
    with pytest.raises(ValueError, match="no tokenizer that can be read here"):
        load_checkpoint(tmp_path)
    ids = torch.arange(8).view(1, 8)
    torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="no tokenizer that can be read here"):
        load_checkpoint(tmp_path)


def test_50257_foreign_tokens_do_not_get_openais_tokenizer(tmp_path):
    theirs = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=16))
    theirs.save_pretrained(tmp_path)
    assert load_gpt2(tmp_path)[1].name == "gpt2"
    (tmp_path / "spiece.model").write_bytes(b"")
    assert load_gpt2(tmp_path)[1] is None


def test_an_export_is_not_mixed_with_other_files(tokenizer, tmp_path):
    model = model_of(tokenizer, tie_weights=True)
    save_checkpoint(tmp_path / "own", model, tokenizer)
    with pytest.raises(ValueError, match="holds another model, which the export would overwrite"):
        export_huggingface(model, tokenizer, tmp_path / "own")
    export_huggingface(model, tokenizer, tmp_path / "theirs")
    export_huggingface(model, tokenizer, tmp_path / "theirs")  # its own work may be replaced
    AutoTokenizer.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "theirs")
    with pytest.raises(ValueError, match="holds tokenizer.json, which transformers would read too"):
        export_huggingface(model, tokenizer, tmp_path / "theirs")


def test_the_124m_shape_gets_gpt2s_tokenizer_and_needs_no_config(tmp_path):
    """One layer of every true size would be a gigabyte; distilgpt2's shape, in half precision, is the smallest."""
    theirs = GPT2LMHeadModel(GPT2Config(n_layer=6)).eval().half()
    theirs.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    model, tokenizer = load_gpt2(tmp_path / "model.safetensors")
    assert tokenizer.name == "gpt2"
    assert model.cfg.n_layers == 6
    ids = torch.tensor([tokenizer.encode("Hello, I am")])
    with torch.no_grad():
        torch.testing.assert_close(model(ids), theirs.float()(ids).logits, atol=1e-5, rtol=1e-5)


def test_wrong_folders(tokenizer, tmp_path):
    export_huggingface(model_of(tokenizer, tie_weights=True), tokenizer, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for change, message in (
        ({"model_type": "llama"}, "must describe a 'gpt2', got model_type 'llama'"),
        ({"n_embd": 64}, r"wte\.weight: the model needs \(300, 64\), the weights have \(300, 32\)"),
        ({"n_layer": 3}, r"h\.2\.ln_1\.weight: the model needs \(32,\), the weights have None"),
        ({"n_head": 5}, "32 and 5"),
        ({"n_embd": None}, "emb_dim must be a whole number >= 1, got None"),
        ({"vocab_size": 320}, "the model has 320 tokens, the tokenizer 300"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
        for load in (load_gpt2, load_checkpoint):
            with pytest.raises(ValueError, match=message):
                load(tmp_path)
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.json must hold an object"):
        load_gpt2(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        load_gpt2(tmp_path / "nowhere")
    other = train_tokenizer("another text about nothing", 261)
    with pytest.raises(ValueError, match="the model has 300 tokens, the tokenizer 261"):
        export_huggingface(model_of(tokenizer), other, tmp_path / "new")
    wrapped = model_of(tokenizer)
    wrapped.trf_blocks[0].att.W_key = torch.nn.Sequential(wrapped.trf_blocks[0].att.W_key)
    with pytest.raises(ValueError, match="no plain GPTModel: trf_blocks.0.att.W_key"):
        export_huggingface(wrapped, tokenizer, tmp_path / "new")
    other_head = model_of(tokenizer, tie_weights=True)
    other_head.out_head = torch.nn.Linear(32, tokenizer.n_vocab, bias=False)
    with pytest.raises(ValueError, match="out_head.weight differs from tok_emb.weight"):
        export_huggingface(other_head, tokenizer, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    untied = model_of(tokenizer)
    save_checkpoint(tmp_path / "own", untied, tokenizer)
    with pytest.raises(ValueError, match=r"out_head\.weight differs from tok_emb\.weight"):
        load_gpt2(tmp_path / "own", tie_weights=True)
    save_tokenizer(other, tmp_path / "own")
    with pytest.raises(ValueError, match="the tokenizer 261"):
        load_gpt2(tmp_path / "own")
