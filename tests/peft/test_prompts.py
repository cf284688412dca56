import pytest
import torch
from peft import PromptEncoderConfig, PromptTuningConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from gptlab.config import GPTConfig
from gptlab.data import Example, collate
from gptlab.decoding import generate
from gptlab.model import GPTModel
from gptlab.peft import apply, disable, load_adapter, remove, save_adapter
from gptlab.peft.prompts import PromptTuning, PTuning, insert_virtual, virtual_ids
from gptlab.training import make_optimizer, next_token_loss, train
from gptlab.weights import load_weights

D, V, N = 48, 101, 5
INSIDE = {"mlp": PTuning(N, inside=2), "lstm": PTuning(N, encoder="lstm", inside=2), "only": PTuning(2, inside=2)}


@pytest.fixture
def base():
    """A GPT-2 of transformers with random weights, large enough that its answers differ."""
    torch.manual_seed(1)
    sizes = {"n_embd": D, "n_layer": 3, "n_head": 4, "vocab_size": V, "n_positions": 40}
    return GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.2)).eval()


@pytest.fixture
def ours(base):
    shape = {"vocab_size": V, "context_length": 40, "emb_dim": D, "n_heads": 4, "n_layers": 3}
    model = GPTModel(GPTConfig(**shape, qkv_bias=True, tie_weights=True))
    load_weights(model, base)
    return model.eval()


@pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning")  # peft's own, in its own generate
def test_prompt_tuning_is_that_of_peft(base, ours):
    """Logits, loss, its gradient, and what is written. Their logits have rows for the virtual tokens too."""
    theirs = get_peft_model(base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=N)).eval()
    apply(ours, PromptTuning(N, start="random"))
    prompt = theirs.prompt_encoder["default"].embedding.weight
    ours.adapters["default"].load_state_dict({"vectors": prompt.detach()})
    ids = torch.randint(V, (3, 9))
    expected = theirs(input_ids=ids, labels=ids)
    assert expected.logits.shape[1] == N + 9
    assert ours(ids).allclose(expected.logits[:, N:], atol=1e-5)

    # Their labels are not shifted, so that the last virtual token foresees the first real one; ours stand alone.
    logits = expected.logits[:, N:-1]
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), ids[:, 1:].flatten())
    total, count = next_token_loss(ours, ids[:, :-1], ids[:, 1:])
    assert total.item() / count == pytest.approx(loss.item(), abs=1e-5)
    loss.backward()
    (total / count).backward()
    assert ours.adapters["default"].vectors.grad.allclose(prompt.grad, atol=1e-5)

    written = theirs.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    assert generate(ours, ids.tolist(), max_new_tokens=12) == written[:, 9:].tolist()


@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
def test_p_tuning_is_that_of_peft(base, ours, encoder):
    """Their encoder's weights have the names of ours, but for the heads' own."""
    config = PromptEncoderConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=N,
        encoder_hidden_size=7,
        encoder_reparameterization_type=encoder.upper(),
        encoder_dropout=0.0,
    )
    theirs = get_peft_model(base, config).eval()
    apply(ours, PTuning(N, encoder, hidden=7))
    weights = {
        name.replace("mlp_head", "layers").replace("lstm_head", "lstm").replace("embedding.weight", "embedding"): tensor
        for name, tensor in theirs.prompt_encoder["default"].state_dict().items()
    }
    ours.adapters["default"].load_state_dict(weights)
    ids = torch.randint(V, (3, 9))
    expected, logits = theirs(input_ids=ids).logits[:, N:], ours(ids)
    assert logits.allclose(expected, atol=1e-5)

    direction = torch.randn(expected.shape)
    (expected * direction).mean().backward()
    (logits * direction).mean().backward()
    gradient = theirs.prompt_encoder["default"].embedding.weight.grad
    assert gradient.abs().max() > 1e-5
    assert ours.adapters["default"].embedding.grad.allclose(gradient, atol=1e-5)


def test_a_prompt_that_begins_as_a_text_is_that_text(tiny, tokenizer):
    text = "The pet of Lumika is"
    read, ids = tokenizer.encode_ordinary(text), torch.tensor([[5, 9, 70]])
    with torch.no_grad():
        expected = tiny(torch.cat([torch.tensor([read * 2])[:, : len(read) + 3], ids], dim=1))[:, len(read) + 3 :]
        apply(tiny, PromptTuning(len(read) + 3, start="text", text=text), tokenizer=tokenizer)
        assert tiny(ids).allclose(expected, atol=1e-5)


def test_what_a_prompt_begins_as(tiny):
    words = tiny.tok_emb.weight.detach()
    drawn = PromptTuning(100).build(tiny)[""]()
    assert all((words == row).all(dim=1).any() for row in drawn)
    noise = PromptTuning(100, start="random").build(tiny)[""]().detach()
    assert noise.std() == pytest.approx(words.std().item(), rel=0.1)


@pytest.fixture(params=INSIDE.values(), ids=INSIDE)
def inside(request, tiny):
    with torch.no_grad():
        tiny.final_norm.scale *= 20  # larger logits, so that there is something to change
    apply(tiny, request.param, generator=torch.Generator().manual_seed(0))
    return tiny, request.param


def vectors_of(model: GPTModel) -> torch.Tensor:
    return model.tok_emb.adapters["default"].encoder()


@torch.no_grad()
def test_virtual_tokens_inside_the_text_are_read_as_vectors(inside):
    """Equal to the model alone, given the vectors where front and ids stand; the order is that of the encoder."""
    model, method = inside
    assert virtual_ids(model) == [300, 301]
    question, answer = [7, 8, 9], [20, 21]
    ids = torch.tensor([insert_virtual(question + answer, virtual_ids(model), place=3)])
    assert ids.tolist() == [[7, 8, 9, 300, 301, 20, 21]]
    logits, vectors, front = model(ids), vectors_of(model), method.tokens - 2
    assert model.cfg.context_length == 160 - front
    with disable(model):
        words = model.embed(torch.tensor([question + answer]))[0]
        x = torch.cat([vectors[:front], words[:3], vectors[front:], words[3:]]).unsqueeze(0)
        expected = model.out_head(model.forward_embeddings(x))[:, front:]
    assert logits.allclose(expected, atol=1e-5)


def test_training_and_answering_with_virtual_tokens_before_the_answer(inside):
    model, _ = inside
    base = model.tok_emb.base.weight.clone()
    plain = [Example([7, 8, 9, 20 + n, 21, 2], [False] * 3 + [True] * 3) for n in range(4)]
    built = [insert_virtual(example, virtual_ids(model), example.trained.index(True)) for example in plain]
    inputs, targets = collate(built, pad_id=0)
    assert targets[0].tolist() == [-100, -100, -100, -100, 20, 21, 2]
    optimizer = make_optimizer(model, 0.02, weight_decay=0)
    history = train(model, [(inputs, targets)] * 30, optimizer=optimizer, progress=False)
    assert history.losses[-1] < 0.7 * history.losses[0]
    assert all(parameter.grad.norm() > 0 for parameter in model.tok_emb.adapters["default"].parameters())
    assert model.tok_emb.base.weight.equal(base) and not model.tok_emb.sparse

    prompts = [insert_virtual([7, 8, 9], virtual_ids(model), 3), [4, *insert_virtual([5, 6], virtual_ids(model), 1)]]
    written = generate(model.eval(), prompts, max_new_tokens=5)
    assert written == [generate(model, [prompt], max_new_tokens=5)[0] for prompt in prompts]
    assert written[0] != generate(model, [[7, 8, 9]], max_new_tokens=5)[0]


def test_inside_and_flattened(inside, tmp_path):
    model, method = inside
    with torch.no_grad():
        vectors_of(model)  # moved away from its beginning, so that it may be saved
        model.tok_emb.adapters["default"].encoder.embedding += 1
    ids = torch.tensor([[7, 300, 8, 301, 9]])
    logits = model(ids)
    save_adapter(model, tmp_path, for_inference=True)
    remove(model)
    assert type(model.tok_emb) is torch.nn.Embedding
    load_adapter(model, tmp_path)
    assert model(ids).allclose(logits, atol=1e-5) and virtual_ids(model) == [300, 301]
    assert vectors_of(model).shape == (method.tokens, 32)


def test_ids_of_no_virtual_token_are_refused(inside):
    model, _ = inside
    with pytest.raises(ValueError, match=r"token ids must be in \[0, 302\), got 302"):
        model(torch.tensor([[302]]))
    with pytest.raises(ValueError, match=r"holds the id 302; ids must be in \[0, 302\)"):
        generate(model, [[302]], max_new_tokens=1)
    with disable(model):
        assert virtual_ids(model) == []
        with pytest.raises(ValueError, match=r"token ids must be in \[0, 300\), got 300"):
            model(torch.tensor([[300]]))


def test_prompts_without_any_inside_have_no_ids(tiny):
    assert virtual_ids(tiny) == []
    assert virtual_ids(apply(tiny, PTuning(N))) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "gru"}, "encoder must be one of mlp, lstm, none, got 'gru'"),
        ({"hidden": 0}, "hidden must be None or a whole number >= 1, got 0"),
        ({"tokens": 3, "inside": 4}, r"inside must be in \[0, 3\], the tokens, got 4"),
        ({"inside": True}, "got True"),
        ({"hidden": True}, "hidden must be None or a whole number >= 1, got True"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        PTuning(**settings)


def test_a_prompt_of_a_text_needs_a_tokenizer(tiny):
    with pytest.raises(ValueError, match="needs the tokenizer: apply"):
        apply(tiny, PromptTuning(3, start="text", text="Lumika"))
    with pytest.raises(ValueError, match="got start='random' and text='Lumika'"):
        PromptTuning(3, start="random", text="Lumika")
