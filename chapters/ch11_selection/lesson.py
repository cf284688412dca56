# %% [markdown]
# # Chapter 11: Choosing data, and what tuning changes
#
# Chapter 10 made instruction data, more than anybody can read. Which of it is worth training on? And when a model has
# been tuned on it, what is different in the model? You will
#
# 1. look at a noisy data set as a whole, and choose from it by rules, by length and by a judge's rating,
# 2. find what repeats, and what the test must not meet,
# 3. choose what is *different*: K-means by hand, and facility location, first by eight lines and then lazily,
# 4. read an experiment in which all these ways choose, and two more in which claims of papers are tried on the town,
# 5. measure which tokens tuning changed, and whether the tuned model still knows what its base knew,
# 6. and look inside the base: attention maps, the logit lens, and which tokens it takes for alike.
#
# You need embeddings and cosines (chapter 2), attention (chapter 3), the model's blocks (chapter 4) and instruction
# tuning (chapter 7). ROUGE-L is from chapter 10. It takes about two minutes on two CPU cores, half of that for tuning
# one model; if the town's model is not there yet, one more.
#
# Run it: open `notebooks/ch11_selection.ipynb`, or `python chapters/ch11_selection/lesson.py` (a script computes the
# same, but shows no pictures). Your numbers can differ a little from those here: computers round differently.

# %%
import copy
import heapq
import inspect
import math
import random
import re
import sys
from collections import Counter
from dataclasses import replace
from statistics import fmean

import numpy as np
import torch
from torch.nn import functional as F

import gptlab
from gptlab import analysis, judging, selection, show
from gptlab.chapters import load_chapters
from gptlab.files import read_json

[here] = [chapter.folder for chapter in load_chapters() if chapter.number == "11"]
sys.path.insert(0, str(here))
import choose  # three experiments, beside this lesson; here we take the noisy data set of the first one
import contradictions
import task_types

town = gptlab.SMALL_TOWN.town()
base = gptlab.town_base()  # pretrained on the town's prose; it has never seen a question
model, tokenizer = base.model.eval(), base.tokenizer

# %% [markdown]
# ## 11.1 Fifty thousand, or one thousand?
#
# Stanford's Alpaca was tuned on 52,000 entries that another model had written. Since then one paper after another has
# found that much fewer are enough, if they are the right ones:
#
# | | what is kept | how many |
# | --- | --- | --- |
# | LIMA (Zhou et al. 2023) | answers chosen by rules and by hand, many written by the authors | 1,000 |
# | AlpaGasus (Chen et al. 2023) | Alpaca's entries that a judge rates 4.5 or more, of 5 | 9,000 |
# | Long is more (Zhao et al. 2024; also Shen 2024) | the longest responses | 1,000 |
# | QDIT (Bukharin et al. 2023) | entries that are good *and* unlike each other | some thousands |
#
# All four explain it in the same way: a pretrained model knows what it knows, and tuning teaches it how to answer.
# Sections 11.9 to 11.12 look at that. First we choose.
#
# Whoever collects data does not know which entries are bad. We do, for we make them: 3,000 entries out of the 600 on
# which the town is tuned. Each of the 600 is there once (**good**). A few favourites are said again and again
# (**repeated**). The others are **wrong**, **cut** in the middle, **empty**, lost in **talk**, or **prose** that nobody
# asked for.

# %%
POOL = 3000  # quick: 240
entries = list(choose.noisy_pool(0))[:POOL]
kinds = [entry["noise"] for entry in entries]  # which no way of choosing may look at
for kind, count in Counter(kinds).most_common():
    shown = entries[kinds.index(kind)]
    print(f"{count:>5} {kind:<9}{shown['instruction'][:44]:<46}{shown['output'][:54]!r}")

# %% [markdown]
# ## 11.2 Look at all of it
#
# Nobody reads 3,000 entries, but a page of numbers is read quickly. A **report card** counts what can be counted:
# lengths, what is asked for, how much of it is literally new. What is asked for is seen from the **root verb** and its
# noun: "*Write* a short *poem* about the sea". Papers find them with a model that parses sentences. Ours is a list of
# verbs and a few rules, a light heuristic that errs now and then:

# %%
for text in ("Write a short poem about the sea.", "Could you please name three colours?", "请写一首关于大海的诗。"):
    print(f"{text:<40}", *selection.root_words(text))
card = selection.report_card(entries, title="the noisy set", tokenizer=tokenizer)
print()
print(card)

# %% [markdown]
# Read it from the top. 100 entries are **empty**. A quarter of the entries is there before, to the letter, and of the
# instructions more than two thirds. By the filter of chapter 10 (ROUGE-L at most 0.7 against all that was kept before)
# three instructions of a hundred are novel: questions about 40 people in a few wordings are alike. That filter was made
# for data that may ask for anything; here it would leave next to nothing. *A threshold belongs to the data it was found
# on.*
#
# ## 11.3 Rules
#
# LIMA's authors filtered by rules that need no model: an answer has 1,200 to 4,096 characters, is not written in the
# first person, does not speak of "the answer above", and holds no links. A rule is a function from an entry to yes or
# no; a chain of them gives the blame to the first rule that an entry breaks:


# %%
def chain(entries, rules):
    kept, blamed = [], Counter()
    for number, entry in enumerate(entries):
        broken = next((name for name, keeps in rules if not keeps(entry)), None)
        if broken is None:
            kept.append(number)
        else:
            blamed[broken] += 1
    return kept, blamed


rules = [("long enough", lambda entry: len(entry["output"]) >= 10), ("ends", lambda entry: entry["output"][-1] == ".")]
kept, blamed = chain(entries, rules)
print(f"{len(kept)} left; {dict(blamed)}\n")
print(selection.apply_rules(entries, selection.lima_rules(shortest=10, longest=400)))
same = selection.apply_rules(entries, [selection.Rule(*rule) for rule in rules])
assert same.kept == kept and same.dropped == blamed

# %% [markdown]
# We had to change the lengths: with LIMA's own, not one of the town's short answers would be left. The other rules were
# taken over as they are, and one of them hits: the talkers say "I". Always look at what a rule threw away, as in the
# last column. And what did it leave?

# %%
left = selection.apply_rules(entries, selection.lima_rules(shortest=10, longest=400)).kept


def shares(picked):
    found = Counter(kinds[number] for number in picked)
    return "  ".join(f"{kind} {found[kind] / max(len(picked), 1):>4.0%}" for kind in choose.KINDS)


print("all          ", shares(range(len(entries))))
print("LIMA's rules ", shares(left))
print("ours         ", shares(kept))

# %% [markdown]
# Rules see form. An answer that is cut off has no full stop, so our second rule found it. A wrong answer looks like a
# right one, and no rule of form will ever find it.
#
# ## 11.4 The longest
#
# The simplest selection of all, and on Alpaca one that is hard to beat: take the entries with the longest outputs. A
# long answer there is mostly a detailed one, with reasons and lists, and that is the style to be taught. Length is
# counted in tokens. (Characters would favour English: Chinese says the same in a third of them.)

# %%
K = 300  # quick: 60
count = [len(tokenizer.encode_ordinary(entry["output"])) for entry in entries]
by_hand = sorted(range(len(entries)), key=lambda number: -count[number])[:K]  # equal ones stay in their order
longest = selection.longest(entries, K, tokenizer)
assert longest == by_hand
print("longest ", shares(longest))
print(f"the longest has {count[longest[0]]} tokens: {entries[longest[0]]['output'][:90]!r}...")

# %% [markdown]
# On our set that is the worst thing one could do. What is long here is talk and prose, because we made it so. The rule
# is not about length but about what length goes along with *in your data*. Look before you sort.
#
# And there is a trap that is in every data set. The longest entries are those that do not fit into the model's
# **context**. Who cuts them takes away their end, and the end-of-text token that says "stop" with it. How many of the
# longest lose theirs, compared with as many at random?

# %%
drawn = random.Random(0).sample(range(len(entries)), K)
for name, picked in (("longest", longest), ("random", drawn)):
    chosen = [entries[number] for number in picked]
    for context in (256, 128, 96):
        made = gptlab.InstructionDataset(
            chosen, tokenizer, "alpaca_short", context_length=context, too_long="cut"
        ).examples
        stops = fmean(example.ids[-1] == tokenizer.eot_token for example in made)
        print(f"{name:<8} context {context:>3}: {stops:.0%} of the entries teach the model to stop")

# %% [markdown]
# A model that is tuned on the longest entries, cut to 96 tokens, hardly ever sees an answer end, and will not know when
# to stop. `selection.longest(..., max_tokens=128)` leaves out what does not fit.
#
# ## 11.5 A judge's rating
#
# AlpaGasus asked a large model to rate each answer from 0 to 5, and kept 4.5 and more. Chapter 12 is about judges; here
# we need one that costs nothing. Ours is a **stand-in**, a few rules that are given the right answers. It knows three
# answers of four, goes by form where it does not know, and rates one entry of ten by chance. It is asked in the same
# way as a real one: it gets a question, and writes a reply.

# %%
from gptlab.selection.quality import quality_messages

replies = {}


def what_is_rated(messages):
    return messages[-1]["content"].split("\n\nRate from")[0]


def judge(messages):
    """Answer as a server does: from a list of messages to a text."""
    return replies[what_is_rated(messages)]


for entry, rating in zip(entries, choose.ratings(0)):
    reply = f"{rating:g}\nMy reasons are these." if entry["output"] else "There is no response to rate."
    replies[what_is_rated(quality_messages(entry))] = reply


print(quality_messages(entries[1])[-1]["content"], judge(quality_messages(entries[1])), sep="\n----\n")

# %% [markdown]
# A reply is text, and must be read. The published program took what follows "Score:", and of that the first
# *character*, where the first *word* was meant. Look what that gives, beside the library's reader:


# %%
def first_character(reply):
    try:
        return float(reply.split("Score:")[-1].strip("\n")[0])
    except ValueError as error:
        return f"error: {error}"


print(f"{'reply':<26}{'first character':<48}the library")
for reply in ("Score:4", "Score: 4.5", "Score:4.5", "Score:45", "4.5\nIt has 3 mistakes.", "I would say 4 or 5."):
    print(f"{reply!r:<26}{first_character(reply):<48}{selection.parse_rating(reply)}")

# %% [markdown]
# "4.5" became 4, which is below the threshold. Of such a mistake nothing is seen but a smaller data set. What cannot be
# read is None, and stays in its place, so that each rating belongs to its entry:

# %%
report = selection.rate_quality(entries, judge)
print(report)
good = report.keep()  # 4.5 and more
print(f"\n{len(good)} kept:", shares(good))

# %% [markdown]
# Most of what is wrong, cut or empty is gone, and not all: the judge errs. But look at "repeated". An entry that is good
# is just as good the sixtieth time, and a judge that sees one entry at a time cannot know. Quality needs a partner.
#
# ## 11.6 What repeats, and what the test must not meet
#
# **Near-duplicates.** Two entries may be the same but for a "Please:" in front. `near_duplicates` goes through the
# entries in order, compares each with those that were kept, and drops what is too much alike: ROUGE-L above 0.9. Which
# fields it compares is up to you, and matters:

# %%
for fields in (("instruction", "input"), ("output",), ("instruction", "input", "output")):
    found = selection.near_duplicates(entries, fields=fields)
    print(f"{' + '.join(fields):<30}{len(found.kept):>6} stay, the largest group has {max(map(len, found.groups))}")
group = max(found.groups, key=len)
print(f"\n{len(group)} times nearly the same, such as")
for number in group[:4]:
    print(f"   {entries[number]['instruction']:<60}{entries[number]['output']}")

# %% [markdown]
# By the questions alone, a right and a wrong answer to one question are duplicates, and the one that comes first stays.
# By the outputs alone, different questions with one answer are. So compare whole entries, and read the largest groups
# before you train on what is left: the words decide, and "3 + 2" and "3 - 2" differ in nothing that ROUGE-L sees.
#
# **Contamination.** If the test's questions are in the training data, the test measures memory. Three rules look for
# it, from the surest to the loosest: the same question but for case and full stops; $n$ words in a row that are in both
# (13 for GPT-3, 8 for GPT-2); and ROUGE-L. We plant one test question three times, in three disguises:

# %%
of_test = next(entry for entry in town.test if entry["group"] != "skill")
disguises = (of_test["instruction"].upper(), f"Hello! {of_test['instruction']} Thank you.", "他的家在哪里？")
planted = [*entries, *(of_test | {"instruction": text} for text in disguises)]
disguised = ["capitals", "politeness", "translated"]
looks = {"exact only": {"threshold": None}, "8 words": {"threshold": None, "ngram": 8}}
looks |= {f"ROUGE-L > {bound}": {"threshold": bound} for bound in (0.9, 0.7)}
for look, settings in looks.items():
    found = selection.contaminated(planted, town.test, **settings).indices
    caught = [disguised[number - len(entries)] for number in found if number >= len(entries)]
    print(f"{look:<15}{len(found):>6} of {len(planted)} meet the test; of the planted: {', '.join(caught)}")

# %% [markdown]
# The exact rule finds the one in capitals. The loosest finds the polite one as well, and with it most of the data: "Where
# does A live?" and "Where does B live?" are alike, although no person is in both. The translation is found by none.
# *Tighten the rules until what they find is worth reading, read it, and know what they cannot find.*
#
# ## 11.7 What is different: embeddings and K-means
#
# A judge looks at one entry. **Diversity** is about many: what is in the data, and is something of each kind among what
# we choose? For that each entry becomes a vector, an **embedding**, and the cosine of two says how alike they are
# (chapter 2 did this with tokens). `embed` has two ways, and both download nothing:
#
# - **words**: a vector counts the entry's words, rare ones for more (TF-IDF), and of all directions the strongest ones
#   are kept (the singular value decomposition of chapter 9),
# - **our own GPT**: it reads the entry, and the last hidden states of all tokens are averaged.

# %%
texts = [" ".join(entry[field] for field in ("instruction", "input", "output")) for entry in entries]
READ = 600  # quick: 60
embeddings = selection.embed(texts)
hidden = selection.embed(texts[:READ], model=model, tokenizer=tokenizer)
print(embeddings.shape, hidden.shape, "each row of length", float(np.linalg.norm(embeddings[0]).round(3)))

mine = next(n for n, entry in enumerate(entries) if "live" in entry["instruction"] and entry["noise"] == "good")
print("\nlike", repr(texts[mine]), "are")
for name, vectors in (("words", embeddings[:READ]), ("GPT", hidden)):
    cosines = vectors @ vectors[mine]
    different = [n for n in np.argsort(-cosines) if texts[n] != texts[mine]]
    for number in different[:2]:
        print(f"   {name:<6} {cosines[number]:.2f}  {texts[number]}")
    print(f"   {name:<6} {np.median(cosines):.2f}  is the cosine with a middling one")

# %% [markdown]
# Both find what is related. But look at the middling ones: a GPT's vectors all have a large part in common, so none of
# their cosines is small (Ethayarajh 2019). Only their order says much. We go on with the words.
#
# **K-means** (Lloyd 1982) looks for $c$ middles such that each entry is near one of them. It repeats two steps: give
# each entry to the nearest middle, and move each middle to the mean of its entries.


# %%
def lloyd_step(rows, centres):
    """Return each row's nearest centre, (n,), and the centres moved to the means of their rows, (c, d)."""
    distances = ((rows[:, None] - centres) ** 2).sum(axis=2)  # (n, c)
    labels = distances.argmin(axis=1)
    moved = centres.copy()
    for number in range(len(centres)):
        if (labels == number).any():  # one that nobody is near to stays where it is
            moved[number] = rows[labels == number].mean(axis=0)
    return labels, moved


few = np.unique(embeddings[:400].astype(np.float64), axis=0)  # different rows: two middles on one spot never part
start = few[np.random.default_rng(0).choice(len(few), 20, replace=False)]
centres, before = start, None
for step in range(100):
    labels, moved = lloyd_step(few, centres)
    if step < 3 or np.allclose(moved, centres):
        print(f"step {step:>2}: squared distances sum to {((few - centres[labels]) ** 2).sum():.2f}")
    if np.allclose(moved, centres):
        break
    centres = moved

# %% [markdown]
# The sum never grows: each of the two steps makes it smaller, or nothing moves any more. The same start gives the same
# groups as scikit-learn's:

# %%
from sklearn.cluster import KMeans

theirs = KMeans(len(start), init=start, n_init=1, algorithm="lloyd", tol=0).fit(few)
assert (theirs.labels_ == labels).all()
assert np.allclose(theirs.cluster_centers_, centres)

diverse = selection.kmeans_diverse(embeddings, K)  # as many groups as picks; of each the one nearest to its middle
print("random ", shares(drawn))
print("k-means", shares(diverse))

# %% [markdown]
# One of each group. So the large groups of repeated entries give one pick each, and much less is repeated than at
# random. But what is cut, empty, talk or prose is rare and *different*, and comes in as well. Diversity needs a partner,
# too.
#
# ## 11.8 Coverage and quality: QDIT
#
# **Facility location** asks the question the other way round. Where do we build $k$ fire stations so that nobody lives
# far from one? With the set $A$ of picks among all entries $V$,
#
# $$d(A) = \frac{1}{|V|} \sum_{v \in V} \max_{a \in A} \mathrm{sim}(a, v), \qquad \mathrm{sim} = \max(0, \cos)$$
#
# Each $v$ shall have somebody **near** it in $A$. (It is a sum of similarities, and it is to be large. Notes that let
# the picks be *far* from the entries would build the stations in the desert.) What one more pick would add is its
# **gain**; $c_v$ is how well $v$ is covered so far:
#
# $$d(a \mid A) = \frac{1}{|V|} \sum_{v \in V} \max(0,\; \mathrm{sim}(a, v) - c_v), \qquad c_v = \max_{b \in A} \mathrm{sim}(b, v)$$
#
# QDIT weighs it against the quality $q$ of the entry: each pick is the one with the largest
# $(1 - \alpha)\, d(a \mid A) + \alpha\, q(a)$. Eight lines:


# %%
def greedy(similar, k, quality, alpha):
    cover = np.zeros(len(similar))
    picked = []
    for _ in range(k):
        gains = np.maximum(similar - cover, 0).mean(axis=1)  # row a: what each v would win by a
        worth = (1 - alpha) * gains + alpha * quality
        worth[picked] = -np.inf
        picked.append(int(worth.argmax()))
        cover = np.maximum(cover, similar[picked[-1]])
    return picked


N = min(600, len(entries))
rows = embeddings[:N].astype(np.float64)
rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
similar = np.rint(np.maximum(rows @ rows.T, 0) * 2**30) / 2**30  # see below
ratings = [0.0 if score is None else score for score in report.scores]
worth = np.array(selection.scaled_quality(ratings[:N], 60))
for alpha in (0.0, 0.5):
    ours = greedy(similar, 60, worth, alpha)
    assert ours == selection.facility_location(embeddings[:N], 60, quality=worth, alpha=alpha)
    print(f"alpha {alpha}: {ours[:8]}..., d = {selection.coverage(embeddings[:N], ours):.3f}")

# %% [markdown]
# The picks are those of the library. (Why the rounding? Two entries that are near each other, and to nobody else, have
# the same gain on paper. In floating point the order of the sum decides which is larger in the 17th digit. On a grid of
# $2^{-30}$ sums are exact, and the first of the two is picked, always.)
#
# **Lazily.** Notes on QDIT give $O(|V|^3)$ for one pick. With $c_v$ kept it is $O(|V|^2)$, as above. And most of that is
# still in vain, because gains can only **shrink**: what is covered already need not be covered again. This is called
# **submodularity**. Look at three entries while the set grows:

# %%
cover, picked = np.zeros(N), greedy(similar, 60, np.zeros(N), 0.0)
watched = [n for n in range(N) if n not in picked][:3]
for size, number in enumerate(picked):
    if size in (0, 1, 2, 5, 10, 20, 50):
        gains = np.maximum(similar - cover, 0).mean(axis=1)
        print(f"{size:>3} picked: gains", "  ".join(f"{gains[n]:.5f}" for n in watched))
    cover = np.maximum(cover, similar[number])

# %% [markdown]
# So a gain that was computed earlier is an **upper bound** now. Put all bounds on a heap, the largest on top. Compute
# only the top one anew; if it is still the largest, all others are below their bounds, which are below it, and it is
# the pick. That is the same pick, not an approximation:


# %%
def lazy_greedy(similar, k):
    cover, picked, computed = np.zeros(len(similar)), [], 0
    heap = [(-gain, number, 0) for number, gain in enumerate(similar.mean(axis=1))]
    heapq.heapify(heap)
    while len(picked) < k:
        _, number, at = heap[0]
        if at == len(picked):  # computed with all picks so far: not a bound, but the gain
            heapq.heappop(heap)
            picked.append(number)
            cover = np.maximum(cover, similar[number])
        else:
            gain = np.maximum(similar[number] - cover, 0).mean()
            heapq.heapreplace(heap, (-gain, number, len(picked)))
            computed += 1
    return picked, computed


lazily, computed = lazy_greedy(similar, 60)
assert lazily == greedy(similar, 60, np.zeros(N), 0.0)
print(f"the same 60 picks; gains computed: {60 * N:,} plainly, {N + computed:,} lazily")

# %% [markdown]
# The heart of the library's, which is the same with quality, ties and a bar:

# %%
from gptlab.selection.facility_location import _lazy_greedy

print(inspect.getsource(_lazy_greedy))

# %% [markdown]
# What is left is the table of all similarities. With 52,000 entries it would have 2.7 billion numbers. Above 10,000
# entries the library keeps only each entry's 200 nearest, and that is no longer exact. `benchmarks/README.md` says what
# it costs in time and memory, and how much of the exact $d$ it reaches.
#
# **The scale trap.** $\alpha$ looks like a share, and is none. Gains are divided by $|V|$, so they are small and fall
# further with every pick; a rating is between 0 and 5. Added as they are, the rating decides alone. `scaled_quality`
# brings ratings to [0, 1] and divides them by $k$, so that their sum over $k$ picks is a mean, as $d$ is:

# %%
print(f"{'':<8}{'ratings as they are':^32}{'scaled':^32}")
print(f"{'alpha':<8}" + f"{'coverage':>14}{'mean rating':>16}" * 2)
scaled = selection.scaled_quality(ratings, K)
for alpha in (0.0, 0.01, 0.1, 0.5, 0.9):
    print(f"{alpha:<8}", end="")
    for quality in (ratings, scaled):
        picked = selection.facility_location(embeddings, K, quality=quality, alpha=alpha)
        covered = selection.coverage(embeddings, picked)
        print(f"{covered:>14.3f}{fmean(ratings[number] for number in picked):>16.2f}", end="")
    print()

# %% [markdown]
# At the left one hundredth is as good as nine tenths: a switch. At the right $\alpha$ moves along.
#
# Where do the ways of choosing look? The picture lays the embeddings flat, along their two strongest directions. Grey
# are all entries; a heap at the edge is one favourite that was repeated many times. What to look at: how many picks lie
# on top of each other in the heaps, and whether the wide field in the middle is covered.

# %%
M = min(100, K)
ways = {
    "random": drawn[:M],
    "quality": sorted(range(len(entries)), key=lambda number: -ratings[number])[:M],
    "coverage": selection.facility_location(embeddings, M),
    "coverage, quality": selection.facility_location(
        embeddings, M, quality=selection.scaled_quality(ratings, M), alpha=0.5
    ),
}
centred = embeddings - embeddings.mean(axis=0)
flat = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T  # (n, 2)

figure, axes = show.new_axes(10, 3.1, columns=4)
for axis, (name, picked) in zip(axes, ways.items()):
    axis.scatter(*flat.T, s=5, color="#d0d0d0", linewidths=0)
    axis.scatter(*flat[picked].T, s=16, color=show.COLORS[1], alpha=0.6, linewidths=0)
    axis.set(xticks=[], yticks=[])
    repeated = fmean(kinds[number] == "repeated" for number in picked)
    axis.set_title(f"{name}\n{repeated:.0%} repeated, d = {selection.coverage(embeddings, picked):.2f}", fontsize=9)
figure

# %% [markdown]
# And the report card of 300 entries that were chosen by both. Compare it with the one above: what was said sixty times
# is gone, and so is what was empty.

# %%
picked = selection.facility_location(embeddings, K, quality=scaled, alpha=0.5)
chosen = [entries[number] for number in picked]
reasons = Counter(kinds[number] for number in set(range(len(entries))) - set(picked))
card = selection.report_card(
    chosen, title="chosen by coverage and quality", tokenizer=tokenizer, rejected=dict(reasons.most_common())
)
show.plot_report_card(card)

# %% [markdown]
# (What was rejected is shown by kind, which only we know.)
#
# ## 11.9 Which way is best?
#
# What is chosen must be trained on, and what is trained must be asked. `chapters/ch11_selection/choose.py` does that
# for every way above, for 100, 300 and 1,000 of the 3,000, with several seeds: the same base, the same number of steps,
# and then the questions about the held-out people of chapter 7, whom no entry mentions. That takes too long for a
# lesson, so we read what it wrote. **Random is the baseline**: without it no other number says anything.


# %%
def mean_and_range(rows, key):
    values = [row[key] for row in rows]
    return f"{fmean(values):.2f} ({min(values):.2f}-{max(values):.2f})"


results = read_json(choose.EXPERIMENT.out)
sizes = results["settings"]["sizes"]
print(
    f"share of questions about held-out people that are answered exactly; {len({r['seed'] for r in results['rows']})} seeds"
)
print(f"{'':<20}" + "".join(f"{size:>20,}" for size in sizes))
for method in choose.METHODS:
    cells = [[row for row in results["rows"] if row["arm"] == f"{method} {size}"] for size in sizes]
    print(f"{method:<20}" + "".join(f"{mean_and_range(rows, 'people'):>20}" for rows in cells))
for method in (choose.ALL, choose.SOURCE):
    rows = [row for row in results["rows"] if row["method"] == method]
    print(f"{method:<20}{mean_and_range(rows, 'people'):>20} with {rows[0]['entries']:,} entries")

# %%
choose.picture(results["rows"])

# %% [markdown]
# Read each column beside *random*, and the ranges in brackets with it: they are from the worst seed to the best, and a
# method whose range overlaps random's has not been shown to be better. At the right is the same, over the share of a
# choice that is right: what a way of choosing lets through decides most of what comes out. The dotted line is what
# somebody could reach who knew which 600 entries are good.
#
# Four things are seen here. **A hundred well-chosen entries beat all 3,000**, 0.68 to 0.31: what is wrong, cut or lost
# in talk does harm, and gone through at the same steps it does as much. **Quality matters most**, for it is what this
# noise lacks. **Diversity alone is little better than random**, and with 1,000 entries no better: noise is diverse,
# too. With 100 entries diversity and quality together, QDIT, come out above quality alone, because the best rated
# hundred say one another again (the ranges of the seeds touch); with 1,000 they fall behind it, because there are not
# so many good entries that differ, and diversity asks for what differs. And **the longest** are lost in talk, all of
# them up to 300, so the model learns to talk. On Alpaca, where long answers are thorough ones, it was another story.
#
# What this does not say: which method is best for *your* data. How much is repeated, wrong or lost in talk was our
# decision, and so was how often the judge errs. With other noise the order may be another. What carries over is the way
# of asking: several sizes, several seeds, the same steps, and random beside it.
#
# ## 11.10 Two claims, tried on the town
#
# **More kinds of tasks help with a kind never seen.** FLAN (Wei et al. 2021) was tuned on dozens of kinds of tasks and
# asked about kinds that were left out; more of them helped. Its successor (Chung et al. 2022) had 473 data sets, found
# that most of the gain was there with 282 tasks, and that answers which **reason step by step** are needed to keep that
# ability. Those models have billions of parameters. `task_types.py` tries the same on a grid of 48 small tasks, such as
# "Leave out the second letter of b o w k.", of which a quarter is held out. Entries and steps are the same for all:

# %%
claim = read_json(task_types.EXPERIMENT.out)
for row in sorted((row for row in claim["rows"] if row["seed"] == 0), key=lambda row: (row["in_steps"], row["types"])):
    seen = "" if row.get("seen_right") is None else f"{row['seen_right']:.2f}"
    print(f"{row['arm']:<20} seen types {seen:>5}   held-out types {row['held_out_right']:.2f}", end="")
    print(f"   did a task it was trained on instead {row['held_out_another']:.2f}")
task_types.picture(claim["rows"])

# %% [markdown]
# Look at the solid lines first, the types that were held out. At the left, the answers: with up to 12 types next to
# nothing is right, and with 36 it is still little. At the right, the loss of the right answer: it falls, and far, with
# every step to more types. So more types do bring the model nearer to a task it has never seen. But at this size it
# gets there seldom. Answers in steps seem to help once there are many types: 0.22 against 0.14, though the ranges of the
# seeds overlap. They make a hard thing of two easier ones, find the letter, then do something with it, and the first of
# them is met in more than one type.
#
# There is a price. The number of entries is the same, so of each type there are fewer, and the dotted lines fall. And a
# wrong answer is often a *right answer to another task*, one that was trained: the model has learned to do something
# with letters, and does not read closely what. Whether a claim about models of billions of parameters holds at a size
# of 690,688 is not settled by this; that it can look like a failure in one measure and a success in another is.
#
# **What contradicts the model's knowledge does harm.** Ren et al. (2024) tuned on answers that agree with what a model
# knows and on answers that do not, and found that the second brought nothing and did harm. `contradictions.py` tells
# the model about the 20 asked people, and tells a share of their facts wrongly, always the same wrong way. Then it asks
# about the 20 others, of whom tuning said nothing:

# %%
claim = read_json(contradictions.EXPERIMENT.out)
for arm in contradictions.arms(contradictions.Settings()):
    rows = [row for row in claim["rows"] if row["arm"] == arm]
    taught = "" if rows[0]["taught"] is None else mean_and_range(rows, "taught")
    print(f"{arm:<15} as taught {taught:>17}   held-out people {mean_and_range(rows, 'held_out')}", end="")
    print(f"   in prose {mean_and_range(rows, 'held_out_prose')}")
contradictions.picture(claim["rows"])

# %% [markdown]
# At the left, what tuning never touched. The more is told wrongly about the 20 asked people, the worse the model answers
# about the 20 others. Their facts fade in prose as well, where no form of answering is needed. Skills do not suffer. So
# far the claim holds on the town.
#
# Now look at the last points. "New people" are 20 of whom the base has never read. They contradict nothing, and the
# harm is about as large as when everything is a contradiction. So what harms *here* need not be the contradiction. It
# is enough that tuning insists on facts that the base could not have foreseen. Without this arm we would have told
# another story.
#
# At the right, what became of the contradicted facts: the new value comes more often than the old one, even in wordings
# that no answer used. So the often heard "a model cannot learn facts by tuning" is too strong. It can. The price is
# paid by other facts.
#
# ## 11.11 Which tokens did tuning change?
#
# If tuning teaches the form and not the knowledge, one should see it in the tokens. Lin et al. (2023, "The Unlocking
# Spell on Base LLMs") look: the tuned model answers, always with its likeliest token. Then the **base** reads prompt and
# answer, and its logits say what *it* would have written in each place. The rank of the written token $o_t$ is
#
# $$\mathrm{rank}_t = 1 + \#\{w : \mathrm{logit}_{base}(w) > \mathrm{logit}_{base}(o_t)\}$$
#
# Rank 1 is **unshifted**, 2 and 3 are **marginal**, above is **shifted**. First we tune, as in chapter 7
# (`tune_town` is its loop):

# %%
from gptlab.demo import SMALL_TOWN, tune_town

STEPS = 300  # quick: 2
recipe = replace(SMALL_TOWN, tuning_steps=STEPS)
tuned_model = copy.deepcopy(model)
tune_town(tuned_model, tokenizer, town, recipe)
tuned = gptlab.Checkpoint(tuned_model.eval(), tokenizer, base.template)

held_out = [entry for entry in town.test if entry["group"] == "held-out inhabitant"]
skills = [entry for entry in town.test if entry["group"] == "skill"]
prompt = tokenizer.encode_ordinary(tuned.template.prompt(held_out[0]))
[ids] = gptlab.generate(tuned.model, [prompt], max_new_tokens=24, eos_id=tokenizer.eot_token)
print(held_out[0]["instruction"], "->", tokenizer.decode(ids))


# %%
def kinds_of(logits, tokens):
    """Return the kind of each token, by the logits (T, V) of the base in its place."""
    of_token = logits.gather(1, tokens[:, None])  # (T, 1)
    ranks = 1 + (logits > of_token).sum(dim=1)
    return ["unshifted" if rank == 1 else "marginal" if rank <= 3 else "shifted" for rank in ranks.tolist()]


with torch.no_grad():
    logits = model(torch.tensor([prompt + ids]))[0]  # (T, V)
places = logits[len(prompt) - 1 : -1]  # the token at t is foreseen at t - 1
by_hand = kinds_of(places, torch.tensor(ids))
for token, kind, choice in zip(ids, by_hand, places.argmax(dim=1).tolist()):
    print(f"{show.token_text(tokenizer, token):<12}{kind:<12}the base: {show.token_text(tokenizer, choice)}")

# %% [markdown]
# The base would have begun otherwise. It has never seen "### Response:", and goes on with something from its prose. But
# *after* the tuned model's first words it goes the same way, through name and fact. The library does this for all held-out
# people, in batches, and never holds more logits than a chunk:

# %%
STRIDE = 2  # quick: 40
asked = held_out[::STRIDE]
shift = analysis.token_shift(base, tuned, asked, max_new_tokens=40)
[first] = analysis.token_shift(base, tuned, held_out[:1], responses=[ids]).rows()
assert [kind for _, kind, _ in first] == by_hand
print(str(shift).split("\n\nshifted")[0])

# %%
show.plot_token_shift(shift.by_position(), shift.most_shifted(8))

# %%
show.show_token_shift(shift.rows(4), [entry["instruction"] for entry in asked[:4]])

# %% [markdown]
# At the left: nearly all that is shifted stands in the first two places. (The number above a bar says how many tokens
# it is made of.) The paper finds the same, with 5 to 8 % shifted (7.8 % for Llama-2-chat, which was tuned by feedback as
# well, 4.8 % for Vicuna, 5.2 % for Mistral). Our share is larger, because our answers are so short: two of a dozen
# tokens are many. A share says little without the length beside it.
#
# *Which* tokens are they? In these answers we know what is what: names, facts, and the rest, which is form.

# %%
tally = {"form": [], "name": [], "fact": []}
people = "|".join(person.name for person in town.held_out)
for answer, row in zip(shift.answers, shift.rows()):
    row = row[: answer.length]  # without the end
    text = "".join(piece for piece, _, _ in row).replace("␣", " ")
    parts = ["form"] * len(text)  # of each character
    for part, pattern in (("name", people), ("fact", r"\w+(?=\.$)")):  # the fact is the last word
        for found in re.finditer(pattern, text):
            parts[found.start() : found.end()] = [part] * len(found[0])
    end = 0
    for piece, kind, _ in row:
        end += len(piece)
        tally[parts[end - 1]].append(kind == "shifted")
for part, hits in tally.items():
    if hits:
        print(f"{part}: {fmean(hits):>6.1%} of {len(hits):>5} tokens are shifted")
skill = analysis.token_shift(base, tuned, skills[::STRIDE], max_new_tokens=40)
print(f"for comparison, answers to skills: {skill.tokens.shifted:.1%} shifted, people: {shift.tokens.shifted:.1%}")

# %% [markdown]
# Of the form about a quarter is shifted, of the names one token in twenty, of the facts one in a hundred: **the base
# would have told the same facts**. (After the tuned model's own beginning, mind. Each token is judged after those that
# were written before it, so one word at the start may be all that tuning changed in an answer.) Skills are another
# matter. There tuning changed more than a beginning.
#
# ## 11.12 Does it still know what it knew?
#
# Ren et al. put the same multiple-choice questions to base and tuned model. How sure a model is does not matter; the
# **order** in which it likes the options does. For each question the probabilities are replaced by their ranks, and the
# correlation of the two lists of ranks says how alike the models choose: 1 for the same order, -1 for the reverse.


# %%
def ranks_of(values):
    different = sorted(set(values), reverse=True)
    return [1 + different.index(value) for value in values]  # equal values share a rank


def rank_correlation(p, q):
    x, y = (np.array(ranks_of(values)) - np.mean(ranks_of(values)) for values in (p, q))
    scale = math.sqrt((x**2).sum() * (y**2).sum())
    return float((x * y).sum() / scale) if scale else 0.0  # a model that has no order agrees with nobody


print(rank_correlation([0.7, 0.1, 0.15, 0.05], [0.4, 0.2, 0.3, 0.1]), "the same order, less sure")
print(rank_correlation([0.7, 0.1, 0.15, 0.05], [0.1, 0.3, 0.2, 0.4]), "the reverse")
print(rank_correlation([0.7, 0.1, 0.15, 0.05], [0.25, 0.25, 0.25, 0.25]), "no order at all")

# %% [markdown]
# The paper reads probabilities of the *letters* A to D, after the options were listed. Our models have never chosen by
# letter. So the library also takes the likelihood of each option's own words. And because a correlation of 0.7 looks
# like much and may be nothing, it **shuffles** the tuned model's answers a thousand times and says what chance gives:

# %%
SHUFFLES = 1000  # quick: 20
QUESTIONS = 80  # quick: 6
choices = analysis.town_choices(town)[:QUESTIONS]
print(choices[0], "\n")
report_of = analysis.knowledge_consistency(base, tuned, choices, permutations=SHUFFLES)
print(report_of)
pairs = zip(*report_of.probabilities["options"])
by_hand = [rank_correlation(p, q) for p, q in pairs]
assert np.allclose(by_hand, report_of.agreements["options"].by_question)

# %% [markdown]
# First the letters, which the paper reports. 0.72 looks like agreement, and shuffling the *options* of each question
# never gives so much. But look at the last lines: of four options both models take the right one about as often as one
# would by guessing. What do they agree on, if neither knows the answer? So there is a second shuffle, of whole
# *questions*: the base's answer to one question beside the tuned model's to another. It gives the same 0.72 every time.
# Both models like the letters in a fixed order, whatever is asked. The number says nothing about knowledge.
#
# The options' own words do. There both shuffles give about 0, and what was found was never reached (0.001 is the least
# that a thousand shuffles can give). Both models have all or nearly all of them right. Tuning on half of the people left
# the knowledge about the other half in order.
#
# *A null hypothesis is a choice. Ask what would give the same number without what you want to show, and shuffle that.*
#
# ## 11.13 The base with examples, beside the tuned model
#
# If tuning only brings out what is there, examples in the prompt might do as well; Lin et al. got far with three, on
# large models. Chapter 12 explains the page that the base reads here. Perplexity is chapter 5's, over the right answers
# only: 1 means that each token was foreseen for sure.

# %%
from gptlab.judging.few_shot import few_shot_prompt, respond_few_shot
from gptlab.judging.metrics import response_perplexity

worked = [entry for entry in town.train if entry["group"] != "skill"]
rows = held_out[:: 4 * STRIDE]


def line(name, said, perplexity):
    right = fmean(judging.exact_match(response.text, entry["output"]) for response, entry in zip(said, rows))
    print(f"{name:<18}{right:>6.2f}{perplexity:>12.1f}   {said[0].text[:50]!r}")


print(f"{'':<18}{'exact':>6}{'perplexity':>12}   the first answer")
for shots in (0, 1, 2):
    said = respond_few_shot(model, tokenizer, rows, worked[:shots], opening="", max_new_tokens=32)
    pages = [{"instruction": few_shot_prompt(worked[:shots], row, opening=""), "output": row["output"]} for row in rows]
    line(f"base, examples: {shots}", said, response_perplexity(model, tokenizer, pages, "plain").perplexity)
said = gptlab.respond(tuned.model, tokenizer, rows, tuned.template, max_new_tokens=32)
line("tuned", said, response_perplexity(tuned.model, tokenizer, rows, tuned.template).perplexity)

# %% [markdown]
# Perplexity sees what exact match does not. The base finds the right answers likely, once they are written for it; it
# does not *say* them. With two examples the page is longer than the 128 tokens that it was pretrained on, and it is
# lost. Learning from examples in the prompt is something that large models do, and this one does not.
#
# ## 11.14 Looking inside: where does the fact come from?
#
# "The home of Tusolu is in" ... the base goes on with the right place. Where in the model does that happen? The
# **logit lens** (nostalgebraist 2020) asks every block what it would say if it were the last. Each block adds something
# to the stream of vectors (chapter 4), and the head reads the stream at the end. Let it read earlier:
#
# $$\mathrm{logits}_\ell = \mathrm{head}(\mathrm{norm}(x_\ell))$$

# %%
person = town.held_out[0]
sentence = f"The home of {person.name} is in {person.facts['home']}."
ids = tokenizer.encode_ordinary(sentence)
place = len(tokenizer.encode_ordinary(f"The home of {person.name} is in")) - 1
right = ids[place + 1]

with torch.no_grad():
    x = model.embed(torch.tensor([ids[:-1]])) + model.pos_emb.weight[: len(ids) - 1]  # (1, T, D)
    streams = [x]
    for block in model.trf_blocks:
        x = block(x)
        streams.append(x)
    by_layer = [model.out_head(model.final_norm(x))[0] for x in streams]  # each (T, V)
for number, logits in enumerate(by_layer):
    chance = logits[place].softmax(dim=0)
    rank = 1 + int((logits[place] > logits[place, right]).sum())
    best = show.token_text(tokenizer, int(chance.argmax()))
    wanted = show.token_text(tokenizer, right)
    print(f"after block {number}: {wanted} has rank {rank:>3}, probability {chance[right]:.3f}; the best is {best}")

lens = analysis.logit_lens(model, ids[:-1], targets=ids[1:])
chances = torch.stack([logits[place].softmax(dim=0)[right] for logits in by_layer])
assert torch.allclose(lens.target_probabilities[:, place], chances, atol=1e-4)

# %% [markdown]
# The same for each place of the sentence. A column is a place, with the token that comes next on top. In a cell stands
# what the layer likes best, dark where it is sure of it, and below it the rank of what really comes next. Read a column
# from below:

# %%
show.plot_logit_lens(lens, tokenizer)

# %% [markdown]
# The lowest row says each token itself: this model's head has the same weights as its embeddings, so an embedding that
# is read at once is its own best guess. The rest of the name, "ol" and "u", is there after one block: that is spelling.
# Now the column above " in", where the fact is asked for. Two blocks do not know it, and with the third it is there. To
# know that a place must come is grammar; *which* one needs the name.
#
# (A word of warning: the earlier layers were never trained to be read by the head. Where the lens shows nonsense, the
# layer may know more than it shows; Belrose et al. 2023.)
#
# **Attention maps.** What the last block adds, it must have fetched from somewhere. These are all maps of the model for
# the same sentence, three layers of four heads. A row is a token that looks, a column what it looks at. Find the row of
# " in", the last but two:

# %%
maps = analysis.attention_maps(model, ids)  # (layers, heads, T, T)
assert torch.allclose(maps.sum(dim=-1), torch.ones(maps.shape[:3]), atol=1e-4)
show.plot_attention_grid(maps, show.token_labels(ids, tokenizer))

# %%
begin, end = (len(tokenizer.encode_ordinary(text)) for text in ("The home of", f"The home of {person.name}"))
print("how much of the attention at ' in' goes to the name:")
for layer, row in enumerate(maps[:, :, place, begin:end].sum(dim=-1), start=1):
    print(f"   layer {layer}:", *(f"  head {head} {weight:.2f}" for head, weight in enumerate(row.tolist(), start=1)))

# %% [markdown]
# In layer 3, where the fact came, two heads look at hardly anything but the name, and so does one in layer 2. That fits.
# But a map shows where a head looks and not what it takes from there (Jain and Wallace 2019, "Attention is not
# Explanation"). To show that a head *brings* the fact, one would have to switch it off.
#
# **Neighbours.** Last, the other end of the model. Which tokens does it take for alike? The cosine of their embeddings:

# %%
weights = F.normalize(model.tok_emb.weight.detach(), dim=1)  # (V, D), each row of length 1
[token] = tokenizer.encode_ordinary(" T")
cosines = weights @ weights[token]
cosines[token] = -1.0
by_hand = cosines.topk(5).indices.tolist()
print([show.token_text(tokenizer, near) for near in by_hand])
assert by_hand == [near.token for near in analysis.nearest_tokens(model, tokenizer, " T", 5)]
for text in (" red", " home", " 3", " b", "."):
    try:
        found = analysis.nearest_tokens(model, tokenizer, text, 5)
        print(f"{text!r:<8}", "  ".join(f"{near.text} {near.cosine:.2f}" for near in found))
    except ValueError as error:
        print(f"{text!r:<8}", error)

# %% [markdown]
# " T" begins names, and so do its neighbours. The digits stand almost in their order, which nobody told the model: their
# surroundings are alike, and most of all those of two that are near. "home" has "house". (Tokens are near when what
# stands *around* them is alike. So are opposites, and the full stop is like nothing.) A word that is no token, as " red",
# has no embedding of its own.
#
# ## Find the mistake
#
# Somebody has the judge's report of section 11.5 and takes the 300 best. Ratings that could not be read are no ratings,
# so they drop them first:


# %%
def best_rated(scores, k):
    known = [score for score in scores if score is not None]
    return sorted(range(len(known)), key=lambda number: -known[number])[:k]


print("random    ", shares(drawn))
print("best rated", shares(best_rated(report.scores, K)))

# %% [markdown]
# **What is wrong?** Decide from what can be seen. The judge is the one of section 11.5, whose best were mostly right.
# Compare the two lines.
#
# <details><summary>The answer</summary>
#
# The best rated are no better than chance, so the ratings have lost their entries. As soon as one None is dropped, all
# ratings behind it move up by one place. `known[7]` is the rating of entry 8 or 9, and near the end of the list it is
# off by a hundred. Nothing fails, and no number looks odd. It is how ratings in one file and entries in another are
# often brought together: by the number of the line.
#
# Keep the None in its place, or keep the entry's number beside its rating. And always look at what a selection picked:
# three entries that were "rated 5" would have been enough.
#
# </details>


# %%
def best_mended(scores, k):
    known = [number for number, score in enumerate(scores) if score is not None]
    return sorted(known, key=lambda number: -scores[number])[:k]


print("best rated", shares(best_mended(report.scores, K)))

# %% [markdown]
# ## Exercises
#
# Write the functions in `chapters/ch11_selection/exercises.py`. `python chapters/ch11_selection/exercises.py` checks
# what is there so far, one by one, with a hint for each mistake that it recognises:
#
# - `selection.keep_best`: the best rated, with ratings missing
# - `selection.lloyd_step`: one step of K-means
# - `selection.gains`: what each entry would add to what is covered
# - `selection.greedy`: coverage and quality, pick by pick
# - `selection.shift_kinds`: unshifted, marginal or shifted
# - `selection.rank_correlation`: do two models order the options alike?
#
# The same checks from a notebook, with functions of this lesson:

# %%
print(gptlab.check("selection.greedy", greedy))
print(gptlab.check("selection.keep_best", best_rated))

# %% [markdown]
# ## What to take along
#
# - Look at the whole before you choose from it: lengths, what is asked for, what repeats. Then read what each rule threw
#   away.
# - A judge sees one entry, and diversity sees none of the answers' truth. Each alone has a blind side; bring both to one
#   scale before you add them.
# - Random selection is the baseline, and it is better than its name: without it a method's number says nothing.
# - Gains of coverage only shrink. That is why greedy is good, and why lazy greedy is exact.
# - Tuning changed the beginning of our answers, and hardly their facts. What the model knows came from pretraining; what
#   contradicts it costs.
# - A correlation, a share, a p-value: ask what chance, a shorter answer or a common liking would give.
#
# Chapter 12 is about judges: what our stand-in replaced here, and how far such a rating can be trusted.
