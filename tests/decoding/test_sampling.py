"""Drawing tokens: the right frequencies, one stream of random numbers a row, details, streams of text."""

import math

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gptlab.decoding import generate, stream
from gptlab.model import GPTModel
from gptlab.weights import load_weights

PROMPTS = [[1], [5, 6, 7, 8, 9], [3, 3], [0] * 12, [39, 1, 2]]


@pytest.fixture
def model():
    torch.manual_seed(0)
    cfg = {"vocab_size": 40, "context_length": 24, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
    return GPTModel(cfg | {"drop_rate": 0.0, "qkv_bias": False}).eval()


def test_a_row_draws_the_same_whatever_else_is_in_the_batch(model):
    settings = {"max_new_tokens": 10, "temperature": 1.5, "top_k": 20, "seed": 7}
    together = generate(model, PROMPTS, **settings)
    assert generate(model, PROMPTS, **settings) == together
    assert generate(model, PROMPTS, batch_size=2, **settings) == together
    assert generate(model, PROMPTS[:1], **settings) == together[:1]
    assert generate(model, PROMPTS[:4], **settings) == together[:4]
    assert generate(model, PROMPTS, **settings | {"seed": 8}) != together
    same = generate(model, [[1]] * 6, **settings)
    assert len({tuple(row) for row in same}) > 1  # one prompt, but each row has numbers of its own


def test_without_a_seed_torchs_random_state_decides(model):
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(generate(model, PROMPTS, max_new_tokens=8, temperature=1.0))
    assert draws[0] == draws[1] != draws[2]
    state = torch.get_rng_state()
    generate(model, PROMPTS, max_new_tokens=4, temperature=1.0, seed=3)
    generate(model, PROMPTS, max_new_tokens=4)
    assert torch.get_rng_state().equal(state)


def test_tokens_come_as_often_as_their_probabilities_say(model):
    """5,000 draws of the first token; chi-square with 39 degrees of freedom stays below its 0.1 % point."""
    draws = generate(model, [[1, 2]] * 5000, max_new_tokens=1, temperature=0.7, seed=0, batch_size=5000)
    counts = torch.bincount(torch.tensor(draws).flatten(), minlength=40)
    expected = 5000 * torch.softmax(model(torch.tensor([[1, 2]]))[0, -1] / 0.7, dim=-1)
    assert ((counts - expected) ** 2 / expected).sum() < 72.1


def test_a_tiny_temperature_is_greedy(model):
    cold = generate(model, PROMPTS, max_new_tokens=8, temperature=1e-4, seed=0)
    assert cold == generate(model, PROMPTS, max_new_tokens=8)
    assert generate(model, PROMPTS, max_new_tokens=8, temperature=2.0, top_k=1, seed=0) == cold


def test_repetition_settings_equal_transformers_greedily():
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=64, n_embd=16, n_layer=2, n_head=2)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = GPTModel(
        {"vocab_size": 40, "context_length": 64, "emb_dim": 16, "n_heads": 2, "n_layers": 2, "drop_rate": 0.0}
        | {"qkv_bias": True, "tie_weights": True}
    ).eval()
    load_weights(ours, theirs)
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        expected = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=30,
            repetition_penalty=1.2,
            no_repeat_ngram_size=3,
            eos_token_id=None,
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        assert generate(ours, [prompt], max_new_tokens=30, repetition_penalty=1.2, no_repeat_ngram=3) == [expected]


def test_the_window_slides_as_in_the_book(model):
    """The book's loop: the model always reads the last tokens, at positions from 0."""
    for prompt in [*PROMPTS, list(range(30))]:
        ids = list(prompt)
        for _ in range(40):
            ids.append(model(torch.tensor([ids[-24:]]))[0, -1].argmax().item())
        assert generate(model, [prompt], max_new_tokens=40, past_context="slide") == [ids[len(prompt) :]]
    together = generate(model, PROMPTS, max_new_tokens=40, past_context="slide")
    assert together == [generate(model, [prompt], max_new_tokens=40, past_context="slide")[0] for prompt in PROMPTS]


def test_logits_of_a_batch_are_those_of_each_alone(model):
    """Seen by a filter, up to 1e-5."""
    seen = {}

    def watch(rows, logits):
        for tokens, scores in zip(rows, logits):
            seen.setdefault(tuple(tokens), []).append(scores)
        return logits

    generate(model, PROMPTS, max_new_tokens=8, filters=[watch])
    assert len(seen) == 8 * len(PROMPTS)
    for tokens, [scores] in seen.items():
        torch.testing.assert_close(scores, model(torch.tensor([tokens]))[0, -1], rtol=1e-5, atol=1e-5)


def test_details(model, tokenizer):
    results = generate(model, PROMPTS, max_new_tokens=6, temperature=1.0, top_k=3, seed=1, return_details=True)
    for prompt, result in zip(PROMPTS, results):
        logprobs = model(torch.tensor([prompt + result.ids]))[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
        assert result.reason == "length"
        assert result.text is None
        for place, token in enumerate(result.ids):
            assert math.isclose(result.logprobs[place], logprobs[place, token].item(), rel_tol=1e-4)
            best = logprobs[place].topk(5)
            assert [token for token, _ in result.alternatives[place]] == best.indices.tolist()
            torch.testing.assert_close(torch.tensor([p for _, p in result.alternatives[place]]), best.values)
    [bare] = generate(model, [[1]], max_new_tokens=2, return_details=True, alternatives=None)
    assert bare.logprobs == bare.alternatives == []


def test_a_stop_string_ends_a_row(tiny, tokenizer):
    prompt = tokenizer.encode("The home of")
    [free] = generate(tiny, [prompt], max_new_tokens=20, tokenizer=tokenizer, return_details=True)
    assert free.text == tokenizer.decode(free.ids)
    stop = free.text[5:8]
    [result] = generate(tiny, [prompt], max_new_tokens=20, tokenizer=tokenizer, stop=stop, return_details=True)
    assert result.reason == "stop"
    assert result.text == free.text[: free.text.find(stop)]
    assert free.text.startswith(tokenizer.decode(result.ids))
    assert len(tokenizer.decode(result.ids)) <= len(result.text)
    with pytest.raises(ValueError, match="stop strings need a tokenizer, got"):
        generate(tiny, [prompt], max_new_tokens=5, stop="x")
    with pytest.raises(ValueError, match="must be text and not empty, got ''"):
        generate(tiny, [prompt], max_new_tokens=5, stop=["a", ""], tokenizer=tokenizer)


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.2, "seed": 4}, {"past_context": "slide"}])
def test_a_stream_is_what_generate_gives(tiny, tokenizer, settings):
    prompt = tokenizer.encode("The home of Lumika")
    tiny.train()
    settings |= {"max_new_tokens": 30, "tokenizer": tokenizer, "stop": ["zz"]}
    [expected] = generate(tiny, [prompt], return_details=True, alternatives=None, **settings)
    pieces, flow = [], stream(tiny, prompt, **settings)
    while True:
        try:
            pieces.append(next(flow))
            assert tiny.training  # while the caller has a piece, the model is in the caller's mode
        except StopIteration as end:
            assert end.value == expected
            break
    assert "".join(pieces) == expected.text
    assert len(pieces) > 3
    assert all(pieces)


def test_a_stream_may_be_left(tiny, tokenizer):
    tiny.train()
    flow = stream(tiny, [1, 2], tokenizer=tokenizer, max_new_tokens=30)
    next(flow)
    flow.close()
    assert tiny.training
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        next(stream(tiny, [], tokenizer=tokenizer, max_new_tokens=3))
    with pytest.raises(TypeError, match="topk"):
        next(stream(tiny, [1], tokenizer=tokenizer, max_new_tokens=3, topk=3))


def test_nothing_is_written_when_nothing_is_wanted(tiny, tokenizer):
    assert generate(tiny, [[1], [2, 3]], max_new_tokens=0) == [[], []]
    [result] = generate(tiny, [[1]], max_new_tokens=0, tokenizer=tokenizer, return_details=True)
    assert (result.reason, result.text) == ("length", "")
    assert list(stream(tiny, [1], tokenizer=tokenizer, max_new_tokens=0)) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"temperature": -1.0}, "temperature must be >= 0 and finite, got -1.0"),
        ({"temperature": 1.0, "top_k": 41}, r"top_k must be in \[1, 40\], the vocabulary, got 41"),
        ({"top_k": 41}, r"top_k must be in \[1, 40\], the vocabulary, got 41"),
        ({"top_p": 1.01}, r"top_p must be in \[0, 1\], got 1.01"),
        ({"eos_id": [2, 40]}, r"eos_id must be in \[0, 40\), the vocabulary, got 40"),
        ({"past_context": "go on"}, "past_context must be 'stop' or 'slide', got 'go on'"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"prompts": [[1], [40]]}, r"prompt 2 holds the id 40; ids must be in \[0, 40\)"),
        ({"prompts": [[-1]]}, "holds the id -1"),
        ({"filters": [lambda rows, logits: logits - math.inf]}, "the filters forbid every token"),
        ({"return_details": True, "alternatives": 41}, r"alternatives must be in \[0, 40\]"),
    ],
)
def test_wrong_settings(model, changed, message):
    with pytest.raises(ValueError, match=message):
        generate(model, **{"prompts": [[1]], "max_new_tokens": 3} | changed)
