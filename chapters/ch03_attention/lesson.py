# %% [markdown]
# # Chapter 3: Attention
#
# In chapter 2 a text became a row of numbers, one for each token. To continue the text, a model must let the tokens
# *speak with each other*. Attention is how they do it, and it is the only place in a GPT where they can.
#
# **What you will build:** the attention of a GPT, in small steps: one query by hand, all queries as one product of
# matrices, the causal mask, dropout, several heads. At the end your class gives the same numbers as the one in the
# library. Then you look into the heads of a model that has really been trained.
#
# **What you need:** chapter 2, Python, and the product of two matrices.
#
# **How long it takes:** about two hours to read and try; the code runs in about half a minute. (If no chapter before
# has made the small base model, that takes another minute, once.)
#
# **Run it:** open `notebooks/ch03_attention.ipynb`, or `python chapters/ch03_attention/lesson.py`.

# %%
import copy
import inspect
import math

import torch
from torch import nn
from torch.nn import functional as F

import gptlab
from gptlab import show
from gptlab.model.cache import LayerCache

# %% [markdown]
# ## What a token needs from the others
#
# The library has an invented town. Its texts tell about 40 people who do not exist (and about dice, roads and tickets),
# so a model can know about these people only what it has read. `town_base()` gives a small GPT that has read all of it,
# and its tokenizer. We look inside this model at the end of the chapter. Until then we need its tokenizer and the
# town's texts only.

# %%
base = gptlab.town_base()
town = gptlab.SMALL_TOWN.town()
tokenizer = base.tokenizer

person, neighbour = town.held_out[:2]  # half of the people; all are in the texts, the halves matter in chapter 7
for somebody in (person, neighbour):
    ids = tokenizer.encode(f"The pet of {somebody.name} is a")
    print(show.token_labels(ids, tokenizer), "->", somebody.facts["pet"])

# %% [markdown]
# The symbol `␣` is a space. The names are rare words, so each one is cut into several tokens, four to seven of them.
#
# What comes next? The last tokens, `␣is` and `␣a`, are the same both times. If the model could see only the last token,
# it would have to answer the same for both people. **The information it needs stands some tokens earlier: the name.**
# (And also the word "pet", because the same person has a home, a job and a favourite colour.)
#
# So something must carry the name to the place of the last token. A fixed rule such as "take the token three places
# back" is not enough: names have different lengths, and the town has other sentences too ("A goat follows ...
# everywhere"). The token must *choose* where to look, and the choice must depend on what stands there. This is
# attention.

# %% [markdown]
# ## One query by hand
#
# To see the numbers, we take four whole words as tokens and invent everything ourselves: "pet of Lumika is". Each token
# gets three small vectors:
#
# - a **query**: what I am looking for,
# - a **key**: what can be found at my place,
# - a **value**: what I hand over if somebody looks at me.
#
# Query and key must speak the same language. Ours has two numbers: how much it is about *a kind of thing* (such as a
# pet), and how much about *a person*. We follow one query, that of the last word "is". It looks for a person most of
# all, and a little for a kind of thing.

# %%
words = ["pet", "of", "Lumika", "is"]

query = torch.tensor([1.0, 2.0])  # of "is": a little about things, more about persons
keys = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 2.0], [0.0, 0.0]])  # one row for each word
values = torch.tensor([[10.0, 0.0], [0.0, 0.0], [0.0, 10.0], [0.0, 0.0]])

# %% [markdown]
# **Step 1: the scores.** The dot product of the query with a key says how well the two fit. Do the one of "Lumika" in
# your head first: 1 · 0 + 2 · 2.

# %%
scores = [float(query @ key) for key in keys]
for word, score in zip(words, scores):
    print(f"{word:>8} {score:5.1f}")

# %% [markdown]
# **Step 2: softmax.** The scores become *weights*: none is negative, and together they are 1. The query has a weight of
# 1 to share out.
#
# $$w_i = \frac{e^{s_i}}{\sum_j e^{s_j}}$$
#
# Because of the exponential function, a score that is higher by 1 gives a weight that is 2.7 times as large.

# %%
exponentials = [math.exp(score) for score in scores]
weights = [value / sum(exponentials) for value in exponentials]
for word, exponential, weight in zip(words, exponentials, weights):
    print(f"{word:>8} {exponential:7.2f} / {sum(exponentials):.2f} = {weight:.3f}")
print(f"{'sum':>8} {sum(weights):25.3f}")

# %% [markdown]
# **Step 3: the weighted sum of the values.** This is what the token "is" gathers.

# %%
gathered = sum(weight * value for weight, value in zip(weights, values))
print("gathered:", [round(number, 2) for number in gathered.tolist()])

# %% [markdown]
# Nearly all of the value of "Lumika" has arrived (8.53 of 10), and a little of that of "pet". At the place of "is" the
# model now knows: this is about Lumika, and about a pet.
#
# Two things to notice. Attention does not *pick* one token, it **mixes** all of them; softmax makes one part of the
# mixture large. And there is no "if" anywhere, only products, sums and exponentials. So one can compute how the result
# changes when a number changes a little, and this is what training needs (chapter 5).

# %% [markdown]
# ## All queries at once: the matrix form
#
# The four words have four queries. Put them into the rows of a matrix $Q$, and the keys and the values into the rows of
# $K$ and $V$. Then every score is one entry of one product, and all of attention is one line:
#
# $$\text{attention}(Q, K, V) = \text{softmax}(Q K^T)\; V$$
#
# Row $i$ of $Q K^T$ belongs to query $i$, column $j$ to key $j$. The softmax goes over each **row**, because each query
# shares out its own weight of 1.

# %%
queries = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 2.0]])  # only "is" is looking for something
scores = queries @ keys.T  # (T, T): a row for each query, a column for each key
weights = torch.softmax(scores, dim=-1)  # dim=-1, the last one: over the keys
print(scores, weights, weights @ values, sep="\n")

assert torch.allclose((weights @ values)[3], gathered)

# %% [markdown]
# The last row is what we computed by hand. The other three words look for nothing: all their scores are 0, so they
# share their weight evenly, 0.25 for each. A query cannot look nowhere.

# %% [markdown]
# ## Why the scores are divided by a root
#
# In the paper (Vaswani et al. 2017, equation 1) there is one more thing:
#
# $$\text{attention}(Q, K, V) = \text{softmax}\left(\frac{Q K^T}{\sqrt{d}}\right) V$$
#
# where $d$ is the length of a query or key, `head_dim` in our code. Why? A score is a sum of $d$ products. Take queries
# and keys of random numbers with mean 0 and variance 1. Each product has mean 0 and variance 1 too, and variances of
# independent numbers add up: the score has the variance $d$, and so its standard deviation is $\sqrt{d}$. **Longer
# vectors give larger scores, though nothing fits better.** We measure it. (The variance is the mean squared distance
# from the mean, the standard deviation its root. A `Generator` with a fixed seed draws the same random numbers each
# time, so that you see what we see.)

# %%
generator = torch.Generator().manual_seed(0)


def random_scores(head_dim):
    """1000 random queries, each with 16 random keys: (1000, 16)."""
    queries = torch.randn(1000, 1, head_dim, generator=generator)
    keys = torch.randn(1000, 16, head_dim, generator=generator)
    return (queries @ keys.transpose(1, 2)).squeeze(1)


for head_dim in (4, 64, 1024):
    scores = random_scores(head_dim)
    print(f"head_dim {head_dim:>4}: standard deviation {scores.std():6.2f}, divided {scores.std() / head_dim**0.5:.2f}")

# %% [markdown]
# After the division the standard deviation is 1, however long the vectors are.
#
# Is it bad when scores are large? Softmax looks at *differences*. With differences of 20 or 30 one weight is 1 and all
# others are 0. Then the weights hardly change when the scores change a little, and training, which works with such
# little changes, finds nothing to hold on to. In numbers: if a score grows by a tiny $\varepsilon$, its weight grows by
# $w (1 - w)\, \varepsilon$. This is 0 for $w = 1$, and also for $w = 0$. A test of this formula:

# %%
scores, tiny = torch.tensor([2.0, 0.0, 4.0, 0.0]), 1e-3
weight = scores.softmax(dim=-1)[0]
grown = (scores + torch.tensor([tiny, 0.0, 0.0, 0.0])).softmax(dim=-1)[0]
print(f"measured {(grown - weight) / tiny:.4f}, formula {weight * (1 - weight):.4f}")

# %% [markdown]
# **Experiment.** For vectors of length 4 to 1024, with and without the division: how large is the largest weight of a
# query, and how much do its weights still react, that is, the sum of $w (1 - w)$ over its 16 keys? We take the median:
# half of the queries have less, half have more.

# %%
lengths = [4, 16, 64, 256, 1024]
largest, reaction = {}, {}
for name, power in (("not divided", 0.0), ("divided by the root", 0.5)):
    weights = [(random_scores(d) / d**power).softmax(dim=-1) for d in lengths]
    largest[name] = [w.max(dim=-1).values.median().item() for w in weights]
    reaction[name] = [(w * (1 - w)).sum(dim=-1).median().item() for w in weights]

figure, [left, right] = show.new_axes(9, 3.2, columns=2)
for name, marker in (("not divided", "o"), ("divided by the root", "s")):
    left.plot(lengths, largest[name], marker=marker, label=name)
    right.plot(lengths, reaction[name], marker=marker, label=name)
left.set(title="the largest of 16 weights", ylabel="weight (median)", ylim=(0, 1.05))
right.set(title="how much the weights react to the scores", ylabel="sum of w (1 - w) (median)", yscale="log")
for axis in (left, right):
    axis.set_xscale("log", base=4)
    axis.set_xticks(lengths, lengths)
    axis.set_xlabel("head_dim")
left.legend(frameon=False)
figure

# %% [markdown]
# **What the picture says.** Left: without the division (circles), half of the queries with 64 numbers give more than
# nine tenths of their weight to a single random key. Right (the axis is logarithmic): what training can change goes
# towards 0 as the vectors get longer. It is only half of the queries; some happen to meet two keys that fit nearly as
# well, and these still react. With the division (squares) both lines are flat: the width of the model can be chosen
# without breaking the softmax.

# %%
assert reaction["not divided"][-1] < 0.05 < 0.5 < reaction["divided by the root"][-1]


def attention_weights(queries, keys):
    """(..., T, d) and (..., S, d) -> (..., T, S)."""
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(keys.shape[-1])
    return torch.softmax(scores, dim=-1)


attention_weights(queries, keys)

# %% [markdown]
# The last row is softer now than by hand: "Lumika" gets 0.73 and not 0.85. (`...` in the shapes stands for any
# dimensions in front, such as the batch; `transpose(-2, -1)` swaps the last two.)

# %% [markdown]
# ## Where queries, keys and values come from
#
# We invented them. A model computes them: a token has *one* vector $x$, and three matrices make the query, the key and
# the value of it:
#
# $$q = x\,W_{query} \qquad k = x\,W_{key} \qquad v = x\,W_{value}$$
#
# Here $x$ has three numbers: is it a kind of thing, is it a person, is it a verb? "of" is none of these. We choose
# matrices that give exactly the vectors from above. Read a row of a matrix as: "a thing has this key", "a person has
# this key", "a verb has this key".

# %%
x = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # (T, 3)
W_query = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]])  # a verb looks for things and persons
W_key = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
W_value = torch.tensor([[10.0, 0.0], [0.0, 10.0], [0.0, 0.0]])

assert torch.equal(x @ W_query, queries)
assert torch.equal(x @ W_key, keys)
assert torch.equal(x @ W_value, values)

# %% [markdown]
# The same three matrices serve every token and every text. So the *rule* is learned ("a verb looks for a person"), and
# the weights are computed anew for each sentence.
#
# In PyTorch a matrix that shall be learned is an `nn.Linear`. It starts with small random numbers and holds its matrix
# transposed (`layer(x)` is `x @ layer.weight.T`). An `nn.Module` is a class that keeps such layers; calling the object
# calls its `forward`. With `bias=False` it is the product alone; else a vector is added too, as GPT-2 does.

# %%
D, head_dim = 6, 4


class SelfAttention(nn.Module):
    """Every token looks at every token: (B, T, D) -> (B, T, head_dim)."""

    def __init__(self, D, head_dim):
        super().__init__()
        self.W_query = nn.Linear(D, head_dim, bias=False)
        self.W_key = nn.Linear(D, head_dim, bias=False)
        self.W_value = nn.Linear(D, head_dim, bias=False)

    def forward(self, x):
        return attention_weights(self.W_query(x), self.W_key(x)) @ self.W_value(x)


torch.manual_seed(0)
x = torch.randn(2, 5, D)  # a batch of B=2 texts with T=5 tokens each
SelfAttention(D, head_dim)(x).shape

# %% [markdown]
# It is called *self*-attention because queries, keys and values all come from the same text.

# %% [markdown]
# ## The causal mask
#
# A GPT writes from left to right. When it has to say which token comes after "pet of", the tokens after it do not exist
# yet. In training they do exist: the whole sentence is there, and the model is asked at *every* place for the next
# token. That is a lot of practice from one sentence, but only if no place can look ahead. So every query may see the
# keys before it and its own, and nothing later.
#
# How does one hide a key? A first idea: compute the weights, then set those above the diagonal to 0. (`tril` keeps the
# lower triangle of a matrix, the diagonal included.)

# %%
torch.manual_seed(1)
scores = torch.randn(5, 5)


def hidden_after_softmax(scores):
    return scores.softmax(dim=-1).tril()


print(hidden_after_softmax(scores))
print("sums of the rows:", hidden_after_softmax(scores).sum(dim=-1))

# %% [markdown]
# Only the last row, which has no later tokens, still sums to 1: each other query has thrown away the weight that it had
# given to later tokens. The first token keeps almost nothing. And the later tokens still have an influence, because
# they were part of the sum that softmax divides by.
#
# The library can check such functions. It knows the usual mistakes and tells where to look:

# %%
print(gptlab.check("attention.causal_mask", hidden_after_softmax))

# %% [markdown]
# So the mask comes **before** the softmax: the score of a hidden key becomes $-\infty$, and $e^{-\infty} = 0$. Its
# weight is exactly 0, and the others share the whole 1 among themselves.
#
# `triu(diagonal=1)` gives the upper triangle *without* the diagonal: True where a key is later than the query.
# `masked_fill` returns a copy with the given number in these places.

# %%
later = torch.ones(5, 5, dtype=torch.bool).triu(diagonal=1)
masked = scores.masked_fill(later, -math.inf)
print(masked)
print("sums of the rows:", masked.softmax(dim=-1).sum(dim=-1))

# %% [markdown]
# Heat maps show it at one glance. A row is a query, a column is a key, dark is much weight, white is none. Look at the
# white triangle on the right, and at the first row: the first token can see only itself, so it *must* give itself a
# weight of 1.

# %%
labels = ["The", "pet", "of", "Lumika", "is"]
both = torch.stack([scores.softmax(dim=-1), masked.softmax(dim=-1)])
show.plot_attention(both, labels, titles=["without a mask", "causal mask"])

# %% [markdown]
# The diagonal must stay open. If a token could not see itself either, the first row would be all $-\infty$, and softmax
# would compute 0 / 0:

# %%
torch.full((3,), -math.inf).softmax(dim=-1)

# %% [markdown]
# One head of attention, with a switch for the mask so that we can compare. The test: change the **last** token, and see
# at which places the result changes. With the mask it may be the last place only.


# %%
class Head(nn.Module):
    """One head: (B, T, D) -> (B, T, head_dim)."""

    def __init__(self, D, head_dim, causal=True):
        super().__init__()
        self.causal = causal
        self.W_query = nn.Linear(D, head_dim, bias=False)
        self.W_key = nn.Linear(D, head_dim, bias=False)
        self.W_value = nn.Linear(D, head_dim, bias=False)

    def weights(self, x):  # (B, T, T)
        T = x.shape[1]
        scores = self.W_query(x) @ self.W_key(x).transpose(1, 2) / math.sqrt(self.W_key.out_features)
        if self.causal:
            later = torch.ones(T, T, dtype=torch.bool).triu(diagonal=1)
            scores = scores.masked_fill(later, -math.inf)
        return scores.softmax(dim=-1)

    def forward(self, x):
        return self.weights(x) @ self.W_value(x)


# %%
changed = x.clone()
changed[:, -1] += 1
for causal in (False, True):
    torch.manual_seed(0)
    head = Head(D, head_dim, causal)
    difference = (head(changed) - head(x)).abs().amax(dim=(0, 2))  # the largest at each place
    print(f"causal={causal!s:<6} change at each place: {[round(d, 3) for d in difference.tolist()]}")

assert torch.allclose(head(changed)[:, :-1], head(x)[:, :-1])

# %% [markdown]
# ## What goes wrong without the mask
#
# **Experiment.** We train two tiny models to say the next token of the town's texts. They have one head of attention
# and are equal but for the mask. Training is the subject of chapter 5; here it is enough to know:
#
# - `nn.Embedding` is a table with one learned vector for each token (`tok_emb`), and one for each place in the text
#   (`pos_emb`). Their sum is $x$. (Why places need vectors: to attention alone, the order of the earlier tokens would
#   make no difference. More in chapter 4.)
# - `out_head` gives a score for each of the 500 tokens of the vocabulary: which one comes next?
# - The **loss** is $-\log$ of the probability that the model gave to the token that really came, on average. 0 would
#   mean that it knew every token for sure. An optimizer (here `AdamW`) changes all numbers a little, again and again,
#   so that the loss gets smaller.


# %%
class TinyModel(nn.Module):
    """Scores of the next token at every place: (B, T) ids -> (B, T, V)."""

    def __init__(self, causal, V, T, D=64):
        super().__init__()
        self.tok_emb, self.pos_emb = nn.Embedding(V, D), nn.Embedding(T, D)
        self.head, self.out_head = Head(D, D, causal), nn.Linear(D, V)

    def vectors(self, ids):
        return self.tok_emb(ids) + self.pos_emb(torch.arange(ids.shape[1]))

    def forward(self, ids):
        x = self.vectors(ids)
        return self.out_head(x + self.head(x))  # a token's own vector, and what it gathered


# %%
STEPS = 400  # quick: 5
LENGTH = 32  # tokens in each piece of text
CHARACTERS = 300_000  # quick: 20_000
corpus = torch.tensor(tokenizer.encode(town.corpus[:CHARACTERS]))


def draw_windows(count, generator):
    """Return pieces of the corpus, one token longer than LENGTH: (count, LENGTH + 1)."""
    starts = torch.randint(len(corpus) - LENGTH, (count,), generator=generator)
    return torch.stack([corpus[start : start + LENGTH + 1] for start in starts])


def train_tiny(causal):
    torch.manual_seed(0)
    model, generator, losses = TinyModel(causal, tokenizer.n_vocab, LENGTH), torch.Generator().manual_seed(0), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(STEPS):
        windows = draw_windows(32, generator)
        inputs, targets = windows[:, :-1], windows[:, 1:]  # at each place, the target is the token after it
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())  # all places of all texts in one row
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


# %%
models, losses = {}, {}
for name, causal in (("with mask", True), ("without mask", False)):
    models[name], losses[name] = train_tiny(causal)
    print(f"{name:>13}: loss {losses[name][0]:.2f} at the start, {losses[name][-1]:.2f} at the end")

# %% [markdown]
# Without the mask the loss is almost 0, far better than with it. A success? **It is impossible.** The texts begin with
# things that nobody can know. After "The pet of" there may come any of 40 names. A loss near 0 says that the model knew
# the name for sure.
#
# Let both models write, as a GPT is used: the most likely next token is added, then the next, and so on. This is the
# moment when there is no later token to look at.


# %%
@torch.no_grad()  # nothing is trained here
def write(model, text, count=24):
    ids = tokenizer.encode(text)
    for _ in range(count):
        logits = model(torch.tensor([ids[-LENGTH:]]))  # (1, T, V): a score for every token that may come next
        ids.append(logits[0, -1].argmax().item())
    return tokenizer.decode(ids)


for name, model in models.items():
    print(f"{name:>13}: {write(model, 'The pet of ' + person.name)!r}")

# %% [markdown]
# The model with the mask writes sentences of the town. (Whether its facts are right is another matter: it is tiny.) The
# other one writes letters without sense. In numbers: we draw some windows anew from the same texts. At the places 8 to
# 30, how often is the most likely token the right one? Once with the whole window in view, as in training, and once
# with the window cut off at that place, as in writing.

# %%
WINDOWS = 150  # quick: 8
windows = draw_windows(WINDOWS, torch.Generator().manual_seed(1))
places = range(8, LENGTH - 1)
correct = {}
with torch.no_grad():
    for name, model in models.items():
        whole = torch.stack([model(windows[:, :-1])[:, place] for place in places], dim=1)
        cut = torch.stack([model(windows[:, : place + 1])[:, -1] for place in places], dim=1)
        wanted = torch.stack([windows[:, place + 1] for place in places], dim=1)
        correct[name] = [(logits.argmax(dim=-1) == wanted).float().mean().item() for logits in (whole, cut)]
        print(f"{name:>13}: whole window {correct[name][0]:.2f}, cut off {correct[name][1]:.2f}")

assert correct["without mask"][0] > 0.9 and correct["without mask"][1] < 0.5  # full size only

# %%
figure, [left, right] = show.new_axes(9, 3.2, columns=2)
for (name, curve), style in zip(losses.items(), ("-", "--")):
    left.plot(range(1, STEPS + 1), curve, style, label=name)
left.set(xlabel="training steps", ylabel="loss per token", ylim=(0, None), title="while training")
left.legend(frameon=False)
for number, shares in enumerate(correct.values()):
    bars = right.bar([number - 0.2, number + 0.2], shares, 0.38, color=show.COLORS[number])
    bars[1].set_hatch("//")
    right.bar_label(bars, ["training:\nwhole text", "writing:\nthe past only"], fontsize=8, padding=2)
right.set_xticks([0, 1], list(correct))
right.set(ylim=(0, 1.3), ylabel="right next tokens (share)", title="how often the next token is right")
figure

# %% [markdown]
# **What the picture says.** Left: without the mask (dashed) the loss falls fast and suspiciously low. Right: with the
# mask, training and writing are the same task, and the bars are of the same height. Without it the model is nearly
# perfect as long as it can look at the answer, and useless as soon as it must write.
#
# We can even see how it cheats. The weights of both models on one window of twelve tokens:

# %%
ids = tokenizer.encode(f"The pet of {person.name} is a {person.facts['pet']}")[:12]
with torch.no_grad():
    maps = [model.head.weights(model.vectors(torch.tensor([ids])))[0] for model in models.values()]
show.plot_attention(torch.stack(maps), show.token_labels(ids, tokenizer), titles=list(models))

# %% [markdown]
# Without the mask (right), most of the dark fields lie just **above the diagonal**: each token looks at the one after
# it, which is the answer. Only the last row has nothing to copy. With the mask (left) that half is white.
#
# **Remember it:** a loss that is too good to be true is mostly a leak. When your loss goes to 0 on text that cannot be
# foreseen, look at the mask, and at whether the targets are shifted.

# %% [markdown]
# ### What the mask gives in return
#
# Because earlier tokens never see later ones, their keys and values do not change when a token is added. So a model
# that writes can keep them, and compute only one new row at each step. This store is called the key-value cache. The
# library's `LayerCache` is the cache of one layer: `append` adds new keys and values, and returns all that it holds.
# Row by row, it gives the same as all at once:

# %%
head = Head(D, head_dim)
cache, rows = LayerCache(step=64), []  # room for 64 tokens at first
with torch.no_grad():
    for place in range(5):
        new = x[:, place : place + 1]  # one token
        keys, values = cache.append(head.W_key(new).unsqueeze(1), head.W_value(new).unsqueeze(1))  # (B, 1, S, d)
        rows.append(attention_weights(head.W_query(new).unsqueeze(1), keys) @ values)  # sees the past and itself
    assert torch.allclose(torch.cat(rows, dim=2).squeeze(1), head(x), atol=1e-6)
print("the cache holds", cache.length, "tokens")

# %% [markdown]
# There is no mask in this loop: later tokens are not there yet. (The dimension of size 1 that `unsqueeze(1)` adds is
# that of the heads, which come soon.)

# %% [markdown]
# ## Dropout
#
# A model can come to rely on one single connection. Dropout disturbs this: in training, each attention weight is set to
# 0 with a probability of $p$, anew at each step, so that the model must not depend on any single one. What is kept is
# multiplied by $1 / (1 - p)$. Then the sum stays the same *on average*: a weight of 0.2 with $p = 0.5$ is 0 half of the
# time and 0.4 half of the time.


# %%
def drop(weights, p, generator):
    kept = torch.rand(weights.shape, generator=generator) >= p
    return weights * kept / (1 - p)


generator = torch.Generator().manual_seed(0)
row = torch.full((8,), 1 / 8)
print("before:   ", row)
print("one draw: ", drop(row, 0.5, generator))
print("mean of 20000 draws:", drop(row.expand(20_000, 8), 0.5, generator).mean(dim=0))

# %% [markdown]
# In one draw, weights are 0 or doubled, and the row does not sum to 1 any more. The mean of many draws is what it was.
# (Without a fixed seed, other weights are dropped each time; with one, a GPU still draws others than a CPU.)
#
# When the model is *used*, nothing is dropped. `nn.Dropout(p)` knows this by itself: `module.train()` switches it on
# for a model and all its parts, `module.eval()` switches it off. **To forget `eval()`** is a common mistake: nothing
# fails, but the answers get worse and change from call to call.

# %%
dropout = nn.Dropout(0.5)
assert torch.equal(dropout.eval()(row), row)
print("in training:", dropout.train()(row))
print("in use:     ", dropout.eval()(row))

# %% [markdown]
# The first GPT used $p = 0.1$ (Radford et al. 2018). Large models that read each text only once often leave it out.

# %% [markdown]
# ## Several heads
#
# One softmax makes one mixture. In our example by hand the word "is" needed two things: *what* is asked for ("pet") and
# *who* it is about ("Lumika"). With a single query it had to put both into one row of weights, and what one gained the
# other lost. With two heads there are two queries, two rows of weights and two results, which are put side by side.
#
# The first way to write it: several objects of our class `Head`, each with a part of the width.


# %%
class SeveralHeads(nn.Module):
    """H heads, one after the other: (B, T, D) -> (B, T, D)."""

    def __init__(self, D, H):
        super().__init__()
        self.heads = nn.ModuleList([Head(D, D // H) for _ in range(H)])  # a list whose parts are trained too

    def forward(self, x):
        return torch.cat([head(x) for head in self.heads], dim=-1)


B, T, D, H = 2, 5, 6, 3
torch.manual_seed(0)
several = SeveralHeads(D, H)
print(several(x).shape, "from heads of", several.heads[0](x).shape)

# %% [markdown]
# This is right but slow, because Python goes through the heads one by one. The second way: **one** large matrix makes
# the queries of all heads at once, and then the result is cut into heads. The cut takes two steps. Look at one token
# with 6 numbers, cut into 3 heads of 2:
#
# 1. `view(B, T, H, head_dim)`: the last dimension of 6 becomes 3 × 2. No number moves.
# 2. `transpose(1, 2)`: heads come before tokens, (B, H, T, head_dim). Now each head has a matrix (T, head_dim) of its
#    own, and `@` multiplies the last two dimensions for each of B × H matrices.
#
# To see what happens, the numbers below say where they come from: token 0 has 0 to 5, token 1 has 10 to 15, and so on.

# %%
marked = torch.arange(5).view(5, 1) * 10 + torch.arange(6)  # (T, D)
heads = marked.view(1, 5, 3, 2).transpose(1, 2)  # (B, H, T, head_dim)
print("the tokens:", *marked.tolist(), sep="\n  ")
print("head 0:", heads[0, 0].tolist())
print("head 1:", heads[0, 1].tolist())

# %% [markdown]
# Head 0 has the first two numbers of every token, head 1 the next two. Now the whole class. At the end there is one
# more matrix, `out_proj`: it mixes what the heads have brought, because until here no head knows of the others. Dropout
# is in its place too.


# %%
class MyAttention(nn.Module):
    """Causal attention with H heads: (B, T, D) -> (B, T, D)."""

    def __init__(self, D, H, p=0.0):
        super().__init__()
        self.H = H
        self.W_query = nn.Linear(D, D, bias=False)
        self.W_key = nn.Linear(D, D, bias=False)
        self.W_value = nn.Linear(D, D, bias=False)
        self.out_proj = nn.Linear(D, D)
        self.dropout = nn.Dropout(p)

    def split(self, x):
        B, T, D = x.shape
        return x.view(B, T, self.H, D // self.H).transpose(1, 2)  # (B, H, T, head_dim)

    def forward(self, x):
        queries, keys, values = self.split(self.W_query(x)), self.split(self.W_key(x)), self.split(self.W_value(x))
        T, head_dim = queries.shape[2:]
        scores = queries @ keys.transpose(2, 3) / math.sqrt(head_dim)  # (B, H, T, T)
        later = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(diagonal=1)
        weights = self.dropout(scores.masked_fill(later, -math.inf).softmax(dim=-1))
        gathered = (weights @ values).transpose(1, 2)  # (B, T, H, head_dim): back, the heads of a token together
        return self.out_proj(gathered.flatten(2))  # (B, T, D)


# %% [markdown]
# Is it the same as the list of heads? We put the small matrices of the three heads on top of each other, and let
# `out_proj` do nothing (the unit matrix).

# %%
mine = MyAttention(D, H)
with torch.no_grad():
    for name in ("W_query", "W_key", "W_value"):
        stacked = torch.cat([getattr(head, name).weight for head in several.heads])  # 3 of (2, 6) -> (6, 6)
        getattr(mine, name).weight.copy_(stacked)
    mine.out_proj.weight.copy_(torch.eye(D))
    mine.out_proj.bias.zero_()

print("largest difference:", (mine(x) - several(x)).abs().max().item())
assert torch.allclose(mine(x), several(x), atol=1e-6)

# %% [markdown]
# Note the cost. The scores are (B, H, T, T): **twice as many tokens, four times as many scores.** More heads need no
# more multiplications, since each one is narrower; they only need room for more scores.

# %% [markdown]
# ## The same as the library
#
# `gptlab.MultiHeadAttention` is what the GPT of the next chapter is built from. Its parts have the same names as ours,
# so `load_state_dict` can copy all matrices. PyTorch itself has all of it, but for the matrices, in one function that
# is written for speed: `F.scaled_dot_product_attention`.

# %%
cfg = gptlab.GPTConfig(vocab_size=500, context_length=64, emb_dim=48, n_heads=4, n_layers=1)
torch.manual_seed(0)
mine, library = MyAttention(48, 4), gptlab.MultiHeadAttention(cfg)
library.load_state_dict(mine.state_dict())

x = torch.randn(2, 10, 48)
assert torch.allclose(mine(x), library(x), atol=1e-6)

queries, keys, values = mine.split(mine.W_query(x)), mine.split(mine.W_key(x)), mine.split(mine.W_value(x))
gathered = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
assert torch.allclose(mine(x), mine.out_proj(gathered.transpose(1, 2).flatten(2)), atol=1e-6)
print("largest difference from the library:", (mine(x) - library(x)).abs().max().item())

# %% [markdown]
# This is the library's own code. `project` is our three matrices and `split`, `_join_heads` is transpose, flatten and
# `out_proj`; the rest you know. What it has in addition:
#
# - `cache`: the keys and values of earlier tokens, as above. Then there are fewer queries (T) than keys (S).
# - `mask`: True where a key *may* be seen (our `later` is the other way round). It hides more than the causal mask
#   does, for example filler tokens when texts of different lengths are in one batch.
# - `return_weights`: computes by hand, as we do, and returns the weights too. Else PyTorch's fast function is used,
#   which need not store them.

# %%
print(inspect.getsource(gptlab.MultiHeadAttention.forward))

# %% [markdown]
# ## The heads of a real model
#
# Now the model from the start of the chapter. It has 3 layers with 4 heads each, and it has read the town's texts. A
# layer is a `block` (chapter 4 builds it): its attention `block.att` gets the vectors after `block.norm1`, which only
# brings them to a common size. We go through the layers as the model does and keep the weights.

# %%
gpt = base.model


@torch.no_grad()
def weights_of(gpt, ids):
    """Return the attention weights of all layers and heads, (layers, H, T, T), and the logits."""
    x = gpt.tok_emb(ids) + gpt.pos_emb(torch.arange(len(ids)))  # (T, D)
    x, kept = x.unsqueeze(0), []  # (1, T, D)
    for block in gpt.trf_blocks:
        kept.append(block.att(block.norm1(x), return_weights=True)[1][0])
        x = block(x)
    return torch.stack(kept), gpt.out_head(gpt.final_norm(x))


ids = torch.tensor(tokenizer.encode(f"The pet of {person.name} is a"))
weights, logits = weights_of(gpt, ids)
assert torch.allclose(logits, gpt(ids.unsqueeze(0)), atol=1e-4)  # so this is what the model computes
print(weights.shape, "and the next token is", repr(tokenizer.decode([logits[0, -1].argmax().item()])))

# %% [markdown]
# Before we look at pictures, we **measure**. In a single picture one finds what one wants to find. So for each of the
# twelve heads, over all people of the town and four sentences, two shares:
#
# - **name**: how much of the weight of the *last* token, which must say the value, lies on the tokens of the name?
# - **previous**: how much weight does a token give to the token just before it, on average over all tokens but the
#   first?
#
# And what would they be if a head shared its weight evenly? Without this number, 0.4 looks like a discovery.

# %%
PEOPLE = 40  # quick: 3
BEGINNINGS = {
    "home": "The home of {name} is in",
    "job": "The job of {name} is that of a",
    "pet": "The pet of {name} is a",
    "colour": "The favourite colour of {name} is",
}


def cases():
    """Give the ids of each sentence, the places of the name, and the first token of the right value."""
    for somebody in (town.held_out + town.asked)[:PEOPLE]:
        for fact, sentence in BEGINNINGS.items():
            before, after = sentence.split("{name}")
            parts = [tokenizer.encode(part) for part in (before.rstrip(), " " + somebody.name, after)]
            name = slice(len(parts[0]), len(parts[0]) + len(parts[1]))
            right = tokenizer.encode(" " + somebody.facts[fact])[0]
            yield torch.tensor(parts[0] + parts[1] + parts[2]), name, right


# %%
on_name, on_previous, evenly = [], [], []
for ids, name, _ in cases():
    weights, _ = weights_of(gpt, ids)  # (layers, H, T, T)
    T = len(ids)
    on_name.append(weights[:, :, -1, name].sum(dim=-1))
    on_previous.append(weights.diagonal(offset=-1, dim1=2, dim2=3).mean(dim=-1))
    evenly.append([(name.stop - name.start) / T, sum(1 / place for place in range(2, T + 1)) / (T - 1)])
on_name, on_previous = torch.stack(on_name).mean(dim=0), torch.stack(on_previous).mean(dim=0)  # (layers, H) each
evenly = torch.tensor(evenly).mean(dim=0)

for title, shares, even in (("name", on_name, evenly[0]), ("previous", on_previous, evenly[1])):
    print(f"on the {title}: evenly it would be {even:.2f}")
    for layer, row in enumerate(shares, start=1):
        print(f"   layer {layer}:", "  ".join(f"{share:.2f}" for share in row))

# %% [markdown]
# **What is to be seen** (in the run that made this notebook; your model was trained on your machine, and its heads may
# stand in another order):
#
# - In layers 2 and 3 most heads give far more to the name than an even share. The best one gives more than nine tenths.
#   Nobody told them to. In layer 1 only one does.
# - There is **no** clear head for the previous token here: even the best one is only a little above the even share. In
#   larger models people did find clear ones, in BERT (Clark et al. 2019) and in GPT-2 (Wang et al. 2022). So not
#   everything that one reads about appears in every model. Measure.
#
# Now the picture: the four heads of the layer with the best head, chosen by the measurement. Look at the **last row**
# of each map, the token `␣a` which must say the pet. How dark are the columns of the name?

# %%
best_layer, best_head = divmod(on_name.argmax().item(), on_name.shape[1])
ids = tokenizer.encode(f"The pet of {person.name} is a")
weights, _ = weights_of(gpt, torch.tensor(ids))
titles = [f"layer {best_layer + 1}, head {h + 1}: {share:.2f}" for h, share in enumerate(on_name[best_layer])]
show.plot_attention(weights[best_layer], show.token_labels(ids, tokenizer), titles=titles, columns=2)

# %% [markdown]
# The number in a title is the mean share on the name, from the table. In the last row, the darkest fields lie on tokens
# in the middle of the name. This makes sense: `us` occurs in only two of the 40 names and `ol` in one, while seven
# names begin with `␣T` and ten have a `u`. Most other rows are harder to explain, and we do not try. A head must put
# its weight of 1 somewhere even if it has nothing to look for.

# %% [markdown]
# ### Does it matter where a head looks?
#
# A heat map shows where a head looks. It does not show whether the model *uses* it. For this one has to disturb the
# model and see what it can still do. The measure is the probability that the model gives to the first token of the
# right value, on average over all people and the four sentences.
#
# First, all heads together: we hide the name from every token after it, with the `mask` of the model (True: may be
# seen).


# %%
@torch.no_grad()
def knows(gpt, hide_name=False):
    """Return the mean probability of the right value's first token."""
    total = []
    for ids, name, right in cases():
        mask = torch.ones(1, len(ids), len(ids), dtype=torch.bool)
        if hide_name:
            mask[:, name.stop :, name] = False
        total.append(gpt(ids.unsqueeze(0), mask=mask)[0, -1].softmax(dim=-1)[right])
    return torch.stack(total).mean().item()


as_it_is, hidden = knows(gpt), knows(gpt, hide_name=True)
print(f"as it is {as_it_is:.2f}, the name hidden {hidden:.2f}")
assert hidden < as_it_is / 2  # full size only

# %% [markdown]
# Without the way to the name the model only guesses. (It still guesses a pet for pets and a colour for colours, and
# some values begin with the same token, so it is not 0.) Attention is the way on which the name comes.
#
# Now one head at a time: we take it out by setting to 0 those columns of `out_proj` that read its result. Each point
# below is a head. To the right: it looks at the name a lot. Up: the model loses a lot without it. If looking meant
# mattering, the points would lie on a rising line.

# %%
fall = torch.zeros_like(on_name)
head_dim = gpt.cfg.head_dim
for layer in range(gpt.cfg.n_layers):
    for number in range(gpt.cfg.n_heads):
        without = copy.deepcopy(gpt)
        columns = slice(number * head_dim, (number + 1) * head_dim)
        without.trf_blocks[layer].att.out_proj.weight.data[:, columns] = 0
        fall[layer, number] = as_it_is - knows(without)

figure, [axis] = show.new_axes(6, 3.6)
for layer, marker in enumerate(("o", "s", "^")):
    axis.scatter(on_name[layer], fall[layer], marker=marker, s=50, label=f"layer {layer + 1}")
axis.axhline(0, color="gray", linewidth=0.8)
axis.axvline(evenly[0], color="gray", linestyle=":", label="an even share")
axis.set(xlabel="share of the last token's weight that is on the name", ylabel="probability lost without the head")
axis.legend(frameon=False, fontsize=8)
figure

# %% [markdown]
# **What the picture says.** The points lie on no line. In our run, within layers 2 and 3 (squares, triangles) the head
# that looks at the name most is also the one that is missed most. But one can take out the head of layer 2 that gives
# the name nearly nine tenths of its weight, and little is lost. And the three heads that are missed most of all are in
# layer 1 (circles), two of which give the name less than an even share. They must do other work that is needed. Joining
# the tokens of a name into one? That is a guess, which one would have to test. So: **where a head looks is a question
# to ask, not yet an answer** (Jain and Wallace 2019, "Attention is not Explanation").

# %% [markdown]
# ## Find the mistake
#
# Somebody has written the split into heads in one step. It runs, and the shape is right. In a tiny model like the one
# above, the loss after 400 steps is even lower than with the right attention (0.84 and not 0.96, when we tried it). But
# what the model then writes is poor.


# %%
class BrokenAttention(MyAttention):
    def split(self, x):
        B, T, D = x.shape
        return x.view(B, self.H, T, D // self.H)  # (B, H, T, head_dim), as it should be


torch.manual_seed(0)
broken, right = BrokenAttention(48, 4), MyAttention(48, 4)
x = torch.randn(1, 8, 48)
print("shapes:", tuple(broken.split(x).shape), tuple(right.split(x).shape))

# %% [markdown]
# Here is a test for all such cases: change one token, and see which results change. Row: the place of the result.
# Column: the place of the token that was changed. `#` means that the result has changed.


# %%
@torch.no_grad()
def influence(attention, x):
    """Which results change when a token is changed? (T, T) bool, a row for each result."""
    columns = []
    for place in range(x.shape[1]):
        changed = x.clone()
        changed[0, place] += 1
        columns.append((attention(changed) - attention(x))[0].abs().amax(dim=-1) > 1e-6)
    return torch.stack(columns, dim=1)


def tell(table):
    print("          " + " ".join(f"{place}" for place in range(len(table))), " <- changed token")
    for place, row in enumerate(table.tolist()):
        print(f"result {place}: " + " ".join("#" if changed else "." for changed in row))


tell(influence(broken, x))

# %% [markdown]
# **The question:** what is wrong? Decide from the table, before you open the answer. What should it look like? The mask
# has not been touched: why does token 2 change the result of token 0? Why does token 1 change nothing there?
#
# <details><summary>The answer</summary>
#
# It should be a full lower triangle: each token sees itself and those before it. But result 0 changes with the tokens
# 2, 4 and 6, so it has **seen the future**.
#
# `view` moves no number, it only counts them off in another way. With (B, H, T, head_dim) head 0 gets the first quarter
# of all numbers, and these are all the features of tokens 0 and 1, cut into 8 rows. Head 1 gets tokens 2 and 3, and so
# on. The rows of a "head" are not tokens any more. The mask hides later *rows*, in good faith. On the way back the rows
# 0 of all four heads are put together as the result of token 0, and they come from tokens 0, 2, 4 and 6.
#
# So the loss is lower because the future leaks in, as it did without a mask. The right split first keeps the tokens
# apart, `view(B, T, H, head_dim)`, and then moves the heads to the front, `transpose(1, 2)`. A shape that is right
# proves little.
#
# </details>
#
# With the right split the symptom is gone:

# %%
tell(influence(right, x))
assert torch.equal(influence(right, x), torch.ones(8, 8, dtype=torch.bool).tril())

# %% [markdown]
# ## Exercises
#
# They are in `chapters/ch03_attention/exercises.py`. Write the functions and run the file:
#
# ```sh
# python chapters/ch03_attention/exercises.py                      # all of them
# python chapters/ch03_attention/exercises.py attention.weights    # one
# ```
#
# 1. `attention.shapes`: predict the shape of the scores.
# 2. `attention.weights`: the weights of queries and keys.
# 3. `attention.causal_mask`: weights that see no later token.
# 4. `attention.split_heads`: from features to heads.
# 5. `attention.dropout`: dropout on the weights.
# 6. `attention.causal_attention`: all of it together.
#
# In a notebook you can check any function with the same checks. Here are a function of this chapter, and one with a
# mistake:

# %%
print(gptlab.check("attention.weights", attention_weights))
print(gptlab.check("attention.weights", lambda queries, keys: (queries @ keys.transpose(1, 2)).softmax(dim=-1)))

# %% [markdown]
# ## What to take along
#
# - Attention: scores (query · key), softmax over the keys, weighted sum of the values. The three matrices are learned,
#   the weights are computed anew for each text.
# - Dividing by $\sqrt{d}$ keeps the spread of the scores at 1. Without it, softmax saturates and training hardly moves.
# - The mask comes before the softmax. Without it, the loss is wonderful and the model useless.
# - Heads: `view`, then `transpose`. Test what changes when one token is changed, because shapes do not show this.
# - Dropout is for training only; call `eval()` before you use a model.
# - Heat maps show where a head looks. Measure, compare with an even share, and disturb the model before you believe.
#
# Next, in chapter 4: everything around attention, and the whole GPT.
