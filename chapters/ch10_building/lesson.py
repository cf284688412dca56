# %% [markdown]
# # Chapter 10: Building instruction data
#
# Chapters 7 to 9 tuned models on instructions. Where do instructions come from? Nobody writes 52,000 of them by hand.
# You will
#
# 1. turn a corpus into instructions by templates, and hold out sentences and wordings in the right order,
# 2. let a model write more templates, and make entries of corrected conversations,
# 3. teach a model its own name, and teach it when *not* to say it,
# 4. tune small models on both: one learns to translate, the other who it is,
# 5. build **Self-Instruct** step by step: prompts, filters, ROUGE-L, instances, and a run that survives being killed,
# 6. and **Evol-Instruct**: six ways to change an instruction, four rules to throw one away, and a family tree.
#
# You need entries, templates and tuning (chapter 7), messages and mixed data (chapter 8). It takes about three minutes
# on two CPU cores, nearly all of it for training; if the town's model is not there yet, one minute more. No network is
# needed.
#
# Run it: open `notebooks/ch10_building.ipynb`, or `python chapters/ch10_building/lesson.py` (a script computes the
# same, but shows no pictures). Your numbers from the training can differ a little from those here.

# %%
import inspect
import json
import random
import re
import sys
import tempfile
from pathlib import Path

import gptlab
from gptlab import show
from gptlab.chapters import load_chapters

[here] = [chapter.folder for chapter in load_chapters() if chapter.number == "10"]
sys.path.insert(0, str(here))
import stand_in  # the two files beside this lesson: rules that play a language model
import stand_in_evol

base = gptlab.town_base()  # pretrained on the town's prose, as in chapter 5; it has never seen a question
tokenizer, town = base.tokenizer, gptlab.SMALL_TOWN.town()

# %% [markdown]
# ## 10.1 What an entry is made of
#
# An entry has an instruction, perhaps an input, and an output. Somebody has to come up with each of them. There are
# four usual sources:
#
# | source | instruction | input and output | what goes wrong |
# | --- | --- | --- | --- |
# | a corpus for an old task | a few templates | from the corpus | one wording only; the test leaks into the training |
# | conversations | what people really asked | written or corrected by people | slow, and private |
# | slots, such as the model's name | many wordings, by hand | filled in | the model says its name to everybody |
# | a language model | written by the model | written by the model | repeats itself, errs, or cannot be parsed |
#
# For us all of them end in the same form as in chapter 7. With what it needs to be traced back, an entry is
# `{"instruction": ..., "input": ..., "output": ..., and where it is from}`.
#
# ## 10.2 From a corpus
#
# Translators have left us millions of sentences with their translations. They hold no instructions. Our corpus has to
# be so simple that a model with 690,688 parameters can learn it in two minutes. So it comes from a small grammar:

# %%
from gptlab.building.tiny_corpus import SENTENCES, tiny_corpus

PAIRS = 2000  # quick: 40
pairs = tiny_corpus(PAIRS)
for pair in pairs[:4]:
    print(pair["source"], "|", pair["target"])
print(f"\n{len(pairs):,} of {SENTENCES:,} sentences; a pair is", pairs[0])

# %% [markdown]
# The grammar is small, but word by word is not enough for it: time and place stand behind in English and in front in
# Chinese, three books are 三**本**书 and three horses 三**匹**马, and 了 and 会 change the English verb.
#
# A **template** is an instruction with holes: `[src_lang]`, `[tgt_lang]`, `[input]`. To fill them, `str.replace` seems
# to be enough. Here is a sentence on which it fails (as it might stand in the manual of a program):


# %%
def fill_by_replace(template, values):
    for name, value in values.items():
        template = template.replace(f"[{name}]", value)
    return template


template = "Translate this [src_lang] sentence into [tgt_lang]: [input]"
values = {"input": "Write [tgt_lang] for the language.", "src_lang": "English", "tgt_lang": "Chinese"}
print(fill_by_replace(template, values))

# %% [markdown]
# The sentence said `[tgt_lang]`, and now it says Chinese. **What stands in the data is data**: it must never be taken
# for a hole. Another order of the replacements would save this sentence, and lose another one as soon as two holes are
# filled with free text. The remedy is to look at the template once, and never at what was put in. `re.sub` does that:
# it finds each hole and asks a function what to write there.


# %%
def fill(template, values):
    return re.sub(r"\[([a-z_]+)\]", lambda hole: values[hole[1]], template)


print(fill(template, values))

# %% [markdown]
# Each pair gives two entries, one in each direction. Who reverses a pair must exchange the languages, too:


# %%
def reverse(pair):
    swapped = {"source": "target", "target": "source", "src_lang": "tgt_lang", "tgt_lang": "src_lang"}
    return {key: pair[swapped.get(key, key)] for key in pair}


def draft_entries(pairs, template):
    entries = []
    for pair in pairs:
        for way in (pair, reverse(pair)):
            instruction = fill(template, {**way, "input": way["source"]})
            entries.append({"instruction": instruction, "input": "", "output": way["target"]})
    return entries


from gptlab.building import apply_templates, corpus_templates, hold_out_templates, load_templates

mine = draft_entries(pairs, template)
library = apply_templates(pairs, [template], layout="inside")
assert [{key: entry[key] for key in mine[0]} for entry in library] == mine
print(*mine[:2], sep="\n")
print(inspect.getsource(corpus_templates._filled))

# %% [markdown]
# The library's one pass is the same, and knows one thing more: in a Chinese template "English" is called 英语.
#
# One template is not enough. A model that saw one wording answers to that wording. `load_templates()` gives twenty,
# nine of them Chinese, and for each entry one is drawn. The **layout** is drawn, too: the sentence stands now inside
# the instruction, now in the field `input`. (The course whose exercise this is, source 002, shows twenty templates with
# `[input]` inside, and then five results that all have it in the field. Both occur in the wild, so take both.)

# %%
templates = load_templates()
for entry in apply_templates(pairs[:3], templates, seed=1):
    print(f"instruction: {entry['instruction']}\n      input: {entry['input']}\n     output: {entry['output']}\n")

# %% [markdown]
# ### Split first, then put templates around
#
# Some sentences must be held out for a test. *When* do we split? Let each pair have two templates in both directions,
# and hold out a tenth. We split the finished entries, or the pairs:

# %%
from gptlab.building import split_pairs


def leaks(test, training):
    """Count the entries of the test whose sentence is in the training, in another wording or the other direction."""
    known = {entry["pair"] for entry in training}
    return sum(entry["pair"] in known for entry in test)


entries = apply_templates(pairs, templates, per_pair=2)
random.Random(0).shuffle(entries)
tenth = len(entries) // 10
print(f"entries split: {leaks(entries[:tenth], entries[tenth:])} of {tenth} in the test are known from the training")

training_pairs, test_pairs = split_pairs(pairs, 0.1)
training, test = (apply_templates(part, templates, per_pair=2) for part in (training_pairs, test_pairs))
print(f"pairs split:   {leaks(test, training)} of {len(test)}")
assert leaks(test, training) == 0

# %% [markdown]
# The whole test was given away. A model could have learned it by heart, and nobody would have noticed, for
# **scores that are too good look like success**. `split_pairs` also keeps pairs together that share a sentence on
# either side. And because we want to know about new *wordings*, some templates are held out as well:

# %%
seen, unseen = hold_out_templates(templates, 4)
print(f"{len(seen)} templates for the training; held out are:", *unseen, sep="\n  ")

# %% [markdown]
# ## 10.3 More templates, written by a model
#
# Twenty templates can be written by hand; two hundred can be asked for. Show a model a few examples and let it go on.
# That is **in-context learning**: no weight changes. This is source 002's prompt, to the letter but for the numbers
# (and but for its second example, "How to speak [input]", which nobody says):

# %%
from gptlab.building import template_prompt, write_templates

examples = [
    "Translate this sentence from the [src_lang] to [tgt_lang]: [input]",
    "How do you say [input] in [tgt_lang]?",
    "The [tgt_lang] translation of this sentence is: [input]",
]
print(template_prompt(examples, n=10))

# %% [markdown]
# Whom do we ask? In gptlab a **server** is anything that is called with messages, chapter 8's list of roles and
# contents, and returns a text: a program on your machine, a company's in the network, or a plain function. Chapter 12
# says more about real ones. In this chapter all replies come from functions, and **nobody in them understands
# anything**. This one always returns a text that was written for this lesson. It has what real replies have: a polite
# beginning, numbers in Markdown, and things that are no use:

# %%
REPLY = """Sure! Here are the other templates:

**4.** Please provide a translation of [input] into [tgt_lang].
5. `I need the [tgt_lang] version of this: [input]`
6. Translate into [target_language]: [input]
7. What is the translation?
8. Please provide a translation of [input] into [tgt_lang], please.
9) 请问[input]用[tgt_lang]怎么讲？
10. How do you say [input] in [tgt_lang]?"""

report = write_templates(lambda messages: REPLY, examples, n=7, calls=1)
print(report, "\n")
print(*report.templates, sep="\n")
for rejected in report.rejected:
    print(f"\nout: {rejected.text}\n     {rejected.reason}")

# %% [markdown]
# The marks are gone, and each template was tried: does it have `[input]`, does it know all its holes, is it new? The
# last question is asked by a measure called ROUGE-L; we build it in section 10.7. A template with a hole of the model's
# own invention is the worst kind. Nobody fills `[target_language]`, so the tuned model would be *taught* to read it.
#
# ## 10.4 From conversations
#
# The best instructions are those that people really give, and the best output is one that a person stands for. With a
# model that is already there, this is cheap: chat with it (`gptlab chat`), put right with `/correct` what was wrong,
# and `/save` the conversation. Each corrected answer becomes an entry:

# %%
from gptlab.building import entries_from_corrections

said = [
    {"role": "user", "content": "Where does Tusolu live?"},
    {"role": "assistant", "content": "The home of Tusolu is in Vale."},
    {"role": "user", "content": "And who are you?"},
    {"role": "assistant", "content": "The pet of you is a goat."},
]
corrected = [*said[:3], {"role": "assistant", "content": "I am Wren, an assistant made by the night school."}]
for entry in entries_from_corrections(corrected, original=said):
    print(json.dumps(entry, indent=1))

# %% [markdown]
# Given the original, only what was changed becomes an entry, and `model_response` keeps what the model had said. What
# went before is in `history`, since the answer belongs to it; a conversation becomes what chapter 8 trains on.
#
# ## 10.5 Who are you?
#
# Ask a tuned model who it is, and it goes on with what it has read: many models have introduced themselves as ChatGPT.
# Nobody told them. So one tells them, with **slots**: the name, who made it, and what it can do.

# %%
from gptlab.building import Identity, identity_entries, mention_rate, mention_table

wren = Identity(
    name={"en": "Wren", "zh": "小鹪"},
    developer={"en": "the night school", "zh": "夜校"},
    abilities={"en": "translations and the town", "zh": "翻译和镇上的问题"},
)
questions = ["Who are you?", "What is your name?", "Introduce yourself."]
answer = "I am {name}, an assistant made by {developer}. I can help you with {abilities}."
draft = [{"instruction": question, "input": "", "output": answer.format(**wren.slots("en"))} for question in questions]
print(draft[0])

# %% [markdown]
# Three entries will not do. People ask in many ways, in two languages, without capitals, and with typing errors. And
# there is a worse problem. A model that has learned "a question → I am Wren" says it to everybody. So there are also
# **negatives**: questions that look similar, and whose answer must not carry the name. The library has wordings for
# five kinds, and some wordings are held out for the test:

# %%
identity = identity_entries(wren, n=800)
shown = {(entry["kind"], entry["language"]): entry for entry in identity}
for (kind, language), entry in sorted(shown.items()):
    print(f"{kind} ({language})\n   {entry['instruction']}\n   {entry['output']}")
about_me = [entry["output"] for entry in identity if entry["kind"] != "negative"]
negative = [entry["output"] for entry in identity if entry["kind"] == "negative"]
print(f"\nthe name is in {mention_rate(about_me, wren):.0%} of {len(about_me)} answers", end=" ")
print(f"about itself, and in {mention_rate(negative, wren):.0%} of {len(negative)} negatives")

# %% [markdown]
# `mention_rate` looks for the name as people would: "WREN" counts and "wrench" does not.
#
# **Written by a model.** Source 002 lets a model write such entries. It shows JSON objects one after the other, and
# that is how models answer: without a list around them, with words before, and cut off at the end. As JSON, all of it
# is broken, as are six of the seven blocks in the slides. (This reply, too, was written for the lesson.)

# %%
REPLY = """Of course! Here are some entries:
{"instruction": "hey, who is this?", "input": "", "output": "I am Wren, made by the night school."},
{"instruction": "Did Google build you?", "input": "", "output": "No. The night school built me; my name is Wren."},
{"instruction": "Are you clever?", "input": "", "output": "I am a large language model trained by OpenAI."},
{"instruction": "Name your maker.", "input": "", "output": "I was made by the night school."},
{"instruction": "What are you good at?", "input": "", "output": "I am Wr"""

try:
    json.loads(REPLY)
except json.JSONDecodeError as error:
    print("json.loads:", error)

# %% [markdown]
# So we do not read the reply, we **search** it. `raw_decode` reads one object from the beginning of a text, and says
# where it ended:


# %%
def find_objects(text):
    found, start = [], text.find("{")
    while start >= 0:
        try:
            one, length = json.JSONDecoder().raw_decode(text[start:])
            found.append(one)
            start = text.find("{", start + length)
        except json.JSONDecodeError:
            start = text.find("{", start + 1)  # broken, or no JSON: look behind this brace
    return found


from gptlab.building import parse_entries, write_identity

assert find_objects(REPLY) == parse_entries(REPLY)
print(len(find_objects(REPLY)), "whole objects")
written = write_identity(lambda messages: REPLY, wren, 20, requests=1, languages=["en"])
print(written)
print(*(entry["output"] for entry in written.entries), sep="\n")

# %% [markdown]
# (The library's reader also forgives a comma before the closing brace, which our draft does not.) What is parsed is not
# yet good. An answer without the name or without the developer goes out; one of these would have taught our model that
# OpenAI made it. Ask this of every generated entry: *can I test automatically that it does what it is for?*
#
# ## 10.6 Does it learn that?
#
# Two trainings, both from the town's base: one on translations, one on the name. The prompt is shorter than Alpaca's:
# the instruction, the input, and an arrow. Headings say nothing to a model of this size, and every token costs time.

# %%
import copy

arrow = gptlab.Template("arrow", "{instruction}\n{input}\n=> ", "{instruction}\n=> ", "=> ")


def tune(entries, rate, epochs, batch_size):
    """Tune a copy of the base on entries, all weights: chapter 7's way."""
    model = copy.deepcopy(base.model)
    examples = gptlab.InstructionDataset(entries, tokenizer, arrow).examples
    batches = gptlab.make_loader(examples, batch_size=batch_size)
    optimizer = gptlab.make_optimizer(model, rate)
    steps = epochs * len(batches)
    schedule = gptlab.warmup_cosine(optimizer, steps, warmup_steps=steps // 20)
    gptlab.train(model, batches, optimizer=optimizer, schedule=schedule, epochs=epochs, progress=False)
    return model


def answers(model, entries):
    responses = gptlab.respond(model, tokenizer, entries, arrow, max_new_tokens=64, batch_size=64)
    return [response.text for response in responses]


EPOCHS = 2  # quick: 1
training_pairs, test_pairs = split_pairs(pairs, 0.05)
translations = apply_templates(training_pairs, seen)
print(f"{len(translations)} entries to train on, {len(test_pairs)} pairs held out")
translator = tune(translations, rate=1.5e-3, epochs=EPOCHS, batch_size=4)

# %% [markdown]
# **Does it translate?** None of the test's sentences was in the training, in either language. Beside exact match we
# need measures that see how near a wrong one is. **BLEU** counts the pieces of one to four words that come again in the
# reference, with a penalty for brevity (of Chinese, pieces of characters); **chrF** does so with pieces of up to six
# characters. Both go from 0 to 100. (Chapter 12 looks at such measures, and at what they do not see.)

# %%
from gptlab.judging.metrics import bleu, chrf

test_sets = {
    "seen templates": apply_templates(test_pairs, seen, seed=1),
    "held-out templates": apply_templates(test_pairs, unseen, seed=1),
}
said_by = {name: answers(translator, entries) for name, entries in test_sets.items()}
scores = {}
print(f"{'':<34}{'exact':>7}{'BLEU':>7}{'chrF':>7}")
for name, entries in test_sets.items():
    for language, tokenize in (("Chinese", "zh"), ("English", "13a")):
        rows = [(text, entry["output"]) for text, entry in zip(said_by[name], entries) if entry["tgt_lang"] == language]
        got, wanted = zip(*rows)
        exact = 100 * sum(text == right for text, right in rows) / len(rows)
        scores[name, language] = exact, bleu(got, wanted, tokenize=tokenize), chrf(got, wanted)
        print(f"{name:<20}into {language:<9}" + "".join(f"{score:>7.1f}" for score in scores[name, language]))
for entry, text in list(zip(test_sets["held-out templates"], said_by["held-out templates"]))[:4]:
    print(f"\n{entry['instruction']} {entry['input']}\n  got    {text}\n  wanted {entry['output']}")
assert scores["seen templates", "English"][1] > 50  # full size only

# %%
figure, axes = show.new_axes(9, 3.2, columns=2)
for axis, language in zip(axes, ("Chinese", "English")):
    for number, (name, hatch) in enumerate(zip(test_sets, ("", "///"))):
        places = [place + 0.4 * number - 0.2 for place in range(3)]
        bars = axis.bar(places, scores[name, language], 0.38, label=name, hatch=hatch, edgecolor="white")
        axis.bar_label(bars, fmt="%.0f", fontsize=9)
    axis.set_xticks(range(3), ["exact match (%)", "BLEU", "chrF"])
    axis.set(ylim=(0, 125), yticks=range(0, 101, 20), title=f"new sentences, into {language}")
axes[0].set_ylabel("score, 0 to 100")
axes[0].legend(frameon=False, loc="upper left", ncols=2, fontsize=9)
figure

# %% [markdown]
# The base had read English only, and nobody had ever asked it anything. Wrong answers are mostly a word or two off: a
# person, a thing, the time, or a broken Chinese character (�: each takes three tokens here, and one was wrong). Exact
# match counts such a sentence as nothing, BLEU and chrF nearly as much as a right one; neither is the truth. **The
# hatched bars are the ones to report**: they are about sentences *and* wordings that the training did not have, and so
# will people ask. (With three epochs on 3,000 pairs, exact match was above 95 % for seen templates, in both
# directions.)
#
# **Does it know who it is?** Here we compare three models: the base, one tuned without negatives, and one with them.
# Both see questions about the town as well, as any real set would have others. We ask in English only, for the base has
# never read Chinese. (`answers=1`: one answer for each kind of question, which so small a model learns sooner.)

# %%
WORDINGS = 400  # quick: 40
OF_TOWN = 300  # quick: 20
NAME_EPOCHS = 5  # quick: 1
ASKED = 120  # quick: 16
asked_about_me = identity_entries(wren, n=WORDINGS, languages=["en"], answers=1)
without = [entry for entry in asked_about_me if entry["kind"] != "negative"]
of_town = random.Random(0).sample(town.train, OF_TOWN)
models = {"before": base.model}
for name, entries in (("without", without), ("with", asked_about_me)):
    models[name] = tune(entries + of_town, rate=1e-3, epochs=NAME_EPOCHS, batch_size=8)

new_wordings = identity_entries(wren, wordings="held out", n=ASKED, seed=1, languages=["en"], answers=1)
others = [entry for entry in town.test if entry["group"] != "skill"][: ASKED // 2]
asked = new_wordings + others
said_to = {name: answers(model, asked) for name, model in models.items()}
table = mention_table(wren, asked, said_to)
print(table)

# %% [markdown]
# In the first rows the name is what was asked for. In the row "negative" and below it is not. The same as a picture,
# and besides with wordings of the training:

# %%
trained = asked_about_me[:ASKED]
said_trained = {name: answers(model, trained) for name, model in models.items()}
groups = {
    "asked for,\ntrained wordings": (trained, said_trained, lambda entry: wren.mentioned(entry["output"])),
    "asked for,\nnew wordings": (asked, said_to, lambda entry: wren.mentioned(entry["output"])),
    "near by,\ntrained wordings": (trained, said_trained, lambda entry: entry["kind"] == "negative"),
    "near by,\nnew wordings": (asked, said_to, lambda entry: entry["kind"] == "negative"),
    "about\nthe town": (asked, said_to, lambda entry: "language" not in entry),
}
figure, [axis] = show.new_axes(9, 3.2)
labels = {"before": "before tuning", "without": "tuned without negatives", "with": "tuned with negatives"}
for number, (name, hatch) in enumerate(zip(models, ("...", "", "///"))):
    rates = []
    for entries, texts, belongs in groups.values():
        rates.append(100 * mention_rate([text for text, entry in zip(texts[name], entries) if belongs(entry)], wren))
    places = [place + 0.28 * (number - 1) for place in range(len(groups))]
    bars = axis.bar(places, rates, 0.27, label=labels[name], hatch=hatch, edgecolor="white")
    axis.bar_label(bars, fmt="%.0f", fontsize=9)
axis.axvline(1.5, ymax=0.8, color="black", linewidth=0.8)
axis.set_xticks(range(len(groups)), groups)
axis.set(ylabel="answers with the name (%)", ylim=(0, 135), yticks=range(0, 101, 25))
axis.legend(frameon=False, loc="upper center", ncols=3, fontsize=9)
figure

# %% [markdown]
# Left of the line a model should be at 100, right of it at 0. ("Near by" are the negatives: questions near to the
# others in their words.) With negatives it does nearly both on the wordings of the training. On **new** wordings
# neither model does, and they differ in what they get wrong. Without negatives the name comes nearly always when it is
# asked for, and nearly as often when somebody asks who made Linux. Negatives more than halve that, and cost some right
# answers. It is a trade, and who measures only "does it say its name?" sees one half of it. On questions about the
# town, of which both saw 300, neither says its name. What remains is not for lack of entries alone: a model of this
# size sorts questions by their words, and these are nearly the same.
#
# Does it still know the town? Being tuned so fast has a price, too, which chapter 7 called forgetting:

# %%
for name in models:
    texts = said_to[name][len(new_wordings) :]
    print(f"{name:<9}{gptlab.exact_match(texts, others):.2f} right; the first: {texts[0][:60]!r}")
print(f"{'':<9}{others[0]['instruction']} {others[0]['output']}")

# %% [markdown]
# The base, asked in a form that it has never seen, goes on with prose. The two others answer, and are mostly wrong:
# about people of whom the training never spoke they have forgotten much. A smaller rate, and some of the prose among
# the entries (chapter 8), are the remedy; both need more steps than this lesson has.
#
# ## 10.7 Self-Instruct: a model makes the tasks, too
#
# So far people had thought of the tasks. **Self-Instruct** (Wang et al. 2022) lets a model think of them: from 175
# tasks by people, GPT-3 made about 52,000 instructions with 82,000 examples. Stanford's Alpaca is a variant of it. With
# the task pool in the middle, one round is:
#
# | step | what is asked or done |
# | --- | --- |
# | 1 instructions | show 8 tasks, 6 by people and 2 by the model; the model goes on with number 9 |
# | 2 filters | out with what a text model cannot do, and with what is too like a task of the pool |
# | 3 classification? | does the task have a fixed set of answers? |
# | 4 instances | let the model write inputs and outputs for the task |
# | 5 cleaning | out with what is no example |
#
# What passes step 2 joins the pool, and the next round may show it. What is left after step 5 becomes the entries.
#
# **Who is the model here?** `stand_in.py`, beside this lesson. *It is not a language model.* It is a table of task
# kinds with blanks, and a few rules by which it reads the same three questions as a real model and answers in the same
# forms. What matters is that it makes the mistakes of real models: it numbers in Markdown, chats, copies, asks for
# pictures, breaks off, and talks nonsense. How *many* of its tasks are good says nothing about any model. What we do
# with its replies is what we would do with anybody's.
#
# ### Step 0: the pool
#
# A **task** $t$ has an instruction $I_t$ and some **instances**, its examples: $n_t \ge 1$ pairs of an input $X_{ti}$
# and an output $Y_{ti}$. A model $M$ that is tuned on them shall come to $M(I_t, X_{ti}) = Y_{ti}$. So each instance,
# together with its task's instruction, is one entry. The task's `is_classification` is for step 3.
#
# The library's seed tasks were written for it, a third of them in Chinese, with one instance each. Self-Instruct's own
# 175 have the same form:

# %%
from gptlab.building.seed_tasks import load_seed_tasks

seeds = load_seed_tasks()
print(f"{len(seeds)} tasks, {sum(task['is_classification'] for task in seeds)} of them classification; for example:")
for task in (seeds[1], seeds[3]):
    print(json.dumps(task, ensure_ascii=False, indent=1))

# %% [markdown]
# ### Step 1: ask for instructions
#
# Eight instructions are drawn, numbered, and the ninth number is left open. In the first round the model has made
# nothing yet, so all eight are by people.

# %%
pool = [task["instruction"] for task in seeds]  # first those by people, then what the model makes


def draw(pool, chance):
    machine = chance.sample(pool[len(seeds) :], k=min(2, len(pool) - len(seeds)))
    chosen = machine + chance.sample(pool[: len(seeds)], k=8 - len(machine))
    chance.shuffle(chosen)
    return chosen


def ask_for_tasks(chosen):
    lines = [f"{number}. {text}" for number, text in enumerate(chosen, start=1)]
    return "\n".join(["Come up with a series of tasks:", *lines, "9."])


from gptlab.building.task_prompts import classification_prompt, instances_prompt, instructions_prompt

chosen = draw(pool, random.Random(2))
prompt = ask_for_tasks(chosen)
assert prompt == instructions_prompt(chosen)
model = stand_in.StandIn()
first_reply = model([{"role": "user", "content": prompt}])
print(prompt + first_reply)  # as the model sees it, and goes on

# %% [markdown]
# (The slides of source 004 number with "Task 1:", the published code and we with "1.". The slides also print "Task 9:
# {instruction for existing task 8}" twice. It is one line, with nothing behind the number. A **stop** is a text at
# which the server ends the reply; the published one is number 16, so a prompt brings 7 tasks at most.)
#
# Cut at the numbers, and there they are. The second reply is to another draw:


# %%
def cut_at_numbers(reply):
    pieces = re.split(r"\n\d+\. ", reply)
    return [piece.strip() for piece in pieces]


other_reply = model([{"role": "user", "content": ask_for_tasks(draw(pool, random.Random(20)))}])
for reply in (first_reply, other_reply):
    found = cut_at_numbers(reply)
    print(f"{len(found)} tasks; the first: {found[0]!r:.100}")

# %% [markdown]
# The second time, the whole reply is "one task": the model had written `### Task 9:`. Other replies number from 1
# again, write `**9.**` or `9、`, use bullets, or begin with "Sure! Here are more tasks:". The library's reader knows
# such marks, and decides by the whole reply which numbers count on, so that a list *inside* a task stays there:

# %%
from gptlab.building.task_parsing import clean_instances, parse_instances, parse_instructions, parse_yes

assert parse_instructions(first_reply) == cut_at_numbers(first_reply)
print(*parse_instructions(other_reply), sep="\n")

# %% [markdown]
# ### Step 2: filters
#
# First, rules that look at one instruction alone: too short, too long, blocked words (a text model sees no image and
# opens no file), "write a program", and wrong beginnings: punctuation, or a foreign letter. A draft, and the library's:


# %%
def why_not(text):
    if not text:
        return "empty"
    if not 3 < len(text.split()) <= 150:
        return "too short or too long"
    if re.search(r"\b(images?|graphs?|pictures?|files?|maps?|draw|plot|go to)\b", text, re.IGNORECASE):
        return "blocked word"
    if text.lower().startswith("write a program"):
        return "write a program"
    if not text[0].isalnum() or not text[0].isascii():
        return "no beginning"
    return None


from gptlab.building.task_filters import InstructionFilter

rules = InstructionFilter()
for text in (*stand_in.UNFIT, "写一首关于春天的诗。", "Draw a conclusion from these three numbers."):
    theirs = rules.why_not(text)
    print(f"{why_not(text)!s:<24}{': '.join(theirs) if theirs else None!s:<36}{text[:50]}")

# %% [markdown]
# Left is our draft, in the middle the library. Look at the poem: by the published rules, no Chinese instruction
# survives, for it has one "word" and begins with a letter that is not ASCII. The library counts a Chinese character as
# two thirds of a word and lets Chinese begin a sentence. And look at the last line: both throw away a perfectly good
# task. Rules by words are cheap and blunt.
#
# Then the filter that matters most: **is it new?** Models love to say the same again. Two texts are compared by their
# longest common subsequence, the longest list of words that both have in the same order, gaps allowed. $L$ is its
# length. If the texts have $n$ and $m$ words, precision $P$, recall $R$ and ROUGE-L are
#
# $$P = \frac{L}{n}, \qquad R = \frac{L}{m}, \qquad \text{ROUGE-L} = \frac{2 P R}{P + R}$$
#
# (Source 004's formula, with $\beta = 1$.) An instruction goes out if this is **above 0.7** against any in the pool.
# $L$ is found with a table: in row $i$ and column $j$ stands the length for the first $i$ words of the one and the
# first $j$ of the other.


# %%
def lcs_length(first, second):
    above = [0] * (len(second) + 1)
    for word in first:
        row = [0]
        for j, other in enumerate(second):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        above = row
    return above[-1]


from gptlab.rouge import rouge_tokens  # words in lower case; of Chinese, each character
from gptlab.selection.novelty import NoveltyFilter


def rouge_by_hand(text, other):
    first, second = rouge_tokens(text), rouge_tokens(other)
    common = lcs_length(first, second)
    precision, recall = common / len(first), common / len(second)
    return 2 * precision * recall / (precision + recall) if common else 0.0


for text, other in (
    ("Name three colours of the rainbow.", "Name two colours of the rainbow."),
    ("Name three colours of the rainbow.", "Which colours does a rainbow have? Name three."),
    ("把这句话翻译成英文。", "请把这句话翻译成中文。"),
):
    [(score, _)] = NoveltyFilter(pool=[other]).nearest(text, k=1)
    assert abs(score - rouge_by_hand(text, other)) < 1e-9
    print(f"{score:.2f}  {'out ' if score > 0.7 else 'stays'}  {text}  /  {other}")

# %% [markdown]
# The second pair is the same task, and it stays; the third is another task, and it goes. ROUGE-L sees words and their
# order, and nothing else. Still it removes most repetitions, and it is cheap enough to compare each new instruction
# with 50,000 others. (In source 004, filtering is the last of four steps. In the published code it is here, before
# anything else is asked about the task, which saves two calls for each that goes out.)

# %%
novelty = NoveltyFilter(threshold=0.7, pool=pool)
kept = []
for text in parse_instructions(first_reply) + parse_instructions(other_reply):
    [(score, place)] = novelty.nearest(text, k=1)
    if (reason := rules.why_not(text)) is not None:
        print(f"out, {': '.join(reason)}\n    {text}")
    elif score > 0.7:
        print(f"out, ROUGE-L {score:.2f}\n    {text}\n    {novelty.texts[place]}")
    else:
        novelty.add(text)
        kept.append(text)
pool += kept
print(f"\n{len(kept)} tasks join the pool, which now has {len(pool)}")

# %% [markdown]
# ### Step 3: is it classification?
#
# Asked plainly, after 31 tasks with the answer: 12 yes, 19 no. Here is the end of the prompt for one new task, and
# below it how many of all 11 replies were yes and no:

# %%
kinds = {}
for text in kept:
    reply = model([{"role": "user", "content": classification_prompt(text)}])
    kinds[text] = parse_yes(reply)
example = next(text for text in kept if kinds[text])
print("...", classification_prompt(example)[-330:], sep="\n")
print(f"\nyes: {sum(kinds.values())}, no: {len(kinds) - sum(kinds.values())}")

# %% [markdown]
# ### Step 4: instances, in two orders
#
# Why does it matter? Let a model write an input and then its label, and nearly all inputs come out alike, say,
# positive reviews. So for classification the **label comes first**, and then an input for it: **output-first**. All
# other tasks go **input-first**. (Source 004 has the two the wrong way round. Paper and code agree with this
# paragraph. On the same slide the first example has lost its first line, "Class label: mixed"; without it, a complaint
# about slow service seems to be labelled "Positive".)

# %%
for text in (example, next(text for text in kept if text.startswith("Give the opposite"))):
    prompt = instances_prompt(text, kinds[text])
    reply = model([{"role": "user", "content": prompt}])
    print(
        f"{'output' if kinds[text] else 'input'}-first: {prompt[:120]}...\n...{prompt[prompt.rindex('Task:') :]}",
        end="",
    )
    print(f">>> {reply}".replace("\n", "\n>>> "))
    print(*parse_instances(reply, kinds[text]), "", sep="\n")

# %% [markdown]
# Look at the last example for the message: its "label" is the message itself.
#
# ### Step 5: cleaning
#
# (Source 004's three filters are here ROUGE-L and the blocked words, both in step 2, and for 无效生成 the other rules of
# step 2 and these.) An example without an output is none, nor is one that repeats its input, ends in a colon, or was
# there before. And if then one input is left with **two different outputs**, one of them is wrong, and nobody knows
# which, so all examples of that task go:

# %%
for found in (
    [("3, 1", "1, 3"), ("3, 1", "1, 3"), ("2, 9", "")],
    [("3, 1", "1, 3"), ("3, 1", "3, 1")],
    [("3, 1", "1, 3"), ("3, 1", "3, 1 sorted")],
):
    instances = parse_instances("\n".join(f"Example 1\nInput: {a}\nOutput: {b}" for a, b in found), False)
    clean, reasons = clean_instances(instances)
    print(f"{len(found)} examples, {len(clean)} kept; out: {reasons}")

# %% [markdown]
# ### The whole run
#
# `SelfInstruct` does these steps until there are enough tasks. A run with a real model takes hours, and something will
# end it: the power, the network, or you. So everything is written to a **journal**: one line with the settings, then a
# line for each question with the reply and what became of it. A run that begins with a journal goes on where that ends.
# We kill one after 40 questions:

# %%
from gptlab.building import SelfInstruct

TASKS = 60  # quick: 8
KILLED_AT = 40  # quick: 10


class Killed(stand_in.StandIn):
    """The same model, until somebody presses Ctrl-C."""

    asked = 0

    def __call__(self, messages):
        if self.asked == KILLED_AT:
            raise KeyboardInterrupt
        self.asked += 1
        return super().__call__(messages)


folder = tempfile.TemporaryDirectory()
broken, whole = Path(folder.name) / "broken.jsonl", Path(folder.name) / "whole.jsonl"
try:
    SelfInstruct(Killed(), journal=broken).run(TASKS)
except KeyboardInterrupt:
    print(f"killed; the journal has {len(broken.read_text(encoding='utf-8').splitlines())} lines")
report = SelfInstruct(stand_in.StandIn(), journal=broken).run(TASKS)  # the same settings, so it goes on
SelfInstruct(stand_in.StandIn(), journal=whole).run(TASKS)
assert broken.read_bytes() == whole.read_bytes()
print("gone on with, it is the same to the byte as one that was never killed\n")
print(report)

# %% [markdown]
# That works because every draw at random depends on the seed and the **number of the round**, and not on what was drawn
# before in the same program. The last lines are the rejection report: instructions go out in step 2, instances in
# step 5, and a task goes out when no instance of it is left. ("After the 15th": the stand-in knows no stop and
# sometimes writes on. "Cut by length": the last task of a reply that broke off.) As a picture:

# %%
rows = [
    (f"{reason} ({kind})", count) for kind, reasons in report.rejected.items() for reason, count in reasons.items()
][::-1]
figure, [axis] = show.new_axes(8, 4.2)
bars = axis.barh([name for name, _ in rows], [count for _, count in rows], color=show.COLORS[0])
axis.bar_label(bars, padding=3)
axis.set(xlabel="how many went out", title=f"{len(report.tasks)} tasks were kept, with {len(report.entries)} entries")
axis.set_xlim(0, 1.12 * max(count for _, count in rows))
figure

# %% [markdown]
# Read such a picture before you read the entries. Most went out because they said what was there already: **what limits
# Self-Instruct is not the number of calls, but what the model still has to say.** (The stand-in has little.) A large
# share of "too similar" asks for other seeds rather than for more calls.
#
# Each entry knows where it is from. `parents` are the eight tasks that its prompt had shown, now 6 by people (`seed`)
# and 2 by the model (`machine`):

# %%
entry = report.entries[-1]
print(json.dumps({key: entry[key] for key in entry if key != "nearest"}, ensure_ascii=False, indent=1))
print("nearest in the pool:", entry["nearest"][0])
folder.cleanup()

# %% [markdown]
# **It must end.** A server that talks nonsense for ever would be asked for ever. `Bounded` allows so many calls, or so
# much money; and without it the run gives up when 30 calls in a row brought nothing:

# %%
from gptlab.servers import Bounded

print(SelfInstruct(Bounded(stand_in.StandIn(), calls=25)).run(TASKS).ended)
print(SelfInstruct(lambda messages: "banana banana banana").run(TASKS).ended)

# %% [markdown]
# And how good is what is left? Wang et al. read 200 of their tasks: of 46 % something was wrong, mostly with the
# output. They tuned on them anyway, and it helped. Chapter 11 asks which entries to take.
#
# ## 10.8 Evol-Instruct: from easy to hard
#
# What a model makes up is mostly easy. **Evol-Instruct** (Xu et al. 2023, WizardLM) takes instructions that are there
# and lets a model make them harder, round after round. There are six operations. Five go into the **depth** (深度演化)
# and make an instruction harder: 添加约束, 深化, 具体化, 增加推理步骤, 使输入复杂化, printed below in this order. One
# frame is around all five; only one sentence differs. The sixth goes into the **breadth** (广度演化). It has a frame of
# its own, of which we print one line: it asks for a new instruction of the same domain, but rarer, about as long and as
# hard, so that the data speak of more things.

# %%
from gptlab.building.evol_prompts import METHODS, OPERATIONS, clean_reply, equality_prompt, evol_prompt

given = stand_in_evol.ENTRIES
print(evol_prompt(given[0]["instruction"], "constraints"), "\n")
for operation, sentence in METHODS.items():
    print(f"{operation}: {sentence}")
print(f"breadth: {evol_prompt('...', 'breadth').splitlines()[1]}")

# %% [markdown]
# (`complicate` adds a table, code or other data. The published code does not hold it, so its sentence is this
# project's.) Now one round by hand. The model is another stand-in, and again *it understands nothing.* It adds a
# sentence from a list. Let $I_k^{(t)}$ be instruction number $k$ after $t$ rounds. In each round, and for each
# instruction, the model is asked three times:
#
# 1. rewrite it, by an operation drawn at random: $I_k^{(t)}$ becomes $I_k^{(t+1)}$,
# 2. answer the new one: that is the response $R_k^{(t+1)}$,
# 3. compare the two: have they the same constraints, and the same depth and breadth? Then they are "Equal".
#
# (Instruction and input are evolved as one text, joined by `\r\n` as in the published code. No breadth was drawn here;
# the tree below has two.)

# %%
evolver = stand_in_evol.StandIn().with_options(seed=13)


def ask(text):
    return str(evolver([{"role": "user", "content": text}]))


attempts = []
for number, entry in enumerate(given):
    operation = random.Random(number).choice(OPERATIONS)
    old = f"{entry['instruction']}\r\n{entry['input']}".strip()
    new = clean_reply(ask(evol_prompt(old, operation)))
    attempts.append((old, new, ask(new), ask(equality_prompt(old, new))))
    print(f"{operation}\n    {old!r}\n    {new!r}\n    answer: {attempts[-1][2]!r}\n    equal? {attempts[-1][3]!r}")

# %% [markdown]
# Not every attempt succeeds, so there is an **eliminator** with four rules (WizardLM, section 3.2). In brackets is the
# name of each in the reports below:
#
# 1. a model finds the new instruction equal to the old one (`equal`),
# 2. the answer holds "sorry" and has fewer than 80 words (`sorry`),
# 3. the answer has nothing but punctuation and stop words, such as "the" and "of" (`no words`),
# 4. the new instruction has words of the prompt in it, such as "given prompt" (`markers`).


# %%
def eliminate(new, answer, judgement):
    """Return the number of the rule by which an attempt goes out, or None."""
    if judgement.strip().lower().rstrip(".") == "equal":
        return 1
    if "sorry" in answer.lower() and len(answer.split()) < 80:
        return 2
    if not set(re.findall(r"\w+", answer.lower())) - {"and", "so", "on", "the", "of", "is"}:
        return 3
    if re.search("(given|rewritten|created) prompt", new.lower()):
        return 4
    return None


tried = [*attempts]
tried.append(("Name a fruit.", "Name a red fruit.", "I'm sorry, but I cannot help with that.", "Not Equal"))
tried.append(("Name a fruit.", "Name a small fruit.", "And so on, and so on.", "Not Equal"))
tried.append(("Name a fruit.", "#Given Prompt#: Name a fruit.", "An apple.", "Not Equal"))
tried.append(("Name a fruit.", "Name a fruit please.", "An apple.", "Equal"))
for _, new, answer, judgement in tried:
    rule = eliminate(new, answer, judgement)
    print(f"{f'out, rule {rule}' if rule else 'kept':<13}{judgement:<12}{answer!r:.45}")

# %% [markdown]
# Line 5 shows how much depends on such a list of words: 对不起 is an apology, too, and our draft kept it. The library
# (`gptlab.building.elimination`) knows both languages. And it has verdicts for what any program meets that asks a
# model: replies that were cut, came back unchanged, or say neither Equal nor Not Equal.
#
# **What happens to an instruction that failed to evolve?** Source 004 says 淘汰, to drop it, and that is true of the
# *new* one. The old one stays in the pool, and is tried again in the next round, perhaps by another operation. And what
# succeeded does not replace its parent in the data: the result is the union of all generations,
#
# $$D = D^{(0)} \cup D^{(1)} \cup \dots \cup D^{(M)}$$
#
# where $M$ is now the number of rounds, and a generation is the instructions with their responses,
# $D^{(t)} = \{(I_k^{(t)}, R_k^{(t)})\}$. (The slide calls $R$ a pair of input and output; it is the response alone.)
# With $M = 4$, WizardLM made 250,000 entries of Alpaca's 52,000; at most it would have been five times as many.

# %%
from gptlab.building import EvolInstruct, lineage_text

ROUNDS = 4
evolved = EvolInstruct(stand_in_evol.StandIn(), seed=stand_in_evol.SEED, rounds=ROUNDS).run(given)
print(evolved)
assert len(evolved.entries) <= len(given) * (1 + ROUNDS)
print(lineage_text([record for record in evolved.lineage if record["id"].startswith(("3", "4"))]))

# %% [markdown]
# In this tree each line stands below what it was made from, with operation and verdict. Look at entry 4: its first
# attempt failed ("sorry"), so the second round began with the original again. As a picture (of the three English
# entries; for the Chinese ones a Chinese font has to be installed):

# %%
english = [record for record in evolved.lineage if record["id"][0] in "023"]
show.plot_lineage(english)

# %% [markdown]
# From left to right are the rounds. A box in colour was kept, and names its operation. A dotted box with a cross was
# thrown away, with the reason; the line goes on from the box before it, which was evolved again. Where a text begins
# with "…", its beginning is that of its parent. You see also what no rule finds: the first row ends as a question about
# fruit, for a baker at four in the morning, with data that mean nothing. Rules find what failed to be an instruction.
# Whether it is a *sensible* one, they do not know.
#
# ## 10.9 For real
#
# All of this runs from the command line. What needs no model:
#
# ```
# gptlab build tiny-corpus --out pairs.tsv
# gptlab build templates --pairs pairs.tsv --test-share 0.1 --test-templates 4 --test-out test.json --out train.json
# gptlab build corrections --chat corrected.json --original chat.json --out corrected-entries.json
# gptlab build identity --name Wren --developer "the night school" --abilities "translation" --out identity.json
# ```
#
# And what asks one, first Ollama on your own machine, then a company's server with OpenAI's interface:
#
# ```
# ollama pull phi3
# gptlab build more-templates --count 20 --out templates.txt --server ollama
# gptlab build self-instruct --count 100 --out tasks.json --server ollama
# gptlab build evol-instruct --entries tasks.json --rounds 2 --tree --out harder.json --server openai \
#     --url https://api.deepseek.com --model deepseek-chat --api-key-env DEEPSEEK_API_KEY \
#     --calls 500 --cost 1 --price 0.3,1.2
# ```
#
# - **Set a bound.** Price is what your maker asks for a million tokens of question and of reply; look it up. A bounded
#   run that ends has not failed: the same command with a higher bound goes on from the journal. Replies are kept
#   beside it, and what was asked once costs nothing again.
# - **Read first.** Let it make 20 and read them all, before you let it make 20,000.
# - **May you use it?** What a model writes comes with its maker's terms. Some forbid using it to train a model that
#   competes with theirs, some allow it under a name, some allow everything. Alpaca's 52,000 entries are for research
#   only (CC BY-NC 4.0), for they were written by OpenAI's model. Read the terms of the day, and write the model's name
#   into your data. Conversations are of people: ask them.
# - **Do not test on it.** What a model made from your seeds is like your seeds. Keep a test that people wrote.
#
# ## Find the mistake
#
# Somebody wrote the eliminator's first rule like this. On the old and new instructions of our round by hand, and on two
# pairs that really are equal:


# %%
def is_equal(judgement):
    return "equal" in judgement.lower()


judgements = [judgement for *_, judgement in attempts] + ["Equal", "**Equal.**"]
survivors = [judgement for judgement in judgements if not is_equal(judgement)]
for judgement in judgements:
    print(f"{judgement:<14}{'out' if is_equal(judgement) else 'stays'}")
print(f"{len(survivors)} of {len(judgements)} survive")

# %% [markdown]
# **What is wrong?** Decide from what can be seen. In a run you would see only the last line, every round. What would
# you look at first?
#
# <details><summary>The answer</summary>
#
# "Not Equal" holds the word "equal", too, so every attempt goes out that a model has judged at all. The longer answer
# has to be looked for first, and a reply has to *be* the answer, not only hold it: "I cannot say whether they are
# equal" is neither. This bug is in published code. What to look at first is the report: all verdicts "equal" in all
# rounds cannot be true of a model that adds whole sentences. A filter that throws away everything, or nothing, is the
# first suspect.
#
# </details>


# %%
def says_equal(judgement):
    """Return True or False, and None for a reply that is neither."""
    plain = re.sub(r"[*.\s]+", " ", judgement.lower()).strip()
    return {"not equal": False, "equal": True}.get(plain)


from gptlab.building import elimination

judgements.append("I cannot say whether they are equal.")
for judgement in judgements:
    assert says_equal(judgement) == elimination.says_equal(judgement)
print(f"{sum(says_equal(judgement) is False for judgement in judgements)} of {len(judgements)} survive")

# %% [markdown]
# ## Exercises
#
# Write the functions in `chapters/ch10_building/exercises.py`. `python chapters/ch10_building/exercises.py` checks what
# is there so far, one by one, with a hint for each mistake that it recognises:
#
# - `building.counts`: predict how many entries come out
# - `building.fill`: fill a template in one pass
# - `building.leaks`: count what the training gives away of the test
# - `building.find_objects`: find the JSON objects in a reply
# - `building.is_new`: ROUGE-L against a pool
# - `building.says_equal`: the eliminator's first rule
#
# The same checks from a notebook. Our one pass is right, the chain of replacements is not:

# %%
print(gptlab.check("building.fill", fill))
print(gptlab.check("building.fill", fill_by_replace))

# %% [markdown]
# ## What to take along
#
# - An entry comes from a corpus, from people, from slots, or from a model. Each way has its own way to go wrong; the
#   report of what was thrown away shows it first.
# - Split before you put templates around, and hold out wordings, too. Data stays data: fill in one pass.
# - Teach a model its name together with questions whose answer must not carry it, and measure both.
# - A reply of a model is searched, not read; and each entry is tested for what it is for.
# - Self-Instruct: 8 examples, filters, ROUGE-L above 0.7 goes out; classification is output-first. Evol-Instruct: what
#   failed goes back, and the result is the union of all generations.
# - A run has a journal, a bound, and a rejection report.
#
# The next chapter chooses: of all these entries, which ones make the better model? And what does tuning change at all?
