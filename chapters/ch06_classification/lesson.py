# %% [markdown]
# # Chapter 6: Classification
#
# A language model gives a score to every token that could come next. A classifier gives a score to every *class* that a
# text could belong to. This chapter makes the one out of the other.
#
# **What you will build:** a head with two rows in place of the head with 500; batches in which each text has one
# answer; the accuracy; and the choice of the layers that learn. Then you will measure three things that decide whether
# such a classifier works: which token carries the answer, what padding does to it, and how many layers must learn.
#
# **What you need:** tokens (chapter 2), the causal mask (chapter 3), the model (chapter 4), the loss and the training
# loop (chapter 5).
#
# **How long it takes:** about two hours to read and try. The code runs in a little more than a minute on two cores.
#
# **Run it:** open `notebooks/ch06_classification.ipynb`, or `python chapters/ch06_classification/lesson.py`.

# %%
import copy
import inspect
import math
import random
import re
import tempfile
from collections import Counter

import torch
from torch import nn
from torch.nn import functional as F

import gptlab
from gptlab import show
from gptlab.data import balance, build_reviews

torch.manual_seed(0)
base = gptlab.town_base()  # the model that has read the town's prose (chapter 5)
tokenizer = base.tokenizer
D = base.model.cfg.emb_dim
print(f"{gptlab.count_parameters(base.model):,} parameters, vocabulary {tokenizer.n_vocab}, D = {D}")

# %% [markdown]
# (A number on your screen may differ a little from the one in the notebook: another computer adds in another order, and
# training makes such differences larger. What we say about the numbers held for every seed that we tried.)
#
# ## 1. The task: what did the writer think?
#
# People of the town wrote reviews of its bread, its music and its gardens. Some liked what they got, some did not:
# **positive** or **negative**. `build_reviews` writes them. It also tells the *kind* of each review. We shall use the
# kind to judge, never to train.

# %%
TRAIN = 1200  # quick: 64
TEST = 300  # quick: 60
reviews = build_reviews(seed=1, train=TRAIN, test=TEST)
for kind in ("plain", "negated", "compared"):
    for entry in [entry for entry in reviews.train if entry["kind"] == kind][:3]:
        print(f"{kind:<9} {entry['label']:<9} {entry['text']}")

# %% [markdown]
# - **plain:** the word of opinion says it.
# - **negated:** "not", "never" or "far from" turns it around, or "nobody", which may stand far ahead of the word.
# - **compared:** there are two opinions, and one of them decides: the first before "although", the last after "but".
#
# Before any training, ask: **what does one get for nothing?** Here both labels are equally frequent, so an answer
# without reading is right in half of the cases. Every accuracy below must be compared with 0.5.

# %%
for name, entries in (("train", reviews.train), ("test", reviews.test)):
    print(f"{name:<5}", dict(Counter(entry["label"] for entry in entries)), dict(Counter(e["kind"] for e in entries)))

# %% [markdown]
# ## 2. Something simple first: a bag of words
#
# Always try the simplest thing first. If it works, no transformer is needed; if not, we know what the transformer must
# do better. A **bag of words** forgets the order of a text and keeps how often each word occurs:


# %%
def words_of(text):
    return re.findall(r"\w+", text.lower())


vocabulary = sorted({word for entry in reviews.train for word in words_of(entry["text"])})


def count_words(entries):  # (texts, words)
    rows = [Counter(words_of(entry["text"])) for entry in entries]
    return torch.tensor([[float(row[word]) for word in vocabulary] for row in rows])


def classes_of(entries):  # the number of the class: 0 is negative, 1 is positive
    return torch.tensor([["negative", "positive"].index(entry["label"]) for entry in entries])


print(reviews.train[0]["text"], dict(Counter(words_of(reviews.train[0]["text"]))))
print("all counts:", tuple(count_words(reviews.train).shape), "  classes:", classes_of(reviews.train)[:8].tolist())

# %% [markdown]
# A **linear classifier** has one row of weights for each class. The score of a class is the weighted sum of the counts,
# and softmax makes probabilities of the scores. The loss is the cross-entropy of chapter 5, with two classes instead of
# 500 tokens. With $x$ for the counts, $W$ for the two rows and $y$ for the right class:
#
# $$\text{loss} = -\log\; \mathrm{softmax}(W x + b)_y$$
#
# This is called logistic regression. It is so small that we need no batches: LBFGS is an optimizer that takes all texts
# at once, computes the loss several times with `closure`, and chooses its own step size. The last term keeps weights
# small which the data do not need.


# %%
def fit_head(x, classes, decay=1e-3):
    """Return a linear layer with two rows that tells the classes (N,) from x (N, features), fitted to the end."""
    head = nn.Linear(x.shape[1], 2)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(head(x), classes) + decay * head.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return head


bag = fit_head(count_words(reviews.train), classes_of(reviews.train))
for_positive = dict(zip(vocabulary, (bag.weight[1] - bag.weight[0]).tolist()))  # what a word adds for "positive"
for words in (
    ("good", "great", "lovely", "pleasant"),
    ("bad", "poor", "awful", "dull"),
    ("not", "far", "never", "nobody"),
):
    print({word: round(for_positive.get(word, 0.0), 1) for word in words})


# %%
def right_by_kind(logits, entries):
    """Return the share of right answers for all texts, and for each kind of text."""
    right = logits.argmax(dim=-1) == classes_of(entries)
    kinds = {"all": right}
    for kind in ("plain", "negated", "compared"):
        kinds[kind] = right[[entry["kind"] == kind for entry in entries]]
    return {kind: round(rows.float().mean().item(), 3) for kind, rows in kinds.items()}


by_bag = right_by_kind(bag(count_words(reviews.test)), reviews.test)
print(by_bag)

# %% [markdown]
# Look at the three kinds. It gets most plain reviews right, and most negated ones **wrong**: it is worse than a coin
# there. This is no lack of training: no weights get both kinds right. The score is a *sum*, one number for each word.
# "not" adds the same number whether it stands before "good" or before "bad", so it cannot turn a word around: if "good"
# adds more than "bad", then "not good" gets more than "not bad". And with the order forgotten, nobody can say which of
# two clauses counts.
#
# ## 3. Another head
#
# How does chapter 4's model end? After the last block and the final norm there is a vector for each token, its
# **features**, (B, T, D). The head multiplies it by a matrix with one row for each token of the vocabulary:
#
#     features (B, T, D)  ->  out_head, V rows  ->  logits (B, T, V)
#
# We take out that head and put in one with **two rows**, one for each class. That is all:

# %%
model = copy.deepcopy(base.model)  # a copy, as `base` is needed again
print("before:", tuple(model.out_head.weight.shape))
model.out_head = nn.Linear(D, 2)
print("after: ", tuple(model.out_head.weight.shape), "and a bias", tuple(model.out_head.bias.shape))
ids = torch.tensor([tokenizer.encode_ordinary(reviews.train[0]["text"])])  # (1, T)
logits = model(ids)
print("tokens", tuple(ids.shape), "-> logits", tuple(logits.shape))

# %% [markdown]
# Two remarks.
#
# - The town's model has a *tied* head: it was the same tensor as the token embeddings. The new head is a tensor of its
#   own, and the embeddings keep theirs. The new one starts with random weights: everything behind it was trained, the
#   head knows nothing.
# - The logits are (1, T, 2): there are **T answers for one text**, one at each token. We want one.
#
# ## 4. Which token carries the answer?
#
# Chapter 3 gives the answer: because of the causal mask, a token sees itself and those before it. So the logits at a
# token tell what the model makes of the text *up to there*. In other words: **to read the answer at token t is to
# classify the text that is cut off after token t.** This is exact:

# %%
with torch.no_grad():
    logits = model(ids)[0]  # (T, 2)
    for t in (0, 3, ids.shape[1] - 1):
        cut = ids[:, : t + 1]
        assert torch.allclose(logits[t], model(cut)[0, -1], atol=1e-5)
        print(
            f"token {t:>2}: {[round(x, 3) for x in logits[t].tolist()]}   as after {tokenizer.decode(cut[0].tolist())!r}"
        )

# %% [markdown]
# So only the **last** token has seen everything. The first one has seen itself only, whatever comes later. How far can
# one get with the first token? There are not many different ones:

# %%
first = Counter((tokenizer.encode_ordinary(entry["text"])[0], entry["label"]) for entry in reviews.test)
for (token, label), count in sorted(first.items()):
    print(f"{show.token_text(tokenizer, token):<5} {label:<9} {count:>3} reviews")

# %% [markdown]
# ("E" is the beginning of "Everybody", "N" of "Nobody".) A classifier that reads the first token must say the same for
# all reviews that begin with "The", and both classes begin so. The best that it could do is to choose for each of these
# tokens the label that is more frequent:

# %%
best = {}
for (token, _), count in first.items():
    best[token] = max(best.get(token, 0), count)
print(f"at best {sum(best.values()) / len(reviews.test):.3f} right from the first token")

# %% [markdown]
#
# (Models without a causal mask are different: in BERT every token sees all others, so one may read the first token, and
# BERT has a special one there for that purpose; Devlin et al. 2018. With a causal mask the answer has to come last, as
# in the first GPT; Radford et al. 2018, section 3.2.)
#
# ## 5. Batches: where is "last"?
#
# Texts differ in length, and a batch is a rectangle. So shorter rows are filled up with a padding token, here
# `<|endoftext|>`. Now "the last token" can mean two things:
#
#     The soup was bad .  P P P        P is padding
#                      ^      ^
#              last real      last of the row
#
# The real last token is the one to read. To find it we use the **length** of the text. (Do not look for the first P in
# the row: a text may contain that token itself.) We write the class at that place of the targets and -100, "nothing to
# learn here" (chapter 5), everywhere else:

# %%
PAD = tokenizer.eot_token


def collate_by_hand(examples):
    """Return inputs and targets, (B, T) each, from pairs (ids, class)."""
    longest = max(len(ids) for ids, _ in examples)
    inputs = torch.full((len(examples), longest), PAD)
    targets = torch.full((len(examples), longest), gptlab.IGNORE_INDEX)
    for row, (ids, number) in enumerate(examples):
        inputs[row, : len(ids)] = torch.tensor(ids)
        targets[row, len(ids) - 1] = number
    return inputs, targets


inputs, targets = collate_by_hand([([11, 12, 13, 14, 15], 1), ([21, 22, 23], 0)])
print(inputs, targets, sep="\n")

# %% [markdown]
# Compare with a language model's targets: there, each token has the *next* token as its target, so targets are shifted
# by one. A classifier's target is the class of this row, so **nothing is shifted**.
#
# With targets of this form, everything from chapter 5 can stay as it is: the places with -100 are left out, at each of
# the others the cross-entropy is taken over the rows of the head. It is of no importance whether these rows are tokens
# or classes.
#
# `gptlab.LabelledTexts` makes the examples: it tokenizes the texts and numbers the labels. The test set gets the label
# names of the training set, so that a number means the same in both. We sort the texts by length, then neighbours have
# nearly the same length and little padding is needed.

# %%
train_entries = sorted(reviews.train, key=lambda entry: len(tokenizer.encode_ordinary(entry["text"])))
test_entries = sorted(reviews.test, key=lambda entry: len(tokenizer.encode_ordinary(entry["text"])))
training = gptlab.LabelledTexts(train_entries, tokenizer)
test = gptlab.LabelledTexts(test_entries, tokenizer, training.label_names)
lengths = [len(example.ids) for example in training]
print("classes:", training.label_names, "  tokens:", min(lengths), "to", max(lengths))
print(training[0])

# %% [markdown]
# The library's `collate_labelled` makes the same batch as ours, and chapter 5's `next_token_loss` gives the
# cross-entropy of the classes. To see it we pick the logits by hand: `model(inputs)[targets != -100]` takes those at
# the places that have a target and makes (B, 2) of (B, T, 2), one row for each text.

# %%
some = training.examples[-3:]
inputs, targets = gptlab.collate_labelled(some, pad_id=PAD)
assert all(ours.equal(theirs) for ours, theirs in zip(collate_by_hand(some), (inputs, targets)))

total, count = gptlab.next_token_loss(model, inputs, targets)
by_hand = F.cross_entropy(model(inputs)[targets != gptlab.IGNORE_INDEX], torch.tensor([e.label for e in some]))
assert torch.allclose(total / count, by_hand, atol=1e-5)
print(f"mean loss of {count} texts: by hand {by_hand:.4f}, next_token_loss {total / count:.4f}")

# %% [markdown]
# ## 6. Loss, accuracy, training
#
# **Accuracy** is the share of texts whose right class has the highest logit. We measure the loss beside it, because the
# two are different things, as we shall see.


# %%
@torch.no_grad()
def logits_of(model, examples, **how):
    """Return the logits of each text, (N, 2). `how` goes to collate_labelled."""
    rows, was_training = [], model.training
    model.eval()
    for start in range(0, len(examples), 50):
        inputs, targets = gptlab.collate_labelled(examples[start : start + 50], pad_id=PAD, **how)
        rows.append(model(inputs)[targets != gptlab.IGNORE_INDEX])
    model.train(was_training)
    return torch.cat(rows)


def measure(model, examples, **how):
    """Return loss and accuracy."""
    logits, classes = logits_of(model, examples, **how), torch.tensor([example.label for example in examples])
    right = logits.argmax(dim=-1) == classes
    return F.cross_entropy(logits, classes).item(), right.float().mean().item()


print("before training: loss {:.2f}, accuracy {:.2f}".format(*measure(model, test.examples)))
print(f"pure guessing:   loss {math.log(2):.2f} = ln(2), accuracy 0.50")

# %% [markdown]
# The loop is `gptlab.train` of chapter 5. At first **all** layers learn. Batches of 16 texts of about the same length;
# warm-up, then a cosine. The peak rate is 1e-3, and this task is sensitive to it: with 2e-3 we ended at an accuracy of
# about 0.9 instead of 0.98, with 3e-3 between 0.7 and 0.85 (three seeds each). The settings were found with reviews of
# another seed, so that the test reviews here have not helped to choose anything. (Epoch 0 below is another random head
# than above, so another loss.)

# %%
EPOCHS = 6  # quick: 1


def new_classifier(seed=0, pretrained=True):
    torch.manual_seed(seed)
    model = copy.deepcopy(base.model) if pretrained else gptlab.GPTModel(base.model.cfg)
    if not pretrained:
        gptlab.initialize_like_gpt2(model)
    model.out_head = nn.Linear(D, 2)
    return model


def batches_of(examples, seed=0, **how):
    groups = [examples[start : start + 16] for start in range(0, len(examples), 16)]  # neighbours, so of like lengths
    random.Random(seed).shuffle(groups)
    return [gptlab.collate_labelled(group, pad_id=PAD, **how) for group in groups]


def learn(model, title, rate=1e-3, epochs=EPOCHS, examples=training.examples, judged=test.examples, **how):
    """Train on the examples; return loss and accuracy on the judged ones, before the first epoch and after each."""
    batches = batches_of(examples, **how)
    optimizer = gptlab.make_optimizer(model, rate)  # takes the parameters that learn
    steps = epochs * len(batches)
    schedule = gptlab.warmup_cosine(optimizer, total_steps=steps, warmup_steps=steps // 10)
    curve = [measure(model, judged, **how)]
    settings = {"optimizer": optimizer, "schedule": schedule, "epochs": epochs, "title": title}
    history = gptlab.train(
        model, batches, after_epoch=lambda *_: curve.append(measure(model, judged, **how)), **settings
    )
    return curve, history


# %%
classifier = new_classifier()
curve_of_all, history = learn(classifier, "all layers")
per_epoch = history.steps // EPOCHS
print("epoch  loss in training  test loss  test accuracy")
for epoch, (loss, accuracy) in enumerate(curve_of_all):
    seen = history.losses[max(0, epoch - 1) * per_epoch : epoch * per_epoch]
    mean = f"{sum(seen) / len(seen):.3f}" if seen else "-"
    print(f"{epoch:>5}  {mean:>16}  {loss:>9.3f}  {accuracy:>13.3f}")

# %%
assert curve_of_all[-1][1] > 0.9  # full size only

# %% [markdown]
# It works. Look at the columns again: **the accuracy and the test loss do not move in step.** In the first epoch the
# loss falls while the accuracy hardly moves; later the loss shrinks to a fraction while the accuracy gains little. (In
# other runs both may even go up.) To see why, look at what single texts cost:

# %%
logits = logits_of(classifier, test.examples)
classes = torch.tensor([example.label for example in test])
costs = F.cross_entropy(logits, classes, reduction="none")  # one cost for each text
order = costs.argsort(descending=True)
print(
    f"the {len(order) // 20} dearest of {len(order)} texts make {costs[order[: len(order) // 20]].sum() / costs.sum():.0%} of the loss"
)
for number in order[:4].tolist():
    right = logits[number].softmax(dim=0)[classes[number]]
    print(f"cost {costs[number]:5.2f}, {right:.3f} for {test_entries[number]['label']}: {test_entries[number]['text']}")

# %% [markdown]
# A few texts make almost the whole loss: those of which the model is not sure, and most of all those where it is *sure
# and wrong*. Accuracy asks only on which side of 0.5 a probability lies. The loss asks how far. A text that goes from
# 0.51 to 0.99 changes the loss and not the accuracy; a wrong answer that gets more and more confident raises the loss
# without limit, and counts as one mistake all the time. We **train with the loss**, because accuracy moves in jumps and
# has no gradient, and **report the accuracy**, because that is what people want to know. Look at both.
#
# ## 7. Experiment: reading at other tokens
#
# Now the argument of section 4 is put to the test: we read the answer at every token. Our head has learned to read the
# *last* token only, so at others it would not be fair to ask it. A second head shall read everywhere. The body stays as
# it is; we take the features of **every** token of the training reviews, each with the class of its review, and fit a
# head on them with section 2's `fit_head`. `model.forward_embeddings(model.embed(inputs))` gives the features: it is
# all of the model but its head.


# %%
@torch.no_grad()
def features_of(model, examples):
    """Return the features of the real tokens: a list with a tensor (T, D) for each text."""
    found = []
    for start in range(0, len(examples), 50):
        group = examples[start : start + 50]
        inputs, _ = gptlab.collate_labelled(group, pad_id=PAD)
        features = model.forward_embeddings(model.embed(inputs))  # (B, T, D)
        found += [row[: len(example.ids)] for row, example in zip(features, group)]
    return found


train_features, test_features = features_of(classifier, training.examples), features_of(classifier, test.examples)
labels = torch.cat([torch.full((len(example.ids),), example.label) for example in training])  # one for each token
everywhere = fit_head(torch.cat(train_features), labels)
print(f"fitted on {len(labels):,} tokens of {len(training):,} reviews")

# %% [markdown]
# Here are two reviews, and what this head answers after each token. Before you look: at which word must the first curve
# leave the middle? And the second one, twice?

# %%
texts = ["The market in Fenn was not good.", "The bread in Tarn was great, but the soup in Fenn was awful."]
figure, axes = show.new_axes(9.5, 5, rows=2)
for axis, text in zip(axes, texts):
    ids = tokenizer.encode_ordinary(text)
    with torch.no_grad():
        features = classifier.forward_embeddings(classifier.embed(torch.tensor([ids])))[0]  # (T, D)
        axis.plot(everywhere(features).softmax(dim=-1)[:, 1], "o-", markersize=4)
    axis.axhline(0.5, color="gray", linestyle=":")
    axis.set_xticks(range(len(ids)), show.token_labels(ids, tokenizer))
    axis.tick_params(axis="x", labelsize=8)
    axis.set(title=text, ylim=(-0.05, 1.05), ylabel='probability\nof "positive"')
figure

# %% [markdown]
# (␣ is a space. The tokenizer has only 500 tokens, learned from the town's prose. Words that are rarer there, or
# missing like "awful", are in pieces.)
#
# The curves shake, but their direction is plain. Until the first word of opinion there is nothing to know, and the
# answer stays near the middle. The second review goes up at "great" and falls at "awful": the middle of this text says
# the contrary of its end. The surest answers come at the end, and sometimes only at the last token. (In the notebook's
# run the first review waits for the full stop, although "not good" would be enough.) The last token *can* know
# everything, and training has made it the place where the answer is collected.
#
# Now all test reviews. How often is the answer right if it is read some tokens before the end?

# %%
figure, [axis] = show.new_axes(6.5, 3.4)
heads = {"head fitted on all tokens": everywhere, "head trained on the last token": classifier.out_head}
shares = {label: [] for label in heads}
shortest = min(len(rows) for rows in test_features)
for back in range(shortest):
    features = torch.stack([rows[-1 - back] for rows in test_features])  # (texts, D)
    for label, head in heads.items():
        shares[label].append((head(features).argmax(dim=-1) == classes).float().mean().item())
for (label, values), style in zip(shares.items(), ("o-", "s--")):
    axis.plot([-back for back in range(shortest)], values, style, label=label)
axis.axhline(0.5, color="gray", linestyle=":", label="guessing")
axis.set(xlabel="token at which the answer is read (0 is the last real one)", ylabel="accuracy", ylim=(0.4, 1.02))
axis.legend(frameon=False)
figure

# %%
at_tokens = shares["head fitted on all tokens"]
assert at_tokens[0] > at_tokens[-1] + 0.15  # full size only

# %% [markdown]
# From left to right, the accuracy climbs from guessing to its best, and the best is the last token. What stands further
# right cannot be known further left, and no head can mend that. The dashed line falls off at once: a head that was
# trained for one place is of little use at another, even at the token just before.
#
# ## 8. Experiment: the book's last position
#
# The book "Build a Large Language Model (From Scratch)" pads every text to the same length and reads the **last
# position of the row**. For all texts but the longest, that is a padding token. This is not as absurd as it looks: the
# padding token stands behind the text, so it can see all of it, and training teaches the model to put the answer there.
# Is it as good? To be quick, we leave the compared reviews out here; they are long. First, what our classifier says if
# it is asked there (`position="last"` reads at the end of the row, `length` is the length of all rows):


# %%
def short(dataset, entries):
    return [example for example, entry in zip(dataset.examples, entries) if entry["kind"] != "compared"]


short_train, short_test = short(training, train_entries), short(test, test_entries)
lengths = [len(example.ids) for example in short_train + short_test]
longest = max(lengths)
_, accuracy = measure(classifier, short_test)
_, at_padding = measure(classifier, short_test, position="last", length=longest)
print(f"read at the last real token {accuracy:.3f}, at the end of rows of {longest}: {at_padding:.3f}")

# %% [markdown]
# Nobody has taught it to answer at a padding token. Now we teach one: `position="last"` puts the class at the end of
# the row, and all rows have the same length, as in the book.

# %%
PADDED_EPOCHS = 4  # quick: 1
padded = new_classifier()
random.Random(0).shuffle(short_train)  # all rows are equally long, so there is no need to keep neighbours together
reading = {"position": "last", "length": longest}
curve, _ = learn(padded, "at the padding", epochs=PADDED_EPOCHS, examples=short_train, judged=short_test, **reading)
print(f"trained and read at the end of rows of {longest}: accuracy {curve[-1][1]:.3f}")

# %% [markdown]
# So it can be learned, and well. But now the text alone does not decide any more: **the number of padding tokens is
# part of the input.** In training it was whatever a text lacked to the longest one. What if a text comes with more
# padding? Or with none, as in "I have only one text, why should I pad it"? We put 0, 1, 2, ... padding tokens behind
# each review, read at the end, and count the answers that are others than in rows of the usual length.


# %%
def with_padding(examples, count):
    return [example._replace(ids=example.ids + [PAD] * count) for example in examples]  # another `ids`, the same label


amounts = (0, 1, 2, 4, 8, 16, 32, 64, 100)
at_end = [logits_of(padded, with_padding(short_test, count)) for count in amounts]
rows = [longest + count for count in amounts[::4]]  # how long all rows are
at_real = [logits_of(classifier, short_test, length=length) for length in rows]


def percent_changed(logits, usual):
    return 100 * (logits.argmax(dim=-1) != usual.argmax(dim=-1)).float().mean().item()


changed = [percent_changed(logits, logits_of(padded, short_test, **reading)) for logits in at_end]
unchanged = [percent_changed(logits, logits_of(classifier, short_test)) for logits in at_real]
print(f"padding in training: 0 to {longest - min(lengths)} tokens")
print("padding now:        ", "".join(f"{count:>7}" for count in amounts))
print("changed, at the end:", "".join(f"{share:6.1f}%" for share in changed))
print(f"changed, at the last real token, in rows of {rows} tokens:", unchanged)

# %%
figure, [left, right] = show.new_axes(10, 3.6, columns=2)
places = range(len(amounts))
left.plot(places, changed, "o-", markersize=4, label="read at the end of the row")
left.plot(places[::4], unchanged, "s--", markersize=4, label="read at the last real token")
positive = torch.stack(at_end).softmax(dim=-1)[:, :, 1]  # (amounts, texts)
spread = positive.max(dim=0).values - positive.min(dim=0).values
for number, style in zip(spread.argsort()[-5:].tolist(), ("-", "--", ":", "-.", "o-")):
    right.plot(places, positive[:, number], style, markersize=4)
for axis in (left, right):
    seen = sum(count <= longest - min(lengths) for count in amounts)
    axis.axvspan(0.5, seen - 0.5, color="gray", alpha=0.15, label="seen in training" if axis is left else None)
    axis.set_xticks(places, amounts)
    axis.set(xlabel="padding tokens behind each text")
left.set(ylabel="answers that changed (%)", title="all reviews", ylim=(-2, None))
left.legend(frameon=False)
right.set(ylabel='probability of "positive"', ylim=(-0.05, 1.05), title="the five reviews that change most")
figure

# %% [markdown]
# Left: read at the last real token, nothing ever changes; later tokens cannot be seen, so padding is invisible. Read at
# the end of the row, all is well as long as training has shown this amount of padding with many texts (grey; only the
# longest texts had none). Outside, answers can flip, although not a letter of the text is different. Right: five
# reviews for which it matters most. A line that crosses the middle is a text whose class depends on the padding.
#
# How bad is it? It differs much from training to training. With six other seeds, between 1% and 49% of the answers
# changed without padding, and between 1% and 23% with 100 padding tokens. So, if you read at the last position:
#
# - keep the length of the rows with the model, and pad to it every time, also for a single text;
# - do not pad a batch to *its* longest text: then an answer may depend on the other texts in the batch.
#
# Or read at the last real token, as gptlab does by default, and forget about it. (`gptlab.book.ch06` has the book's own
# functions, for its SMS spam data.)
#
# ## 9. Which layers learn?
#
# Is it necessary to train all 690,000 weights for one yes or no? A **frozen** parameter (`requires_grad = False`) gets
# no gradient and stays as pretraining has left it. The book trains the head, the final norm and the last block:


# %%
def choose_layers(model, blocks):
    """Let the head learn, and with it the last `blocks` blocks and the final norm; freeze the rest."""
    model.requires_grad_(False)
    model.out_head.requires_grad_(True)
    if blocks:  # [-0:] would be all of them
        for part in (model.final_norm, *model.trf_blocks[-blocks:]):
            part.requires_grad_(True)


def count_learning(model):
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


for blocks in (0, 1, 2):
    model = new_classifier()
    choose_layers(model, blocks)
    print(f"head and {blocks} blocks: {count_learning(model):>7,} parameters learn")
print([name for name, parameter in model.named_parameters() if parameter.requires_grad][:3], "...")

# %% [markdown]
# The order matters: first the new head, then the choice. Who freezes first and puts the head in afterwards is lucky (a
# new layer learns), who puts the head in and then freezes *everything* has nothing left that learns. And the optimizer
# comes last (chapter 5).
#
# **Head only.** If the body is frozen, a text has the same features in every epoch. So compute them once and fit the
# head on them, with section 2's function, to the end. A training in epochs could hardly find a better head.

# %%
layers = {}
train_classes = torch.tensor([example.label for example in training])
in_train, in_test = (
    torch.stack([rows[-1] for rows in features_of(base.model, dataset.examples)]) for dataset in (training, test)
)  # the last real token of each text, (texts, D)
head = fit_head(in_train, train_classes)
train_accuracy = (head(in_train).argmax(dim=-1) == train_classes).float().mean().item()
test_accuracy = (head(in_test).argmax(dim=-1) == classes).float().mean().item()
print(f"head only: accuracy {train_accuracy:.3f} in training, {test_accuracy:.3f} in the test")
layers["head"] = (gptlab.count_parameters(head), test_accuracy)

# %% [markdown]
# Now the last block with norm and head, as in the book, and for comparison all layers, from section 6. Both see the
# reviews six times. The rate of the block is the best of those that we tried; fewer parameters bear larger steps.

# %%
model = new_classifier()
choose_layers(model, 1)
curve_of_block, _ = learn(model, "last block", rate=2e-3)
layers["last block"] = (count_learning(model), curve_of_block[-1][1])
layers["all layers"] = (count_learning(classifier), curve_of_all[-1][1])
for name, (learning, accuracy) in layers.items():
    print(f"{name:<14} {learning:>8,} parameters learn: accuracy {accuracy:.3f}")

# %% [markdown]
# ## 10. Does pretraining help?
#
# One more run, to be fair to the other side: the same shape, the same head, the same training, but **random weights**
# in place of `town_base()`. All layers learn.

# %%
blank = new_classifier(pretrained=False)
curve_of_blank, _ = learn(blank, "from random weights")
print(f"accuracy: from town_base {curve_of_all[-1][1]:.3f}, from random weights {curve_of_blank[-1][1]:.3f}")

# %%
figure, [left, right] = show.new_axes(10, 3.6, columns=2)
left.semilogx(*zip(*layers.values()), "o-")
for name, (learning, accuracy) in layers.items():
    left.annotate(name, (learning, accuracy), xytext=(-6, 4), textcoords="offset points", ha="right")
left.axhline(0.5, color="gray", linestyle=":")
left.set(xlabel="parameters that learn", ylabel="accuracy", title="from town_base", xlim=(20, 2e6), ylim=(0.4, 1.05))
for label, points, style in (("from town_base", curve_of_all, "o-"), ("from random weights", curve_of_blank, "s--")):
    right.plot([accuracy for _, accuracy in points], style, label=label)
right.axhline(0.5, color="gray", linestyle=":", label="guessing")
right.set(xlabel="epochs", ylabel="accuracy", title="all layers learn", ylim=(0.4, 1.05))
right.legend(edgecolor="none", framealpha=1, loc="lower right")
figure

# %% [markdown]
# **Left:** the head alone is near guessing, and the more layers learn, the better it gets. (The last two blocks, which
# we tried with six seeds, ended between 0.81 and 0.96.) Why is the head so helpless? The town's prose never says that
# something is good or dull. Pretraining had no reason to put an opinion into the features of the full stop, and a head
# can only use what is there.
#
# **Right:** pretraining helps, but it is no magic. The curve from `town_base` ends higher (in each of six trainings
# with other seeds: 0.97 to 0.99, against 0.84 to 0.97), yet random weights come a long way in the same time, and in the
# notebook's run they are even ahead after the first epoch. These reviews are simple enough to be learned from nothing.
# `town_base` has a start: a body that already reads words out of pieces and looks at earlier tokens. What it *knows*,
# the facts of the town, is of no use here.
#
# Keep this in mind when you read that training the last block is enough. It is enough when pretraining has read texts
# *of this kind*. GPT-2 has read millions of opinions on the web, and for it the book's choice works well on SMS spam.
# Our small model has not. The rule behind it: **the further your task is from what pretraining has read, the more
# layers must learn.** Freezing saves time and memory and protects what was learned; with few texts it also guards
# against learning them by heart. Measure it, as here.
#
# ## 11. Against the bag of words
#
# Back to section 2, and to the classifier of section 6. Was it worth it?

# %%
by_model = right_by_kind(logits, test_entries)
print(f"bag of words: {by_bag}\nclassifier:   {by_model}")
figure, [axis] = show.new_axes(6.5, 3.2)
for offset, (label, shares, hatch) in enumerate((("bag of words", by_bag, "//"), ("our classifier", by_model, ""))):
    bars = axis.bar([x + 0.4 * offset - 0.2 for x in range(4)], shares.values(), 0.38, label=label, hatch=hatch)
    axis.bar_label(bars, fmt="%.2f")
axis.set_xticks(range(4), list(by_bag))
axis.axhline(0.5, color="gray", linestyle=":")
axis.set(xlabel="kind of review", ylabel="accuracy", ylim=(0, 1.1))
axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
figure

# %% [markdown]
# The bars on the left, "all", hide what the other three tell. The bag of words is good where single words decide, and
# *below* the dotted line where they are turned around. The classifier reads words together: it gets negated reviews
# right as surely as plain ones. Its few mistakes are in the compared ones, where both opinions are told. So never stop
# at one number: cut the test set into kinds that mean something.
#
# ## 12. When one class is rare
#
# In an inbox perhaps one message in ten is spam. Let us make such a collection of reviews, with ten positive ones for
# each negative one, in training and in the test. The bag of words is quick to fit and will do (without the negated
# reviews, which are beyond it):


# %%
def rare_negatives(entries):
    entries = [entry for entry in entries if entry["kind"] != "negated"]
    positive = [entry for entry in entries if entry["label"] == "positive"]
    negative = [entry for entry in entries if entry["label"] == "negative"]
    return positive + negative[: len(positive) // 10]


rare_train, rare_test = rare_negatives(reviews.train), rare_negatives(reviews.test)
balanced = balance(rare_train)  # as many of each label as the rarest has, drawn at random
rare_classes = classes_of(rare_test)
print(f"{'always positive':<18} {'-':>5}  accuracy {rare_classes.float().mean():.3f}, finds 0.000 of the negative ones")
for name, entries in (("fitted on all", rare_train), ("fitted on balanced", balanced)):
    chosen = fit_head(count_words(entries), classes_of(entries))(count_words(rare_test)).argmax(dim=-1)
    found = (chosen[rare_classes == 0] == 0).float().mean()
    accuracy = (chosen == rare_classes).float().mean()
    print(f"{name:<18} {len(entries):>5}  accuracy {accuracy:.3f}, finds {found:.3f} of the negative ones")

# %% [markdown]
# The first line is a classifier that does not read at all, and it has more than 0.9! The second one has about as much
# and misses most of the negative ones: with ten positive texts for each negative one, "positive" is a good bet. (There
# are only about ten negative ones in the test, so that each counts much.) The third one was fitted on a balanced part
# (`gptlab.data.balance`), as the book does with its spam data. It finds far more of the negative ones, and its accuracy
# is *lower*. Which one would you like to have?
#
# Two rules: **compare the accuracy with the share of the most frequent class**, and look at each class by itself. And
# balance the training set only: the test must be as the world is. (Balancing throws texts away, here nine of ten
# positive ones. The other way is to let a text of the rare class count more in the loss.)
#
# ## 13. Keep it and use it
#
# A classifier is more than its weights: it needs the tokenizer, the names of the classes, and where to read. All this
# is written by `save_classifier` into one folder. `load_classifier` gives it back, and `classify` answers. (A text that
# is longer than the model's context, 256 tokens here, is an error; `too_long="cut"` reads its beginning instead.)

# %%
new_texts = [
    "Nobody calls the garden in Fenn awful.",
    "I found the market in Pike lovely, although the music in Vale was dull.",
    "The soup in Wick was far from good, but everybody calls the bread in Orlo great.",
    "The weather in Tarn was fine.",
    "Not good. Not bad either.",
]
with tempfile.TemporaryDirectory() as folder:
    gptlab.save_classifier(folder, classifier, tokenizer, training.label_names)
    loaded = gptlab.load_classifier(folder)
for text, answer in zip(new_texts, loaded.classify(new_texts)):
    print(f"{answer.label:<9} {answer.probability:.3f}  {text}")

# %% [markdown]
# The first three are of the kinds that it knows. The last two are not: "weather" and "fine" never occurred, and the
# last one has no answer. It answers all the same, and often with a high probability. **A classifier cannot say "I have
# never seen such a text".** Softmax only shares out 1 among the classes that there are.
#
# ## 14. The same as the library
#
# Head and frozen layers: `gptlab.make_classifier` does both. The same random state gives the same head.

# %%
for train, blocks in (("head", 0), ("last_block", 1), (2, 2)):
    ours, theirs = new_classifier(seed=0), copy.deepcopy(base.model)
    choose_layers(ours, blocks)
    torch.manual_seed(0)
    gptlab.make_classifier(theirs, 2, train=train)
    assert ours.out_head.weight.equal(theirs.out_head.weight)
    learning = [[parameter.requires_grad for parameter in model.parameters()] for model in (ours, theirs)]
    assert learning[0] == learning[1]

# %% [markdown]
# Loss, accuracy and answers:

# %%
test_batches = [gptlab.collate_labelled(test.examples[i : i + 50], pad_id=PAD) for i in range(0, len(test), 50)]
loss, accuracy = measure(classifier, test.examples)
assert math.isclose(gptlab.accuracy(classifier, test_batches), accuracy, abs_tol=1e-6)
assert math.isclose(gptlab.evaluate(classifier, test_batches), loss, abs_tol=1e-4)
assert [answer.label for answer in loaded.classify([entry["text"] for entry in test_entries])] == [
    training.label_names[number] for number in logits.argmax(dim=-1).tolist()
]
print(inspect.getsource(gptlab.accuracy))

# %% [markdown]
# Find your own steps in it. Two things are new: `target_logits` puts only those features through the head that have a
# target, and `evaluation_mode` with `fork_rng` leaves no trace of the measurement in a training that goes on.
#
# ## Find the mistake
#
# A friend has the classifier of this chapter and wants to test it on new reviews. The code runs without an error:

# %%
new_reviews = build_reviews(seed=7, train=2, test=TEST).test
new_reviews.sort(key=lambda entry: entry["label"] != "positive")  # stable: first all positive ones
label_names = list(dict.fromkeys(entry["label"] for entry in new_reviews))  # each label once
friends = gptlab.LabelledTexts(new_reviews, tokenizer, label_names)

loss, accuracy = measure(classifier, friends.examples)
print(f"{len(friends)} reviews: loss {loss:.2f}, accuracy {accuracy:.3f}")
chosen = logits_of(classifier, friends.examples).argmax(dim=-1)
table = Counter(zip((example.label for example in friends), chosen.tolist()))
for number in (0, 1):
    print(f"class {number}: taken for 0 {table[number, 0]:>4} times, for 1 {table[number, 1]:>4} times")

# %%
assert accuracy < 0.1  # full size only

# %% [markdown]
# What is wrong? Decide from what can be seen. Three people have three ideas:
#
# 1. "The classifier has learned its reviews by heart, and new ones are too much for it."
# 2. "The answer is read at a padding token."
# 3. "The model is fine."
#
# What accuracy would you expect if 1 or 2 were true? Think before you open the answer.
#
# <details><summary>The answer</summary>
#
# A model that knows nothing gets **half** of the answers right, and so does one that is read at the wrong place
# (section 8: about 0.5). This one gets almost *none*. To be wrong so reliably one must know the right answer: with two
# classes, whoever turns its answers around has an excellent classifier. So number 3. The loss says the same: it is far
# above ln(2) = 0.69, which is the price of guessing. The model is sure each time.
#
# What is turned around are the **names**. The friend numbers the labels in the order in which they occur. In this file
# the first review is positive, so "positive" became class 0. In training, the names were in alphabetical order, and
# "positive" was class 1. Nothing can complain: 0 and 1 are valid numbers in both.
#
# The rule: **the numbers of the classes belong to the model.** Keep the names with it, as `save_classifier` does, and
# hand them to every other data set. If your accuracy is far *below* guessing, be glad, and look at the labels.
#
# </details>
#
# Repaired, with the names of the training set:

# %%
friends = gptlab.LabelledTexts(new_reviews, tokenizer, training.label_names)
loss, accuracy = measure(classifier, friends.examples)
print(f"{len(friends)} reviews: loss {loss:.2f}, accuracy {accuracy:.3f}")

# %%
assert accuracy > 0.9  # full size only

# %% [markdown]
# Symptoms that you will meet again:
#
# | what you see | look at |
# |---|---|
# | the loss stays at ln(number of classes) | where the answer is read; whether anything learns; the learning rate |
# | the same answer for nearly all texts | the same; and whether one class is far more frequent |
# | accuracy far below guessing | the numbers of the classes |
# | an answer changes with the batch size | padding: where the answer is read |
#
# ## Exercises
#
# They are in `chapters/ch06_classification/exercises.py`. Write your answers into that file, and run it:
#
#     python chapters/ch06_classification/exercises.py                              # all of them
#     python chapters/ch06_classification/exercises.py classification.last_real     # one
#
# | check | what to write |
# |---|---|
# | `classification.shapes` | predict the shape of the logits, and of what the loss gets |
# | `classification.pad` | rows of ids as one rectangle |
# | `classification.last_real` | each row's logits at its last real token |
# | `classification.accuracy` | one accuracy for several batches |
# | `classification.freeze` | let the last block, the final norm and the head learn |
# | `classification.balance` | equally many texts of each label |
#
# Each check tells what it saw and where to look. In a notebook you can check a function directly. Here is section 9's
# function with one block, and a first try without the final norm:


# %%
def first_try(model):
    model.requires_grad_(False)
    for part in (model.out_head, model.trf_blocks[-1]):
        part.requires_grad_(True)


print(gptlab.check("classification.freeze", first_try))
print(gptlab.check("classification.freeze", lambda model: choose_layers(model, 1)))

# %% [markdown]
# ## What to take along
#
# - A classifier is the language model with another head: one row for each class instead of one for each token.
# - With a causal mask only the last token has seen the whole text. Find it by the length, and padding changes nothing.
#   Read at the end of a padded row, the answer depends on the padding too.
# - The head alone can only use what pretraining has put into the features. The further the task is from that, the more
#   layers must learn.
# - Train with the loss, report the accuracy, and compare it with the share of the most frequent class. Cut the test set
#   into kinds.
# - The numbers of the classes belong to the model. Save them with it.
#
# Chapter 7 keeps the head that writes tokens, and teaches the model to answer instructions.
