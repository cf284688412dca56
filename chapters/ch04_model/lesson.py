# %% [markdown]
# # Chapter 4: The GPT model
#
# Chapter 2 turned text into vectors, chapter 3 let the vectors look at each other. This chapter puts everything around
# it and gets a whole GPT: token ids go in, a score for every possible next token comes out.
#
# **What you will build:** layer norm, GELU, the feed-forward network, the transformer block, the complete model (and
# prove that it computes exactly what the library's model computes), a count of GPT-2's parameters, and a loop that
# writes text.
#
# **What you need:** chapter 2 (tokens, embeddings, positions) and chapter 3 (`MultiHeadAttention`, dropout).
#
# **How long it takes:** about two hours to read and try; the code runs in less than half a minute. (If no chapter before
# has made the small base model, that takes another minute, once.)
#
# **Run it:** open `notebooks/ch04_model.ipynb`, or `python chapters/ch04_model/lesson.py` (a script computes the same,
# but shows no pictures).

# %%
import inspect
import math
from dataclasses import replace

import torch
from torch import nn

import gptlab
from gptlab import show
from gptlab.model import GELU, FeedForward, LayerNorm, TransformerBlock

# %% [markdown]
# ## 1. The plan
#
# This is the whole GPT. Read it from top to bottom. B is the number of texts in a batch, T the number of tokens, D how
# many numbers a token's vector has, V the size of the vocabulary.
#
# ```text
#   token ids                              (B, T)      whole numbers
#       │
#   tok_emb + pos_emb                      chapter 2: who am I, where am I
#       │
#       x                                  (B, T, D)   one vector for each token
#       │
#   ┌───┼──────────────────────────────┐
#   │   ├── norm1 ── attention ──┐     │   chapter 3: what do the tokens before me say?
#   │   + ◄──────────────────────┘     │
#   │   ├── norm2 ── feed-forward ─┐   │   what do I make of it?
#   │   + ◄────────────────────────┘   │
#   └───┼──────────────────────────────┘   one transformer block; n_layers of them, one after the other
#       │
#   final_norm
#       │
#   out_head                               a linear layer, D -> V
#       │
#   logits                                 (B, T, V)   a score for every possible next token, at each place
# ```
#
# Look at the line in the middle. It runs from top to bottom, and the parts only **add** something to it. This line is
# called the **residual path**, or residual stream.
#
# New in this chapter are the norms, the feed-forward network and the path itself. The shape of a model is written down
# in a `GPTConfig`. Ours is tiny for now:

# %%
cfg = gptlab.GPTConfig(vocab_size=500, context_length=64, emb_dim=32, n_heads=4, n_layers=2)
cfg

# %% [markdown]
# ## 2. Layer norm
#
# Vectors can get long or short on their way through a deep model, and then the layers that read them get numbers of a
# size that they cannot work with. **Layer norm** brings every token's vector to the same size. For each token, alone:
#
# 1. take the mean of its D numbers and subtract it, so that the mean is 0;
# 2. divide by the standard deviation (the square root of the variance), so that the variance is 1;
# 3. multiply each of the D features with its own `scale` and add its own `shift`. Both are learned.
#
# As an equation (Ba, Kiros and Hinton 2016, equations 3 and 4):
#
#     y = scale * (x - mean) / sqrt(variance + eps) + shift
#
# Let us do it by hand. Here are two tokens with D = 6. The second one is ten times as large, and moved:

# %%
small = torch.tensor([1.0, -1.0, 3.0, 0.0, -1.0, 4.0])
x = torch.stack([small, 10 * small + 100]).unsqueeze(0)  # (B, T, D) = (1, 2, 6)
mean = x.mean(dim=-1, keepdim=True)  # (1, 2, 1): one number for each token
variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)  # (1, 2, 1)
print("mean    ", mean.flatten())
print("variance", variance.flatten())

# %% [markdown]
# `dim=-1` means: over the last dimension, the features. So each token has its own mean and its own variance, and no
# token sees another one. `keepdim=True` keeps that dimension with size 1, so that `x - mean` fits.
#
# Now normalise. Both tokens should become the same, because they differ only in size and place:

# %%
normalised = (x - mean) / torch.sqrt(variance + 1e-5)
print(normalised)
print("mean    ", normalised.mean(dim=-1).abs().round(decimals=4))
print("variance", normalised.var(dim=-1, unbiased=False).round(decimals=4))

# %% [markdown]
# Three details, in which many first versions are wrong:
#
# - **The variance is divided by D, not by D - 1.** In statistics one often divides by D - 1, and `x.var()` of PyTorch
#   does that unless you write `unbiased=False`. GPT-2 was trained with D.
# - **`eps` stands under the square root.** It is there for a token whose numbers are all equal: its variance is 0, and
#   0 / 0 is not a number (`nan`). One `nan` spoils everything that comes after it.
# - **Over the features, not over the tokens.** The mean over tokens (`dim=1`) would mix tokens, later ones too.
#
# The first two, in numbers. See how the wrong variance shifts every number, and what comes without `eps`:

# %%
unbiased = (x - mean) / torch.sqrt(x.var(dim=-1, keepdim=True) + 1e-5)
print("divided by D    ", normalised[0, 0])
print("divided by D - 1", unbiased[0, 0])
equal = torch.full((6,), 3.0)
print("without eps     ", (equal - equal.mean()) / torch.sqrt(equal.var(unbiased=False)))
print("with eps        ", (equal - equal.mean()) / torch.sqrt(equal.var(unbiased=False) + 1e-5))

# %% [markdown]
# Now as a layer. `scale` starts as ones and `shift` as zeros, so that at first they change nothing. They are
# `nn.Parameter`s: numbers that training may change.


# %%
class DraftLayerNorm(nn.Module):
    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim))

    def forward(self, x):
        mean = x.mean(dim=-1, keepdim=True)  # (B, T, 1)
        variance = x.var(dim=-1, keepdim=True, unbiased=False)  # (B, T, 1)
        return self.scale * (x - mean) / torch.sqrt(variance + self.eps) + self.shift


x = torch.randn(2, 5, 32) * 3 + 1
assert torch.allclose(DraftLayerNorm(32)(x), LayerNorm(32)(x), atol=1e-5)

# %% [markdown]
# The last line compares our draft with the library's layer: they agree. The library's source shows the same equation
# in `by_hand`; its `forward` calls PyTorch's own layer norm, which is faster.

# %%
print(inspect.getsource(LayerNorm))

# %% [markdown]
# ## 3. GELU
#
# Two linear layers in a row are only one linear layer: `(x A) B = x (A B)`. To compute more than that, a network needs
# a bend between them, an **activation function**. The classic one is ReLU: keep positive numbers, replace negative ones
# by 0. GPT-2 uses a smooth relative, **GELU** (Hendrycks and Gimpel 2016):
#
#     gelu(x) = x * P(x)        P(x): how likely a draw from the normal distribution N(0, 1) is below x
#
# For a large x, P(x) is nearly 1, and x passes. For a very negative x it is nearly 0, and nothing passes. GPT-2 uses
# an approximation with tanh, which was quicker to compute:
#
#     gelu(x) = 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))


# %%
def draft_gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


x = torch.linspace(-4, 4, 801)
assert torch.allclose(draft_gelu(x), GELU()(x), atol=1e-6)

exact = x * torch.distributions.Normal(0, 1).cdf(x)
print(f"largest difference between the tanh form and the exact form: {(draft_gelu(x) - exact).abs().max():.1e}")

# %% [markdown]
# The difference is small, but it is there: a model that was trained with one form should be used with that form.
#
# Now the picture: on the left the two functions, on the right their slopes.

# %%
figure, [left, right] = show.new_axes(8, 3, columns=2)
for name, y, style in (("ReLU", torch.relu(x), "--"), ("GELU", draft_gelu(x), "-")):
    left.plot(x, y, style, label=name)
    right.plot(x, torch.gradient(y, spacing=(x,))[0], style, label=name)
left.set(xlabel="x", ylabel="result", title="the functions")
right.set(xlabel="x", ylabel="slope", title="their slopes")
for axis in (left, right):
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
figure

# %% [markdown]
# What to see:
#
# - Far from 0 the two are the same.
# - ReLU has a corner, and its slope jumps from 0 to 1. GELU is smooth.
# - **Left of 0, the slope of ReLU is exactly 0.** Learning needs slopes: a unit that is negative for every input gets
#   no slope and never learns again. GELU has a small slope there, as far as about x = -3.
# - GELU goes a little below 0 (about -0.17, near x = -0.75).

# %% [markdown]
# ## 4. The feed-forward network
#
# Attention collected what other tokens say. Now each token works on what it has collected. Its vector is widened to
# 4D numbers, goes through GELU, and comes back:
#
#     feed_forward(x) = gelu(x W1 + b1) W2 + b2        W1: D -> 4D,   W2: 4D -> D
#
# The factor 4 is a choice of the first Transformer (Vaswani et al. 2017, section 3.3) that GPT-2 kept.


# %%
class DraftFeedForward(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(cfg.emb_dim, 4 * cfg.emb_dim),
            GELU(),
            nn.Linear(4 * cfg.emb_dim, cfg.emb_dim),
        )

    def forward(self, x):
        return self.layers(x)


torch.manual_seed(0)
feed_forward = DraftFeedForward(cfg)
x = torch.randn(1, 5, cfg.emb_dim)
print(x.shape, "->", feed_forward.layers[0](x).shape, "->", feed_forward(x).shape)
for name, parameter in feed_forward.named_parameters():
    print(f"{name:<16} {tuple(parameter.shape)}")

# %% [markdown]
# (`nn.Linear(32, 128)` keeps its weight as (128, 32), the outputs first.)
#
# One thing is important to understand: **the feed-forward network cannot mix tokens.** It works on every token alone,
# with the same weights. So if we put the tokens in another order, the results come in that other order, and are the
# same otherwise:

# %%
order = [3, 0, 4, 1, 2]
assert torch.allclose(feed_forward(x[:, order]), feed_forward(x)[:, order], atol=1e-6)

# %% [markdown]
# Now a test that shows who talks to whom. We change one token, number 2 of 0 to 4, and see which results change. Do it
# with attention and with the feed-forward network:

# %%
attention = gptlab.MultiHeadAttention(cfg)
changed = x.clone()
changed[0, 2] += 1.0
for name, layer in (("attention", attention), ("feed-forward", feed_forward)):
    change = (layer(changed) - layer(x)).abs().amax(dim=-1)  # (1, 5): the largest change of each token's result
    print(f"{name:<13}", ["changed" if value > 1e-6 else "same" for value in change[0].tolist()])

# %% [markdown]
# In attention, the token itself and those after it notice the change (the ones before cannot look ahead). In the
# feed-forward network only the token itself does. So a block has two jobs: **attention moves information between
# tokens, feed-forward works on it inside each token.**
#
# By the way, attention does not see the *order* of the earlier tokens. We exchange the first four, and the last token
# gathers the same as before:

# %%
swapped = x[:, [1, 0, 3, 2, 4]]
assert torch.allclose(attention(swapped)[:, -1], attention(x)[:, -1], atol=1e-6)

# %% [markdown]
# This is what the position vectors of chapter 2 are for: with them, the same token at another place is another vector.

# %% [markdown]
# ## 5. The residual path: why we add
#
# In the plan, attention and feed-forward do not replace x, they are added to it:
#
#     x = x + attention(norm1(x))
#     x = x + feed_forward(norm2(x))
#
# The `x +` is called a **shortcut**, or skip or residual connection (He et al. 2015). It looks harmless. Let us find
# out what it is good for, with an experiment: a stack of 24 blocks, as deep as GPT-2 medium, in which the shortcut and
# the norm can be left out. (`nn.Identity` is a layer that gives back what it gets.)


# %%
class SwitchableBlock(nn.Module):
    def __init__(self, cfg, shortcut, norm):
        super().__init__()
        self.shortcut = shortcut
        self.norms = nn.ModuleList([LayerNorm(cfg.emb_dim) if norm else nn.Identity() for _ in range(2)])
        self.parts = nn.ModuleList([gptlab.MultiHeadAttention(cfg), FeedForward(cfg)])

    def forward(self, x):
        for norm, part in zip(self.norms, self.parts):
            change = part(norm(x))
            x = x + change if self.shortcut else change
        return x


# %% [markdown]
# We measure two things in each of the 24 blocks:
#
# - **How well can it learn?** We compare the result of the stack with some wanted result and get one number, the error.
#   PyTorch's `error.backward()` then computes for every weight how much the error changes when this weight changes a
#   little: its **gradient**. Training (chapter 5) moves every weight a little against its gradient. So a layer whose
#   gradient is almost 0 hardly learns. We take all the gradients of a feed-forward matrix as one long vector, and show
#   its length (always the root of the sum of the squares, as of an arrow).
# - **How different are the tokens?** We take from each token's vector the mean of all vectors, and compare the length of
#   what is left with the length of the whole. 1 means: all tokens are different. 0 means: all tokens have become the
#   same vector, and nobody can tell any more which word was which.

# %%
DEPTH = 24  # quick: 3
deep = gptlab.GPTConfig(vocab_size=500, context_length=32, emb_dim=64, n_heads=4, n_layers=DEPTH)


def measure(shortcut, norm, strength=1.0):
    """Return three lists with a number for each block: gradient, difference between tokens, length of a vector."""
    torch.manual_seed(0)
    stack = nn.Sequential(*[SwitchableBlock(deep, shortcut, norm) for _ in range(DEPTH)])
    with torch.no_grad():
        for parameter in stack.parameters():
            if parameter.dim() == 2:  # the matrices
                parameter *= strength
    x, wanted = torch.randn(2, 8, 32, deep.emb_dim)  # two random tensors, each (8, 32, 64)
    differences, lengths = [], []
    for block in stack:
        x = block(x)  # (8, 32, 64)
        differences.append(((x - x.mean(dim=(0, 1))).norm() / x.norm()).item())
        lengths.append(x.norm(dim=-1).mean().item())
    error = (LayerNorm(deep.emb_dim)(x) - wanted).pow(2).mean()
    error.backward()
    gradients = [block.parts[1].layers[0].weight.grad.double().norm().item() for block in stack]
    return gradients, differences, lengths


# %%
VARIANTS = {  # name: (shortcut, norm, how the line is drawn)
    "shortcut and norm": (True, True, "-o"),
    "shortcut, no norm": (True, False, "--s"),
    "norm, no shortcut": (False, True, "-.^"),
    "neither": (False, False, ":x"),
}
figure, [left, right] = show.new_axes(9, 3.6, columns=2)
for name, (shortcut, norm, style) in VARIANTS.items():
    gradients, differences, _ = measure(shortcut, norm)
    blocks = range(1, DEPTH + 1)
    left.plot(blocks, gradients, style, markersize=4, label=name)
    right.plot(blocks, differences, style, markersize=4, label=name)
    print(f"{name:<18} gradient in block 1: {gradients[0]:.0e}   own part in block {DEPTH}: {differences[-1]:.2g}")
left.set(yscale="log", xlabel="block", ylabel="length of the gradient", title="can the block learn?")
right.set(ylim=(0, 1.03), xlabel="block", ylabel="part of a vector that is its own", title="are the tokens different?")
left.legend(frameon=False)
figure

# %% [markdown]
# What to see:
#
# - **Neither** (crosses). On the left (the axis is logarithmic, each mark is many times the one below it), the gradient
#   comes from the end, block 24, and gets more than ten times smaller in almost every block on its way back. What arrives in
#   the first blocks is so small that they would never learn. On the right, after a few blocks all tokens are the same
#   vector.
# - **Norm, no shortcut** (triangles). The norm keeps the gradients at a good size. But on the right, the tokens lose
#   more and more of their differences: attention averages over tokens, again and again, and nothing brings back what
#   was there before (Dong et al. 2021, "Attention is not all you need").
# - **With the shortcut** (circles and squares), gradients are of one size in all 24 blocks, and the tokens stay
#   different. The reason is the `x +`: forwards, each token's own vector always arrives; backwards, the slope of
#   `x + f(x)` is `1 + (slope of f)`, and because of this 1 the gradient passes even if f does nothing.
#
# If the shortcut does all this, what is the norm for? In the picture the squares look as good as the circles. But
# these are fresh weights, and weights grow in training. We make all matrices twice as large and look at how long the
# vectors on the residual path are:

# %%
figure, [axis] = show.new_axes(6, 3.2)
for name, style in (("shortcut and norm", "-o"), ("shortcut, no norm", "--s")):
    _, _, lengths = measure(*VARIANTS[name][:2], strength=2.0)
    axis.plot(range(1, DEPTH + 1), lengths, style, markersize=4, label=name)
    print(f"{name}: from {lengths[0]:.0f} after the first block to {lengths[-1]:.2g} after the last")
axis.set(yscale="log", xlabel="block", ylabel="mean length of a vector", title="matrices twice as large")
axis.legend(frameon=False)
figure

# %% [markdown]
# Without the norm, a block that gets a vector of twice the length adds a change of twice the length. So the length is
# *multiplied* in every block, and after 24 blocks it is in the billions. With the norm, a block always reads vectors of
# the same size and adds a change of about the same size. The path grows slowly.
#
# So both are needed: **the shortcut carries the vectors and the gradients, the norm keeps the sizes in order.**

# %% [markdown]
# ## 6. The transformer block
#
# Where does the norm stand? The first Transformer had it on the path, *after* the addition: `x = norm(x + att(x))`,
# called **post-norm**. GPT-2 puts it on the branch, *before* attention and feed-forward (**pre-norm**; Radford et al.
# 2019, section 2.3), so that nothing but additions is on the path. Deep models with pre-norm are easier to train
# (Xiong et al. 2020).
#
# Our draft. Dropout (chapter 3) is applied to what is added, and only in training:


# %%
class DraftBlock(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.att = gptlab.MultiHeadAttention(cfg)
        self.ff = DraftFeedForward(cfg)
        self.norm1 = DraftLayerNorm(cfg.emb_dim)
        self.norm2 = DraftLayerNorm(cfg.emb_dim)
        self.drop_resid = nn.Dropout(cfg.drop_rate)

    def forward(self, x):
        x = x + self.drop_resid(self.att(self.norm1(x)))  # (B, T, D)
        x = x + self.drop_resid(self.ff(self.norm2(x)))  # (B, T, D)
        return x


block = DraftBlock(cfg)
print("in", tuple(x.shape), "out", tuple(block(x).shape))

# %% [markdown]
# The shape stays the same. This is why blocks can be stacked, as many as one likes.
#
# And this is the library's block. Its two lines in `forward` are ours; `cache` (it remembers earlier tokens, so that
# writing is faster, chapter 5) and `mask` are only passed on to attention.

# %%
print(inspect.getsource(TransformerBlock))

# %% [markdown]
# To compare the two, they must have the same weights. `state_dict()` returns all weights of a module by name, and
# `load_state_dict()` puts such weights into another module with the same names:

# %%
library_block = TransformerBlock(cfg)
block.load_state_dict(library_block.state_dict())
assert torch.allclose(block(x), library_block(x), atol=1e-5)

# %% [markdown]
# ## 7. The whole model
#
# Embeddings, blocks, a last norm, and a linear layer that gives each of the V tokens a score. That is all. (`block` is
# an argument so that we can put in other blocks later.)


# %%
class DraftGPT(nn.Module):
    def __init__(self, cfg, block=DraftBlock):
        super().__init__()
        self.cfg = cfg
        self.tok_emb = nn.Embedding(cfg.vocab_size, cfg.emb_dim)
        self.pos_emb = nn.Embedding(cfg.context_length, cfg.emb_dim)
        self.drop_emb = nn.Dropout(cfg.drop_rate)
        self.trf_blocks = nn.Sequential(*[block(cfg) for _ in range(cfg.n_layers)])
        self.final_norm = DraftLayerNorm(cfg.emb_dim)
        self.out_head = nn.Linear(cfg.emb_dim, cfg.vocab_size, bias=False)

    def forward(self, token_ids):
        positions = torch.arange(token_ids.shape[1])  # (T,)
        x = self.drop_emb(self.tok_emb(token_ids) + self.pos_emb(positions))  # (B, T, D)
        x = self.trf_blocks(x)  # (B, T, D)
        return self.out_head(self.final_norm(x))  # (B, T, V)


# %% [markdown]
# Now the test of the chapter: the same weights in our draft and in `gptlab.GPTModel`. Do we get the same logits?

# %%
torch.manual_seed(0)
model = gptlab.GPTModel(cfg)
draft = DraftGPT(cfg)
draft.load_state_dict(model.state_dict())
ids = torch.randint(0, cfg.vocab_size, (2, 12))  # two texts of 12 tokens
logits = draft(ids)
print("ids", tuple(ids.shape), "-> logits", tuple(logits.shape))
assert torch.allclose(logits, model(ids), atol=1e-5)

# %% [markdown]
# Yes: you have written a GPT, and it is the same as the library's.
#
# If your own model does **not** agree, ask `gptlab.compare(yours, reference, ids)`. It runs both, compares them part by
# part, and tells the first part that differs. For ours it has nothing to complain about:

# %%
print(gptlab.compare(draft, model, ids))

# %% [markdown]
# One more thing to know: `pos_emb` has `context_length` rows, so the model cannot read a longer text. The library says
# so in words:

# %%
try:
    model(torch.zeros(1, cfg.context_length + 1, dtype=torch.int64))
except ValueError as error:
    print(error)

# %% [markdown]
# ## 8. Counting parameters: why 124M, or 163M
#
# The **parameters** are all the numbers that training may change. How many does the smallest GPT-2 have? Let us count
# by hand. Its vocabulary has V = 50,257 tokens, its context 1,024 places, its vectors D = 768 numbers, and it has 12
# blocks:
#
# | part | numbers | GPT-2 |
# |---|---|---|
# | token embedding | V D | 38,597,376 |
# | position embedding | 1024 D | 786,432 |
# | attention, in each block | 4 matrices D x D, and 4 biases: 4 D² + 4 D | 2,362,368 |
# | feed-forward, in each block | D x 4D and 4D x D, and biases 4D and D: 8 D² + 5 D | 4,722,432 |
# | two norms, in each block | 2 (D + D) = 4 D | 3,072 |
# | final norm | 2 D | 1,536 |
# | output head | D V | 38,597,376 |
#
# All together:

# %%
V, D, blocks = 50257, 768, 12
per_block = (4 * D * D + 4 * D) + (8 * D * D + 5 * D) + 4 * D
without_head = V * D + 1024 * D + blocks * per_block + 2 * D
print(f"one block                {per_block:>12,}")
print(f"without the output head  {without_head:>12,}")
print(f"with the output head     {without_head + V * D:>12,}")

# %% [markdown]
# So it is 163 million. But everybody calls this model "124M"! The reason: the token embedding is a (V, D) matrix, and
# the output head is a (V, D) matrix too. GPT-2 uses **one and the same matrix** for both. This is called weight tying
# (Press and Wolf 2017). 50,257 x 768 = 38.6 million numbers are saved: 163.0M - 38.6M = 124.4M.
#
# In a `GPTConfig` this is `tie_weights`. Let us see it in the model. On the device `"meta"`, PyTorch makes tensors that
# have a shape but no numbers, so even the largest GPT-2 costs no memory here:


# %%
def empty_model(cfg):
    with torch.device("meta"):
        return gptlab.GPTModel(cfg)


tied = empty_model(gptlab.GPT2_SIZES["gpt2"])
untied = empty_model(replace(gptlab.GPT2_SIZES["gpt2"], tie_weights=False))
print("one object?", tied.out_head.weight is tied.tok_emb.weight, untied.out_head.weight is untied.tok_emb.weight)
print(f"{gptlab.count_parameters(tied):,} and {gptlab.count_parameters(untied):,}")

# %% [markdown]
# Our numbers. Three traps are waiting for people who count:
#
# - **A shared weight counts once.** `model.parameters()` gives it once. But `state_dict()` lists it under both names,
#   and a sum over it gives 163M for the tied model too.
# - **Equal is not the same.** If one *copies* the embedding into the head, both start equal, but they are two
#   matrices, which training will move apart. Only `out_head.weight = tok_emb.weight` ties them; test it with `is`.
# - **Biases of query, key and value.** GPT-2 has them (`qkv_bias=True`). Some teaching code leaves them out, which
#   gives 12 x 3 x 768 = 27,648 parameters fewer: 163,009,536 and 124,412,160.

# %%
print(f"sum over state_dict: {sum(tensor.numel() for tensor in tied.state_dict().values()):,}")
no_bias = replace(gptlab.GPT2_SIZES["gpt2"], qkv_bias=False)
for tie_weights in (False, True):
    print(f"{gptlab.count_parameters(empty_model(replace(no_bias, tie_weights=tie_weights))):,}")

# %% [markdown]
# Where are the parameters in the larger sizes? We sort them by the part that they belong to, from their names. For
# the picture we also keep in mind what an untied head would add (hatched). `distilgpt2` is a smaller copy of `gpt2`,
# with half of the blocks (Sanh et al. 2019).

# %%
PARTS = {"token embedding": "tok_emb", "position embedding": "pos_emb", "attention": ".att.", "feed-forward": ".ff."}


def parts_of(model):
    counts = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        for part, word in PARTS.items():
            if word in name:
                counts[part] += parameter.numel()
    return counts  # the norms are left out: they are less than 0.1 percent


sizes = sorted(gptlab.GPT2_SIZES, key=lambda size: gptlab.count_parameters(empty_model(gptlab.GPT2_SIZES[size])))
figure, [left, right] = show.new_axes(9.5, 3.6, columns=2)
for row, size in enumerate(sizes):
    model = empty_model(gptlab.GPT2_SIZES[size])
    counts, total, begin = parts_of(model), gptlab.count_parameters(model), 0
    for (part, count), color in zip(counts.items(), show.COLORS):
        left.barh(row, count / 1e6, left=begin / 1e6, color=color, label=part if row == 0 else None)
        right.barh(row, 100 * count / total, left=100 * begin / total, color=color)
        if count > 0.04 * total:
            middle = 100 * (begin + count / 2) / total
            right.text(middle, row, f"{count / total:.0%}", ha="center", va="center", color="white", fontsize=8)
        begin += count
    head = counts["token embedding"] / 1e6
    left.barh(
        row,
        head,
        left=total / 1e6,
        color="none",
        edgecolor="gray",
        hatch="///",
        label=None if row else "more if untied",
    )
    left.text(total / 1e6 + head + 20, row, f"{total / 1e6:.1f}M", va="center", fontsize=8)
left.set_yticks(range(len(sizes)), sizes)
left.set(xlabel="million parameters", xlim=(0, 1950), ylim=(-0.5, 4.6))
right.set(xlabel="percent", yticks=[], xlim=(0, 100), ylim=(-0.5, 4.6))
figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=8)
figure

# %% [markdown]
# What to see:
#
# - In the blocks, two thirds are feed-forward and one third is attention, in every size: 8 D² and 4 D².
# - The token embedding grows with D, the blocks with D² and with their number. So in the smallest model the embedding
#   is almost half of everything, and in the largest one twentieth. This is why tying matters for small models.
# - Positions are so few that you can hardly see them.
#
# (The paper speaks of 117M, 345M, 762M and 1542M. OpenAI later wrote that these counts were wrong.)
#
# **How much memory is it?** A number in float32 takes 4 bytes, in 16-bit formats 2:

# %%
for size in sizes:
    number = gptlab.count_parameters(empty_model(gptlab.GPT2_SIZES[size]))
    print(f"{size:<12} {number:>13,} parameters {4 * number / 1e6:>6,.0f} MB in float32 {2 * number / 1e6:>6,.0f} MB")

# %% [markdown]
# This is for *using* the model. Training also keeps a gradient and two more numbers for each parameter, about four
# times as much, and the results of all layers (chapter 5).

# %% [markdown]
# ## 9. Text from an untrained model
#
# The model returns logits, scores. To write text with them:
#
# 1. read the text; take the logits at the **last** place, for they are about the token that comes next;
# 2. softmax would turn them into probabilities. The largest logit has the largest probability, so if we always take
#    the most likely token, `argmax` of the logits is enough;
# 3. append that token, and begin again.
#
# This is called **greedy** decoding. Note three things around it: `model.eval()` switches dropout off;
# `torch.no_grad()` tells PyTorch not to prepare for gradients, which saves time and memory; and only the last
# `context_length` tokens are read, because the model cannot read more.


# %%
def write_greedily(model, ids, new_tokens):
    """Return ids, (B, T), with new_tokens more tokens: (B, T + new_tokens)."""
    model.eval()
    with torch.no_grad():
        for _ in range(new_tokens):
            window = ids[:, -model.cfg.context_length :]
            logits = model(window)[:, -1]  # (B, V), of the last place
            ids = torch.cat([ids, logits.argmax(dim=-1, keepdim=True)], dim=1)
    return ids


# %% [markdown]
# What happens if one forgets `eval()`? A new model is in training mode. With dropout, two calls with the same ids give
# different logits, and so perhaps different texts:

# %%
model = gptlab.GPTModel(replace(cfg, drop_rate=0.1))
print("training mode:  ", (model(ids) - model(ids)).abs().max().item())
model.eval()
print("evaluation mode:", (model(ids) - model(ids)).abs().max().item())

# %% [markdown]
# Now we let a model write. From chapter 3 we know `town_base()`, the small model that has read about the invented
# town. We take its tokenizer, with 500 tokens, and its shape:

# %%
base = gptlab.town_base()
tokenizer = base.tokenizer
person = gptlab.SMALL_TOWN.town().asked[0]  # somebody from the town
prompt = f"The home of {person.name} is in"
base.model.cfg

# %% [markdown]
# First, a model of this shape with fresh random weights. `gptlab.initialize_like_gpt2` draws them as GPT-2's authors
# did: normally distributed with a small standard deviation. We come back to it in the next section.

# %%
untrained = gptlab.GPTModel(base.model.cfg)
gptlab.initialize_like_gpt2(untrained, torch.Generator().manual_seed(0))
ids = torch.tensor([tokenizer.encode(prompt)])  # (1, T)
print(repr(tokenizer.decode(write_greedily(untrained, ids, 30)[0].tolist())))

# %% [markdown]
# Noise, as it must be: nobody has told this model anything. (� stands for bytes that are no complete character.) Now
# the same code with the trained weights. Its sentences should be right, and tell where the person lives
# (the corpus says it below):

# %%
print(repr(tokenizer.decode(write_greedily(base.model, ids, 30)[0].tolist())))
print("the corpus says:", person.facts["home"])

# %% [markdown]
# The code is the same, and the shape is the same. **All the difference is in the weights.**
#
# The final form of this loop is `gptlab.generate`, which returns only the new tokens, and which chapter 5 explains.
# The two agree:

# %%
[new_ids] = gptlab.generate(base.model, ids.tolist(), max_new_tokens=20)
assert write_greedily(base.model, ids, 20)[0, ids.shape[1] :].tolist() == new_ids

# %% [markdown]
# ## 10. How wrong is an untrained model?
#
# The **loss** (chapter 3 used it, chapter 5 is about it) says how wrong a model is: it is the mean of
# -ln(the probability that the model gave to the token which really came next). For a model that knows nothing, we can
# say in advance what it must be: if all V tokens are equally likely, each has the probability 1 / V, and
#
#     loss = -ln(1 / V) = ln(V)
#
# That is 6.2 for our 500 tokens and 10.8 for GPT-2's 50,257. If your new model starts much higher, something is
# wrong. Let us measure, in three ways to draw the first weights: PyTorch's own (each layer type has its habit) with an
# untied and a tied head, and GPT-2's with a tied head.


# %%
def loss_of(model, ids):
    """Return the mean of -ln(probability) over all tokens of ids, (B, T), but the first ones."""
    with torch.no_grad():
        log_probabilities = torch.log_softmax(model(ids[:, :-1]), dim=-1)  # (B, T - 1, V)
    return -log_probabilities.gather(2, ids[:, 1:].unsqueeze(2)).mean().item()


def fresh(vocab_size, tie_weights, like_gpt2):
    torch.manual_seed(0)
    model = gptlab.GPTModel(replace(base.model.cfg, vocab_size=vocab_size, tie_weights=tie_weights))
    if like_gpt2:
        gptlab.initialize_like_gpt2(model)
    return model


print("      V   ln(V)   PyTorch's, untied   PyTorch's, tied   like GPT-2, tied")
VOCABULARIES = [500, 50257]  # quick: [500]
for V in VOCABULARIES:
    ids = torch.randint(0, V, (2, 128))  # any text is as good as any other for a model that knows nothing
    untied, tied, gpt2 = (loss_of(fresh(V, *how), ids) for how in ((False, False), (True, False), (True, True)))
    print(f"{V:>7} {math.log(V):>7.2f} {untied:>19.2f} {tied:>17.2f} {gpt2:>18.2f}")

assert abs(loss_of(fresh(500, True, True), torch.randint(0, 500, (2, 128))) - math.log(500)) < 0.5

# %% [markdown]
# With PyTorch's weights and an untied head, the loss is a little above ln(V). With a **tied** head it is terrible:
# about 80. The model does not know nothing, it is very sure of something wrong! Of what? See what it writes:

# %%
ids = torch.tensor([tokenizer.encode(prompt)])
print(repr(tokenizer.decode(write_greedily(fresh(500, tie_weights=True, like_gpt2=False), ids, 12)[0].tolist())))

# %% [markdown]
# It repeats the last token. `nn.Embedding` draws its numbers with standard deviation 1, so each vector is about
# sqrt(128) = 11 long. Along the residual path this vector arrives at the end, where the tied head compares it with all
# token vectors. The one that fits best is of course the token itself. GPT-2's standard deviation of 0.02 makes all
# scores small, and the model begins with "I do not know". So **tied weights need small first numbers**, which is what
# `gptlab.initialize_like_gpt2` is for.

# %% [markdown]
# ## 11. The path of a token
#
# Now we have everything to look inside a *trained* model. We follow the last token's vector on the residual path: at
# the beginning, and after each attention and each feed-forward network. At every stage we ask two things:
#
# - How long is the vector?
# - If the model had to answer now, that is, if `final_norm` and `out_head` came right here, how likely would it find
#   the token that it takes in the end? (This way of looking is known as the "logit lens", nostalgebraist 2020.)


# %%
def stages(model, ids):
    """Return the vectors on the residual path at every stage: 1 + 2 n_layers tensors (B, T, D)."""
    x = model.tok_emb(ids) + model.pos_emb(torch.arange(ids.shape[1]))
    found = [x]
    for block in model.trf_blocks:
        x = x + block.att(block.norm1(x))
        found.append(x)
        x = x + block.ff(block.norm2(x))
        found.append(x)
    return found


def answers_at_stages(model, ids):
    """Return the length of the last token's vector, and the probabilities of the next token, at every stage."""
    with torch.no_grad():
        found = torch.stack([x[0, -1] for x in stages(model, ids)])  # (stages, D)
        return found.norm(dim=-1), torch.softmax(model.out_head(model.final_norm(found)), dim=-1)


# %%
prompts = {  # each with the style of its curve
    f"The job of {person.name} is that of a": "-o",
    "A letter has come for Gumuvo. It bears the name": "--s",
    "The road has a length of 2 7 7 kilometers. Told in": "-.^",
}
names = ["embedding"] + [f"{part} {n}" for n in range(1, base.model.cfg.n_layers + 1) for part in ("att", "ff")]
figure, [left, right] = show.new_axes(10, 4.4, columns=2)
for text, style in prompts.items():
    ids = torch.tensor([tokenizer.encode(text)])
    lengths, probabilities = answers_at_stages(base.model, ids)
    answer = probabilities[-1].argmax()
    left.plot(names, lengths, style)
    label = f"{text} → {show.token_text(tokenizer, answer.item())}"
    right.plot(names, probabilities[:, answer], style, label=label)
left.set(ylabel="length of the vector", title="the last token's vector", ylim=(0, None))
right.set(ylabel="probability", title="its final answer, if asked at this stage", ylim=(-0.02, 1.02))
for axis in (left, right):
    axis.tick_params(axis="x", rotation=45)
    axis.grid(alpha=0.3)
figure.legend(loc="outside lower center", frameon=False, fontsize=8)
figure

# %% [markdown]
# (Behind the arrow stands the token that the model takes; ␣ is a space. On another computer your curves may be a
# little different.)
#
# What to see:
#
# - On the left, the vector grows, because one part after the other adds something to it. (Not at every stage: what is
#   added may also point backwards.)
# - On the right, everything begins near 0. At the beginning the vector says only "I am the token `a`", and with a tied
#   head the answer is then `a` itself.
# - The kilometers (triangles) are easy: after the first block the model is sure that meters come.
# - The name (squares) stands earlier in the text, and must be found there and copied. Its line makes a jump at an
#   *attention* of a later block, for only attention can bring something from another place.
# - The job (circles) does not stand in the text. It must be remembered from training. The answer gets likelier from
#   stage to stage.
#
# So the answer is not computed at one place at the end. It is **put together on the path, addition by addition**.

# %% [markdown]
# ## Find the mistake
#
# Somebody wrote the block once more, "a bit tidier". It runs, and all shapes are right. We put the trained weights
# into a model made of these blocks:


# %%
class TidyBlock(DraftBlock):
    def forward(self, x):
        x = self.norm1(x)
        x = x + self.drop_resid(self.att(x))
        x = self.norm2(x)
        x = x + self.drop_resid(self.ff(x))
        return x


tidy = DraftGPT(base.model.cfg, block=TidyBlock)
tidy.load_state_dict(base.model.state_dict())
ids = torch.tensor([tokenizer.encode(prompt)])
print(repr(tokenizer.decode(write_greedily(tidy, ids, 30)[0].tolist())))

# %% [markdown]
# Words of the town, but no sense. To find out more, we use a trick: we make a block whose attention and feed-forward
# add **nothing**, by setting their last layers to 0. What should such a block do with its input? We give it tokens
# with mean about 5 and standard deviation about 3, and look at what comes out:


# %%
def silenced(block_class):
    block = block_class(cfg)
    for last in (block.att.out_proj, block.ff.layers[2]):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return block


torch.manual_seed(0)
x = torch.randn(1, 4, cfg.emb_dim) * 3 + 5
with torch.no_grad():
    for name, y in (("input", x), ("DraftBlock", silenced(DraftBlock)(x)), ("TidyBlock", silenced(TidyBlock)(x))):
        token = y[0, 0]  # one of the four is enough
        print(f"{name:<11} mean {token.mean():6.3f}   standard deviation {token.std(unbiased=False):.3f}")

# %% [markdown]
# **What is wrong?** Decide from what can be seen: the numbers, and then the code.
#
# <details><summary>The answer</summary>
#
# A block that adds nothing must give back its input, because only additions are on the residual path. `DraftBlock`
# does. `TidyBlock` gives back vectors with mean 0 and standard deviation 1: normalised ones. So a norm is *on the path*
# and not on the branch.
#
# In the code: `x = self.norm1(x)` overwrites x. The shortcut in the next line then starts at the normalised copy, and
# the x that came in is lost. It must be `x = x + self.att(self.norm1(x))`: attention reads the copy, the path keeps the
# original. The same with `norm2`.
#
# It could not be a missing shortcut: then the silenced block would have returned 0.
#
# </details>
#
# `gptlab.compare` finds it too. Read its second line:

# %%
print(gptlab.compare(tidy, base.model, ids))

# %% [markdown]
# Repaired: the norms go back to the branches, and the text has sense again.


# %%
class RepairedBlock(DraftBlock):
    def forward(self, x):
        x = x + self.drop_resid(self.att(self.norm1(x)))
        x = x + self.drop_resid(self.ff(self.norm2(x)))
        return x


repaired = DraftGPT(base.model.cfg, block=RepairedBlock)
repaired.load_state_dict(base.model.state_dict())
print(repr(tokenizer.decode(write_greedily(repaired, ids, 30)[0].tolist())))
print(gptlab.compare(repaired, base.model, ids))
assert gptlab.compare(repaired, base.model, ids).same

# %% [markdown]
# ## Exercises
#
# They are in `chapters/ch04_model/exercises.py`. Write your answers into that file, and run it:
#
#     python chapters/ch04_model/exercises.py                     # all of them
#     python chapters/ch04_model/exercises.py model.layer_norm    # one
#
# | check | what to write |
# |---|---|
# | `model.shapes` | predict the weights of a feed-forward network, and how many parameters it has |
# | `model.layer_norm` | layer norm as a function |
# | `model.gelu` | GELU in its tanh form |
# | `model.block` | a transformer block from its parts |
# | `model.count_parameters` | the number of parameters of any GPT, from its sizes |
# | `model.greedy` | the loop that writes text |
#
# Each check tells what it saw and where to look. In a notebook you can check a function directly. Here a wrong answer
# and a right one:

# %%
print(gptlab.check("model.gelu", torch.relu))
print(gptlab.check("model.gelu", draft_gelu))

# %% [markdown]
# ## What to take along
#
# - A GPT is: embeddings, a stack of equal blocks, a norm, a linear layer. Shapes stay (B, T, D) until the last step.
# - Layer norm works on each token alone: mean 0, variance 1 (divided by D, `eps` under the root), then scale and shift.
# - Attention moves information between tokens; feed-forward works on it inside each token and holds two thirds of a
#   block's parameters.
# - On the residual path there are only additions. The shortcut carries vectors and gradients through a deep stack, the
#   norms on the branches keep the sizes in order.
# - GPT-2 has 124M parameters because the token embedding and the output head are one matrix, 163M if they are two.
# - An untrained model writes noise, and its loss is about ln(V). If it is much more, look at the first weights.
#
# Next, in chapter 5, the model learns: the loss, the training loop, and OpenAI's own weights.
