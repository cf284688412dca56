"""Usual mistakes about the model: the check, the wrong answer, and words of the hint that it must get."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def norm_over_tokens(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return scale * (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + eps).sqrt() + shift


def norm_over_everything(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return scale * (x - x.mean()) / (x.var(unbiased=False) + eps).sqrt() + shift


def unbiased_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return scale * (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + eps).sqrt() + shift


def unbiased_deviation(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return scale * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + eps) + shift


def eps_outside(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return scale * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True, unbiased=False) + eps) + shift


def without_eps(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return scale * (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True, unbiased=False) + shift


def own_eps(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, scale.shape, scale, shift)


def without_root(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return scale * (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + eps) + shift


def centred_only(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return scale * (x - x.mean(-1, keepdim=True)) + shift


def root_mean_square(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return scale * x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() + shift


def shift_first(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return scale * (F.layer_norm(x, scale.shape, eps=eps) + shift)


def norm_alone(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, scale.shape, eps=eps)


def scale_alone(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, scale.shape, scale, eps=eps)


def norm_in_place(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    x -= x.mean(-1, keepdim=True)
    return scale * x / (x.var(-1, keepdim=True, unbiased=False) + eps).sqrt() + shift


def tanh_gelu(x: Tensor, factor: float = math.sqrt(2 / math.pi), cube: float = 0.044715, power: int = 3) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(factor * (x + cube * x**power)))


def brackets_closed_early(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * x + 0.044715 * x**3))


def without_shortcuts(x, norm1, att, norm2, ff):
    return ff(norm2(att(norm1(x))))


def no_shortcut_around_attention(x, norm1, att, norm2, ff):
    x = att(norm1(x))
    return x + ff(norm2(x))


def no_shortcut_around_feed_forward(x, norm1, att, norm2, ff):
    x = x + att(norm1(x))
    return ff(norm2(x))


def post_norm(x, norm1, att, norm2, ff):
    x = norm1(x + att(x))
    return norm2(x + ff(x))


def norms_behind(x, norm1, att, norm2, ff):
    x = x + norm1(att(x))
    return x + norm2(ff(x))


def shortcut_from_the_copy(x, norm1, att, norm2, ff):
    x = norm1(x)
    x = x + att(x)
    x = norm2(x)
    return x + ff(x)


def first_shortcut_from_the_copy(x, norm1, att, norm2, ff):
    x = norm1(x)
    x = x + att(x)
    return x + ff(norm2(x))


def second_shortcut_from_the_copy(x, norm1, att, norm2, ff):
    x = x + att(norm1(x))
    x = norm2(x)
    return x + ff(x)


def side_by_side(x, norm1, att, norm2, ff):
    return x + att(norm1(x)) + ff(norm2(x))


def second_shortcut_too_early(x, norm1, att, norm2, ff):
    h = x + att(norm1(x))
    return x + ff(norm2(h))


def one_norm(x, norm1, att, norm2, ff):
    x = x + att(norm1(x))
    return x + ff(norm1(x))


def feed_forward_first(x, norm1, att, norm2, ff):
    x = x + ff(norm1(x))
    return x + att(norm2(x))


def block_in_place(x, norm1, att, norm2, ff):
    x += att(norm1(x))
    x += ff(norm2(x))
    return x


def added_twice(x, norm1, att, norm2, ff):
    x = x + 2 * att(norm1(x))
    return x + ff(norm2(x))


def doubled(x, norm1, att, norm2, ff):
    x = x + att(norm1(x))
    return 2 * x + ff(norm2(x))


def count(V, context_length, D, n_layers, qkv_bias, tie_weights, **change):
    parts = {
        "positions": context_length * D,
        "attention": 4 * D * D + D,
        "qkv": 3 * D * qkv_bias,
        "feed_forward": 8 * D * D,
        "biases": 5 * D,
        "norms": 4 * D,
        "final_norm": 2 * D,
        "head": V * D * (not tie_weights),
    } | {name: value(V, D) if callable(value) else value for name, value in change.items()}
    in_block = sum(parts[name] for name in ("attention", "qkv", "feed_forward", "biases", "norms"))
    return V * D + parts["positions"] + n_layers * in_block + parts["final_norm"] + parts["head"]


def changed(**change):
    return lambda *sizes: count(*sizes, **change)


def write(model, ids, new_tokens, context_length, *, choose=None, window=None, mode=False):
    model.train(mode)
    with torch.no_grad():
        for _ in range(new_tokens):
            read = ids[:, -context_length:] if window is None else window(ids, context_length)
            logits = model(read)
            chosen = logits[:, -1].argmax(-1, keepdim=True) if choose is None else choose(logits)
            ids = torch.cat([ids, chosen], dim=1)
    return ids


def written(**change):
    return lambda *arguments: write(*arguments, **change)


def with_gradients(model, ids, new_tokens, context_length):
    model.eval()
    for _ in range(new_tokens):
        ids = torch.cat([ids, model(ids[:, -context_length:])[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids


@torch.no_grad()
def always_the_prompt(model, ids, new_tokens, context_length):
    model.eval()
    for _ in range(new_tokens):
        result = torch.cat([ids, model(ids[:, -context_length:])[:, -1].argmax(-1, keepdim=True)], dim=1)
    return result


@torch.no_grad()
def one_call(model, ids, new_tokens, context_length):
    model.eval()
    return torch.cat([ids, model(ids)[:, -1].topk(new_tokens).indices], dim=1)


WRONG = [
    ("model.shapes", lambda D: ((D, 4 * D), (4 * D, D), 8 * D * D + 5 * D), "the other way round"),
    ("model.shapes", lambda D: ((4 * D, D), (D, 4 * D), 8 * D * D), "biases are missing"),
    ("model.shapes", lambda D: ((4 * D, D), (D, 4 * D), 8 * D * D + 8 * D), "one bias for each of its outputs"),
    ("model.shapes", lambda D: ((4 * D, D), (4 * D, D), 8 * D * D + 5 * D), "the second layer makes"),
    ("model.shapes", lambda D: ((D, D), (D, D), 2 * D * D + 2 * D), "four times its length"),
    ("model.shapes", lambda D: 8 * D * D + 5 * D, "two shapes and a number"),
    ("model.layer_norm", norm_over_tokens, "the mean over the tokens is 0"),
    ("model.layer_norm", norm_over_everything, "the mean over everything is 0"),
    ("model.layer_norm", root_mean_square, "is its mean subtracted"),
    ("model.layer_norm", unbiased_norm, "divided by D - 1"),
    ("model.layer_norm", unbiased_deviation, "divided by D - 1"),
    ("model.layer_norm", eps_outside, "under the square root"),
    ("model.layer_norm", without_eps, "a token whose numbers are all equal gives NaN"),
    ("model.layer_norm", own_eps, "the argument eps is not used"),
    ("model.layer_norm", without_root, "which is the square root of the variance"),
    ("model.layer_norm", centred_only, "nothing is divided"),
    ("model.layer_norm", shift_first, "first scale, then shift"),
    ("model.layer_norm", norm_alone, "scale and shift change nothing"),
    ("model.layer_norm", scale_alone, "shift is not used"),
    ("model.layer_norm", norm_in_place, "the tensor that came in was changed"),
    ("model.gelu", torch.relu, "this is ReLU"),
    ("model.gelu", F.gelu, "the exact form"),
    ("model.gelu", lambda x: x * torch.sigmoid(1.702 * x), "the sigmoid form"),
    ("model.gelu", lambda x: 2 * tanh_gelu(x), "the factor 0.5 is missing"),
    ("model.gelu", lambda x: tanh_gelu(x) - 0.5 * x, "1 + tanh"),
    (
        "model.gelu",
        lambda x: 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "factor x in front",
    ),
    ("model.gelu", lambda x: tanh_gelu(x, factor=2 / math.pi), "under a square root"),
    ("model.gelu", lambda x: tanh_gelu(x, cube=0.0), "x^3 is missing"),
    ("model.gelu", lambda x: tanh_gelu(x, cube=0.44715), "count the zeros"),
    ("model.gelu", lambda x: tanh_gelu(x, power=2), "cubed, not squared"),
    ("model.gelu", brackets_closed_early, "look at the brackets"),
    ("model.gelu", F.silu, "x itself"),
    ("model.block", without_shortcuts, "both shortcuts are missing"),
    ("model.block", no_shortcut_around_attention, "the shortcut around attention is missing"),
    ("model.block", no_shortcut_around_feed_forward, "the shortcut around feed-forward is missing"),
    ("model.block", post_norm, "the norms come after the additions"),
    ("model.block", norms_behind, "they belong in front of them"),
    ("model.block", shortcut_from_the_copy, "the shortcuts start at the normed copies"),
    ("model.block", first_shortcut_from_the_copy, "around attention starts at the normed copy"),
    ("model.block", second_shortcut_from_the_copy, "around feed-forward starts at the normed copy"),
    ("model.block", side_by_side, "the x from before attention"),
    ("model.block", second_shortcut_too_early, "what attention added is lost"),
    ("model.block", one_norm, "norm1 is used twice"),
    ("model.block", lambda x, n1, att, n2, ff: post_norm(x, lambda x: x, att, lambda x: x, ff), "no norm is used"),
    ("model.block", feed_forward_first, "feed-forward comes first"),
    ("model.block", block_in_place, "writes into it"),
    ("model.block", added_twice, "what is added is wrong"),
    ("model.block", doubled, "x should come out as it went in"),
    ("model.count_parameters", changed(head=lambda V, D: V * D), "counted twice"),
    ("model.count_parameters", changed(head=0), "are two matrices"),
    ("model.count_parameters", changed(head=lambda V, D: V * D + V), "no bias"),
    ("model.count_parameters", changed(qkv=0), "missing, though qkv_bias is True"),
    ("model.count_parameters", changed(qkv=lambda V, D: 3 * D), "counted, though qkv_bias is False"),
    ("model.count_parameters", changed(biases=0), "the biases of feed-forward"),
    ("model.count_parameters", changed(attention=lambda V, D: 4 * D * D), "output projection"),
    ("model.count_parameters", changed(attention=lambda V, D: 3 * D * D + D), "a matrix of attention is missing"),
    ("model.count_parameters", changed(final_norm=0), "the final norm is missing"),
    ("model.count_parameters", changed(norms=0), "the norms in the blocks are missing"),
    ("model.count_parameters", changed(norms=0, final_norm=0), "all norms are missing"),
    ("model.count_parameters", changed(norms=lambda V, D: 2 * D), "there are two norms"),
    ("model.count_parameters", changed(positions=0), "the position embedding is missing"),
    ("model.count_parameters", changed(feed_forward=lambda V, D: 4 * D * D), "too few"),
    ("model.count_parameters", lambda *sizes: None, "`return` seems to be missing"),
    ("model.greedy", written(mode=True), "training mode"),
    ("model.greedy", with_gradients, "gradients are being recorded"),
    ("model.greedy", written(choose=lambda logits: logits[:, 0].argmax(-1, keepdim=True)), "the first place"),
    ("model.greedy", written(window=lambda ids, length: ids), "was given 8"),
    ("model.greedy", written(window=lambda ids, length: ids[:, :length]), "its first tokens are kept"),
    ("model.greedy", written(window=lambda ids, length: ids[:, -4:]), "not to 4"),
    ("model.greedy", lambda model, ids, new, length: write(model, ids, new, length)[:, 4:], "only the new tokens"),
    ("model.greedy", lambda model, ids, new, length: always_the_prompt(model, ids, 1, length), "number of calls: 1"),
    ("model.greedy", always_the_prompt, "reads the prompt alone again"),
    ("model.greedy", one_call, "number of calls: 1"),
    (
        "model.greedy",
        written(choose=lambda logits: torch.multinomial(logits[:, -1].softmax(-1), 1)),
        "not the most likely ones",
    ),
    ("model.greedy", written(choose=lambda logits: logits[:, -1].argmin(-1, keepdim=True)), "not the most likely ones"),
]
