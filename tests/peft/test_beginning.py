"""What holds for everything that stands in front of the text: prefixes, prompts, and P-tuning's."""

import copy
from functools import partial

import pytest
import torch

from gptlab.data import Example, collate, collate_packed
from gptlab.decoding import (
    ChatSession,
    beam_search,
    generate,
    perplexity,
    prepare_for_decoding,
    stream,
)
from gptlab.devices import autocast
from gptlab.model import GPTModel, KVCache, causal_mask
from gptlab.peft import LoRA, apply, disable, load_adapter, merge, remove, save_adapter, trainable_parameters, use
from gptlab.peft.prefix import PrefixTuning
from gptlab.peft.prompts import PromptTuning, PTuning
from gptlab.training import evaluate, make_optimizer, next_token_loss, train
from gptlab.training.blocks import blocks_run_as
from gptlab.training.gradients import Gradients

N = 6  # virtual tokens
METHODS = {
    "prefix": PrefixTuning(N),
    "prefix, random": PrefixTuning(N, start="random"),
    "prefix of a network": PrefixTuning(N, hidden=7),
    "prompt": PromptTuning(N),
    "p-tuning, mlp": PTuning(N),
    "p-tuning, lstm": PTuning(N, encoder="lstm", hidden=5),
    "p-tuning, some inside": PTuning(N + 2, inside=2),
}
THE_REST = [method for name, method in METHODS.items() if name in ("prefix", "prompt", "p-tuning, some inside")]


@pytest.fixture(params=METHODS.values(), ids=METHODS)
def method(request):
    return request.param


@pytest.fixture
def model(tiny, method):
    return tuned(tiny, method)


@pytest.fixture(params=["prefix", "prompt"])
def simple(tiny, request):
    """A model with a prefix or a prompt: the two ways by which keys and values come about."""
    return tuned(tiny, METHODS[request.param])


def tuned(tiny: GPTModel, method, name: str = "default") -> GPTModel:
    """The model with an adapter whose numbers moved away from where they began."""
    generator = torch.Generator().manual_seed(5)
    apply(tiny, method, name=name, generator=generator)
    with torch.no_grad():
        for parameter in trainable_parameters(tiny):
            parameter += 0.3 * parameter.std() * torch.randn(parameter.shape, generator=generator)
    return tiny


def some_ids(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(300, shape, generator=torch.Generator().manual_seed(seed))


def examples(count: int = 6) -> list[Example]:
    """Examples of unequal lengths whose second half is trained on."""
    lengths = [5 + 3 * number for number in range(count)]
    return [
        Example(some_ids(length, seed=length).tolist(), [place >= length // 2 for place in range(length)])
        for length in lengths
    ]


def outspoken(tiny: GPTModel) -> GPTModel:
    """The random model with larger logits, so that there is something for an adapter to change."""
    with torch.no_grad():
        tiny.final_norm.scale *= 20
    return tiny


def gradients(model: GPTModel, batch, parts: int = 1, precision: str = "float32") -> list[torch.Tensor]:
    model.zero_grad()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    Gradients(model, parts, torch.device("cpu"), precision, scaler, []).add(batch)
    return [parameter.grad for parameter in trainable_parameters(model)]


def test_it_is_a_cache_that_is_already_filled(model):
    """The adapter's keys and values, put into a plain model's own cache by hand, give the same logits."""
    ids = some_ids(3, 9)
    with torch.no_grad():
        logits = model(ids)
        cache = KVCache(model.cfg.n_layers)
        for layer, (keys, values) in zip(cache.layers, model.adapters["default"].keys_and_values(model)):
            layer.append(keys.expand(3, -1, -1, -1), values.expand(3, -1, -1, -1))
        assert cache.length == N
        with disable(model):
            assert model(ids, cache=cache).allclose(logits, atol=1e-5)
            assert not model(ids).allclose(logits, atol=1e-2)


def test_cached_is_uncached_and_the_cache_holds_the_text_alone(model):
    ids, cache = some_ids(2, 12), KVCache(model.cfg.n_layers)
    with torch.no_grad():
        whole = model(ids)
        parts = [model(ids[:, begin:end], cache=cache) for begin, end in ((0, 5), (5, 6), (6, 12))]
        assert torch.cat(parts, dim=1).allclose(whole, atol=1e-5)
        assert cache.length == 12
        cache.reorder(torch.tensor([1]))
        cache.truncate(4)
        assert model(ids[1:, 4:], cache=cache).allclose(whole[1:, 4:], atol=1e-5)
        cache.truncate(0)
        assert model(ids[1:], cache=cache).allclose(whole[1:], atol=1e-5)


@torch.no_grad()
def test_the_cache_gets_what_stands_in_front_once(simple):
    ids, cache = some_ids(2, 4), KVCache(simple.cfg.n_layers)
    with autocast(torch.device("cpu"), "bfloat16"):  # so that it is not of the text's dtype
        simple(ids, cache=cache)
        assert simple(ids, cache=cache).allclose(simple(ids.repeat(1, 2))[:, 4:], atol=1e-2)
    more = torch.zeros(2, 4, 1, 8, dtype=torch.bfloat16)  # (B, H, T, head_dim)
    for layer in cache.layers:
        (keys, values), (later_keys, later_values) = (layer.append(more, more) for _ in range(2))
        assert keys.shape[2] == N + 4 + 4 + 1 and later_keys.shape[2] == keys.shape[2] + 1
        assert keys.data_ptr() == later_keys.data_ptr() and values.data_ptr() == later_values.data_ptr()  # no copies
    assert cache.length == 10


@torch.no_grad()
def test_a_cache_that_forgot_its_text_can_begin_otherwise(simple):
    cache, ids = KVCache(simple.cfg.n_layers), some_ids(3, 5)
    answers = simple(ids)
    simple(some_ids(2, 4), cache=cache)
    cache.truncate(0)
    with disable(simple):
        assert simple(ids, cache=cache).equal(simple(ids))
    with pytest.raises(ValueError, match="holds 5 tokens that were read with another beginning or none"):
        simple(ids, cache=cache)
    cache.truncate(0)
    assert simple(ids[:2], cache=cache).allclose(answers[:2], atol=1e-5)


def test_a_batch_of_unequal_prompts_is_each_alone(model):
    """Padding on the left, and a beginning that is read once for all."""
    shared = some_ids(20).tolist()
    prompts = [shared + some_ids(length, seed=length).tolist() for length in (1, 4, 9)]
    write = partial(generate, model, max_new_tokens=8)
    assert write(prompts) == [write([prompt])[0] for prompt in prompts]
    for prompt, written in zip(prompts, write(prompts)):
        ids = list(prompt)
        for token in written:
            assert model(torch.tensor([ids]))[0, -1].argmax() == token
            ids.append(token)


def test_generate_ends_at_what_is_left_of_the_context(simple, tokenizer):
    left = simple.cfg.context_length
    assert left == simple.pos_emb.num_embeddings - N
    prompt = some_ids(left - 3).tolist()
    [result] = generate(simple, [prompt], max_new_tokens=9, return_details=True)
    assert (len(result.ids), result.reason) == (4, "context")  # the last one is written, not read
    [slid] = generate(simple, [prompt], max_new_tokens=9, past_context="slide")
    window = torch.tensor([(prompt + slid)[-left - 1 : -1]])
    assert slid[:4] == result.ids and simple(window)[0, -1].argmax() == slid[-1]
    pieces = stream(simple, prompt, tokenizer=tokenizer, max_new_tokens=4)
    assert "".join(pieces) == tokenizer.decode(result.ids)


@torch.no_grad()
def test_beam_search_scores_are_the_models_own(simple):
    prompt = some_ids(5).tolist()
    found = beam_search(simple, prompt, num_beams=3, max_new_tokens=4)
    assert len(found) == 3
    for hypothesis in found:
        logits = simple(torch.tensor([prompt + hypothesis.ids]))[0, 4:-1].log_softmax(-1)
        score = logits.gather(1, torch.tensor(hypothesis.ids).unsqueeze(1)).mean().item()
        assert score == pytest.approx(hypothesis.score, abs=1e-5)


def test_a_conversation_goes_on_from_its_cache(simple, tokenizer):
    """The second answer of a session equals that of a new session, which reads everything anew."""
    session = ChatSession(simple, tokenizer, "alpaca_short", max_new_tokens=6)
    for question in ("The home?", "The pet?"):
        turns = list(session.turns)
        "".join(session.ask(question))
        fresh = ChatSession(simple, tokenizer, "alpaca_short", max_new_tokens=6)
        fresh.turns = turns
        "".join(fresh.ask(question))
        assert fresh.turns == session.turns
    assert len(session.turns) == 2 and session._cache.length > 0


def test_a_prepared_copy_computes_the_same_and_stands_alone(model):
    ids = some_ids(2, 7)
    with torch.no_grad():
        prepared, before = prepare_for_decoding(model), model(ids)
        assert prepared(ids).allclose(before, atol=1e-4)
        for parameter in model.adapters["default"].parameters():
            parameter.zero_()
        assert prepared(ids).allclose(before, atol=1e-4)


def test_a_deep_copy_runs_its_own_weights(simple):
    ids = some_ids(1, 5)
    with torch.no_grad():
        copied, before = copy.deepcopy(simple), simple(ids)
        for parameter in simple.parameters():
            parameter.zero_()
        assert copied(ids).equal(before)


@torch.no_grad()
def test_perplexity_and_windows(simple):
    ids = some_ids(40).tolist()
    logits = simple(torch.tensor([ids]))[0, :-1].log_softmax(-1)
    nll = -logits.gather(1, torch.tensor(ids[1:]).unsqueeze(1)).sum().item()
    assert perplexity(simple, ids).nll == pytest.approx(nll, rel=1e-5)
    assert perplexity(simple, some_ids(400).tolist()).tokens == 399  # windows of what is left of the context


def test_packed_documents_each_have_it_in_front(model):
    singles = [next_token_loss(model, *collate([example], pad_id=0)) for example in examples()]
    packed = collate_packed(examples(), pad_id=0, length=24)
    assert len(packed.inputs) < len(singles)
    total, count = next_token_loss(model, *packed)
    assert count == sum(count for _, count in singles)
    assert total.item() == pytest.approx(sum(loss.item() for loss, _ in singles), rel=1e-5)
    assert evaluate(model, [packed]) == pytest.approx(total.item() / count, rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_in_parts_and_recomputed_are_the_same(model, precision):
    batch = collate(examples(), pad_id=0)
    whole = gradients(model, batch, precision=precision)
    assert all(gradient.norm() > 0 for gradient in whole)
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)
    in_parts = gradients(model, batch, parts=3, precision=precision)
    with blocks_run_as(model, recompute=True):
        recomputed = gradients(model, batch, precision=precision)
    tolerance = 1e-5 if precision == "float32" else 3e-2
    for other in (in_parts, recomputed):
        for gradient, expected in zip(other, whole, strict=True):
            assert (gradient - expected).norm() <= tolerance * expected.norm() + 1e-8


@pytest.mark.parametrize("method", THE_REST, ids=lambda method: method.method, indirect=True)
def test_rounded_weights_and_autocast_stay_near(model):
    ids = some_ids(2, 9)
    with torch.no_grad():
        exact = model(ids)
        with autocast(torch.device("cpu"), "bfloat16"):
            assert (model(ids) - exact).norm() < 0.02 * exact.norm()
        base = [parameter for parameter in model.parameters() if not parameter.requires_grad]
        for parameter in base:
            parameter.data = parameter.data.bfloat16()
        assert (model(ids).float() - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("method", THE_REST, ids=lambda method: method.method, indirect=True)
def test_training_lowers_the_loss_and_changes_the_adapter_only(tiny, method):
    model = tuned(outspoken(tiny), method)
    with disable(model):
        ids, base = some_ids(2, 9), {name: tensor.clone() for name, tensor in model.state_dict().items()}
        before = model(ids)
    batches = [collate(examples(), pad_id=0)] * 20
    optimizer = make_optimizer(model, 0.05, weight_decay=0)
    history = train(model, batches, optimizer=optimizer, recompute=True, micro_batches=2, progress=False)
    assert history.losses[-1] < 0.8 * history.losses[0]
    changed = {name for name, tensor in model.state_dict().items() if not tensor.equal(base[name])}
    assert changed == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    with disable(model):
        assert model.eval()(ids).equal(before)


def test_dropout_is_drawn_once_for_all_rows(tiny):
    """So every row of a batch finds the same in front."""
    tuned(tiny, METHODS["prompt"]).train()
    for block in tiny.trf_blocks:
        block.drop_resid.p = 0.5
    torch.manual_seed(3)
    first = tiny.adapters["default"].keys_and_values(tiny)
    second = tiny.adapters["default"].keys_and_values(tiny)
    assert first[1][0].shape[0] == 1 and not first[1][0].equal(second[1][0])


def test_saved_and_loaded(model, tiny, method, tmp_path):
    ids = some_ids(2, 9)
    batch = collate(examples(), pad_id=0)
    logits, learned = model(ids), gradients(model, batch)
    save_adapter(model, tmp_path / "whole")
    save_adapter(model, tmp_path / "flat", for_inference=True)
    base = remove(copy.deepcopy(model))
    state = torch.get_rng_state()
    whole = load_adapter(copy.deepcopy(base), tmp_path / "whole", trainable=True)
    flat = load_adapter(copy.deepcopy(base), tmp_path / "flat")
    assert torch.get_rng_state().equal(state)
    assert whole(ids).equal(logits)
    assert all(a.equal(b) for a, b in zip(gradients(whole, batch), learned, strict=True))
    assert flat(ids).allclose(logits, atol=1e-5)
    assert not trainable_parameters(flat)
    sizes = [(tmp_path / name / "adapter.safetensors").stat().st_size for name in ("flat", "whole")]
    encoded = getattr(method, "hidden", None) is not None or hasattr(method, "encoder")
    assert sizes[0] < sizes[1] if encoded else sizes[0] == sizes[1]


def test_adapters_are_switched_and_taken_off(tiny):
    ids = some_ids(2, 9)
    context, answers = tiny.cfg.context_length, {None: tiny(ids)}
    for name, method in {"long": PrefixTuning(N), "short": PromptTuning(2), "lora": LoRA(4)}.items():
        tuned(tiny, method, name)
        answers[name] = tiny(ids)
    for name, taken in {"short": 2, "lora": 0, "long": N, None: 0}.items():
        use(tiny, name)
        assert tiny(ids).equal(answers[name])
        assert tiny.cfg.context_length == context - taken
    remove(tiny)
    assert tiny(ids).equal(answers[None]) and "forward_embeddings" not in vars(tiny)


def test_a_new_beginning_does_not_depend_on_the_one_before(tiny):
    """What real tokens' keys and values are is asked of the model alone, and its whole context counts."""
    generator = torch.Generator().manual_seed(5)
    alone = PrefixTuning(N).build(tiny, generator=generator)[""]()
    tuned(tiny, PromptTuning(150), "other")
    again = PrefixTuning(N).build(tiny, generator=generator.manual_seed(5))[""]()
    assert again.equal(alone) and tiny.cfg.context_length == 10


def test_a_mask_may_be_broadcast(simple):
    ids = some_ids(2, 6)
    visible = torch.ones(2, 1, 6, dtype=torch.bool)
    visible[0, :, :2] = False
    with torch.no_grad():
        assert simple(ids, mask=torch.ones(1, 1, 1, dtype=torch.bool)).allclose(simple(ids), atol=1e-6)
        hidden = simple(ids, mask=visible, positions=(visible.squeeze(1).cumsum(1) - 1).clamp(min=0))
        assert hidden[0, 2:].allclose(simple(ids[:1, 2:])[0], atol=1e-5)
    with pytest.raises(ValueError, match=r"dimensions \(B, T, S\), got torch.bool \(6, 6\)"):
        simple(ids, mask=causal_mask(6, 6))


def test_longer_texts_than_what_is_left_are_refused(simple):
    message = f"the context holds {160 - N} tokens beside {N} virtual ones in front, got {161 - N}"
    with pytest.raises(ValueError, match=message):
        simple(some_ids(1, 161 - N))
    with pytest.raises(ValueError, match=message):
        simple(some_ids(1, 1), positions=torch.tensor([[160 - N]]))
    simple(some_ids(1, 160 - N))


def test_a_cache_of_another_beginning_is_refused(simple):
    cache = KVCache(2)
    with torch.no_grad():
        with disable(simple):
            simple(some_ids(1, 4), cache=cache)
        with pytest.raises(ValueError, match="holds 4 tokens that were read with another beginning or none"):
            simple(some_ids(1, 1), cache=cache)


def test_merging_is_refused_with_the_reason(model):
    with pytest.raises(ValueError, match="cannot be merged: its virtual tokens"):
        merge(model)


@pytest.mark.parametrize("kind", [PrefixTuning, PromptTuning, PTuning])
def test_more_tokens_than_the_context_are_refused(tiny, kind):
    with pytest.raises(ValueError, match="tokens must be a whole number >= 1, got 0"):
        kind(0)
    with pytest.raises(ValueError, match="tokens must be below 160, the context, .* got 160"):
        apply(tiny, kind(160))
    assert not hasattr(tiny, "adapters") and all(parameter.requires_grad for parameter in tiny.parameters())
    apply(tiny, kind(159))
    assert tiny(some_ids(1, 1)).isfinite().all()
