"""Checks about the model: feed-forward, layer norm, GELU, the block, counting parameters, and writing text."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptlab.checks.core import check_of, close, expect, expect_returned, expect_tensor
from gptlab.config import GPTConfig
from gptlab.model import FeedForward, GPTModel, LayerNorm, count_parameters

_Layer = Callable[[Tensor], Tensor]


@check_of("model.shapes", "the weights of a feed-forward network")
def shapes(answer) -> None:
    for D in (8, 20):
        got = answer(D)
        expect_returned(got)
        expect(
            isinstance(got, (tuple, list)) and len(got) == 3, f"two shapes and a number were asked for, got {got!r:.60}"
        )
        first, second, number = got
        for which, shape in (("first", first), ("second", second)):
            pair = isinstance(shape, (tuple, list, torch.Size)) and len(shape) == 2
            expect(pair, f"the {which} weight is a matrix, so its shape has two numbers, got {shape!r:.40}")
        first, second = tuple(first), tuple(second)
        expect(
            (first, second) != ((D, 4 * D), (4 * D, D)),
            "the sizes are right, but nn.Linear keeps its weight the other way round: print one",
        )
        expect((4 * D) in first, "the first layer widens each vector to four times its length")
        expect(first == (4 * D, D), f"for D={D} the first layer makes {4 * D} numbers of {D}, got the shape {first}")
        expect(second == (D, 4 * D), f"for D={D} the second layer makes {D} numbers of {4 * D}, got {second}")
        expect(number != 8 * D * D, "the matrices are counted, but the biases are missing")
        expect(
            number != 8 * D * D + 2 * D, "each layer has one bias for each of its outputs: they are not equally many"
        )
        expect(
            number != 8 * D * D + 8 * D, "each layer has one bias for each of its outputs: they are not equally many"
        )
        right = count_parameters(FeedForward(_config(emb_dim=D)))
        expect(number == right, f"for D={D} it has {right:,} parameters, got {number!r:.40}")


@check_of("model.layer_norm", "layer norm")
def layer_norm(answer) -> None:
    x = torch.randn(2, 5, 16) * 3 + 2
    ones, zeros = torch.ones(16), torch.zeros(16)
    given = x.clone()
    plain = expect_tensor(answer(given, ones.clone(), zeros.clone(), 1e-5), (2, 5, 16))
    expect(close(given, x), "the tensor that came in was changed")
    if not close(plain.mean(dim=-1), torch.zeros(2, 5), 1e-4):
        expect(
            not close(plain.mean(dim=1), torch.zeros(2, 16), 1e-4),
            "the mean over the tokens is 0, but each token must have mean 0 over its own features, the last dimension",
        )
        expect(
            not close(plain.mean(), 0.0, 1e-4),
            "the mean over everything is 0, but each token must have mean 0 alone, over its last dimension",
        )
        expect(False, "with scale 1 and shift 0 each token should have mean 0: is its mean subtracted?")
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.pow(2).mean(dim=-1, keepdim=True)
    expect(not close(plain, centred), "the mean is subtracted, but nothing is divided")
    expect(
        not close(plain, centred / (variance + 1e-5), 1e-4),
        "divide by the standard deviation, which is the square root of the variance",
    )
    for divided in (variance * 16 / 15 + 1e-5).sqrt(), (variance * 16 / 15).sqrt() + 1e-5, (variance * 16 / 15).sqrt():
        expect(
            not close(plain, centred / divided),
            "the variance is divided by D - 1, as torch does unless told otherwise; layer norm divides by D",
        )
    expect(
        close(plain.var(dim=-1, unbiased=False), torch.ones(2, 5), 1e-3),
        "with scale 1 and shift 0 each token should have variance 1",
    )
    _check_eps(answer, x, centred, variance)
    _check_scale_and_shift(answer, x, plain)


def _check_eps(answer, x: Tensor, centred: Tensor, variance: Tensor) -> None:
    """A large eps shows where it stands."""
    ones, zeros, eps = torch.ones(16), torch.zeros(16), 0.5
    equal = answer(torch.full((1, 2, 16), 3.0), ones, zeros, 1e-5)
    expect(
        bool(torch.as_tensor(equal).isfinite().all()),
        "a token whose numbers are all equal gives NaN: its variance is 0, and eps must keep it from dividing by 0",
    )
    got = answer(x.clone(), ones, zeros, eps)
    expect(
        not close(got, centred / (variance + 1e-5).sqrt()), "the argument eps is not used: another eps changes nothing"
    )
    expect(
        not close(got, centred / (variance.sqrt() + eps)),
        "eps is added to the standard deviation; it belongs to the variance, under the square root",
    )
    expect(
        close(got, centred / (variance + eps).sqrt()), "with eps = 0.5 the result is not (x - mean) / sqrt(var + eps)"
    )


def _check_scale_and_shift(answer, x: Tensor, plain: Tensor) -> None:
    scale, shift = torch.rand(16) + 0.5, torch.randn(16)
    got = expect_tensor(answer(x.clone(), scale.clone(), shift.clone(), 1e-5), (2, 5, 16))
    expect(not close(got, plain), "scale and shift change nothing: they are not used")
    expect(not close(got, plain * scale), "shift is not used")
    expect(not close(got, plain + shift), "scale is not used")
    expect(not close(got, (plain + shift) * scale), "first scale, then shift: here the shift is scaled as well")
    expect(close(got, plain * scale + shift), "the normalised numbers times scale plus shift give something else")


@check_of("model.gelu", "GELU in its tanh form")
def gelu(answer) -> None:
    x = torch.linspace(-6, 6, 241)
    given = x.clone()
    got = expect_tensor(answer(given), (241,))
    expect(close(given, x), "the tensor that came in was changed")
    expect(not close(got, torch.relu(x)), "this is ReLU, with a corner at 0; GELU is smooth")
    expect(
        not close(got, F.gelu(x)),
        "this is the exact form with the normal distribution; the difference is small, but GPT-2 uses the tanh form",
    )
    expect(not close(got, x * torch.sigmoid(1.702 * x)), "this is the sigmoid form; GPT-2 uses the tanh form")
    right = F.gelu(x, approximate="tanh")
    expect(not close(got, right * 2), "far right GELU is x, here it is 2x: the factor 0.5 is missing")
    expect(not close(got * x, right), "far right this is 1, but GELU is x there: the factor x in front is missing")
    expect(
        not close(got, right - 0.5 * x),
        "far left GELU is 0, here it is -x / 2 or so: inside the brackets stands 1 + tanh",
    )
    expect(not close(got, _tanh_gelu(x, root=False)), "2 / pi stands under a square root")
    expect(not close(got, _tanh_gelu(x, cube=0.0)), "the term with x^3 is missing")
    expect(not close(got, _tanh_gelu(x, power=2)), "inside tanh x is cubed, not squared; the sign must be kept")
    expect(not close(got, _tanh_gelu(x, cube=0.44715)), "the factor of x^3 is 0.044715: count the zeros")
    expect(
        not close(got, 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * x + 0.044715 * x**3))),
        "the root multiplies both x and the term with x^3: look at the brackets",
    )
    expect(close(got[-1], 6.0, 1e-3), f"far right GELU is x itself, but for x = 6 this gives {got[-1]:.3f}")
    expect(close(got[0], 0.0, 1e-3), f"far left GELU is 0, but for x = -6 this gives {got[0]:.3f}")
    expect(close(got, right), "0 and the far ends are right, but between them the curve is not the tanh form")


def _tanh_gelu(x: Tensor, root: bool = True, cube: float = 0.044715, power: int = 3) -> Tensor:
    factor = math.sqrt(2 / math.pi) if root else 2 / math.pi
    return 0.5 * x * (1 + torch.tanh(factor * (x + cube * x**power)))


@check_of("model.block", "a transformer block from its parts")
def block(answer) -> None:
    x = torch.randn(2, 5, 8) * 2 + 1
    norm1, norm2, att, ff = _norm(8), _norm(8), _mix(8), _layer(8)
    given = x.clone()
    got = expect_tensor(answer(given, norm1, att, norm2, ff), (2, 5, 8))
    expect(close(given, x), "the tensor x that came in was changed: `x += ...` writes into it, `x = x + ...` does not")
    for wrong, hint in _WRONG_BLOCKS:
        expect(not close(got, wrong(x, norm1, att, norm2, ff)), hint)
    silent = answer(x.clone(), norm1, torch.zeros_like, norm2, torch.zeros_like)
    expect(
        close(silent, x),
        "with attention and feed-forward that add nothing, x should come out as it went in: its path only adds",
    )
    expect(
        close(got, (h := x + att(norm1(x))) + ff(norm2(h))),
        "x comes through, but what is added is wrong: each part should get its own norm of what is there then",
    )


# A wrong block, and what to say to whoever wrote it.
_WRONG_BLOCKS: list[tuple[Callable[[Tensor, _Layer, _Layer, _Layer, _Layer], Tensor], str]] = [
    (
        lambda x, n1, att, n2, ff: ff(n2(att(n1(x)))),
        "both shortcuts are missing: attention and feed-forward replace x, they should be added to it",
    ),
    (
        lambda x, n1, att, n2, ff: (h := att(n1(x))) + ff(n2(h)),
        "the shortcut around attention is missing: its result should be added to what went in",
    ),
    (
        lambda x, n1, att, n2, ff: ff(n2(x + att(n1(x)))),
        "the shortcut around feed-forward is missing: its result should be added to what went in",
    ),
    (
        lambda x, n1, att, n2, ff: n2((h := n1(x + att(x))) + ff(h)),
        "the norms come after the additions, as in the first Transformer; GPT-2 has them on the branches",
    ),
    (
        lambda x, n1, att, n2, ff: (h := x + n1(att(x))) + n2(ff(h)),
        "the norms come after attention and feed-forward; they belong in front of them",
    ),
    (
        lambda x, n1, att, n2, ff: (m := n2((n := n1(x)) + att(n))) + ff(m),
        "the shortcuts start at the normed copies: x was overwritten by its norm and is lost",
    ),
    (
        lambda x, n1, att, n2, ff: (h := (n := n1(x)) + att(n)) + ff(n2(h)),
        "the shortcut around attention starts at the normed copy: x was overwritten by its norm",
    ),
    (
        lambda x, n1, att, n2, ff: (m := n2(x + att(n1(x)))) + ff(m),
        "the shortcut around feed-forward starts at the normed copy: x was overwritten by its norm",
    ),
    (
        lambda x, n1, att, n2, ff: (h := x + att(x)) + ff(h),
        "no norm is used: attention and feed-forward get x as it is",
    ),
    (
        lambda x, n1, att, n2, ff: (h := x + att(n1(x))) + ff(h),
        "norm2 is not used: feed-forward should get a normed copy as well",
    ),
    (
        lambda x, n1, att, n2, ff: (h := x + att(n1(x))) + ff(n1(h)),
        "norm1 is used twice, and norm2 not at all; each has weights of its own",
    ),
    (
        lambda x, n1, att, n2, ff: (h := x + att(n2(x))) + ff(n1(h)),
        "norm1 and norm2 are exchanged: the first one belongs to attention",
    ),
    (
        lambda x, n1, att, n2, ff: (h := x + ff(n1(x))) + att(n2(h)),
        "feed-forward comes first; attention should",
    ),
    (
        lambda x, n1, att, n2, ff: (h := x + ff(n2(x))) + att(n1(h)),
        "feed-forward comes first; attention should",
    ),
    (
        lambda x, n1, att, n2, ff: x + att(n1(x)) + ff(n2(x)),
        "feed-forward gets the x from before attention; it should read what attention has added",
    ),
    (
        lambda x, n1, att, n2, ff: x + ff(n2(x + att(n1(x)))),
        "the second shortcut starts at the x from before attention, so what attention added is lost",
    ),
]


def _norm(D: int) -> _Layer:
    norm = LayerNorm(D)
    norm.scale.data, norm.shift.data = torch.rand(D) + 0.5, torch.randn(D)
    return lambda x: norm(x).detach()


def _layer(D: int) -> _Layer:
    matrix, bias = torch.randn(D, D), torch.randn(D)
    return lambda x: torch.tanh(x @ matrix + bias)


def _mix(D: int) -> _Layer:
    layer = _layer(D)
    return lambda x: layer(x.cumsum(dim=1))


@check_of("model.count_parameters", "the number of parameters from the sizes")
def count(answer) -> None:
    for qkv_bias in (True, False):
        for tied in (False, True):
            for V, C, D, layers in ((101, 13, 8, 3), (50257, 1024, 768, 12)):
                got = answer(V, C, D, layers, qkv_bias, tied)
                expect_returned(got)
                with torch.device("meta"):
                    cfg = GPTConfig(V, C, D, n_heads=1, n_layers=layers, qkv_bias=qkv_bias, tie_weights=tied)
                    right = count_parameters(GPTModel(cfg))
                expect(isinstance(got, (int, float)), f"a number was asked for, got {got!r:.40}")
                _explain_count(got - right, V, C, D, layers, qkv_bias, tied)
                sizes = f"V={V}, context_length={C}, D={D}, n_layers={layers}, qkv_bias={qkv_bias}, tie_weights={tied}"
                apart = f"{abs(got - right):,} too {'many' if got > right else 'few'}"
                expect(got == right, f"for {sizes} there are {right:,} parameters, got {got:,}, {apart}")


def _explain_count(apart: int, V: int, C: int, D: int, layers: int, qkv_bias: bool, tied: bool) -> None:
    """Recognise what is missing, or too much, by how many numbers it has."""
    qkv = "the biases of query, key and value are " + ("missing, though" if qkv_bias else "counted, though")
    known = {
        -V * D: "a matrix of V times D is missing: "
        + ("the shared one counts once, not never" if tied else "untied, embedding and head are two matrices"),
        -C * D: "the position embedding is missing",
        -2 * D: "the final norm is missing: it has a scale and a shift",
        -4 * D * layers: "the norms in the blocks are missing: there are two, with a scale and a shift each",
        -(4 * layers + 2) * D: "all norms are missing: two in each block and the final one, with scale and shift each",
        -2 * D * layers: "in each block 2 D numbers are missing: there are two norms, each with a scale and a shift",
        -(2 * layers + 1) * D: "each norm has a scale and a shift; only one of the two is counted",
        -D * layers: "in each block D numbers are missing: do attention's output projection and the second layer of "
        "feed-forward have their biases?",
        -5 * D * layers: "the biases of feed-forward are missing: 4D in the first layer, D in the second",
        -D * D * layers: "a matrix of attention is missing: query, key, value and the output projection make four",
        V * D: "the matrix that embedding and head share is counted twice",
        V: "the output head has no bias",
        (1024 - C) * D: "the position embedding has context_length rows, which need not be 1024",
        (-3 if qkv_bias else 3) * D * layers: f"{qkv} qkv_bias is {qkv_bias}",
    }
    expect(apart == 0 or apart not in known, known.get(apart, ""))


class _Successor(nn.Module):
    """A model whose likeliest next token, at every place, is the id plus 1; it writes down its calls."""

    def __init__(self, V: int) -> None:
        super().__init__()
        self.V, self.calls = V, []

    def forward(self, ids: Tensor) -> Tensor:
        self.calls.append((ids.clone(), self.training, torch.is_grad_enabled()))
        return F.one_hot((ids + 1) % self.V, self.V).float() * 3.0  # (B, T, V)


@check_of("model.greedy", "writing the most likely tokens")
def greedy(answer) -> None:
    V, C, T, new = 23, 6, 4, 5
    ids = torch.tensor([[2, 17, 5, 9], [11, 3, 20, 14]])
    model = _Successor(V)
    given = ids.clone()
    got = answer(model, given, new, C)
    expect_returned(got)
    expect(close(given, ids), "the prompt that came in was changed")
    _look_at_calls(model.calls, ids, new, C)
    right = torch.cat([ids, (ids[:, -1:] + 1 + torch.arange(new)) % V], dim=1)
    _look_at_ids(got, ids, right, new)

    cfg = _config(vocab_size=V, context_length=C, emb_dim=8, drop_rate=0.5)
    expected = ids
    real = GPTModel(cfg).eval()
    with torch.no_grad():
        for _ in range(new):
            expected = torch.cat([expected, real(expected[:, -C:])[:, -1].argmax(-1, keepdim=True)], dim=1)
    for _ in range(3):
        got = expect_tensor(answer(real.train(), ids.clone(), new, C), (2, T + new), "the ids")
        expect(close(got, expected), "with a small GPT these are not the most likely tokens; is one drawn at random?")


def _look_at_calls(calls: list[tuple[Tensor, bool, bool]], ids: Tensor, new: int, C: int) -> None:
    expect(bool(calls), "the model was never called")
    expect(
        not any(training for _, training, _ in calls),
        "the model is called in training mode, in which dropout changes the result from call to call",
    )
    expect(not any(grad for _, _, grad in calls), "gradients are being recorded, which costs time and memory: no_grad")
    shape = tuple(calls[0][0].shape)
    expect(len(shape) == 2, f"the model takes ids of shape (B, T), it was given {shape}")
    longest = max(given.shape[1] for given, _, _ in calls)
    expect(longest <= C, f"the model can read {C} tokens and was given {longest}: the text must be cut to its context")
    expect(torch.equal(calls[0][0], ids), "in the first call the model should read the whole prompt, as it fits in")
    expect(
        len(calls) < 2 or not torch.equal(calls[1][0], ids),
        "the second call reads the prompt alone again: each new token must go into what is read next",
    )
    expect(len(calls) >= new, f"{new} tokens need a call each, with the text so far; number of calls: {len(calls)}")
    last = calls[min(new, len(calls)) - 1][0]
    expect(
        not torch.equal(last[:, : ids.shape[1]], ids) or last.shape[1] < C,
        "when the text is longer than the context, its first tokens are kept; what comes next depends on the last ones",
    )
    seen = last.shape[1]
    expect(seen == C, f"a text that is longer than the context should be cut to its last {C} tokens, not to {seen}")


def _look_at_ids(got, ids: Tensor, right: Tensor, new: int) -> None:
    B, T = ids.shape
    if isinstance(got, Tensor):
        expect(got.shape != (B, new), "only the new tokens came back; the prompt belongs in front of them")
        expect(got.shape != (B, T + 1), "only one token was added: what was added must go into the next round")
    expect_tensor(got, (B, T + new), "the ids")
    expect(not got.is_floating_point(), f"ids are whole numbers, got {got.dtype}")
    expect(torch.equal(got[:, :T], ids), "the prompt should stand in front, unchanged")
    added = got[:, T:]
    expect(
        not torch.equal(added[:, :1], (ids[:, :1] + 1) % 23),
        "the next token is taken from the first place of the logits; the last place knows the whole text",
    )
    expect(torch.equal(added, right[:, T:]), "the tokens that are added are not the most likely ones at the last place")


def _config(**sizes) -> GPTConfig:
    return GPTConfig(**{"vocab_size": 11, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 2, **sizes})
