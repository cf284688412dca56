import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gptlab.config import GPTConfig
from gptlab.model import GPTModel, KVCache, count_parameters, initialize_like_gpt2

BOOK = {
    "vocab_size": 101,
    "context_length": 40,
    "emb_dim": 48,
    "n_heads": 4,
    "n_layers": 3,
    "drop_rate": 0.0,
    "qkv_bias": True,
}


@pytest.fixture
def model():
    torch.manual_seed(1)
    return GPTModel(BOOK).eval()


def hugging_face_twin(model: GPTModel) -> GPT2LMHeadModel:
    """GPT2LMHeadModel with the weights of `model`, copied by hand."""
    cfg = model.cfg
    reference = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=cfg.vocab_size,
            n_positions=cfg.context_length,
            n_embd=cfg.emb_dim,
            n_layer=cfg.n_layers,
            n_head=cfg.n_heads,
            tie_word_embeddings=cfg.tie_weights,
        )
    ).eval()
    weights = {
        "transformer.wte.weight": model.tok_emb.weight,
        "transformer.wpe.weight": model.pos_emb.weight,
        "transformer.ln_f.weight": model.final_norm.scale,
        "transformer.ln_f.bias": model.final_norm.shift,
        "lm_head.weight": model.out_head.weight,
    }
    for i, block in enumerate(model.trf_blocks):
        att, name = block.att, f"transformer.h.{i}"
        projections = (att.W_query, att.W_key, att.W_value)
        weights[f"{name}.attn.c_attn.weight"] = torch.cat([linear.weight for linear in projections]).T
        weights[f"{name}.attn.c_attn.bias"] = torch.cat([linear.bias for linear in projections])
        for theirs, ours in (
            ("attn.c_proj", att.out_proj),
            ("mlp.c_fc", block.ff.layers[0]),
            ("mlp.c_proj", block.ff.layers[2]),
        ):
            weights[f"{name}.{theirs}.weight"] = ours.weight.T
            weights[f"{name}.{theirs}.bias"] = ours.bias
        for theirs, ours in (("ln_1", block.norm1), ("ln_2", block.norm2)):
            weights[f"{name}.{theirs}.weight"] = ours.scale
            weights[f"{name}.{theirs}.bias"] = ours.shift
    reference.load_state_dict({name: weight.detach().clone() for name, weight in weights.items()})
    return reference


@pytest.mark.parametrize("tied", [False, True])
def test_logits_equal_transformers(tied):
    torch.manual_seed(0)
    model = GPTModel(BOOK | {"tie_weights": tied}).eval()
    for parameter in model.parameters():  # norms and biases too
        torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.randint(0, 101, (3, 40))
    with torch.no_grad():
        torch.testing.assert_close(model(ids), hugging_face_twin(model)(ids).logits, atol=1e-5, rtol=1e-5)


def test_padded_logits_equal_transformers(model):
    ids = torch.randint(0, 101, (2, 12))
    visible = torch.ones(2, 12, dtype=torch.bool)
    visible[1, :5] = False
    positions = (visible.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        ours = model(ids, positions=positions, mask=visible.unsqueeze(1))
        theirs = hugging_face_twin(model)(ids, attention_mask=visible.long(), position_ids=positions).logits
    torch.testing.assert_close(ours[visible], theirs[visible], atol=1e-5, rtol=1e-5)


def test_names_and_creation_order_are_the_books():
    """A seed gives the weights that the book's class has: the same layers, drawn one after the other."""
    torch.manual_seed(123)
    ours = GPTModel(BOOK)
    torch.manual_seed(123)
    D, V = 48, 101
    drawn = {"tok_emb": torch.nn.Embedding(V, D), "pos_emb": torch.nn.Embedding(40, D)}
    for i in range(3):
        for name in ("att.W_query", "att.W_key", "att.W_value", "att.out_proj"):
            drawn[f"trf_blocks.{i}.{name}"] = torch.nn.Linear(D, D)
        drawn[f"trf_blocks.{i}.ff.layers.0"] = torch.nn.Linear(D, 4 * D)
        drawn[f"trf_blocks.{i}.ff.layers.2"] = torch.nn.Linear(4 * D, D)
    drawn["out_head"] = torch.nn.Linear(D, V, bias=False)
    for name, layer in drawn.items():
        for kind, weight in layer.named_parameters():
            assert ours.get_parameter(f"{name}.{kind}").equal(weight), name
    norms = {f"trf_blocks.{i}.norm{n}.{p}" for i in range(3) for n in (1, 2) for p in ("scale", "shift")}
    norms |= {"final_norm.scale", "final_norm.shift"}
    assert set(ours.state_dict()) == norms | {f"{n}.{k}" for n, m in drawn.items() for k, _ in m.named_parameters()}


def test_parameter_counts_of_gpt2():
    """124M tied and 163M untied, without building them: on the meta device."""
    cfg = GPTConfig(vocab_size=50257, context_length=1024, emb_dim=768, n_heads=12, n_layers=12, qkv_bias=True)
    with torch.device("meta"):
        assert count_parameters(GPTModel(cfg)) == 163_037_184
        assert count_parameters(GPTModel(cfg.to_dict() | {"tie_weights": True})) == 124_439_808


def test_tied_weights_are_one_parameter_and_learn_as_one():
    model = GPTModel(BOOK | {"tie_weights": True})
    assert model.out_head.weight is model.tok_emb.weight
    model(torch.zeros(1, 4, dtype=torch.int64)).sum().backward()
    unused = model.tok_emb.weight.grad[50]  # only the head has seen token 50
    assert unused.abs().sum() > 0


@pytest.mark.parametrize("chunks", [[40], [1] * 40, [7, 1, 20, 12]])
def test_cached_equals_uncached(model, chunks):
    ids = torch.randint(0, 101, (2, 40))
    cache, parts, start = KVCache(3, step=8), [], 0
    with torch.no_grad():
        for size in chunks:
            parts.append(model(ids[:, start : start + size], cache=cache))
            start += size
        torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), atol=1e-5, rtol=1e-5)


def test_packed_documents_equal_separate_ones(model):
    """Positions that begin anew and a mask that separates make two documents in one row independent."""
    first, second = torch.randint(0, 101, (1, 9)), torch.randint(0, 101, (1, 14))
    document = torch.tensor([[0] * 9 + [1] * 14])
    positions = torch.cat([torch.arange(9), torch.arange(14)]).unsqueeze(0)
    with torch.no_grad():
        packed = model(
            torch.cat([first, second], dim=1),
            positions=positions,
            mask=document.unsqueeze(2) == document.unsqueeze(1),
        )
        torch.testing.assert_close(packed[:, :9], model(first), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(packed[:, 9:], model(second), atol=1e-5, rtol=1e-5)


def test_the_steps_under_forward_make_forward(model):
    ids = torch.randint(0, 101, (2, 6))
    assert model.out_head(model.forward_embeddings(model.embed(ids))).equal(model(ids))
    assert model.embed(ids).equal(model.tok_emb.weight[ids])


def test_nothing_depends_on_the_future(model):
    ids = torch.randint(0, 101, (1, 20))
    changed = ids.clone()
    changed[0, 12:] = (ids[0, 12:] + 1) % 101
    with torch.no_grad():
        torch.testing.assert_close(model(ids)[:, :12], model(changed)[:, :12])
        assert not torch.allclose(model(ids)[:, 12:], model(changed)[:, 12:])


def test_initialize_like_gpt2_is_reproducible_and_scaled():
    model = GPTModel(BOOK | {"emb_dim": 256, "tie_weights": True})
    initialize_like_gpt2(model, torch.Generator().manual_seed(5))
    first = model.state_dict()
    first = {name: weight.clone() for name, weight in first.items()}
    initialize_like_gpt2(model, torch.Generator().manual_seed(5))
    assert all(weight.equal(first[name]) for name, weight in model.state_dict().items())
    matrix = 0.02 * 3**0.5  # a third of GPT-2's width
    assert model.tok_emb.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.trf_blocks[0].att.W_key.weight.std().item() == pytest.approx(matrix, rel=0.02)
    assert model.trf_blocks[0].att.out_proj.weight.std().item() == pytest.approx(matrix / 6**0.5, rel=0.02)
    assert model.trf_blocks[0].ff.layers[0].bias.abs().max() == 0
    assert model.final_norm.scale.eq(1).all()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros(5, dtype=torch.int64), r"\(batch, tokens\), got shape \(5,\)"),
        (torch.tensor([[3, 101]]), r"\[0, 101\), got 3 to 101"),
        (torch.tensor([[-1, 3]]), "got -1 to 3"),
        (torch.zeros(1, 41, dtype=torch.int64), "the context holds 40 tokens, got 41"),
    ],
)
def test_wrong_ids(model, ids, message):
    with pytest.raises(ValueError, match=message):
        model(ids)


def test_the_cache_counts_towards_the_context(model):
    cache = KVCache(3)
    with torch.no_grad():
        model(torch.zeros(1, 39, dtype=torch.int64), cache=cache)
        with pytest.raises(ValueError, match="holds 40 tokens, got 41"):
            model(torch.zeros(1, 2, dtype=torch.int64), cache=cache)
    with pytest.raises(ValueError, match="got 41"):
        model(torch.zeros(1, 1, dtype=torch.int64), positions=torch.tensor([[40]]))


def test_checkpoints_of_the_books_class_load_with_their_masks(model):
    state = dict(model.state_dict())
    for number in range(3):
        state[f"trf_blocks.{number}.att.mask"] = torch.ones(40, 40).triu(1)
    twin = GPTModel(BOOK)
    twin.load_state_dict(state)
    assert all(weight.equal(state[name]) for name, weight in twin.state_dict().items())
    with pytest.raises(RuntimeError, match="Unexpected key"):
        twin.load_state_dict(state | {"trf_blocks.0.att.other": torch.ones(1)})
