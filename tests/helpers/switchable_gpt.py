"""A GPT as a reader might write it, with a switch for every usual mistake, and a reference to compare it with."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from gptlab.model import GPTModel

V, D, H, L, CONTEXT = 61, 24, 3, 2, 20
CFG = {"vocab_size": V, "context_length": CONTEXT, "emb_dim": D, "n_heads": H, "n_layers": L, "drop_rate": 0.0}
CFG |= {"qkv_bias": True}
IDS = torch.randint(0, V, (2, 9), generator=torch.Generator().manual_seed(3))


def reference_model(**changes):
    """A GPTModel in which every number is random, norms and biases too."""
    generator = torch.Generator().manual_seed(0)
    model = GPTModel(CFG | changes).eval()
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=float(name.endswith("scale")), std=0.3, generator=generator)
    return model


class Norm(nn.Module):
    def __init__(self, wrong):
        super().__init__()
        self.wrong, self.scale, self.shift = wrong, nn.Parameter(torch.ones(D)), nn.Parameter(torch.zeros(D))

    def forward(self, x):
        eps = 1e-3 if self.wrong == "eps" else 1e-5
        variance = x.var(-1, keepdim=True, unbiased=self.wrong == "unbiased")
        x = (x - (0 if self.wrong == "norm mean" else x.mean(-1, keepdim=True))) / torch.sqrt(variance + eps)
        if self.wrong == "norm odd":
            x = x * 1.5
        return x if self.wrong == "norm affine" else self.scale * x + self.shift


class Attention(nn.Module):
    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong
        self.W_query, self.W_key, self.W_value = (nn.Linear(D, D, bias=wrong != "qkv bias") for _ in range(3))
        self.out_proj = nn.Linear(D, D)

    def forward(self, x):
        B, T, _ = x.shape
        heads = {"one head": 1, "four heads": 4}.get(self.wrong, H)
        weight = self.W_key.weight.T if self.wrong == "key transposed" else self.W_key.weight
        parts = [self.W_query(x), F.linear(x, weight, self.W_key.bias), self.W_value(x)]
        if self.wrong != "key transposed":
            parts[1] = self.W_key(x)
        if self.wrong == "roles":
            parts = [parts[2], parts[1], parts[0]]
        if self.wrong == "split":
            q, k, v = (part.view(B, heads, T, D // heads) for part in parts)
        else:
            q, k, v = (part.view(B, T, heads, D // heads).transpose(1, 2) for part in parts)
        scores = q @ k.transpose(2, 3)
        scale = {"no scale": 1, "head_dim": D // H, "sqrt emb_dim": math.sqrt(D), "no mask, no scale": 1}
        scores = scores / scale.get(self.wrong, math.sqrt(D // heads))
        diagonal = {"no mask": T, "no mask, no scale": T, "mask late": 1, "mask early": -1, "mask early, -inf": -1}.get(
            self.wrong, 0
        )
        hidden = {"mask early": -1e9, "mask with 0": 0.0}.get(self.wrong, -math.inf)
        scores = scores.masked_fill(~torch.ones(T, T, dtype=torch.bool).tril(diagonal), hidden)
        weights = scores.softmax(dim=2 if self.wrong == "softmax" else 3)
        if self.wrong == "odd attention":
            weights = weights**1.01
        if self.wrong == "dropout":
            weights = F.dropout(weights, 0.3)  # training=True is the default
        gathered = weights @ v
        joined = gathered if self.wrong == "join" else gathered.transpose(1, 2)
        return self.out_proj(joined.reshape(B, T, D))


class FeedForward(nn.Module):
    def __init__(self, wrong):
        super().__init__()
        approximate = "none" if wrong == "erf" else "tanh"
        activation = nn.ReLU() if wrong == "relu" else nn.GELU(approximate)
        self.layers = nn.Sequential(nn.Linear(D, 4 * D), activation, nn.Linear(4 * D, D, bias=wrong != "ff bias"))

    def forward(self, x):
        return self.layers(x)


class Block(nn.Module):
    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong
        self.att, self.ff, self.norm1, self.norm2 = Attention(wrong), FeedForward(wrong), Norm(wrong), Norm(wrong)

    def forward(self, x):
        if self.wrong == "post-norm":
            x = self.norm1(x + self.att(x))
            return self.norm2(x + self.ff(x))
        start = x
        x = self.att(self.norm1(x)) + (0 if self.wrong in ("residual 1", "residual 1, relu") else x)
        if self.wrong == "from the start":
            return start + self.ff(self.norm2(x))
        if self.wrong == "residual 1, relu":
            inner = self.ff.layers
            return x + inner[2](F.relu(inner[0](self.norm2(x))))
        return self.ff(self.norm2(x)) + (0 if self.wrong == "residual 2" else x)


class Student(nn.Module):
    """A reader's GPT: right, or wrong in one way."""

    def __init__(self, wrong=""):
        super().__init__()
        self.wrong = wrong
        self.tok_emb, self.pos_emb = nn.Embedding(V, D), nn.Embedding(CONTEXT, D)
        self.trf_blocks = nn.Sequential(*(Block(wrong) for _ in range(L)))
        self.final_norm = Norm("")
        self.out_head = nn.Linear(D, V, bias=False)

    def forward(self, ids):
        positions = torch.arange(ids.shape[1]) + (self.wrong == "positions from 1")
        x = self.tok_emb(ids)
        if self.wrong != "positions":
            x = x + self.pos_emb(positions)
        x = self.trf_blocks(x)
        if self.wrong != "final norm":
            x = self.final_norm(x)
        logits = x @ self.tok_emb.weight.T if self.wrong == "tied" else self.out_head(x)
        return logits.softmax(-1) if self.wrong == "softmax at the end" else logits


def student_like(reference, wrong=""):
    model = Student(wrong).eval()
    own = model.state_dict()
    model.load_state_dict({name: weight for name, weight in reference.state_dict().items() if name in own})
    return model
