# %% [markdown]
# # Chapter 9: Parameter-efficient tuning
#
# Chapters 7 and 8 changed every weight of the model. Here a few thousand numbers learn, and the model itself stays as
# it is. You will
#
# 1. count what tuning costs, and look at what it changes in a weight,
# 2. build LoRA by hand, merge it, and keep several adapters for one model,
# 3. let AdaLoRA choose where the rank goes, and quantise weights to four bits as QLoRA does,
# 4. see where adapters, prefixes and prompts go in, and compare all methods in one table,
# 5. and write a method of your own, IA3, in thirty lines, and have it checked.
#
# You need attention and its cache (chapter 3), the names of the model's layers (chapter 4), and instruction tuning
# (chapter 7). It takes about two minutes on two CPU cores; if the town's model is not there yet, one more.
#
# Run it: open `notebooks/ch09_peft.ipynb`, or `python chapters/ch09_peft/lesson.py` (a script computes the same, but
# shows no pictures). Your numbers can differ a little from those here: computers round differently, and training makes
# small differences larger.

# %%
import copy
import inspect
import json
import math
import statistics
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

import gptlab
from gptlab import peft, show

town = gptlab.SMALL_TOWN.town()
base = gptlab.town_base()  # pretrained on the town's prose, as in chapter 5; it has never seen a question
model, tokenizer = base.model.eval(), base.tokenizer
short = gptlab.load_template("alpaca_short")  # the form of chapter 7
print(f"{gptlab.count_parameters(model):,} parameters, {model.cfg.n_layers} blocks, D = {model.cfg.emb_dim}")

# %% [markdown]
# The task is that of chapter 7: 320 questions about 20 people of the town to learn from, and questions about the 20
# others to test with, whom tuning never mentions. (We leave the skills out.) These functions do the training and asking
# of this chapter:

# %%
QUESTIONS = 320  # quick: 48
STRIDE = 3  # quick: 40
EPOCHS = 7  # quick: 1
questions = [entry for entry in town.train if entry["group"] != "skill"][:QUESTIONS]
test = [entry for entry in town.test if entry["group"] != "skill"][::STRIDE]


def loader_of(entries):
    examples = gptlab.InstructionDataset(entries, tokenizer, short).examples
    return gptlab.make_loader(examples, batch_size=16, pad_id=tokenizer.eot_token)


def tune(model, batches, rate, epochs=1, hooks=()):
    """Train what learns in the model: chapter 5's loop, with warm-up and then falling rates."""
    optimizer = gptlab.make_optimizer(model, rate, weight_decay=0.0)
    steps = epochs * len(batches)
    schedule = gptlab.warmup_cosine(optimizer, steps, warmup_steps=steps // 20)
    settings = {"optimizer": optimizer, "schedule": schedule, "epochs": epochs, "hooks": hooks, "progress": False}
    return gptlab.train(model, batches, **settings)


def answers(model, entries, template=short):
    responses = gptlab.respond(model, tokenizer, entries, template, max_new_tokens=48, batch_size=64)
    return [response.text for response in responses]


def share_right(model, entries=test, template=short):
    return gptlab.exact_match(answers(model, entries, template), entries)


batches = loader_of(questions)
watched = list(loader_of(test))
print(f"{len(questions)} questions in {len(batches)} batches; {len(test)} to test with")
print(f"before tuning: {share_right(model):.2f} right, loss {gptlab.evaluate(model, watched):.2f}")

# %% [markdown]
# ## 9.1 What full tuning costs
#
# A weight that learns needs more room than a weight. There is its gradient, and AdamW keeps two running means for it
# (chapter 5). We tune a copy of the model for one step and count bytes:

# %%
full = copy.deepcopy(model)
optimizer = gptlab.make_optimizer(full, 2e-4)
gptlab.train(full, list(batches)[:1], optimizer=optimizer, progress=False)

P = gptlab.count_parameters(full)
held = {
    "weights": sum(weight.nbytes for weight in full.parameters()),
    "gradients": sum(weight.grad.nbytes for weight in full.parameters()),
    "first moments": sum(kept["exp_avg"].nbytes for kept in optimizer.state.values()),
    "second moments": sum(kept["exp_avg_sq"].nbytes for kept in optimizer.state.values()),
}
for name, size in held.items():
    print(f"{name:<16}{size:>12,} bytes = {size / P:.0f} for each parameter")
print(f"{'together':<16}{sum(held.values()):>12,} bytes = {sum(held.values()) / P:.0f}")

# %% [markdown]
# **16 bytes for each parameter.** The library's `parameter_report` counts the same. (It also finds AdamW's counters of
# steps, four bytes for each tensor.)

# %%
report = peft.parameter_report(full, optimizer)
print(report)
assert report.weights == held["weights"] and report.gradients == held["gradients"]
assert 0 <= report.memory - 16 * P < 1000

# %% [markdown]
# Large models are trained in **mixed precision**, with weights and gradients of two bytes. Lectures then count 16 bytes
# again, and that is no slip. A step of AdamW is often too small to change a number of two bytes at all. So the
# optimizer keeps its own copy of the weights with four bytes:
#
# | bytes for each parameter | float32 | mixed precision |
# | --- | --- | --- |
# | weights | 4 | 2 |
# | gradients | 4 | 2 |
# | the optimizer's own copy of the weights | | 4 |
# | first moments | 4 | 4 |
# | second moments | 4 | 4 |
# | together | **16** | **16** |
#
# Now suppose that the model is **frozen**, and only a few new parameters learn. A frozen weight needs neither gradient
# nor moments. Two bytes are enough for it. With $P$ weights in the model and $P_{new}$ that learn, that makes
#
# $$16\,P \qquad\text{against}\qquad 2\,P + 16\,P_{new}$$
#
# How many are new? LoRA, which we build in section 9.3, adds $r\,(in + out)$ numbers to a matrix of shape
# $(out, in)$. We take $r = 8$, on the query and value matrices of OpenAI's four GPT-2 models. Nothing is trained for
# this picture. On PyTorch's device `meta`, tensors have a shape and no numbers, so the largest model costs nothing:


# %%
def bytes_to_tune(cfg, rank=8):
    with torch.device("meta"):
        gpt = gptlab.GPTModel(cfg)
    count = gptlab.count_parameters(gpt)
    tuned = [layer for name, layer in gpt.named_modules() if name.endswith(("W_query", "W_value"))]
    new = sum(rank * (layer.in_features + layer.out_features) for layer in tuned)
    return count, new, 16 * count, 2 * count + 16 * new


sizes = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
rows = [bytes_to_tune(gptlab.GPT2_SIZES[name]) for name in sizes]
for name, (count, new, _, _) in zip(sizes, rows):
    print(f"{name:<12} P = {count:>13,}   P_new = {new:>9,}, {new / count:.2%} of it")
assert rows[0][0] == 124_439_808

figure, [axis] = show.new_axes(7, 3)
for number, (label, hatch) in enumerate((("16 P, all weights", ""), ("2 P + 16 P_new, LoRA", "///"))):
    heights = [row[2 + number] / 1e9 for row in rows]
    bars = axis.bar([place + 0.4 * number - 0.2 for place in range(4)], heights, 0.38, label=label, hatch=hatch)
    axis.bar_label(bars, fmt="{:.1f}", fontsize=9)
    for bar in bars:
        bar.set_edgecolor("white")
axis.set_xticks(range(4), sizes)
axis.set(ylabel="GB, without activations", ylim=(0, 27))
axis.legend(frameon=False, loc="upper left")
figure

# %% [markdown]
# The largest GPT-2 does not fit onto a graphics card with 24 GB if all of it learns, and takes about 3 GB with LoRA.
# One thing is **not** saved: activations. They are what the forward pass keeps for the backward pass, and gradients
# must still flow through all layers to the first one that learns. They come on top of both bars.
#
# ## 9.2 Is the change small in rank?
#
# Why should a few numbers be enough? Let $W_0$ be a weight before tuning and $W_0 + \Delta W$ the same weight
# afterwards. LoRA's claim (Hu et al. 2021) is about $\Delta W$: it has a low **rank**. A matrix of rank $r$ is a sum of
# $r$ products of a column and a row. It reads only $r$ directions of its input and writes into only $r$ directions.
#
# We do not have to believe that. We tune all weights once, and look:

# %%
full = copy.deepcopy(model)
history = tune(full, batches, rate=3e-4, epochs=EPOCHS)
print(f"{history.steps} steps: {share_right(full):.2f} right, loss {gptlab.evaluate(full, watched):.2f}")

before, after = dict(model.named_modules()), dict(full.named_modules())
linears = [name for name, layer in model.named_modules() if ".layers." in name or ".att." in name]
linears = [name for name in linears if isinstance(before[name], nn.Linear)]
changes = {name: (after[name].weight - before[name].weight).detach() for name in linears}
print(len(changes), "matrices; in block 0:", *(name.removeprefix("trf_blocks.0.") for name in linears[:6]))

# %% [markdown]
# A matrix $M$ can be written as $U \Sigma V^\top$ (singular value decomposition, SVD): directions that it reads,
# directions that it writes, and how strongly it does so, the **singular values**. A matrix of rank $r$ has $r$ that are
# not 0. The picture shows them in falling order, divided by the largest: for the change, for the weight itself, and for
# random noise as a line to compare with. The faster a curve falls, the fewer directions matter.

# %%
generator = torch.Generator().manual_seed(0)


def spectrum(matrix):
    values = torch.linalg.svdvals(matrix)
    return values / values[0]


figure, axes = show.new_axes(10, 3, columns=3)
for axis, ending in zip(axes, ("att.W_query", "att.W_value", "ff.layers.0")):
    name = f"trf_blocks.1.{ending}"
    noise = torch.randn(changes[name].shape, generator=generator)
    weight = before[name].weight.detach()
    for label, matrix, style in (("noise", noise, ":"), ("weight W", weight, "--"), ("change ΔW", changes[name], "-")):
        axis.plot(range(1, len(spectrum(matrix)) + 1), spectrum(matrix), style, label=label)
    axis.set(title=f"block 1, {ending}", xlabel="number of the singular value", ylim=(0, 1.03))
axes[0].set_ylabel("singular value / largest")
axes[0].legend(frameon=False)
figure

# %% [markdown]
# The change falls much faster than the weight (in the feed-forward less clearly), and the weight faster than noise. So
# most of a change lies in a few directions. But it is not *of* low rank: no value is 0, and behind the first twenty
# there is a long low tail.
#
# A curve does not say what the small values are good for. So we ask the model. We take the pretrained weights, add only
# the $k$ strongest directions of each change, and leave all else (embeddings, biases, norms) as pretrained:


# %%
def with_strongest(k):
    cut = copy.deepcopy(model)
    for name, change in changes.items():
        U, S, Vt = torch.linalg.svd(change, full_matrices=False)
        cut.get_submodule(name).weight.data += (U[:, :k] * S[:k]) @ Vt[:k]
    return cut


KEPT = (0, 1, 2, 4, 8, 16, 32, 128)  # quick: (0, 4, 128)
curve = []
for k in KEPT:
    cut = with_strongest(k)
    curve.append((gptlab.evaluate(cut, watched), share_right(cut)))

figure, [left, right] = show.new_axes(9, 2.8, columns=2)
for axis, column, label in ((left, 0, "loss on new questions (nats)"), (right, 1, "share answered rightly")):
    axis.plot(range(len(KEPT)), [point[column] for point in curve], "o-")
    axis.set_xticks(range(len(KEPT)), KEPT)
    axis.set(xlabel="directions kept of each change", ylabel=label, ylim=(0, None))
figure

# %% [markdown]
# At 0 is the pretrained model, at 128 the whole change of the matrices. With about eight directions of each, all is
# there that these questions need, and the tail is good for nothing that we measure. (Nor was the change of embeddings,
# biases and norms needed.) That is what LoRA builds on.
#
# It is no law of nature. This task is small: it teaches the form of an answer, and the knowledge is in the model
# already. Where full tuning teaches much that is new, such as programming from billions of tokens, its changes have a
# rank of 10 to 100 times what LoRA is usually given, and LoRA learns less there, and forgets less (Biderman et al.
# 2024).
#
# ## 9.3 LoRA by hand
#
# LoRA does not wait for an SVD. It writes the change as a product of two thin matrices from the beginning, and only
# these learn:
#
# $$h = W_0\,x + \frac{\alpha}{r}\,B\,A\,x, \qquad A \in \mathbb{R}^{r \times in},\; B \in \mathbb{R}^{out \times r}$$
#
# So the rank of the change cannot be more than $r$. It is a layer around a layer:


# %%
class LoRADraft(nn.Module):
    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.linear, self.scale = linear, alpha / rank
        self.A = nn.Parameter(torch.empty(rank, linear.in_features))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # uniform within 1 / sqrt(in)
        self.B = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return self.linear(x) + self.scale * (x @ self.A.T @ self.B.T)  # x is (..., in), so A and B from the right


PLACES = r".*\.(W_query|W_value)"
draft = copy.deepcopy(model).requires_grad_(False)  # 1. freeze
torch.manual_seed(0)
names = gptlab.replace_modules(draft, PLACES, lambda linear: LoRADraft(linear, rank=8, alpha=16))  # 2. put in
print(*names, sep="\n")
learning = [name for name, weight in draft.named_parameters() if weight.requires_grad]
print(f"{len(learning)} tensors learn, {gptlab.count_parameters(draft) - P:,} numbers; the first is {learning[0]}")

# %% [markdown]
# `replace_modules` goes through the model and replaces each module whose whole name matches the pattern. The order
# matters: **freeze, put in, then make the optimizer** (it must see the new parameters).
#
# **Why is B zero?** Then $B A = 0$: with the adapter the model computes to the bit what it did before, and training
# begins where pretraining ended. **And why is A not zero?** With $g$ for the gradient that arrives at $h$,
#
# $$\frac{\partial L}{\partial B} = \frac{\alpha}{r}\, g\,(A x)^\top, \qquad
#   \frac{\partial L}{\partial A} = \frac{\alpha}{r}\, B^\top g\, x^\top$$
#
# If both are zero, both gradients are zero, and nothing ever learns. We try all four:

# %%
batch = next(iter(batches))
with torch.no_grad():
    untouched = model(batch[0])
print(f"{'A':<8}{'B':<8}{'logits change by':>18}{'gradient of A':>16}{'gradient of B':>16}")
for fill_A, fill_B in (("random", "zero"), ("zero", "random"), ("random", "random"), ("zero", "zero")):
    tried = copy.deepcopy(draft)
    layers = [layer for layer in tried.modules() if isinstance(layer, LoRADraft)]
    for layer in layers:
        for part, fill in ((layer.A, fill_A), (layer.B, fill_B)):
            nn.init.uniform_(part, -0.1, 0.1) if fill == "random" else nn.init.zeros_(part)
    loss, count = gptlab.next_token_loss(tried, *batch)
    (loss / count).backward()
    moved = (tried(batch[0]) - untouched).abs().max().item()
    lengths = [max(getattr(layer, part).grad.norm().item() for layer in layers) for part in "AB"]
    print(f"{fill_A:<8}{fill_B:<8}{moved:>18.4f}{lengths[0]:>16.4f}{lengths[1]:>16.4f}")

# %% [markdown]
# The first two rows begin at the old model, and one of the two can learn. After the first step it is no longer zero,
# and the other learns, too. The third row learns, but it has spoiled the model first. The last row is dead.
#
# (The book "Build a Large Language Model (From Scratch)" stores A the other way round, as $(in, r)$, and draws it by
# the same call. That call measures by the second side, so there A is larger by $\sqrt{in / r}$, here four times.)
#
# **Why α / r?** Try another rank, and $B A x$ is a sum of more or fewer terms. Divided by $r$, it stays about as
# large, and the learning rate need not be searched anew. Many texts write $h = W_0 x + B A x$ and leave the factor out;
# the programs have it. It matters as soon as somebody merges an adapter by hand. (Names differ as well: some write
# $A B^\top$ for what is $B A$ here. Look at the shapes.)
#
# Now the library's. `peft.apply` freezes the model and puts the adapter on. The same seed draws the same A, so we can
# train both on the same batches and compare:

# %%
few = list(batches)[:10]
library = copy.deepcopy(model)
torch.manual_seed(0)
peft.apply(library, peft.LoRA(rank=8, alpha=16, targets=("W_query", "W_value")))
by_hand, by_library = tune(draft, few, rate=5e-3).losses, tune(library, few, rate=5e-3).losses
print([round(loss, 4) for loss in by_hand])
print([round(loss, 4) for loss in by_library])
assert torch.allclose(torch.tensor(by_hand), torch.tensor(by_library), atol=1e-4)

# %% [markdown]
# This is the heart of it, as it stands in the library. `base` is the layer that was there before. The dropout is one
# more thing that programs have: it acts on the input of the branch alone, never on the old layer.

# %%
print(inspect.getsource(peft.lora.LowRank))

# %% [markdown]
# **Merging.** $W_0 x + s\,B A x = (W_0 + s\,B A)\,x$. So when training is over, the adapter can become part of the
# weight, and an answer costs exactly what it did before tuning:

# %%
merged = copy.deepcopy(model)
with torch.no_grad():
    for name in names:
        branch = draft.get_submodule(name)
        merged.get_submodule(name).weight += branch.scale * branch.B @ branch.A

peft.merge(library)
with torch.no_grad():
    print(f"merged and not merged differ by {(merged(batch[0]) - draft(batch[0])).abs().max():.0e}")
    print(f"by hand and by the library, by {(merged(batch[0]) - library(batch[0])).abs().max():.0e}")
    assert torch.allclose(merged(batch[0]), draft(batch[0]), atol=1e-3)
    assert torch.allclose(merged(batch[0]), library(batch[0]), atol=1e-2)
print(type(library.trf_blocks[0].att.W_query).__name__, "is a plain layer again")

# %% [markdown]
# Only rounding is left. Subtracting $s\,B A$ again would round once more, and with weights of two bytes the old ones
# would be visibly damaged. So `peft.unmerge` does not subtract. It has kept the old layers.
#
# Ten batches are not much. Here is the whole training. LoRA wants a larger learning rate than full tuning, 5e-3 and not
# 3e-4: its few numbers have a longer way to go.

# %%
lora = peft.apply(copy.deepcopy(model), peft.LoRA(rank=8), generator=torch.Generator().manual_seed(0))
tune(lora, batches, rate=5e-3, epochs=EPOCHS)
print(peft.parameter_report(lora))
print(f"LoRA:        {share_right(lora):.2f} right, loss {gptlab.evaluate(lora, watched):.2f}")
print(f"all weights: {share_right(full):.2f} right, loss {gptlab.evaluate(full, watched):.2f}")
assert share_right(lora) > 0.5  # full size only

# %% [markdown]
# As good as full tuning, or nearly, with less than two hundredths of its numbers.
#
# ## 9.4 One model, many adapters
#
# What was learned are 12,288 numbers. They can be saved alone. We make a second adapter with other manners: it is
# insistent, and gives every answer twice.


# %%
def twice(entry):
    return entry | {"output": f"{entry['output']} {entry['output']}"}


insistent = peft.apply(copy.deepcopy(model), peft.LoRA(rank=8), generator=torch.Generator().manual_seed(0))
tune(insistent, loader_of([twice(entry) for entry in questions]), rate=5e-3, epochs=EPOCHS)

adapters = tempfile.TemporaryDirectory()  # take a folder of your own to keep them
folder = Path(adapters.name)
peft.save_adapter(lora, folder / "plain")
peft.save_adapter(insistent, folder / "insistent")
gptlab.save_checkpoint(folder / "model", model, tokenizer, short)
for path in sorted(folder.rglob("*.safetensors")):
    print(f"{path.parent.name + '/' + path.name:<28}{path.stat().st_size:>10,} bytes")

# %% [markdown]
# One base serves both. `load_adapter` puts them on, `use` chooses by name, and `disable` switches all off for a while.
# (Where an adapter is put in, there stands an `Adapted`: the old layer, and the adapters by their names. One that got
# no name is called "default".)

# %%
served = copy.deepcopy(model)
peft.load_adapter(served, folder / "plain", name="plain")
peft.load_adapter(served, folder / "insistent", name="insistent")

question = test[0]
print(question["instruction"])
for name in ("plain", "insistent", "plain"):
    peft.use(served, name)
    print(f"  {name:<11}{answers(served, [question])[0]}")
with peft.disable(served), torch.no_grad():
    print(f"  {'none':<11}{answers(served, [question])[0]!r}")
    assert torch.equal(served(batch[0]), model(batch[0]))  # the old model, bit for bit

peft.use(served, "insistent")
print(f"\ninsistent and right: {share_right(served, [twice(entry) for entry in test]):.2f}")

# %% [markdown]
# The old model is never lost. That is the difference to full tuning that no score shows.
#
# (Not everything can be taught in this way. We first wanted answers that end in "!". The town's prose has no
# exclamation mark. So its row in the output head never learned to be said, and is frozen now; the adapter managed it
# badly, and many facts were wrong as well. For new words, embeddings must learn, too.)
#
# But an adapter is a *difference*, and a difference belongs to what it was taken from. On another model, even one of
# the same shape, it makes no sense. A file does not show that. So `adapter.json` keeps a mark of the base's weights,
# and `load_adapter` compares:

# %%
try:
    peft.load_adapter(copy.deepcopy(full), folder / "plain")
except ValueError as error:
    print(str(error).replace(str(folder), "..."))

# %% [markdown]
# (A well-known exercise trains an adapter on one version of a model and merges it into another. Nothing fails there,
# and the answers are worse.) Hugging Face's library `peft` has two files as well, `adapter_model.safetensors` and
# `adapter_config.json`; `peft.export_peft` and `peft.import_peft` write and read them.
#
# ## 9.5 AdaLoRA: where is the rank needed?
#
# LoRA gives each matrix the same rank. Perhaps some need more and others none. AdaLoRA (Zhang et al. 2023) writes the
# change like an SVD, as a sum of **triplets**: a column of $P$, a number of $\Lambda$ and a row of $Q$:
#
# $$\Delta W = P\,\Lambda\,Q = \sum_i \lambda_i\, p_i\, q_i, \qquad \lambda_i = 0 \text{ at first}$$
#
# A penalty on $\|P^\top P - I\| + \|Q Q^\top - I\|$ keeps the directions apart from each other. Now a triplet can be
# taken out by setting one number, $\lambda_i$, to zero. Training begins with more triplets than we want, and in the end
# a **budget** of them is left. How fast it falls:
#
# $$b(t) = b_T + (b_0 - b_T)\left(1 - \frac{t - t_i}{T - t_f - t_i}\right)^3$$
#
# from step $t_i$ on, and from $T - t_f$ on the ranks stay. Which triplets go? Those that matter least. For one number
# $w$, $I = |w\,\partial L / \partial w|$ estimates how much the loss would change without it (its **sensitivity**). One
# batch is a noisy judge, so $I$ is averaged over steps, and multiplied by how much it varies; what is uncertain gets a
# second chance:
#
# $$\bar I \leftarrow \beta_1 \bar I + (1 - \beta_1)\, I, \qquad
#   \bar U \leftarrow \beta_2 \bar U + (1 - \beta_2)\, |I - \bar I|, \qquad s = \bar I \cdot \bar U$$
#
# $$S_i = s(\lambda_i) + \operatorname{mean}_j s(P_{ji}) + \operatorname{mean}_j s(Q_{ij})$$
#
# The triplets of **all** matrices stand in one ranking, and the best $b(t)$ stay. (If each matrix had its own ranking,
# as some slides have it, every matrix would keep the same rank, and we would be back at LoRA.)
#
# All of this happens beside the loss, so the training loop must call it, as a **hook** after every step. (Without it,
# an AdaLoRA refuses the second step.) Every linear layer of the blocks gets 6 triplets, and 3 shall be left on average:

# %%
settings = peft.AdaLoRA(init_rank=6, target_rank=3, targets="all-linear")
adalora = peft.apply(copy.deepcopy(model), settings, generator=torch.Generator().manual_seed(0))
[hook] = settings.hooks(adalora, total_steps=EPOCHS * len(batches))
tune(adalora, batches, rate=1e-2, epochs=EPOCHS, hooks=[hook])
print(f"{share_right(adalora):.2f} right, loss {gptlab.evaluate(adalora, watched):.2f}")
show.plot_ranks(hook)

# %% [markdown]
# Above, the budget falls from 108 to 54. Below, each matrix has a row, bright where it keeps many triplets. In the
# first block most stay. In the second, query and key are soon empty: tuning leaves alone where this block looks. In the
# last one the feed-forward keeps most. With other seeds we saw the same on the whole, and other numbers in single rows.
# LoRA's usual place, query and value everywhere, is a guess that this picture does not confirm.
#
# The score is lower than LoRA's after as many steps. For most of them the ranks were still on the move, and what is
# chosen late has little time to learn. Section 9.8 has runs of twice the length, on query and value, in which both are
# level.
#
# **By hand.** The hook has the averages $\bar I$ (`sensitivity`) and $\bar U$ (`variation`) as they were at the last
# choice. From them we compute the scores and choose, and the budget of every step, too:


# %%
def budget(t, begin, end, first, last):
    if t <= first:
        return begin
    if t > last:
        return end
    return int(end + (begin - end) * (1 - (t - first) / (last - first)) ** 3)


state, places = hook.state_dict(), list(hook.ranks[0][1])
begin, end = 6 * len(places), 3 * len(places)
for t in range(1, hook.total_steps + 1):
    assert budget(t, begin, end, hook.first, hook.last) == hook.budget(t)

s = {key: state["sensitivity"][key] * state["variation"][key] for key in state["sensitivity"]}
scores = {p: s[f"{p}:Lambda"] + s[f"{p}:P"].mean(dim=0) + s[f"{p}:Q"].mean(dim=1) for p in places}  # (6,) each
worst_kept = torch.cat(list(scores.values())).sort(descending=True).values[end - 1]
ranks = {place: int((score >= worst_kept).sum()) for place, score in scores.items()}
assert ranks == hook.ranks[-1][1]
print(f"{sum(ranks.values())} of {begin} triplets stay; the ranks:", list(ranks.values()))

# %% [markdown]
# A triplet that was pruned keeps its two vectors. Between two choices its $\lambda$ grows again, and it may come back.
# Only what the latest choice kept is saved and answers. `save_adapter(..., for_inference=True)` writes what is left as
# a plain LoRA with a rank for each matrix.
#
# ## 9.6 QLoRA: weights in four bits
#
# With LoRA, what takes room is the frozen model, two or four bytes for each weight. QLoRA (Dettmers et al. 2023) keeps
# it in **four bits**: each weight becomes a number from 0 to 15, the number of a **level**. Which sixteen levels are
# best? Let us look at real weights. A matrix is cut into blocks of 64, and each block is divided by its largest
# magnitude, `absmax`, so that all values are in [-1, 1]. The lines in the picture are the levels of NF4
# ("4-bit NormalFloat"):

# %%
weight = model.trf_blocks[0].ff.layers[0].weight.detach()  # (512, 128)
blocks = weight.reshape(-1, 64)
ratios = blocks / blocks.abs().amax(dim=1, keepdim=True)
levels = torch.tensor(peft.nf4.NF4_LEVELS)

figure, [axis] = show.new_axes(8, 2.8)
axis.hist(ratios.flatten().numpy(), bins=100, color=show.COLORS[4])
for level in levels:
    axis.axvline(level, color=show.COLORS[1], linewidth=1)
axis.set(xlabel="weight / absmax of its block", ylabel="weights", xlim=(-1.05, 1.05))
figure

# %% [markdown]
# Weights are distributed like a bell (a normal distribution). So the levels are close together in the middle, where
# the weights are, and far apart at the sides. They are quantiles of the normal distribution, scaled to [-1, 1], with an
# exact zero among them. (A formula with the quantiles of 0 and of 1 cannot work: these are minus and plus infinity.)
# The small heap at each end is the largest weight of each block, which is ±1 by construction.
#
# Are they better than sixteen evenly spaced levels? We write the rounding by hand, for any levels, and compare:


# %%
def quantise_block(block, levels):
    """Return the number of the nearest level for each weight, and the block's absmax."""
    absmax = block.abs().max()
    distances = (block[:, None] / absmax - levels).abs()  # (64, 16)
    return distances.argmin(dim=1), absmax


def rounding_error(levels):
    """Return the error of rounding all blocks: how large it is beside the weights."""
    rounded = []
    for block in blocks:
        codes, absmax = quantise_block(block, levels)
        rounded.append(levels[codes] * absmax)
    return ((torch.stack(rounded) - blocks).norm() / blocks.norm()).item()


print(f"NF4:           {rounding_error(levels):.3f}")
print(f"evenly spaced: {rounding_error(torch.linspace(-1, 1, 16)):.3f}")

# %% [markdown]
# The first block, as the library has it. A byte holds two codes, the first in the high half:

# %%
codes, absmax = quantise_block(blocks[0], levels)
print("weights ", [round(value, 2) for value in blocks[0][:8].tolist()])
print("codes   ", codes[:8].tolist(), "  absmax", round(absmax.item(), 4))
print("restored", [round(value, 2) for value in (levels[codes] * absmax)[:8].tolist()])

quantised = peft.quantize_nf4(weight, double=False)
assert torch.equal(quantised.codes[:32], (16 * codes[::2] + codes[1::2]).to(torch.uint8))
assert torch.equal(quantised.absmax[0], absmax)
assert torch.allclose(peft.dequantize_nf4(quantised).reshape(-1, 64)[0], levels[codes] * absmax)

# %% [markdown]
# **How many bits is that?** Four for the code, and 32 for the absmax of each block of 64: $4 + 32/64 = 4.5$. **Double
# quantisation** rounds the absmax values as well, to 8 bits, in blocks of 256 with one 32-bit number for each:
# $4 + 8/64 + 32/(64 \cdot 256) \approx 4.13$. (The small rest is one number for the whole matrix.)

# %%
for double in (False, True):
    print(f"double={double}: {peft.quantize_nf4(weight, double=double).bits_per_parameter:.3f} bits a weight")

# %% [markdown]
# **Training through it.** Nobody can compute with codes. In the forward pass the full weight is made from them, used
# once, and forgotten. And in the backward pass? With $y = x\,W^\top$ the gradient is
# $\partial L / \partial x = \partial L / \partial y \cdot W$: it needs the weight *again*. Plain autograd would keep it
# from the forward pass, for each layer, and all that was saved would be lost. So the layer keeps the codes, and makes
# the weight a second time:


# %%
class FrozenProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, quantised):
        ctx.quantised = quantised
        return x @ peft.dequantize_nf4(quantised).T

    @staticmethod
    def backward(ctx, grad_y):
        return grad_y @ peft.dequantize_nf4(ctx.quantised), None  # nothing for the codes


def bytes_kept(function, x):
    """Return how many bytes autograd keeps for the backward pass, and the gradient of the summed squares."""
    kept, x = [], x.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        y = function(x)
    y.square().sum().backward()
    return sum(kept), x.grad


x = torch.randn(16, 128, generator=torch.Generator().manual_seed(0))
layer = peft.nf4.NF4Linear(model.trf_blocks[0].ff.layers[0], double=False)
plain, expected = bytes_kept(lambda x: F.linear(x, peft.dequantize_nf4(quantised)), x)
draft_kept, gradient = bytes_kept(lambda x: FrozenProduct.apply(x, quantised), x)
print(f"F.linear keeps {plain:,} bytes (the weight in float32 has {weight.nbytes:,}), ours {draft_kept}")
assert torch.allclose(gradient, expected, atol=1e-5)
assert bytes_kept(layer, x)[0] == 0
assert torch.allclose(layer(x), FrozenProduct.apply(x, quantised) + layer.bias, atol=1e-5)

# %% [markdown]
# `peft.QLoRA` quantises all linear layers of the blocks and puts a LoRA on each. What does the rounding cost, and what
# does it save? We look at the loss on the town's prose before any tuning, and then train on ten batches to see that
# gradients come through:

# %%
qlora = peft.apply(copy.deepcopy(model), peft.QLoRA(rank=8), generator=torch.Generator().manual_seed(0))
prose = gptlab.make_loader(gptlab.text_examples(town.corpus.split("\n\n")[:100], tokenizer, 128), 32)
print(
    f"loss on prose: {gptlab.evaluate(model, prose):.4f} in float32, {gptlab.evaluate(qlora, prose):.4f} in four bits"
)
print("loss on questions:", [round(loss, 2) for loss in tune(qlora, few, rate=2e-3).losses])
print(peft.parameter_report(qlora))

# %% [markdown]
# Four bits hardly hurt, although the model was not trained for them. What is quantised takes an eighth of its room. The
# weights together take a third, because embeddings, norms and head stay as they are, and in a small model they are a
# large part. The price is time: each weight is made twice in every step.
#
# ## 9.7 Adapters, prefixes and prompts
#
# There are other places than weights where something small can go in. The picture shows one block of the model from
# left to right, and in colour what each method adds. Nothing is to be learned from the code of this cell:

# %%
figure, [axis] = show.new_axes(11, 4.3)
axis.axis("off")
axis.set(xlim=(0, 11.4), ylim=(0.1, 4.5))
blue, orange, green, pink = show.COLORS[:4]


def box(x, y, text, color="black"):
    style = {
        "boxstyle": "round,pad=0.35",
        "edgecolor": color,
        "facecolor": "white",
        "linewidth": 1 + (color != "black"),
    }
    axis.text(x, y, text, ha="center", va="center", fontsize=9, color=color, bbox=style, zorder=2)


def line(*points, color="black", head="-|>"):
    for start, end in pairwise(points):
        style = {"arrowstyle": head if end == points[-1] else "-", "color": color, "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", end, start, arrowprops=style, zorder=1)


def title(x, y, text, color):
    axis.text(x, y, text, color=color, ha="center", va="center", fontsize=10, fontweight="bold")


line((0.6, 2), (11.3, 2))  # the stream through the block
for start, end in ((1.35, 6.95), (7.25, 10.75)):
    line((start, 2), (start, 4.3), (end, 4.3), (end, 2.16))  # the residual connections
for y, text in ((2.9, "W_query"), (2.0, "W_key"), (1.1, "W_value")):
    line((2.35, 2), (2.6, y), (3.6, y), (4.35, 2 + (y - 2) / 4))
    box(3.1, y, text)
for y, sign in ((2.9, 1), (1.1, -1)):
    line(
        (2.52, 2 + 0.72 * sign),
        (2.6, y + 0.6 * sign),
        (3.6, y + 0.6 * sign),
        (3.7, y - 0.09 * sign),
        color=blue,
        head="-",
    )
    box(3.1, y + 0.6 * sign, "s B A", blue)
for x, text in ((0.6, "tok_emb\n+ pos_emb"), (1.95, "norm1"), (4.6, "attention"), (5.55, "out_proj"), (6.95, "+")):
    box(x, 2, text)
for x, text in ((7.75, "norm2"), (8.7, "ff.layers.0\nGELU\nff.layers.2"), (10.75, "+")):
    box(x, 2, text)
for x in (6.35, 9.85):
    box(x, 2, "W_up f(\nW_down y)", green)
    title(x, 1.45, "adapter", green)
box(4.6, 0.9, "keys,\nvalues", orange)
line((4.6, 1.2), (4.6, 1.75), color=orange)
box(0.6, 0.9, "vectors", pink)
line((0.6, 1.1), (0.6, 1.6), color=pink)
title(3.1, 3.9, "LoRA", blue)
title(5.2, 0.4, "prefix tuning", orange)
title(0.9, 0.4, "prompt tuning, P-tuning", pink)
figure

# %% [markdown]
# The black line is the stream of chapter 4: attention and feed-forward read it and add to it at the two `+`. **LoRA**
# (blue) adds to what a weight computes, before anything is done with it. **Bottleneck adapters** (green) stand behind
# the attention and behind the feed-forward, before the `+`. A **prefix** (orange) is found by the attention, in every
# block anew. A **prompt** (pink) stands in front of the text at the very bottom, and goes through all blocks.
#
# **Bottleneck adapters** (Houlsby et al. 2019) stand behind the attention and behind the feed-forward. What the layer
# computes, $y$, goes down to a few numbers, through an activation $f$, up again, and is added to $y$:
#
# $$a(y) = y + W_{up}\, f(W_{down}\, y + b_{down}) + b_{up}$$
#
# $W_{up}$ is zero at first, for the same reason as LoRA's B. By hand:


# %%
class BottleneckDraft(nn.Module):
    def __init__(self, linear, width):
        super().__init__()
        self.linear = linear
        self.down = nn.Linear(linear.out_features, width)
        self.up = nn.Linear(width, linear.out_features)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x):
        y = self.linear(x)
        return y + self.up(F.gelu(self.down(y), approximate="tanh"))


draft = copy.deepcopy(model).requires_grad_(False)
BEHIND = r".*\.(att\.out_proj|ff\.layers\.2)"
names = gptlab.replace_modules(draft, BEHIND, lambda linear: BottleneckDraft(linear, 16))
library = peft.apply(copy.deepcopy(model), peft.Adapter(bottleneck=16))
for name in names:  # the same beginning
    library.get_submodule(name).adapters["default"].W_down.data.copy_(draft.get_submodule(name).down.weight)

by_hand, by_library = tune(draft, few, rate=5e-3).losses, tune(library, few, rate=5e-3).losses
print([round(loss, 3) for loss in by_hand])
assert torch.allclose(torch.tensor(by_hand), torch.tensor(by_library), atol=1e-4)

# %% [markdown]
# Because $f$ bends, no weight can take the adapter up: it cannot be merged, and stays as a small cost of every answer.
# (In Houlsby's BERT the norm comes behind the residual addition, so there the adapter stands "before the norm". GPT-2
# has its norms first. What holds for both: it stands before the **residual addition**. The original trains the norms
# as well, here `norms=True`.)
#
# **Prefix tuning** (Li and Liang 2021) changes no layer at all. Each attention finds a few keys and values more, in
# front of those of the text, and *these* are learned, for each layer:
#
# $$\operatorname{attention}(Q,\; [P_K; K],\; [P_V; V])$$
#
# We know something that stands in front and is not computed again: the cache of chapter 3. A prefix is a cache that is
# filled before anything was read. The text's tokens take the positions behind it.
#
# One would like to begin with a prefix that does nothing. Zeros? We take the queries, keys and values of a real
# question in block 0, and look from its last token, which sees all others, so that no mask is needed. How much of its
# attention do the zeros get?

# %%
sample = torch.tensor([tokenizer.encode_ordinary(short.prompt(test[0]))])
attention = model.trf_blocks[0].att
with torch.no_grad():
    stream = model.tok_emb(sample) + model.pos_emb(torch.arange(sample.shape[1]))
    queries, keys, values = attention.project(model.trf_blocks[0].norm1(stream))  # (1, H, T, 32) each


def last_token_gathers(prefix_keys, prefix_values):
    K = torch.cat([prefix_keys, keys], dim=2)  # (1, H, n + T, 32)
    V = torch.cat([prefix_values, values], dim=2)
    weights = (queries[:, :, -1:] @ K.transpose(2, 3) / math.sqrt(32)).softmax(dim=-1)  # (1, H, 1, n + T)
    return weights @ V, weights[..., : prefix_keys.shape[2]].sum(dim=-1)


for n in (0, 1, 20):
    zeros = torch.zeros(1, 4, n, 32)
    gathered, share = last_token_gathers(zeros, zeros)
    print(f"{n:>2} zeros in front get, in the four heads: {[round(s, 2) for s in share.flatten().tolist()]}")

# %% [markdown]
# Zeros are not nothing. A key of zeros has the score 0 with every query, and in the softmax $e^0 = 1$. So each of them
# takes its share, and brings a value of zeros, which makes what is gathered smaller. **No prefix of finite numbers does
# nothing.** So prefix tuning does not begin at the old model. The library begins with the keys and values of real
# tokens. Our function with a learned prefix agrees with the library's block:

# %%
prefixed = peft.apply(copy.deepcopy(model), peft.PrefixTuning(tokens=20), generator=torch.Generator().manual_seed(0))
tune(prefixed, few[:2], rate=1e-1)
block = prefixed.trf_blocks[0]
seen = {}
hook = block.att.register_forward_hook(lambda layer, inputs, output: seen.update(x=inputs[0], y=output))
with torch.no_grad():
    prefixed(sample)
    hook.remove()
    queries, keys, values = block.att.project(seen["x"])  # other positions, so other numbers than above
    gathered, share = last_token_gathers(*prefixed.adapters["default"].keys_and_values(prefixed)[0])
    by_hand = block.att.out_proj(gathered.transpose(1, 2).flatten(2))
difference = (by_hand[0, 0] - seen["y"][0, -1]).abs().max()
print(f"the prefix gets {share.mean():.2f} of the attention; library and by hand differ by {difference:.0e}")
assert torch.allclose(by_hand[0, 0], seen["y"][0, -1], atol=1e-4)

# %% [markdown]
# (Li and Liang let a small network make the prefix while it is trained, because that was more stable. Its weights
# learn, too; afterwards only the prefix is kept. In the library that is `PrefixTuning(hidden=512)`.)
#
# **Prompt tuning** (Lester et al. 2021) learns even less: vectors that stand where the embeddings of words would stand,
# in front of the text. No word need have such a vector. The model reads them like words, layer by layer, and since
# nothing that comes later changes what was read before, they end up as keys and values in each layer. So **a prompt is
# a prefix that the model computes itself**, from one vector for each token instead of one for each token *and layer*:

# %%
prompted = peft.apply(copy.deepcopy(model), peft.PromptTuning(tokens=20), generator=torch.Generator().manual_seed(0))
tune(prompted, few[:2], rate=1e-1)
vectors = prompted.adapters["default"].vectors.detach()[None]  # (1, 20, D)
with torch.no_grad():
    as_words = model.forward_embeddings(torch.cat([vectors, model.embed(sample)], dim=1))
    cache = gptlab.KVCache(model.cfg.n_layers)
    model.forward_embeddings(vectors, cache=cache)  # the model reads the prompt and fills the cache
    as_prefix = model(sample, cache=cache)
    assert torch.allclose(model.out_head(as_words)[:, 20:], as_prefix, atol=1e-3)
    assert torch.allclose(prompted(sample), as_prefix, atol=1e-3)
print("as words in front, as a filled cache, and as the library does it: the same logits")

# %% [markdown]
# **P-tuning** (Liu et al. 2021) is prompt tuning with a small network that makes the vectors while they are trained,
# `encoder="mlp"` or `"lstm"`; and its virtual tokens may also stand *inside* the text (`inside=`). Afterwards the
# network is thrown away.
#
# How much learns in all of these?

# %%
ways = {
    "LoRA, rank 8": peft.LoRA(rank=8),
    "AdaLoRA, 12 to 8": peft.AdaLoRA(init_rank=12, target_rank=8),
    "QLoRA, rank 8": peft.QLoRA(rank=8),
    "adapter, width 16": peft.Adapter(bottleneck=16),
    "prefix, 20 tokens": peft.PrefixTuning(tokens=20),
    "prompt, 20 tokens": peft.PromptTuning(tokens=20),
    "P-tuning, 20 tokens": peft.PTuning(tokens=20),
}
for name, settings in ways.items():
    print(f"{name:<22}{peft.parameter_report(peft.apply(copy.deepcopy(model), settings)).trainable:>8,} learn")
L, D = model.cfg.n_layers, model.cfg.emb_dim
assert peft.parameter_report(prefixed).trainable == 20 * 2 * L * D
assert peft.parameter_report(prompted).trainable == 20 * D

# %% [markdown]
# ## 9.8 All of them side by side
#
# To compare fairly takes longer than a lesson: each way with a learning rate that was searched for it, 300 steps of 16
# questions (the skills among them), three random seeds. `python chapters/ch09_peft/compare.py --seeds 3` does that and
# writes `comparison.json`, which we read. "New task" is to answer questions about people whom tuning did not mention.
# "Old knowledge" is to end sentences of the corpus about them while the adapter is on:

# %%
from gptlab.chapters import load_chapters
from gptlab.demo import recall_in_prose

[here] = [chapter.folder for chapter in load_chapters() if chapter.number == "09"]
measured = json.loads((here / "comparison.json").read_text(encoding="utf-8"))["rows"]
ways = list(dict.fromkeys(row["way"] for row in measured))


def of(way, key):
    return [row[key] for row in measured if row["way"] == way]  # one for each seed


print(f"Before tuning, {recall_in_prose(model, tokenizer, town):.2f} of the old knowledge is there.\n")
print(f"{'':<10}{'learn':>9}{'file, KiB':>11}{'memory, MB':>12}{'new task':>10}{'old knowledge':>15}")
for way in ways:
    memory = sum(of(way, part)[0] for part in ("weights", "gradients", "optimizer")) / 1e6
    file, new, old = of(way, "file")[0] / 1024, statistics.mean(of(way, "people")), statistics.mean(of(way, "kept"))
    print(f"{way:<10}{of(way, 'trainable')[0]:>9,}{file:>11,.0f}{memory:>12.2f}{new:>10.2f}{old:>15.2f}")

# %%
figure, [left, right] = show.new_axes(10, 3.2, columns=2)
for key, marker, shift, label in (("people", "o", -0.12, "new task"), ("kept", "s", 0.12, "old knowledge")):
    places = [place + shift for place in range(len(ways)) for _ in of(ways[place], key)]
    left.plot([value for way in ways for value in of(way, key)], places, marker, alpha=0.7, label=label)
left.set(xlabel="share right (a mark for each seed)", xlim=(-0.03, 1.03))
starts = [0.0] * len(ways)
for part, hatch in (("weights", ""), ("gradients", "///"), ("optimizer", "...")):
    widths = [of(way, part)[0] / 1e6 for way in ways]
    right.barh(range(len(ways)), widths, left=starts, hatch=hatch, edgecolor="white", label=part)
    starts = [start + width for start, width in zip(starts, widths)]
right.set(xlabel="MB in training, without activations")
for axis in (left, right):
    axis.set_yticks(range(len(ways)), ways)
    axis.invert_yaxis()
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
left.grid(axis="y", alpha=0.3)
figure

# %% [markdown]
# What can be read here, and what cannot:
#
# - **What is learned.** LoRA, AdaLoRA and QLoRA answer as much as full tuning, give or take what a seed changes, with a
#   fiftieth to a twelfth of its numbers. Adapters and the prefix come near.
# - **Prompt tuning and P-tuning stay weak.** That is no accident. Lester et al. write it in the title of their paper,
#   "The Power of *Scale*": prompts reach full tuning on models of some billion parameters, and stay behind on small
#   ones. Ours has less than a million.
# - **What is kept.** Every way of tuning costs old knowledge, here adapters the least. With a prefix or a prompt in
#   front nothing of it is left: whatever the text is, the model begins an answer. That is no loss. `disable` gives all
#   back, to the bit, and after full tuning nothing does.
# - **Memory.** Gradients and moments nearly vanish, and the weights stay. Only QLoRA makes those smaller.
# - **Files.** Prompt tuning and P-tuning keep the same: 20 vectors. What P-tuning has more in training is its network.
#
# One table of one small model says nothing about the order of the methods elsewhere. It says how to ask.
#
# ## 9.9 What a wrong template costs
#
# An adapter is tuned with one form of the prompt. Asked in another one it does not fail; it just answers worse. Our
# LoRA was tuned with `alpaca_short`. We ask it the same questions in the other forms that the library has:

# %%
print(f"{'form':<16}{'tokens':>8}{'right':>8}   the first answer")
for name in ("alpaca_short", "alpaca", "book", "bayling", "dialogue"):
    form = gptlab.load_template(name)
    tokens = len(tokenizer.encode_ordinary(form.prompt(test[0])))
    first = answers(lora, test[:1], form)[0].replace("\n", "↵")
    print(f"{name:<16}{tokens:>8}{share_right(lora, test, form):>8.2f}   {first[:60]}")

# %% [markdown]
# No error anywhere, only fewer right answers. `alpaca` has one opening sentence more, nothing else. Its answers
# look as fine as before, but most of them answer *another question*. `bayling`, which differs more, breaks even the
# sentences. `dialogue` is the bare question with a line end, and loses the least.
#
# So the form belongs to the adapter. `gptlab finetune` writes it into `adapter.json`, and `generate` and `chat` take it
# from there. Whoever chooses another with `--template` is told, by this function. (The same holds before tuning: if a
# model was tuned by others already, go on in *their* form.)

# %%
print(gptlab.data.another_template(short, gptlab.load_template("bayling")))

# %% [markdown]
# ## 9.10 A method of your own
#
# Here is a method that the library does not have. **IA³** (Liu et al. 2022) learns no matrices at all, only factors:
# one for each number of a key, of a value, and of what lies inside the feed-forward:
#
# $$\operatorname{softmax}\!\left(\frac{Q\,(\ell_k \odot K)^\top}{\sqrt{d}}\right)(\ell_v \odot V), \qquad
#   W_2\,(\ell_{ff} \odot f(W_1 x))$$
#
# All factors are 1 at first, so it begins at the old model. A method consists of two things: **settings**, a frozen
# dataclass that says what goes where, and a **branch**, the module that is put in at one place. For the feed-forward
# the factors belong on the *input* of its second layer:


# %%
@dataclass(frozen=True)
class IA3(peft.OnModules):
    """Factors on keys, values and inner activations. Source: Liu et al. 2022, arXiv 2205.05638, section 3.3."""

    targets: Sequence[str] = ("W_key", "W_value", "ff.layers.2")
    method: ClassVar[str] = "ia3"  # its name, in files

    def branch(self, name, module, generator):
        return Factors(module, on_input=name.endswith("ff.layers.2"))


class Factors(peft.Branch):
    def __init__(self, linear, on_input):
        super().__init__()
        self.on_input = on_input
        self.factors = nn.Parameter(torch.ones(linear.in_features if on_input else linear.out_features))

    def forward(self, x, base):
        return base(x * self.factors) if self.on_input else base(x) * self.factors

    @torch.no_grad()
    def merged(self, base):
        plain = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None)
        plain.weight.copy_(base.weight * (self.factors if self.on_input else self.factors[:, None]))
        if base.bias is not None:
            plain.bias.copy_(base.bias if self.on_input else base.bias * self.factors)
        return plain


# %% [markdown]
# That is all. Nothing in the library was touched. But is it right? The library writes down what it promises of every
# method, and checks it on any: on a small model with random weights, the method is applied, trained, copied, switched,
# saved, loaded, merged and removed:

# %%
for number, promise in enumerate(peft.assert_peft_contract(IA3()), start=1):
    print(f"{number:>2}. {promise}")

# %% [markdown]
# And what does it say if somebody forgets something? In this one the merged layer keeps its bias without the factors:


# %%
class Forgetful(Factors):
    def merged(self, base):
        plain = super().merged(base)
        plain.bias = base.bias
        return plain


@dataclass(frozen=True)
class WrongIA3(IA3):
    method: ClassVar[str] = "ia3-wrong"

    def branch(self, name, module, generator):
        return Forgetful(module, on_input=name.endswith("ff.layers.2"))


try:
    peft.assert_peft_contract(WrongIA3())
except AssertionError as error:
    print(textwrap.fill(str(error), 110))

# %% [markdown]
# Now it learns by the functions that we had, and everything else works, too: saving, switching, merging, and
# `gptlab chat`. (Settings of your own must be defined, by an import, before their file is loaded.)

# %%
ia3 = peft.apply(copy.deepcopy(model), IA3())
tune(ia3, batches, rate=1e-1, epochs=EPOCHS)
print(peft.parameter_report(ia3))
print(f"{share_right(ia3):.2f} right, loss {gptlab.evaluate(ia3, watched):.2f}")

peft.save_adapter(ia3, folder / "ia3")
again = peft.load_adapter(copy.deepcopy(model), folder / "ia3")
with torch.no_grad():
    assert torch.equal(again(batch[0]), ia3(batch[0]))
    assert torch.allclose(peft.merge(again)(batch[0]), ia3(batch[0]), atol=1e-3)
adapters.cleanup()

# %% [markdown]
# With a three hundredth of the model's numbers, a good part of the questions is answered. In as many steps it gets less
# far than LoRA: a factor only makes louder or softer what is there already.

# %% [markdown]
# ## 9.11 In practice
#
# From the command line every method is one option. On the town's model, with questions in a file
# (`gptlab.save_entries` writes one):
#
# ```
# gptlab finetune --model checkpoints/town-base --data questions.json --out checkpoints/town-lora --method lora
# gptlab chat --model checkpoints/town-lora
# ```
#
# `--out` gets the adapter only. It remembers where its base is and in which form it was tuned, so `generate` and
# `chat` take its folder like any other model. On GPT-2 it is the same, with its name in place of a folder:
#
# ```
# gptlab finetune --model 124M --data alpaca_data.json --out checkpoints/gpt2-qlora --method qlora --lora-r 16
# gptlab generate "Give three tips for staying healthy." --model checkpoints/gpt2-qlora
# ```
#
# Many courses use the script `finetune.py` of Alpaca-LoRA. Its options are understood as they are, with LLaMA's names
# for the layers; `--base_model` is what says that they are meant:
#
# ```
# gptlab finetune --base_model 124M --data_path alpaca_data.json --output_dir lora-alpaca \
#     --batch_size 128 --micro_batch_size 4 --num_epochs 1 --learning_rate 1e-4 --cutoff_len 512 \
#     --lora_r 8 --lora_alpha 16 --lora_dropout 0.05 --lora_target_modules '[q_proj,k_proj,v_proj,o_proj]' \
#     --train_on_inputs False --prompt_template_name bayling --group_by_length
# ```
#
# (It keeps 2,000 entries for validation. If you have few, add `--val_set_size 100`.) And out again: a plain model for
# everybody, or the adapter alone in the form of Hugging Face's `peft`:
#
# ```
# gptlab export --model lora-alpaca --merge --out merged
# gptlab export --model lora-alpaca --format peft --out for-peft
# ```
#
# (Merging a QLoRA gives the *quantised* weights with the difference, in full size: on those it was trained.)
#
# What should one choose? A rule of thumb:
#
# | you want | take |
# | --- | --- |
# | a good result with little memory, and answers as fast as before | LoRA, merged in the end |
# | a model that only fits with four bits a weight | QLoRA |
# | the least rank for a result, and to know where it is needed | AdaLoRA |
# | many tasks on one model, switched from answer to answer | any of them, not merged |
# | only kilobytes for each task, on a very large model | prompt tuning |
# | to change what the model knows, with much data | all weights, and text against forgetting (chapter 8) |
#
# ## Find the mistake
#
# Somebody uses our `LoRADraft`, and trains. All looks well: the loss falls, and most answers are right. Then the
# adapter, all A and B, is put on a fresh copy of the base:

# %%
MISTAKE_EPOCHS = 3  # quick: 1


def save_low_rank(model):
    return {name: weight for name, weight in model.state_dict().items() if name.endswith((".A", ".B"))}


def load_low_rank(tensors):
    fresh = copy.deepcopy(model)
    gptlab.replace_modules(fresh, PLACES, lambda linear: LoRADraft(linear, rank=8, alpha=16))
    fresh.load_state_dict(tensors, strict=False)  # strict=False: the other weights are not in there
    return fresh


mine = copy.deepcopy(model)
optimizer = gptlab.make_optimizer(mine, 5e-4, weight_decay=0.0)
gptlab.replace_modules(mine, PLACES, lambda linear: LoRADraft(linear, rank=8, alpha=16))
history = gptlab.train(mine, batches, optimizer=optimizer, epochs=MISTAKE_EPOCHS, progress=False)

loaded = load_low_rank(save_low_rank(mine))
print(f"loss {history.losses[0]:.2f} at first, {history.smoothed()[-1]:.2f} in the end")
print(f"right: {share_right(mine):.2f} after training, {share_right(loaded):.2f} loaded on a fresh base")
print("loaded:", repr(answers(loaded, test[:1])[0][:60]))

# %% [markdown]
# **What is wrong?** Decide from what can be seen. No file was damaged, and no name is missing. It may help to print
# `save_low_rank(mine)`, and to compare `mine.tok_emb.weight` with `model.tok_emb.weight`.
#
# <details><summary>The answer</summary>
#
# The optimizer was made *before* the adapter was put in. It holds the old weights and has never heard of A and B. And
# nobody froze the model. So the base was tuned fully, which is why the loss fell, and the adapter is as it began: B is
# zero, to the bit. What was learned is in the base, and is not saved.
#
# If the model had been frozen, the same order would be noticed at once, since nothing would learn. Both steps are
# needed, and in this order: freeze, put in, make the optimizer.
#
# </details>
#
# First the evidence, then the right order:

# %%
largest = max(weight.abs().max().item() for name, weight in save_low_rank(mine).items() if name.endswith(".B"))
print("largest number in any B:", largest)
print("the base has changed:   ", not torch.equal(mine.tok_emb.weight, model.tok_emb.weight))

mine = copy.deepcopy(model).requires_grad_(False)
gptlab.replace_modules(mine, PLACES, lambda linear: LoRADraft(linear, rank=8, alpha=16))
optimizer = gptlab.make_optimizer(mine, 5e-3, weight_decay=0.0)
gptlab.train(mine, batches, optimizer=optimizer, epochs=MISTAKE_EPOCHS, progress=False)
loaded = load_low_rank(save_low_rank(mine))
print(f"right: {share_right(mine):.2f} after training, {share_right(loaded):.2f} loaded on a fresh base")
assert share_right(mine) == share_right(loaded)

# %% [markdown]
# `peft.apply` freezes by itself. Then the wrong order is noticed at once, before hours are lost:

# %%
late = copy.deepcopy(model)
optimizer = gptlab.make_optimizer(late, 1e-3)
peft.apply(late, peft.LoRA(rank=8))
try:
    gptlab.train(late, few, optimizer=optimizer, progress=False)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Exercises
#
# Write the functions in `chapters/ch09_peft/exercises.py`. `python chapters/ch09_peft/exercises.py` checks what is
# there so far, one by one, with a hint for each mistake that it recognises:
#
# - `peft.count_lora`: how many parameters LoRA adds to layers of given shapes
# - `peft.low_rank_forward`: what a layer with LoRA computes
# - `peft.merge_weight`: one weight for both
# - `peft.nf4_block`: the codes and the absmax of one block
# - `peft.prefix_attention`: causal attention with keys and values in front
# - `peft.rank_budget`: which triplets of all matrices stay
#
# The same checks from a notebook. The first function is right. The second one forgets something that this chapter
# warned of:


# %%
def count_lora(shapes, rank):
    return sum(rank * (rows + columns) for rows, columns in shapes)


print(gptlab.check("peft.count_lora", count_lora))


def merge_weight(weight, A, B, alpha):
    return weight + B @ A


print(gptlab.check("peft.merge_weight", merge_weight))

# %% [markdown]
# ## What to take along
#
# - Full tuning takes 16 bytes for each parameter. A frozen weight takes two or four, or half a byte in NF4. Activations
#   come on top, with every method.
# - LoRA learns a difference of rank $r$. It begins at zero because of B and can learn because of A; α / r belongs to
#   it, in training and in merging.
# - Freeze, put in, then make the optimizer.
# - The base stays as it was, bit for bit. Adapters are small files that belong to *their* base; with `disable` the old
#   model is there again.
# - What stands in front of a text is a filled cache. A prefix is learned for each layer; a prompt is read by the model
#   itself.
# - Ask a model in the form in which it was tuned.
#
# Chapter 10 turns to the data: where instructions come from.
