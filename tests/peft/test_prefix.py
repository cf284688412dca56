import copy

import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from gptlab.config import GPTConfig
from gptlab.decoding import generate
from gptlab.model import GPTModel
from gptlab.peft import apply, trainable_parameters
from gptlab.peft.prefix import PrefixTuning
from gptlab.training import make_optimizer, next_token_loss
from gptlab.weights import load_weights

D, L, V, N = 48, 3, 101, 5


@pytest.fixture
def base():
    """A GPT-2 of transformers with random weights, large enough that its answers differ."""
    torch.manual_seed(1)
    sizes = {"n_embd": D, "n_layer": L, "n_head": 4, "vocab_size": V, "n_positions": 40}
    return GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.2)).eval()


@pytest.fixture
def ours(base):
    shape = {"vocab_size": V, "context_length": 40, "emb_dim": D, "n_heads": 4, "n_layers": L}
    model = GPTModel(GPTConfig(**shape, qkv_bias=True, tie_weights=True))
    load_weights(model, base)
    return model.eval()


@pytest.fixture(params=[None, 7], ids=["plain", "network"])
def pair(request, base, ours):
    """The model of peft with a prefix and ours, with the same numbers."""
    hidden = request.param
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=N,
        prefix_projection=hidden is not None,
        **({} if hidden is None else {"encoder_hidden_size": hidden}),
    )
    theirs = get_peft_model(base, config).eval()
    apply(ours, PrefixTuning(N, hidden, start="random"))
    encoder = theirs.prompt_encoder["default"]
    names = {"rows": "embedding.weight"} if hidden is None else {"embedding": "embedding.weight"}
    for number in () if hidden is None else (0, 2):
        for kind in ("weight", "bias"):
            names[f"layers.{number}.{kind}"] = f"transform.{number}.{kind}"
    prefix = ours.adapters["default"]
    assert prefix.state_dict().keys() == names.keys()
    prefix.load_state_dict({name: encoder.get_parameter(other).detach() for name, other in names.items()})
    return theirs, ours, names


def test_logits_gradients_and_answers_are_those_of_peft(pair):
    theirs, ours, names = pair
    ids = torch.randint(V, (3, 9))
    expected = theirs(input_ids=ids).logits
    logits = ours(ids)
    assert logits.std() > 0.5
    assert logits.allclose(expected, atol=1e-5)

    direction = torch.randn(expected.shape)
    (expected * direction).mean().backward()
    (logits * direction).mean().backward()
    encoder = theirs.prompt_encoder["default"]
    for name, other in names.items():
        gradient = encoder.get_parameter(other).grad
        assert gradient.abs().max() > 1e-5
        assert ours.adapters["default"].get_parameter(name).grad.allclose(gradient, atol=1e-5)

    written = theirs.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    assert generate(ours, ids.tolist(), max_new_tokens=12) == written[:, 9:].tolist()


def test_parameters_are_counted_as_in_the_paper(ours):
    count = {
        hidden: sum(parameter.numel() for parameter in PrefixTuning(N, hidden).build(ours)[""].parameters())
        for hidden in (None, 7)
    }
    assert count == {None: 2 * L * D * N, 7: N * D + D * 7 + 7 + 7 * 2 * L * D + 2 * L * D}


def test_a_prefix_that_begins_as_a_text_is_that_text(tiny, tokenizer):
    """Keys and values of a text that was read are what the model would have remembered of it."""
    text = "The pet of Lumika is"
    read, ids = tokenizer.encode_ordinary(text), torch.tensor([[5, 9, 70]])
    with torch.no_grad():
        expected = tiny(torch.cat([torch.tensor([read]), ids], dim=1))[:, len(read) :]
        apply(tiny, PrefixTuning(len(read), start="text", text=text), tokenizer=tokenizer)
        assert tiny(ids).allclose(expected, atol=1e-5)


def test_a_text_is_repeated_or_cut(tiny, tokenizer):
    build = {"tokenizer": tokenizer}
    n = len(tokenizer.encode_ordinary("The pet of Lumika is"))
    once = PrefixTuning(n, start="text", text="The pet of Lumika is").build(tiny, **build)[""]()
    cut = PrefixTuning(n - 2, start="text", text="The pet of Lumika is").build(tiny, **build)[""]()
    twice = PrefixTuning(2 * n, start="text", text="The pet of Lumika is").build(tiny, **build)[""]()
    assert cut.allclose(once[:-2], atol=1e-5) and twice[:n].allclose(once, atol=1e-5)


def test_the_generator_decides_what_it_begins_as(tiny):
    state = torch.get_rng_state()
    for method in (PrefixTuning(N), PrefixTuning(N, start="random"), PrefixTuning(N, hidden=4)):
        first, second, third = (
            method.build(tiny, generator=torch.Generator().manual_seed(seed))[""]() for seed in (0, 0, 1)
        )
        assert first.equal(second) and not first.equal(third)
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize("hidden", [8, 48])
def test_a_step_at_its_learning_rate_moves_a_network_s_prefix_about_as_far(ours, hidden):
    """All weights of the network move what it makes, so at the same rate it would be several times as far."""
    moved = []
    for method in (PrefixTuning(N, start="random"), PrefixTuning(N, hidden)):
        model = apply(copy.deepcopy(ours), method, generator=torch.Generator().manual_seed(0))
        prefix, optimizer = model.adapters["default"], make_optimizer(model, method.learning_rate, 0.0)
        before = prefix().detach().clone()
        next_token_loss(model, torch.arange(9)[None], torch.arange(1, 10)[None])[0].backward()
        optimizer.step()
        moved.append((prefix() - before).abs().mean().item())
    assert 0.5 < moved[1] / moved[0] < 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 0}, "hidden must be None or a whole number >= 1, got 0"),
        ({"hidden": True}, "hidden must be None or a whole number >= 1, got True"),
        ({"start": "zero"}, "start must be one of vocabulary, text, random, got 'zero'"),
        ({"start": "text"}, "start='text' and a text belong together, got start='text' and text=''"),
        ({"text": "A mill"}, "got start='vocabulary' and text='A mill'"),
        ({"start": "text", "text": "A mill", "hidden": 3}, "give hidden=3 or a text"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        PrefixTuning(**settings)


def test_a_text_needs_the_models_tokenizer(tiny, ours, tokenizer):
    method = PrefixTuning(3, start="text", text="Lumika")
    with pytest.raises(ValueError, match="needs the tokenizer: apply"):
        apply(tiny, method)
    with pytest.raises(ValueError, match=f"the model has {V} tokens; they must agree"):
        apply(ours, method, tokenizer=tokenizer)
    assert len(trainable_parameters(tiny)) == len(list(tiny.parameters()))
