"""Perplexity as transformers' documentation computes it."""

import math

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gptlab.decoding import perplexity
from gptlab.model import GPTModel
from gptlab.weights import load_weights


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_positions=24, n_embd=16, n_layer=2, n_head=2)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    cfg = {"vocab_size": 300, "context_length": 24, "emb_dim": 16, "n_heads": 2, "n_layers": 2, "drop_rate": 0.0}
    ours = GPTModel(cfg | {"qkv_bias": True, "tie_weights": True}).eval()
    load_weights(ours, theirs)
    return ours, theirs


def documented(theirs, ids, stride):
    """The recipe of transformers' documentation: windows, targets of -100 for what was scored before."""
    total, count, previous_end = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + 24, len(ids))
        window = torch.tensor([ids[begin:end]])
        targets = window.clone()
        targets[:, : -(end - previous_end)] = -100
        with torch.no_grad():
            loss = theirs(window, labels=targets).loss
        scored = (targets[:, 1:] != -100).sum().item()
        total, count, previous_end = total + loss.item() * scored, count + scored, end
        if end == len(ids):
            break
    return math.exp(total / count)


@pytest.mark.parametrize("stride", [1, 5, 12, 23])
@pytest.mark.parametrize("length", [2, 10, 24, 25, 70])
def test_it_is_that_of_transformers_documentation(pair, stride, length):
    ours, theirs = pair
    ids = torch.randint(300, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    measured = perplexity(ours, ids, stride=stride)
    assert measured.tokens == length - 1
    assert math.isclose(measured.perplexity, documented(theirs, ids, stride), rel_tol=1e-5)


def test_every_token_but_the_first_is_scored_once_whatever_the_stride(pair):
    """Also across windows that touch without overlapping, where the documentation's recipe leaves one out."""
    ours, _ = pair
    ids = list(range(60))
    expected = 0.0
    for place in range(1, 60):
        begin = (place - 1) // 24 * 24
        logprobs = ours(torch.tensor([ids[begin:place]]))[0, -1].log_softmax(-1)
        expected -= logprobs[ids[place]].item()
    touching = perplexity(ours, ids, stride=24)
    assert touching.tokens == 59
    assert math.isclose(touching.nll, expected, rel_tol=1e-5)
    whole = perplexity(ours, ids[:24])
    logits = ours(torch.tensor([ids[:24]]))[0, :-1].log_softmax(-1)
    assert math.isclose(whole.nll, -logits[range(23), ids[1:24]].sum().item(), rel_tol=1e-5)


def test_a_set_counts_every_token_alike(pair):
    ours, _ = pair
    texts = [[1, 2, 3], [4, 5, 6, 7, 8, 9], [5]]
    each = [perplexity(ours, text) for text in texts[:2]]
    together = perplexity(ours, texts)
    assert together.tokens == 7
    assert math.isclose(together.nll, each[0].nll + each[1].nll, rel_tol=1e-6)
    assert math.isclose(together.perplexity, math.exp(together.nll / 7))
    assert together.bits_per_byte is None


def test_bits_per_byte(pair, tokenizer):
    ours, _ = pair
    text = "The home of Lumika 猫"
    measured = perplexity(ours, text, tokenizer=tokenizer)
    assert measured[:3] == perplexity(ours, tokenizer.encode(text))[:3]
    assert math.isclose(measured.bits_per_byte, measured.nll / math.log(2) / len(text.encode()))


def test_a_model_that_knows_nothing_chooses_among_all_tokens(pair):
    blank = GPTModel(pair[0].cfg)
    torch.nn.init.zeros_(blank.out_head.weight)
    assert math.isclose(perplexity(blank, [1, 2, 3]).perplexity, 300, rel_tol=1e-5)


def test_wrong_requests(pair):
    ours, _ = pair
    for stride in (0, 25):
        with pytest.raises(ValueError, match=rf"stride must be in \[1, 24\], the context, got {stride}"):
            perplexity(ours, [1, 2], stride=stride)
    for nothing in ([], [[1]], [5]):
        with pytest.raises(ValueError, match="no text has two tokens"):
            perplexity(ours, nothing)
    with pytest.raises(ValueError, match="text 1 is not made of ids; it needs a tokenizer"):
        perplexity(ours, "text")
