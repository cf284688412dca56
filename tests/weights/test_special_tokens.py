"""Special tokens that are added to a trained model: its old logits, its new rows, and its way through files."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from gptlab.config import GPTConfig
from gptlab.data import Segment, collate, encode, find_format
from gptlab.model import GPTModel
from gptlab.tokenizer import as_tokenizer, control_id, load_tokenizer, save_tokenizer, train_tokenizer
from gptlab.weights import add_special_tokens, export_huggingface, load_checkpoint, load_gpt2, save_checkpoint

NAMES = ["<eoh>", "<eom>", "<|im_end|>"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"我你好从零开始的模型。，<>", "eo", "##h", "hello"]


def model_of(tokenizer, spare=0, **changes):
    torch.manual_seed(0)
    shape = {"context_length": 40, "emb_dim": 32, "n_heads": 4, "n_layers": 2, "qkv_bias": True}
    model = GPTModel(GPTConfig(vocab_size=tokenizer.n_vocab + spare, **shape | changes)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def chinese(tmp_path):
    """BERT's vocabulary of characters, as Chinese GPT-2s have it."""
    (tmp_path / "chinese").mkdir()
    (tmp_path / "chinese" / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return load_tokenizer(tmp_path / "chinese")


@pytest.fixture(params=["byte level", "chinese"])
def each(request, tokenizer, chinese):
    return tokenizer if request.param == "byte level" else chinese


@pytest.mark.parametrize("tied", [True, False])
def test_equals_resizing_in_transformers(tokenizer, tmp_path, tied):
    model = model_of(tokenizer, tie_weights=tied)
    export_huggingface(model, tokenizer, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    V = tokenizer.n_vocab
    theirs.resize_token_embeddings(V + len(NAMES), mean_resizing=False)
    with torch.no_grad():
        for rows in (theirs.get_input_embeddings().weight, theirs.get_output_embeddings().weight):
            rows[V:] = rows[:V].mean(dim=0)
    grown = add_special_tokens(model, tokenizer, NAMES)
    ids = torch.cat([torch.randint(0, V, (2, 20)), torch.arange(V, grown.n_vocab).expand(2, -1)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_what_the_model_knew_stays(tokenizer, tied):
    model = model_of(tokenizer, tie_weights=tied)
    V, ids = tokenizer.n_vocab, torch.randint(0, tokenizer.n_vocab, (2, 40))
    before, old = model(ids).detach(), {name: weight.clone() for name, weight in model.state_dict().items()}
    parameters = list(model.parameters())
    grown = add_special_tokens(model, tokenizer, NAMES)

    after = model(ids).detach()
    torch.testing.assert_close(after[..., :V], before, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(after[..., V:], before.mean(-1, keepdim=True).expand(-1, -1, 3), atol=1e-5, rtol=1e-5)
    assert after[..., : V + 1].softmax(-1)[..., V].max() <= 1 / (V + 1)
    for name, weight in model.state_dict().items():
        assert weight[: len(old[name])].equal(old[name]), name
        if name in ("tok_emb.weight", "out_head.weight"):
            assert all(torch.allclose(row, old[name].mean(dim=0), atol=1e-6) for row in weight[V:])
    assert model.cfg.vocab_size == model.tok_emb.num_embeddings == model.out_head.out_features == grown.n_vocab == V + 3
    assert (model.out_head.weight is model.tok_emb.weight) == tied == model.cfg.tie_weights
    assert all(now is then for now, then in zip(model.parameters(), parameters, strict=True))


@pytest.mark.parametrize("tied", [True, False])
def test_spare_rows_are_used_first(tokenizer, tied):
    model = model_of(tokenizer, spare=2, tie_weights=tied)
    V, rows = tokenizer.n_vocab, model.out_head.weight.detach().clone()
    one = add_special_tokens(model, tokenizer, NAMES[:1])
    assert (model.cfg.vocab_size, one.n_vocab) == (V + 2, V + 1)
    torch.testing.assert_close(model.out_head.weight[V], rows[:V].mean(dim=0))
    assert model.out_head.weight[V + 1].equal(rows[V + 1])
    three = add_special_tokens(model, one, NAMES)
    assert (model.cfg.vocab_size, three.n_vocab) == (V + 3, V + 3)
    torch.testing.assert_close(model.out_head.weight[V], rows[:V].mean(dim=0))
    torch.testing.assert_close(model.out_head.weight[V + 2], torch.cat([rows[:V], rows[:V].mean(0)[None]]).mean(dim=0))
    assert [control_id(three, name) for name in NAMES] == [V, V + 1, V + 2]


def test_dtype_and_freezing_are_kept(tokenizer):
    model = model_of(tokenizer).to(torch.bfloat16)
    model.tok_emb.weight.requires_grad_(False)
    exact = model.tok_emb.weight.float().mean(dim=0).bfloat16()
    add_special_tokens(model, tokenizer, NAMES)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert (model.tok_emb.weight.requires_grad, model.out_head.weight.requires_grad) == (False, True)
    assert all(row.equal(exact) for row in model.tok_emb.weight[-3:])


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_are_learned(each, tied):
    model = model_of(each, tie_weights=tied).train()
    model(torch.arange(8).view(1, 8)).sum().backward()
    grown = add_special_tokens(model, each, NAMES)
    assert model.tok_emb.weight.grad is model.out_head.weight.grad is None, "a gradient of the old shape is no more"
    turns = [
        Segment("hello", False),
        Segment("<eoh>", True, control=True),
        Segment("我", True),
        Segment("<eom>", True, control=True),
        Segment("<eoh>", True, control=True),
    ]
    inputs, targets = collate([encode(turns, grown)], pad_id=grown.eot_token)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    new, losses = [control_id(grown, "<eoh>"), control_id(grown, "<eom>")], []
    for step in range(60):
        loss = nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            for weight in (model.tok_emb.weight, model.out_head.weight):
                assert (weight.grad[new].abs().sum(dim=1) > 0).all()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    trained = targets != -100
    assert model(inputs).argmax(-1)[trained].equal(targets[trained])
    assert not model.out_head.weight[new[0]].allclose(model.out_head.weight[new[1]])


def test_names_that_are_there_change_nothing(each):
    model = model_of(each, tie_weights=True)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    known = next(iter(each.special_tokens_set))
    for names in ([], [known]):
        assert add_special_tokens(model, each, names) is each
    assert all(before[name].equal(weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("tied", [True, False])
def test_saved_and_exported_with_the_model(each, tmp_path, tied):
    model = model_of(each, tie_weights=tied)
    grown = add_special_tokens(model, each, NAMES)
    save_checkpoint(tmp_path / "ours", model, grown)
    export_huggingface(model, grown, tmp_path / "theirs")
    ids = torch.tensor([[*grown.encode_ordinary("hello<eoh> 我"), *(control_id(grown, name) for name in NAMES)]])
    for folder in ("ours", "theirs"):
        for loaded, tokenizer in (load_checkpoint(tmp_path / folder)[:2], load_gpt2(tmp_path / folder)):
            assert loaded(ids).equal(model(ids))
            assert loaded.cfg.vocab_size == tokenizer.n_vocab == grown.n_vocab
            assert tokenizer.special_tokens_set == grown.special_tokens_set
            assert [control_id(tokenizer, name) for name in NAMES] == ids[0, -3:].tolist()
            assert tokenizer.encode_ordinary("hello<eoh> 我") == grown.encode_ordinary("hello<eoh> 我")
            assert tokenizer.decode(ids[0].tolist()) == grown.decode(ids[0].tolist())


def test_transformers_takes_them_as_special(each, tmp_path):
    model = model_of(each, tie_weights=True)
    grown = add_special_tokens(model, each, NAMES)
    export_huggingface(model, grown, tmp_path / "first")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "first")
    theirs.save_pretrained(tmp_path / "again")  # as a run of transformers' own trainer would
    for tokenizer in (theirs, AutoTokenizer.from_pretrained(tmp_path / "again")):
        assert len(tokenizer) == grown.n_vocab
        assert set(NAMES) <= set(tokenizer.all_special_tokens)
        assert tokenizer.eos_token_id == grown.eot_token
        read = tokenizer("hello<eoh>我<eom>")["input_ids"]
        turns = [("hello", False), ("<eoh>", True), ("我", False), ("<eom>", True)]
        assert read == encode([Segment(text, False, control) for text, control in turns], grown).ids
        assert "<eoh>" in tokenizer.decode(read)
        dropped = tokenizer.decode(read, skip_special_tokens=True)
        assert dropped.replace(" ", "") == "hello我"
    for folder in ("first", "again"):
        ours = load_tokenizer(tmp_path / folder)
        assert [control_id(ours, name) for name in NAMES] == [control_id(grown, name) for name in NAMES]
    ids = torch.tensor([read])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(tmp_path / "first").eval()(ids).logits
    torch.testing.assert_close(logits, model(ids), atol=1e-5, rtol=1e-5)


def test_a_tokenizer_of_transformers_is_adapted_on_the_way(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    model = model_of(tokenizer)
    grown = add_special_tokens(model, theirs, NAMES)
    assert model.cfg.vocab_size == grown.n_vocab == tokenizer.n_vocab + 3
    assert grown.encode_ordinary("The home<eoh>") == tokenizer.encode_ordinary("The home<eoh>")


class Wrapped(nn.Linear):
    """A layer that is more than it seems, as an adapter's is."""


def untie(model):
    model.out_head.weight = nn.Parameter(model.out_head.weight.detach().clone())


def change(name, layer):
    return lambda model: setattr(model, name, layer)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change("out_head", nn.Linear(32, 2, bias=False)), r"out_head must have weights of \(300, 32\), got \(2, 32\)"),
        (change("out_head", nn.Linear(32, 300)), "out_head must have no bias, got one"),
        (change("out_head", Wrapped(32, 300, bias=False)), "out_head must be a plain nn.Linear, got a Wrapped"),
        (
            change("tok_emb", nn.Sequential(nn.Embedding(300, 32))),
            "tok_emb must be a plain nn.Embedding, got a Sequent",
        ),
        (change("tok_emb", nn.Embedding(301, 32)), r"tok_emb must have weights of \(300, 32\), got \(301, 32\)"),
        (untie, "cfg says tie_weights=True, but its weights are tied: False"),
    ],
)
def test_models_that_are_refused(tokenizer, spoil, message):
    model = model_of(tokenizer, tie_weights=True)
    spoil(model)
    with pytest.raises(ValueError, match=message):
        add_special_tokens(model, tokenizer, NAMES)
    assert model.cfg.vocab_size == 300


def test_what_is_refused_leaves_the_model_as_it_was(tokenizer):
    model = model_of(tokenizer, tie_weights=True)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    letters = as_tokenizer(type("Letters", (), {"encode": lambda self, text: [0], "decode": lambda self, ids: "a"})())
    for which, names, message in (
        (tokenizer, ["<eoh>", "eom"], "got 'eom'"),
        (tokenizer, ["<eoh>", "<eoh>"], "'<eoh>' comes twice"),
        (letters, ["<eoh>"], "a Letters takes no new tokens"),
        (train_tokenizer("The home of Lumika", 262), ["<eoh>"], "the model has 300 tokens, the tokenizer 262"),
    ):
        with pytest.raises(ValueError, match=message):
            add_special_tokens(model, which, names)
    assert model.cfg.vocab_size == 300
    assert before.keys() == model.state_dict().keys()
    assert all(before[name].equal(weight) for name, weight in model.state_dict().items())


def test_transformers_stops_at_the_mark_of_the_format(tokenizer, tmp_path):
    form = find_format("chatml")
    model = model_of(tokenizer)
    extended = add_special_tokens(model, tokenizer, form.markers)
    mark = control_id(extended, "<|im_end|>")
    with torch.no_grad():  # a model that says nothing but the mark
        model.final_norm.scale.zero_()
        model.final_norm.shift.fill_(1.0)
        model.out_head.weight[mark] = 1.0
    export_huggingface(model, extended, tmp_path / "out", form)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    written = theirs.generate(torch.tensor([[1, 2, 3]]), attention_mask=torch.ones(1, 3), max_new_tokens=5)
    assert written.tolist() == [[1, 2, 3, mark]]
    assert load_checkpoint(tmp_path / "out").template == form
