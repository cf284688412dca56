# %% [markdown]
# # Chapter 5: Pretraining and GPT-2's weights
#
# Chapter 4 ended with a model that writes noise. This chapter makes it read, until it writes sentences; and then it
# fills the same model with the weights that OpenAI trained.
#
# **What you will build:** the loss, perplexity, the training loop (and prove that it does what the library's loop does,
# step for step), a learning-rate schedule, a function that chooses the next token, and a loader for GPT-2's weights. On
# the way you train a model live and watch its text get better, and you make another one learn its text by heart.
#
# **What you need:** tokens and sliding windows (chapter 2), and the model (chapter 4).
#
# **How long it takes:** about three hours to read and try. The code runs in about a minute and a half on two cores.
# GPT-2's weights are not needed; if they are on your disk, the last part uses them.
#
# Your numbers can differ a little from those in the text: another processor rounds in another order.
#
# **Run it:** open `notebooks/ch05_pretraining.ipynb`, or `python chapters/ch05_pretraining/lesson.py`.

# %%
import inspect
import json
import math
import random
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler

import gptlab
from gptlab import show

torch.manual_seed(0)
town = gptlab.SMALL_TOWN.town()  # the invented town of 40 people and the prose about it
base = gptlab.town_base()  # a model that has read this prose; the first call in a new copy trains it
tokenizer = base.tokenizer
cfg = base.model.cfg
cfg

# %% [markdown]
# ## 1. What is asked of the model
#
# At every place of a text, the model gives a probability to each of its V tokens: how likely is it that this one comes
# next? The text itself says which one was right. So we ask: **how much probability did the right token get?**
#
# We need a model that has learned nothing yet. `initialize_like_gpt2` (chapter 4) draws its first weights; a generator
# with a seed makes them the same every time.


# %%
def new_model(seed=0):
    model = gptlab.GPTModel(cfg)
    gptlab.initialize_like_gpt2(model, torch.Generator().manual_seed(seed))
    return model


untrained, trained = new_model(), base.model
person = town.held_out[0]
text = f"The home of {person.name} is in {person.facts['home']}."
ids = torch.tensor([tokenizer.encode_ordinary(text)])  # (1, T)
with torch.no_grad():
    before, after = (model(ids).softmax(dim=-1) for model in (untrained, trained))  # (1, T, V) each
print("so far                         then comes   untrained  trained")
for place in range(ids.shape[1] - 1):
    right = ids[0, place + 1]
    so_far = tokenizer.decode(ids[0, : place + 1].tolist())
    then = repr(tokenizer.decode([right.item()]))
    print(f"{so_far:<30} {then:<13} {before[0, place, right]:>7.3f} {after[0, place, right]:>9.3f}")

# %% [markdown]
# Look at the two columns. The untrained model gives every token about 1/500 = 0.002. The trained one is unsure where
# the text could go on in many ways (whose home?), and sure where the rest follows from what stands there: the end of
# the name, and the place where this person lives, which it has read.
#
# Training is nothing but: **change the weights a little, so that the right tokens get more probability**. For that we
# need one number.
#
# ## 2. Cross-entropy, by hand
#
# Three places, and a vocabulary of four tokens. The model gave these logits, and these tokens were right:

# %%
logits = torch.tensor([[2.0, 0.5, 0.1, -1.0], [0.0, 0.0, 0.0, 0.0], [-1.0, 3.0, 0.5, 0.2]])  # (3, 4)
targets = torch.tensor([0, 3, 2])
probabilities = logits.softmax(dim=-1)
right = probabilities[torch.arange(3), targets]  # of each row, the one at its target
print(probabilities)
print("probability of the right token:", right)

# %% [markdown]
# The model did well at the first place (0.70), knew nothing at the second (four equal chances), and was surely wrong at
# the third (0.07).
#
# How likely is the *whole* text? One multiplies the three. But a product of thousands of such numbers is too small for
# a computer. A logarithm turns the product into a sum:
#
#     ln(p1 p2 p3) = ln p1 + ln p2 + ln p3
#
# All these logarithms are negative, because p < 1. With a minus sign they become a **cost**: 0 for a probability of 1,
# and more and more as the probability goes to 0. The mean over the places is the **cross-entropy**:
#
#     loss = -(1 / N) sum over n of ln p_n(right token)

# %%
costs = -right.log()
print("costs:", costs, " mean:", costs.mean().item())
print("PyTorch:", F.cross_entropy(logits, targets).item())
assert torch.allclose(costs.mean(), F.cross_entropy(logits, targets))

# %% [markdown]
# Look at the costs: the one place that was surely wrong costs more than the other two together. Logarithms here are
# natural ones, so the unit is called the **nat**.
#
# Do not take `log` of `softmax` in real code. A probability can be so small that it is rounded to 0, and ln 0 is minus
# infinity. `log_softmax` computes both in one, ln p_i = x_i - ln(sum of e^x_j), and stays finite:

# %%
extreme = torch.tensor([200.0, 0.0])
print("log of softmax:", extreme.softmax(dim=-1).log(), "  log_softmax:", extreme.log_softmax(dim=-1))

# %% [markdown]
# One more thing is needed later: places where nothing shall be learned, such as padding (chapter 7). Their target is
# **-100**, which is no token. PyTorch and the library leave them out, *also from the number that the sum is divided
# by*. `gptlab.IGNORE_INDEX` is this -100.


# %%
def first_draft(logits, targets):
    """Return the mean cross-entropy in nats; logits (N, V), targets (N,)."""
    return -logits.log_softmax(dim=-1)[torch.arange(len(targets)), targets].mean()


def cross_entropy(logits, targets):
    """The same, without the places whose target is -100."""
    learned = targets != gptlab.IGNORE_INDEX
    return first_draft(logits[learned], targets[learned])


targets = torch.tensor([0, -100, 2])
assert torch.allclose(cross_entropy(logits, targets), F.cross_entropy(logits, targets))
cross_entropy(logits, targets)

# %% [markdown]
# ## 3. The loss of a batch
#
# A model gives logits of shape (B, T, V), and a batch has targets (B, T). Every place is one question, so we lay all B
# T places below one another: `flatten(0, 1)` makes (B T, V) of the logits, `flatten()` makes (B T,) of the targets.

# %%
tokens = gptlab.encode_documents(town.corpus.strip().split("\n\n")[:50], tokenizer)  # each closed by <|endoftext|>
windows = gptlab.SlidingWindows(tokens, length=64)
inputs, targets = next(iter(DataLoader(windows, batch_size=8)))  # a batch: (8, 64) and (8, 64)
for model in (untrained, trained):
    with torch.no_grad():
        logits = model(inputs)  # (8, 64, 500)
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten())
        total, count = gptlab.next_token_loss(model, inputs, targets)
    assert torch.allclose(loss, total / count, atol=1e-5)
    print(f"loss {loss:.3f}   next_token_loss: {total:.1f} for {count} targets, {total / count:.3f} each")

# %% [markdown]
# `gptlab.next_token_loss` takes the model, not its logits, and returns the **sum** and the number of targets. Why not
# the mean? Because means do not add up. If a batch has 10 targets and the next one has 1000, then the mean of their two
# means counts a target of the first a hundred times as much as one of the second. Sums and counts can always be added.
#
# ## 4. Perplexity
#
# The loss of the untrained model is near ln(500) = 6.21, as chapter 4 said: it guesses among 500. We can turn this
# round. What is e to the loss?
#
#     perplexity = e^loss
#
# It says: the model is **as unsure as if it had to choose among so many tokens, all equally likely**. Pure guessing has
# the vocabulary size as its perplexity, and 1 is perfect foresight.

# %%
for name, model in (("untrained", untrained), ("trained", trained)):
    with torch.no_grad():
        total, count = gptlab.next_token_loss(model, inputs, targets)
    print(f"{name:<10} loss {total / count:.2f} nats, perplexity {math.exp(total / count):.1f}")

# %% [markdown]
# First the mean over *all* tokens, then the exponential. The other way round, one terrible token spoils everything:
# with the costs 0.1, 0.1 and 9, the first way gives e^3.07 = 21, the mean of the three exponentials gives 2702.
#
# Perplexity has a weakness: it counts **tokens**. A tokenizer with longer tokens asks fewer and harder questions, so
# models with different tokenizers cannot be compared. **Bits per byte** can: the cost of the whole text in bits (a nat
# is 1 / ln 2 = 1.44 bits), divided by the text's length in bytes. `gptlab.perplexity` returns both. (The first token of
# a text is only read: nothing stands before it from which it could be foreseen.)

# %%
with torch.no_grad():
    total, count = gptlab.next_token_loss(trained, ids[:, :-1], ids[:, 1:])
measured = gptlab.perplexity(trained, text, tokenizer=tokenizer)
bits_per_byte = total.item() / math.log(2) / len(text.encode("utf-8"))
print(f"by hand {math.exp(total / count):.4f} and {bits_per_byte:.4f}")
print(f"library {measured.perplexity:.4f} and {measured.bits_per_byte:.4f}")
assert math.isclose(bits_per_byte, measured.bits_per_byte, rel_tol=1e-4)

# %% [markdown]
# ## 5. Data to learn from, and data to judge by
#
# A model that is judged by the text it has learned from could simply know that text by heart. So a part of the text is
# set aside before training: the **validation** set. Three rules for the cut:
#
# - **Cut between documents, not between windows.** Neighbouring windows share almost all of their tokens. If windows
#   were dealt out at random, nearly every validation window would have its twin in training.
# - **Remove double documents first**, or the same one can land on both sides.
# - **Shuffle before you cut.** Texts often come sorted, by date for example.

# %%
documents = town.corpus.strip().split("\n\n")
unique = list(dict.fromkeys(documents))  # keeps the order, drops what was there before
random.Random(0).shuffle(unique)
SET_ASIDE = 200  # quick: 20
validation_documents, training_documents = unique[:SET_ASIDE], unique[SET_ASIDE:]
training_tokens = gptlab.encode_documents(training_documents, tokenizer)
validation_tokens = gptlab.encode_documents(validation_documents, tokenizer)
print(f"{len(documents)} documents, {len(unique)} different ones")
print(f"{len(training_tokens):,} tokens to learn from, {len(validation_tokens):,} to judge by")
print(*validation_documents[:3], sep="\n")

# %% [markdown]
# Windows of 64 tokens, with stride 1 for training: a window can begin anywhere. A `DataLoader` puts them together into
# batches, and a `RandomSampler` says which ones: `steps * batch_size` windows at random. Its generator has a seed, so
# that we can have the very same batches twice.

# %%
LENGTH = 64


def batches_of(tokens, steps, batch_size, seed=0):
    windows = gptlab.SlidingWindows(tokens, LENGTH, stride=1)
    generator = torch.Generator().manual_seed(seed)
    sampler = RandomSampler(windows, num_samples=steps * batch_size, generator=generator)
    return DataLoader(windows, batch_size, sampler=sampler, generator=generator)


validation = DataLoader(gptlab.SlidingWindows(validation_tokens, LENGTH), batch_size=32)
print(f"{len(gptlab.SlidingWindows(training_tokens, LENGTH, stride=1)):,} windows to learn from")
print(f"validation loss of the untrained model: {gptlab.evaluate(untrained, validation):.3f}")

# %% [markdown]
# `gptlab.evaluate` is the mean over all targets of all batches: sums and counts, as in section 3.
#
# ## 6. The training loop
#
# Training repeats five things: forget the old gradients, compute the loss, compute its gradients, clip them, take a
# step. The **gradient** of the loss tells, for each weight, how fast the loss would grow if the weight grew. Go a
# little way against it, and the loss falls. PyTorch computes it: after `loss.backward()`, every parameter `p` has its
# gradient in `p.grad`.


# %%
def train_by_hand(model, batches, optimizer, max_grad_norm=1.0):
    losses = []
    model.train()
    for inputs, targets in batches:
        optimizer.zero_grad()
        logits = model(inputs)  # (B, T, V)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
# - `model.train()` switches dropout on, if there is any. (Judging switches it off, and must put it back.)
# - `optimizer.zero_grad()` forgets the gradients of the step before. `backward` **adds** to what is there; without this
#   line, old gradients would pull in old directions for ever.
# - `loss.backward()` computes the gradients.
# - `clip_grad_norm_` takes all gradients together as one long arrow. If it is longer than 1, it is shortened to 1. A
#   strange batch with a huge gradient then does no harm.
# - `optimizer.step()` changes the weights. Ours is **AdamW** (Loshchilov and Hutter 2017). For every weight it keeps a
#   running mean m of its gradient and a running mean v of its squared gradient, and then
#
#       weight = weight - rate * ( m / (sqrt(v) + 1e-8) + decay * weight )
#
# The last term, weight decay, pulls a little towards 0. `rate` is the **learning rate**, and it is the setting that
# matters most. `gptlab.make_optimizer` makes an AdamW that spares biases and norms from the decay.
# - `loss.item()` takes the number out. Without `.item()`, the list would keep every step's tensors in memory.
#
# Now with the library: `gptlab.train` does the same, and returns a `History` with the losses, the learning rates and,
# if asked for, the validation losses. Same first weights and same batches, so the losses should be the same.

# %%
STEPS = 20  # quick: 4
by_hand = new_model()
losses = train_by_hand(by_hand, batches_of(training_tokens, STEPS, 8), gptlab.make_optimizer(by_hand, 1e-3))

by_library = new_model()
optimizer = gptlab.make_optimizer(by_library, 1e-3)
history = gptlab.train(by_library, batches_of(training_tokens, STEPS, 8), optimizer=optimizer, progress=False)
for step in range(0, STEPS, 4):
    print(f"step {step + 1:>2}: by hand {losses[step]:.5f}, library {history.losses[step]:.5f}")
assert torch.allclose(torch.tensor(losses), torch.tensor(history.losses), atol=1e-3)

# %% [markdown]
# They agree. The library's loop has more around it (checks, saving, progress), but its heart is the same five things.
# Find them in its source:

# %%
print(inspect.getsource(gptlab.training.loop.take_step))

# %% [markdown]
# (`gradients.add` computes the loss and calls `backward`; `scaler` matters for 16-bit numbers only; and a step whose
# loss is not a finite number is never taken.)
#
# ## 7. Which learning rate?
#
# With too small a rate nothing happens, with too large a rate the loss jumps about or explodes. One can simply **try**
# (Smith 2015): train for a hundred steps, begin with a tiny rate, and multiply it by the same factor after each step.
# Then look at the loss over the rate. `gptlab.find_learning_rate` does that, and puts the model back as it was.

# %%
SEARCH_STEPS = 100  # quick: 10
search = gptlab.find_learning_rate(new_model(), batches_of(training_tokens, SEARCH_STEPS, 8), steps=SEARCH_STEPS)
show.plot_learning_rates(search)

# %% [markdown]
# Read it from left to right; the horizontal axis is logarithmic, each mark is ten times the one before.
#
# - **Flat, on the left:** the rate is too small, nothing is learned.
# - **Falling:** here the model learns.
# - **The bottom** (of the thick line, the running mean; the thin one is each step's loss): the rate begins to be too
#   large; what one step gains, the next one loses.
# - **Rising:** training is destroyed.
#
# A good rate lies where the loss still falls, well before the bottom. The suggestion (dashed) is a tenth of the rate at
# the bottom. It is no law, only a good place to begin. Here it says:

# %%
print(f"suggested: {search.suggestion:.1e}")

# %% [markdown]
# ## 8. Warm-up and cosine
#
# The rate need not stay the same. Two ideas are used almost everywhere:
#
# - **Warm-up:** begin with a small rate and raise it step by step (Goyal et al. 2017).
# - **Cosine:** lower it slowly towards the end, so that the last steps can settle (Loshchilov and Hutter 2016).
#
# As an equation, for the steps t = 0, 1, ..., total - 1:
#
#     rate(t) = peak * (t + 1) / warmup                             while t < warmup
#     rate(t) = peak * (final + (1 - final) (1 + cos(pi s)) / 2)    after that
#
# s goes from 0, right after the warm-up, to 1 at the last step: s = (t - warmup) / (total - 1 - warmup). cos(0) = 1
# gives the peak, cos(pi) = -1 gives `final` times the peak; `final` is 0.1 here. Note the t + 1: the very first step
# has a small rate, but not 0, which would be a step for nothing.
#
# Why a warm-up? Look at AdamW's equation again, at the first step. m and v come from one single gradient g, and PyTorch
# corrects them so that m = g and v = g². Then m / sqrt(v) = g / |g|, which is 1 or -1. **Every weight moves by the full
# rate, however small its gradient is.** Let us see that:

# %%
model = new_model()
optimizer = gptlab.make_optimizer(model, 3e-3)
before = [parameter.detach().clone() for parameter in model.parameters()]
train_by_hand(model, batches_of(training_tokens, 1, 8), optimizer)
gradients = torch.cat([parameter.grad.abs().flatten() for parameter in model.parameters()])
moves = torch.cat([(new.detach() - old).abs().flatten() for new, old in zip(model.parameters(), before)])
print("            10% are below    half are below    90% are below")
for name, values in (("|gradient|", gradients), ("|move|", moves)):
    print(f"{name:<10}" + "".join(f"{values.quantile(q).item():>17.6f}" for q in (0.1, 0.5, 0.9)))

# %% [markdown]
# The gradients differ by a factor of a hundred, and yet nearly all weights moved by 0.003, the rate. One batch of 512
# tokens decided about the direction of 690,000 weights, and nearly all of them went the full way. After some steps m
# and v are means over several batches, and a weight whose gradients disagree moves less. Until then, small steps are
# wiser.
#
# Is it so? We measure: two peak rates, each with and without warm-up. The scheduler of `gptlab.warmup_cosine` sets the
# optimizer's rate; `train` calls it after each step.

# %%
WARMUP_STEPS = 80  # quick: 10
runs = {}
for peak in (2e-3, 8e-3):
    for warmup in (0, WARMUP_STEPS // 5):
        model = new_model()
        optimizer = gptlab.make_optimizer(model, peak)
        schedule = gptlab.warmup_cosine(optimizer, total_steps=WARMUP_STEPS, warmup_steps=warmup)
        batches = batches_of(training_tokens, WARMUP_STEPS, 8)
        runs[peak, warmup] = gptlab.train(model, batches, optimizer=optimizer, schedule=schedule, progress=False)

# %%
figure, [left, right] = show.new_axes(9, 3.4, columns=2)
for (peak, warmup), history in runs.items():
    style = {"color": show.COLORS[peak > 5e-3], "linestyle": "-" if warmup else "--"}
    label = f"peak {peak:g}, " + (f"warm-up of {warmup} steps" if warmup else "no warm-up")
    left.plot(history.learning_rates, label=label, **style)
    right.plot(history.smoothed(8), **style)
left.set(xlabel="optimizer steps", ylabel="learning rate", title="the schedule")
right.set(xlabel="optimizer steps", ylabel="loss (nats per token)", title="what came of it")
figure.legend(loc="outside lower center", ncols=2, frameon=False)
figure

# %%
for (peak, warmup), history in runs.items():
    print(f"peak {peak:g}, warm-up {warmup:>2}: mean loss of the last ten steps {sum(history.losses[-10:]) / 10:.2f}")

# %% [markdown]
# Left: dashed lines start at the peak, solid ones climb to it; all end at a tenth of their peak. Right: at first the
# runs without warm-up are *ahead*, as their steps are larger: for a few steps with the high rate, for some more with
# the low one. Then both fall behind their partners: the large first steps have brought the weights to a place that is
# hard to leave. Two more things, to be honest. These runs have 80 steps, which makes the first few important; in a long
# run the difference shrinks. And the lower peak won here; the suggestion of section 7 lies between the two. (The lines
# are running means. That all rise at the end is chance: all runs get the same batches, and the last ones are harder.)
#
# ## 9. Watch a text get better
#
# Now a real training, with 8 times 50 steps. An **epoch** is one round through the loader, here 50 batches. After each
# epoch, `gptlab.train` calls `after_epoch`, and we let the model write: the same beginning each time, always the most
# likely token (greedy, chapter 4), until it writes `<|endoftext|>`. The validation loss is measured as well.

# %%
EPOCHS = 8  # quick: 2
STEPS_PER_EPOCH = 50  # quick: 3
beginning = f"The home of {person.name}"


def write_on(model, beginning, new_tokens=32, **how):
    prompt = tokenizer.encode_ordinary(beginning)
    [new] = gptlab.generate(model, [prompt], max_new_tokens=new_tokens, eos_id=tokenizer.eot_token, **how)
    return beginning + tokenizer.decode(new)


def pretrain(tokens, tell=False):
    model = new_model()
    optimizer = gptlab.make_optimizer(model, 4e-3)
    total = EPOCHS * STEPS_PER_EPOCH
    schedule = gptlab.warmup_cosine(optimizer, total_steps=total, warmup_steps=total // 20)

    def after_epoch(epoch, history):
        if tell:
            step, loss = history.validation[-1]
            print(f"step {step:>3}, validation loss {loss:.2f}: {write_on(model, beginning)!r}")

    batches = batches_of(tokens, STEPS_PER_EPOCH, batch_size=16)
    settings = {"optimizer": optimizer, "schedule": schedule, "epochs": EPOCHS, "validation": validation}
    return model, gptlab.train(model, batches, **settings, after_epoch=after_epoch, progress=False)


# %%
live, plenty = pretrain(training_tokens, tell=True)

# %% [markdown]
# Watch what it learns, and in which order: first frequent letters and syllables, then words, then sentences in the
# forms of this town. "The home of ... is in" is followed by a place, but is it the right one? The corpus says:

# %%
print(person)
print("ours:     ", write_on(live, beginning, 7))
print("town_base:", write_on(trained, beginning, 7))

# %% [markdown]
# Form comes before facts. The form of a sentence occurs hundreds of times; where one person lives, only about fifty
# times. `town_base()` learned with the same loop, but from three times as many tokens (800 steps of 12 times 128), and
# it knows.
#
# The curve of the same training. The thin line is the loss of each batch, the thick one its running mean, and the dots
# are the validation loss.

# %%
show.plot_losses({"all documents": {"our model": plenty}})

# %% [markdown]
# Two things to see. The loss falls quickly at first (frequent tokens are easy) and slowly later. And **the dots lie on
# the thin line** (the thick one, a mean of the last steps, comes a little late where it is steep): what the model
# learned from the training documents holds just as well for documents that it has never seen. It met most of the
# 345,000 tokens only once or twice; nobody learns a text by heart like that.
#
# It will not fall to 0, with any model. The dice of this town show random numbers, and nobody can foresee them.
#
# ## 10. Overfitting
#
# Now we take away the plenty: the same model, the same number of steps, the same rate, the same validation documents.
# But only **100 documents** to learn from.

# %%
few_tokens = gptlab.encode_documents(training_documents[:100], tokenizer)
seen = EPOCHS * STEPS_PER_EPOCH * 16 * LENGTH  # steps times batch size times tokens
print(f"{len(few_tokens):,} tokens; every one is seen about {seen / len(few_tokens):.0f} times")
parrot, few = pretrain(few_tokens)
panels = {f"{len(training_documents):,} documents": plenty, "100 documents": few}
figure = show.plot_losses({title: {"our model": history} for title, history in panels.items()})
for axis in figure.axes:
    axis.set_ylim(0, 6.5)  # one scale for both
figure

# %% [markdown]
# On the right, the training loss falls to almost nothing, better than on the left. But look at the dots: they fall for
# a short while, then **turn up and rise**, while the training loss goes on falling. This is **overfitting**. From here
# on the model no longer learns how the town speaks. It learns these 100 documents by heart, and the surer it gets, the
# more it pays where the text is another one.
#
# Without a validation set you would see only the falling line, and be proud. Let both models go on with a document that
# the second one learned, and with one that neither has seen:

# %%
texts = {"learned by heart": training_documents[:100], "never seen": validation_documents}
for title, candidates in texts.items():
    document = next(text for text in candidates if "colour" in text)
    start = " ".join(document.split()[:8])
    print(f"{title}: {start} ...")
    print(f"  the document: {document[len(start) : len(start) + 75]}")
    print(f"  plenty:       {write_on(live, start, 24)[len(start) :]}")
    print(f"  100 documents:{write_on(parrot, start, 24)[len(start) :]}\n")

# %% [markdown]
# The model with 100 documents gives back its document word for word. A text that is new to it, it ends with pieces of
# what it knows by heart, or it repeats itself. The other model writes a sentence of this town in both cases.
#
# The numbers at the end of both trainings, and when the validation loss was lowest:

# %%
for name, history in (("plenty", plenty), ("few", few)):
    best_step, best = min(history.validation, key=lambda pair: pair[1])
    last = history.validation[-1][1]
    print(
        f"{name:<7} training {history.smoothed()[-1]:.2f}, validation {last:.2f}; best {best:.2f} at step {best_step}"
    )
assert few.validation[-1][1] > 1.2 * min(loss for _, loss in few.validation)  # full size only

# %% [markdown]
# What helps, best first: more text; stopping (or keeping the weights) where the validation loss is lowest; a smaller
# model; dropout and weight decay.
#
# ### A gap that is not overfitting
#
# We judge the first model again, by the same validation documents, but in windows of 128 tokens:

# %%
longer = DataLoader(gptlab.SlidingWindows(validation_tokens, 2 * LENGTH), batch_size=16)
for batches in (validation, longer):
    print(f"windows of {batches.dataset.length:>3}: validation loss {gptlab.evaluate(live, batches):.2f}")

# %% [markdown]
# Much worse! Yet the documents are the same, and a longer past should help. Before you speak of overfitting, look
# *where* the loss is: here is its mean at each place of the window, for our model and for the town's, which was trained
# with windows of 128. (The town's model has read these documents. Compare the form of the two lines, not their height.)


# %%
@torch.no_grad()
def loss_by_place(model, batches):
    costs = [F.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none") for inputs, targets in batches]
    return torch.cat(costs).mean(dim=0)  # (B, T) -> (T,)


figure, [axis] = show.new_axes(7, 3)
for (label, model), style in zip({"ours": live, "the town's": trained}.items(), ("-", "--")):
    means = loss_by_place(model, longer).unfold(0, 8, 1).mean(dim=1)  # a running mean over 8 places
    axis.plot(range(4, 4 + len(means)), means, style, label=label)
axis.axvline(LENGTH, color="gray", linestyle=":")
axis.set(xlabel="place in the window (tokens)", ylabel="loss (nats per token)", ylim=(0, None))
axis.legend(frameon=False)
figure

# %% [markdown]
# Up to place 64 (dotted) all is well. (The line rises a little earlier, because each point is a mean over 8 places.)
# Behind it our model breaks down. The context length is 256, so the model has 256 position vectors; but in training it
# only ever met the first 64. **The other position vectors are still the random numbers of the beginning** (made a
# little smaller by weight decay). So train with windows as long as what you will read and write later, and when a
# number surprises you, break it down before you explain it.
#
# ## 11. Choosing the next token
#
# The model gives probabilities; which token do we take? The most likely one, always? That is **greedy**, the same text
# every time. The other way is to **draw**: a token with probability 0.2 is taken in one case out of five.
#
# In between lies the **temperature** τ. The logits x are divided by it before the softmax:
#
#     p_i = softmax(x / τ)_i
#
# τ < 1 makes differences larger, so the likely tokens gain. τ > 1 makes them smaller. τ to 0 becomes greedy, and τ = 1
# is what the model itself believes. We look at the first word of a document after "The" (documents begin after
# `<|endoftext|>`, so we put this token first):

# %%
opening = [tokenizer.eot_token, *tokenizer.encode_ordinary("The")]
with torch.no_grad():
    logits = trained(torch.tensor([opening]))[0, -1]  # (V,), of the last place
show.plot_next_tokens(logits, tokenizer, temperatures=(0.3, 1.0, 3.0))

# %% [markdown]
# Compare the three bars of each token. At 0.3 nearly everything goes to the first few, at 3 the bars are almost flat:
# then *every* token of the vocabulary has a chance, also those that make no sense here.
#
# That long tail is the problem with drawing. Each wrong token is unlikely, but there are hundreds of them, and it takes
# one to spoil a text. So one cuts the tail off:
#
# - **top-k**: draw among the k most likely tokens only (Fan et al. 2018);
# - **top-p**: draw among the fewest tokens, the most likely first, whose probabilities add up to at least p (Holtzman
#   et al. 2019). Where the model is sure, that is one or two; where many are possible, it is many.
#
# By hand, for the logits of one place. What is cut off becomes minus infinity, which softmax turns into 0:


# %%
def keep_top_k(logits, k):
    least = logits.topk(k).values[-1]
    return logits.masked_fill(logits < least, -math.inf)


def keep_top_p(logits, p):
    ordered, order = logits.softmax(dim=-1).sort(descending=True)
    more_likely = ordered.cumsum(dim=-1) - ordered  # what the tokens before it add up to
    kept = torch.zeros_like(logits, dtype=torch.bool)
    kept[order[more_likely < p]] = True
    return logits.masked_fill(~kept, -math.inf)


def choose(logits, temperature, generator):
    if temperature == 0:
        return logits.argmax().item()
    probabilities = (logits / temperature).softmax(dim=-1)
    return torch.multinomial(probabilities, 1, generator=generator).item()  # draws one index


# %% [markdown]
# Draw a thousand times at temperature 1. How often a token comes should be close to its probability:

# %%
generator = torch.Generator().manual_seed(0)
drawn = [choose(logits, 1.0, generator) for _ in range(1000)]
for token in logits.topk(5).indices.tolist():
    probability = logits.softmax(dim=-1)[token].item()
    print(f"{tokenizer.decode([token])!r:<8} drawn {drawn.count(token):>3} times, probability {probability:.3f}")

# %% [markdown]
# How many tokens are left by top-k and top-p, at a place where much is possible and at one where little is? And do our
# drafts agree with the library's filters?

# %%
from gptlab.decoding import filters

with torch.no_grad():
    sure = trained(torch.tensor([tokenizer.encode_ordinary(f"{beginning} is in")]))[0, -1]
for name, place in ((repr("The"), logits), (repr(f"{beginning} is in"), sure)):
    by_k, by_p = keep_top_k(place, 10), keep_top_p(place, 0.9)  # [[]] below: the tokens so far, not needed here
    print(f"{name:<25} top-k of 10 leaves {by_k.isfinite().sum()}, top-p of 0.9 leaves {by_p.isfinite().sum()}")
    assert torch.equal(by_k, filters.keep_top_k(10)([[]], place.unsqueeze(0))[0])
    assert torch.equal(by_p, filters.keep_top_p(0.9)([[]], place.unsqueeze(0))[0])

# %% [markdown]
# And what does it do to a text? `gptlab.generate` has all of these as arguments. Each row has its own seed:

# %%
for settings in ({"temperature": 0}, {"temperature": 0.7}, {"temperature": 1.5}, {"temperature": 1.5, "top_p": 0.8}):
    print(settings)
    for seed in range(2):
        print("   ", repr(write_on(trained, "The", seed=seed, **settings)))

# %% [markdown]
# Greedy writes the same thing twice. At 0.7 the texts differ, and their sentences have the forms of this town (the sums
# in them are often wrong: the model knows how such sentences sound, not how to compute). At 1.5 there are words that
# this town does not have, and top-p brings most of the order back.
#
# ## 12. Save, and go on another day
#
# `gptlab.save_checkpoint` writes a model with its tokenizer into a folder, `gptlab.load_checkpoint` reads it. That is
# enough to *use* the model. To *go on training* one also needs the optimizer's m and v, the schedule, and the random
# states: `gptlab.train(..., checkpoints=gptlab.TrainingCheckpoints(folder, every=100))` keeps all of it, and when the
# same line runs again after a power cut, it goes on where it was.

# %%
with tempfile.TemporaryDirectory() as folder:
    gptlab.save_checkpoint(folder, live, tokenizer)
    print(sorted(path.name for path in Path(folder).iterdir()))
    again = gptlab.load_checkpoint(folder)
with torch.no_grad():
    assert torch.equal(again.model(inputs), live.eval()(inputs))

# %% [markdown]
# ## 13. GPT-2's weights
#
# Our small model read 0.4 million tokens. OpenAI's GPT-2 read 40 GB of text, on machines that we do not have. But its
# weights are public, and our model is the same machine. So we can fill it.
#
# To have them, run this once (about 550 MB; a mirror such as https://hf-mirror.com can be set in `HF_ENDPOINT`):
#
#     gptlab download 124M
#
# (The last sections then take a few seconds more, and 3 GB of memory.) This lesson itself never downloads. `find_local`
# looks whether they are on this disk. **If not, we write a file of the same form ourselves: the same names, the same
# order of dimensions, but small, and with random numbers.** All that follows works for either. Of course a random model
# writes nothing sensible, but a loader is right or wrong just the same.


# %%
def write_random_gpt2(folder, vocab_size, D=64, heads=4, blocks=2, context=128):
    """Write config.json and model.safetensors as GPT-2 has them, with random numbers."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"wte.weight": (vocab_size, D), "wpe.weight": (context, D), "ln_f.weight": (D,), "ln_f.bias": (D,)}
    for i in range(blocks):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h.{i}.{norm}.weight": (D,), f"h.{i}.{norm}.bias": (D,)}
        sizes = {"attn.c_attn": (D, 3 * D), "attn.c_proj": (D, D), "mlp.c_fc": (D, 4 * D), "mlp.c_proj": (4 * D, D)}
        for name, shape in sizes.items():
            shapes |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[1:]}
    theirs = {name: 0.07 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    for name in theirs:
        if "ln_" in name and name.endswith("weight"):
            theirs[name] += 1  # scales of norms are near 1
    theirs |= {f"h.{i}.attn.bias": torch.ones(1, 1, context, context).tril() for i in range(blocks)}
    config = {"model_type": "gpt2", "vocab_size": vocab_size, "n_positions": context, "n_embd": D, "n_head": heads}
    save_file(theirs, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config | {"n_layer": blocks}), encoding="utf-8")


# %%
from gptlab.weights.hub import find_local

temporary = tempfile.TemporaryDirectory()
random_folder = Path(temporary.name)
write_random_gpt2(random_folder, tokenizer.n_vocab)

gpt2_folder = find_local("124M", gptlab.checkpoints_folder()) or random_folder
is_real = gpt2_folder != random_folder
print("GPT-2's own weights, 124M" if is_real else "a small file with RANDOM weights, in GPT-2's form")

# %% [markdown]
# A `.safetensors` file is a table of names and tensors. What is in it? (Weights also come as pickles, `.bin` or `.pt`.
# A pickle can run code when it is opened; a `.safetensors` file cannot.)


# %%
def read_weights(folder):
    theirs = load_file(folder / "model.safetensors")
    return {name.removeprefix("transformer."): tensor for name, tensor in theirs.items()}  # some files have a prefix


theirs = read_weights(gpt2_folder)
for name in sorted(theirs):
    if not name.startswith("h.") or name.startswith("h.0."):
        print(f"{name:<24} {tuple(theirs[name].shape)}")
print(f"... and the same for each block: {len(theirs)} tensors")

# %% [markdown]
# With D as the length of a token's vector, this is the whole translation:
#
# | theirs | shape | ours | how |
# |---|---|---|---|
# | `wte.weight` ("word token embedding") | (V, D) | `tok_emb.weight`, and tied: `out_head.weight` | as it is |
# | `wpe.weight` ("word position embedding") | (context, D) | `pos_emb.weight` | as it is |
# | `h.i.ln_1.weight`, `.bias` | (D) | `trf_blocks.i.norm1.scale`, `.shift` | as it is |
# | `h.i.attn.c_attn.weight` | (D, 3D) | `att.W_query`, `W_key`, `W_value`: each (D, D) | split, **transpose** |
# | `h.i.attn.c_attn.bias` | (3D) | their `.bias`, each (D) | split |
# | `h.i.attn.c_proj.weight` | (D, D) | `att.out_proj.weight` (D, D) | **transpose** |
# | `h.i.ln_2.weight`, `.bias` | (D) | `norm2.scale`, `.shift` | as it is |
# | `h.i.mlp.c_fc.weight` | (D, 4D) | `ff.layers.0.weight` (4D, D) | **transpose** |
# | `h.i.mlp.c_proj.weight` | (4D, D) | `ff.layers.2.weight` (D, 4D) | **transpose** |
# | `attn.c_proj.bias`, `mlp.c_fc.bias`, `mlp.c_proj.bias` | (D), (4D), (D) | the `.bias` | as it is |
# | `ln_f.weight`, `.bias` | (D) | `final_norm.scale`, `.shift` | as it is |
# | `h.i.attn.bias` | (1, 1, context, context) | nothing | leave it out |
#
# The last one is a trap: it is called bias, but it is the causal mask of chapter 3, which some files carry along.
#
# ## 14. Why transpose, and what
#
# The `c` in these names stands for convolution. OpenAI wrote its linear layers as convolutions of width 1, which is a
# plain matrix product, with the vector on the left:
#
#     y = x W + b         W has the shape (in, out)
#
# `nn.Linear` of PyTorch stores its weight the other way, one *row* for each output:
#
#     y = x Wᵀ + b        W has the shape (out, in)
#
# Both are the same function if one weight is the other one **transposed**. In numbers, with `c_fc`:

# %%
D = theirs["wte.weight"].shape[1]
x = torch.randn(5, D)
weight, bias = theirs["h.0.mlp.c_fc.weight"], theirs["h.0.mlp.c_fc.bias"]
linear = nn.Linear(D, 4 * D)
print("theirs:", tuple(weight.shape), "  nn.Linear(D, 4D):", tuple(linear.weight.shape))
linear.weight, linear.bias = nn.Parameter(weight.T), nn.Parameter(bias)
assert torch.allclose(x @ weight + bias, linear(x), atol=1e-4)

# %% [markdown]
# **`c_attn` splits into three, along the last axis.** The output of a linear layer is made column by column of W: the
# first D columns make the first D outputs. OpenAI put the three matrices side by side, [W_query | W_key | W_value], so
# that one product computes all three. Columns are the last axis in their form. (After transposing they would be rows,
# the first axis. Either order is right, as long as you know where you are.)

# %%
weight, bias = theirs["h.0.attn.c_attn.weight"], theirs["h.0.attn.c_attn.bias"]
all_three = x @ weight + bias  # (5, 3D)
for part, (w, b) in enumerate(zip(weight.chunk(3, dim=-1), bias.chunk(3))):  # chunk: three equal parts
    assert torch.allclose(all_three[:, part * D : (part + 1) * D], F.linear(x, w.T, b), atol=1e-4)
    print(["query", "key", "value"][part], tuple(w.T.shape), tuple(b.shape))

# %% [markdown]
# **What is not transposed, and why:**
#
# - **Embeddings** are tables, not products: token 7's vector is row 7, for them and for us, (V, D).
# - **The output head** computes logits = x Eᵀ with E = `wte`, (V, D). That is exactly the form of an `nn.Linear(D, V)`,
#   whose weight is (V, D). So embedding and head can be one tensor as it is: the **tied head**.
# - **Biases, scales and shifts** are vectors. A vector has one axis, there is nothing to transpose.
#
# ## 15. The loader
#
# `gptlab.assign_check(left, right)` returns a copy of `right` as a new parameter, to put where `left` is. It raises a
# ValueError if the shapes differ. So it is safer than a plain `=`.


# %%
def load_by_hand(model, theirs):
    assign = gptlab.assign_check
    model.tok_emb.weight = assign(model.tok_emb.weight, theirs["wte.weight"])
    model.pos_emb.weight = assign(model.pos_emb.weight, theirs["wpe.weight"])
    for i, block in enumerate(model.trf_blocks):
        att, ff = block.att, block.ff.layers
        weights = theirs[f"h.{i}.attn.c_attn.weight"].chunk(3, dim=-1)
        biases = theirs[f"h.{i}.attn.c_attn.bias"].chunk(3, dim=-1)
        for linear, weight, bias in zip((att.W_query, att.W_key, att.W_value), weights, biases):
            linear.weight = assign(linear.weight, weight.T)
            linear.bias = assign(linear.bias, bias)
        for linear, name in ((att.out_proj, "attn.c_proj"), (ff[0], "mlp.c_fc"), (ff[2], "mlp.c_proj")):
            linear.weight = assign(linear.weight, theirs[f"h.{i}.{name}.weight"].T)
            linear.bias = assign(linear.bias, theirs[f"h.{i}.{name}.bias"])
        for norm, name in ((block.norm1, "ln_1"), (block.norm2, "ln_2")):
            norm.scale = assign(norm.scale, theirs[f"h.{i}.{name}.weight"])
            norm.shift = assign(norm.shift, theirs[f"h.{i}.{name}.bias"])
    model.final_norm.scale = assign(model.final_norm.scale, theirs["ln_f.weight"])
    model.final_norm.shift = assign(model.final_norm.shift, theirs["ln_f.bias"])
    model.out_head.weight = model.tok_emb.weight  # tied: one tensor, not a copy


# %% [markdown]
# The weights alone do not say how many heads there are, so `config.json` beside them does. (GPT-2 counts off its heads
# as chapter 3 does, the first `head_dim` outputs for the first head, so nothing inside the matrices has to be moved.)
# GPT-2 has biases for query, key and value.


# %%
def gpt2_config(folder):
    theirs = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return gptlab.GPTConfig(
        vocab_size=theirs["vocab_size"],
        context_length=theirs["n_positions"],
        emb_dim=theirs["n_embd"],
        n_heads=theirs["n_head"],
        n_layers=theirs["n_layer"],
        qkv_bias=True,
        tie_weights=True,
    )


ours = gptlab.GPTModel(gpt2_config(gpt2_folder))
load_by_hand(ours, theirs)
ours.eval()
print(f"{gptlab.count_parameters(ours):,} parameters; tied: {ours.out_head.weight is ours.tok_emb.weight}")

# %% [markdown]
# Is it right? The library has two ways. `gptlab.load_gpt2` makes model and tokenizer from a folder or a name;
# `gptlab.load_weights` fills a model that is there. Their logits must be ours:

# %%
some_ids = torch.randint(0, ours.cfg.vocab_size, (2, 40))
with torch.no_grad():
    right_logits = ours(some_ids)

library, gpt2_tokenizer = gptlab.load_gpt2(gpt2_folder)
with torch.no_grad():
    print("largest difference from load_gpt2:   ", (right_logits - library(some_ids)).abs().max().item())
    assert torch.allclose(right_logits, library(some_ids), rtol=1e-4, atol=1e-4)

library = gptlab.GPTModel(ours.cfg).eval()  # takes the place of the other one: GPT-2 needs half a gigabyte each time
gptlab.load_weights(library, gpt2_folder)
with torch.no_grad():
    print("largest difference from load_weights:", (right_logits - library(some_ids)).abs().max().item())
    assert torch.allclose(right_logits, library(some_ids), rtol=1e-4, atol=1e-4)
del library

# %% [markdown]
# The library's version is a table, like the one above, and a few lines that walk through it. Here is its table for one
# block, and the walk:

# %%
for theirs_name, ours_names, transposed in gptlab.weights.gpt2.translations(1):
    print(f"{theirs_name:<22} {'transposed ' if transposed else '':<11}-> {', '.join(ours_names)}")
print()
print(inspect.getsource(gptlab.weights.gpt2._fill))

# %% [markdown]
# Let it write. With GPT-2's own weights you get English. With the random file you get noise, from a loader that is
# proved right:

# %%
used = gpt2_tokenizer or tokenizer  # the random file comes without one, so we take the town's
prompt = "The best way to learn a language is"
[new] = gptlab.generate(ours, [used.encode_ordinary(prompt)], max_new_tokens=20)
print("GPT-2:" if is_real else "random weights:", prompt + used.decode(new))

# %% [markdown]
# ## 16. A forgotten transpose
#
# What happens if one forgets the `.T`? For `c_fc`, (D, 4D) does not fit into (4D, D), and `assign_check` says so:

# %%
layer = ours.trf_blocks[0].ff.layers[0]
try:
    gptlab.assign_check(layer.weight, theirs["h.0.mlp.c_fc.weight"])
except ValueError as error:
    print(error)

# %% [markdown]
# But `attn.c_proj` is **square**, (D, D), and so are the three parts of `c_attn`. Forgotten there, *nothing* complains.
# (The town's loss below is on text that it has read. Only the change counts.) We measure what it does: on the logits of
# the model that we have just loaded, and on the town's model, which knows something that can be lost. Transposing twice
# changes nothing, so one function is enough to break and to mend.


# %%
def transpose_squares(model, names):
    for block in model.trf_blocks:
        for name in names:
            linear = getattr(block.att, name)
            linear.weight.data = linear.weight.data.T.contiguous()


forgotten = {"nothing": [], "query and key": ["W_query", "W_key"], "value": ["W_value"], "out_proj": ["out_proj"]}
print(f"the logits of the loaded model are about {right_logits.std():.2f} apart\n")
print("forgotten        logits change by   the town's loss   the town's model writes")
for title, names in forgotten.items():
    for model in (ours, trained):
        transpose_squares(model, names)
    with torch.no_grad():
        change = (ours(some_ids) - right_logits).abs().mean()
    loss, written = gptlab.evaluate(trained, validation), write_on(trained, beginning, 14)
    print(f"{title:<16} {change:>16.4f} {loss:>17.2f}   {written!r}")
    for model in (ours, trained):
        transpose_squares(model, names)  # back again

# %% [markdown]
# No error, no warning, and the model is ruined. If a loaded GPT-2 writes nonsense, look at the square matrices first.
# And this is why the lesson compared **logits** with another loader: shapes that fit prove nothing.

# %% [markdown]
# ## Find the mistake
#
# Somebody wants to go on training a loaded model on the town's prose. To keep this quick we take the small random file
# in any case. The code runs without an error:

# %%
MISTAKE_STEPS = 100  # quick: 4
batches = batches_of(training_tokens, MISTAKE_STEPS, 8)

model = gptlab.GPTModel(gpt2_config(random_folder))
optimizer = gptlab.make_optimizer(model, 3e-3)
load_by_hand(model, read_weights(random_folder))

before = [parameter.detach().clone() for parameter in model.parameters()]
broken = train_by_hand(model, batches, optimizer)
print("loss at every 20th step:", [round(loss, 2) for loss in broken[::20]])
moved = max((new - old).abs().max().item() for new, old in zip(model.parameters(), before))
print(f"the gradient of tok_emb.weight at the last step has the length {model.tok_emb.weight.grad.norm():.4f}")
print(f"the largest move of any weight, from the first step to the last: {moved}")

# %% [markdown]
# The loss does not fall. What is wrong? Decide from what can be seen. Three people have three ideas:
#
# 1. "The learning rate is too small."
# 2. "`zero_grad` is at the wrong place, so that the gradients are gone before the step."
# 3. "The gradients do not reach the weights."
#
# Which of the printed numbers speaks for or against each of them? Think before you open the answer.
#
# <details><summary>The answer</summary>
#
# Against 1: with a small rate the weights would move a little. The largest move is *exactly* 0.0. Not one of the
# weights was touched, not even by weight decay.
#
# Against 2: the gradient of this weight is there, and it is not 0.
#
# So gradients are there, and nobody uses them: number 3. The optimizer steps, but it steps *something else*. Look at
# the order of the lines: the optimizer was made **before** the weights were loaded. `load_by_hand` does not write
# numbers into the old parameters. It puts *new* `nn.Parameter` objects in their places. The optimizer still holds the
# old ones, which belong to no model any more. It also means that `optimizer.zero_grad()` clears the wrong gradients, so
# those of the model pile up.
#
# The rule: **first the model as it shall be (loaded, on its device, with its new head), then the optimizer.** Or load
# in place, as `gptlab.load_weights` does, which copies the numbers into the parameters that are there.
#
# </details>
#
# Repaired, the two lines change places:

# %%
model = gptlab.GPTModel(gpt2_config(random_folder))
load_by_hand(model, read_weights(random_folder))
optimizer = gptlab.make_optimizer(model, 3e-3)
repaired = train_by_hand(model, batches_of(training_tokens, MISTAKE_STEPS, 8), optimizer)

figure, [axis] = show.new_axes(6, 3)
axis.plot(broken, "--", label="as it was")
axis.plot(repaired, label="repaired")
axis.axhline(math.log(cfg.vocab_size), color="gray", linestyle=":", label="ln(V), pure guessing")
axis.set(xlabel="optimizer steps", ylabel="loss (nats per token)", ylim=(0, 7))
axis.legend(frameon=False)
figure

# %% [markdown]
# A curve that is flat from the first step on, up to the noise of the batches, means: nothing moves. Ask the weights
# before you try other rates.

# %%
assert broken[-1] > repaired[-1] + 1  # full size only
temporary.cleanup()

# %% [markdown]
# ## Exercises
#
# They are in `chapters/ch05_pretraining/exercises.py`. Write your answers into that file, and run it:
#
#     python chapters/ch05_pretraining/exercises.py                               # all of them
#     python chapters/ch05_pretraining/exercises.py pretraining.cross_entropy     # one
#
# | check | what to write |
# |---|---|
# | `pretraining.first_loss` | predict loss and perplexity of a model that knows nothing |
# | `pretraining.cross_entropy` | the loss from logits and targets, with -100 left out |
# | `pretraining.perplexity` | one perplexity for several batches |
# | `pretraining.schedule` | warm-up and cosine |
# | `pretraining.train_step` | one step of the loop |
# | `pretraining.temperature` | the probabilities of the next token at a temperature |
# | `pretraining.transpose` | query, key and value from GPT-2's `c_attn` |
#
# Each check tells what it saw and where to look. In a notebook you can check a function directly. Here are our two
# versions of section 2:

# %%
print(gptlab.check("pretraining.cross_entropy", first_draft))
print(gptlab.check("pretraining.cross_entropy", cross_entropy))

# %% [markdown]
# ## What to take along
#
# - The loss is the mean of -ln(probability of the right next token). Pure guessing costs ln(V); e to the loss is the
#   perplexity. Add sums and counts, never means.
# - The loop is: forget old gradients, loss, backward, clip, step. Build the optimizer last.
# - Find a rate by trying; warm up to it, and come down with a cosine.
# - Set validation *documents* aside. Training loss down and validation loss up is overfitting, and more text is the
#   best cure. Before you call a gap overfitting, look where it is.
# - Temperature divides logits; top-k and top-p cut the tail off.
# - GPT-2 stores linear weights as (in, out): transpose them, split `c_attn` along its last axis, leave tables and
#   vectors alone, tie the head. Square matrices fit both ways, so compare logits, not shapes.
#
# Chapter 6 gives the model a new head and makes a classifier of it.
