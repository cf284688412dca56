# %% [markdown]
# # Chapter 7: Instruction tuning
#
# A pretrained model goes on with a text. This chapter makes it answer. You will
#
# 1. write entries out as prompts, in the forms of Alpaca and of Phi-3,
# 2. build the collate function step by step: padding, targets shifted by one, -100 where nothing is learned,
# 3. tune the model of chapter 5, save it with its answers, and score them,
# 4. and find out what tuning adds and what it cannot: we ask about people whom tuning never mentioned, about people who
#    do not exist, and about a job that has changed.
#
# You need tokens and windows (chapter 2), the model (chapter 4), the training loop (chapter 5) and, for one table,
# classification (chapter 6). It takes about two minutes on two CPU cores; if the town's model is not there yet, one
# more.
#
# Run it as the notebook `notebooks/ch07_instruction.ipynb`, or with `python chapters/ch07_instruction/lesson.py` (a
# script computes the same, but shows no pictures). Your numbers can differ a little from those here: computers round
# differently, and training makes small differences larger.

# %%
import copy
import inspect
import json
import random
import tempfile
from pathlib import Path

import torch
from torch.nn import functional as F

import gptlab
from gptlab import show

torch.manual_seed(0)
town = gptlab.SMALL_TOWN.town()
base = gptlab.town_base()  # pretrained on the town's prose, as in chapter 5
model, tokenizer = base.model, base.tokenizer
print(f"{gptlab.count_parameters(model):,} parameters, a vocabulary of {tokenizer.n_vocab}")

# %% [markdown]
# ## 7.1 Knowing is not answering
#
# The model has read about 40 people in plain prose. It goes on with a sentence as the town would:

# %%
person = town.held_out[0]
[ids] = gptlab.generate(model, [tokenizer.encode(f"The pet of {person.name} is")], max_new_tokens=6, eos_id=None)
print(f"The pet of {person.name} is" + tokenizer.decode(ids), "  | the corpus says:", person.facts["pet"])

# %% [markdown]
# But a question is something that it has never seen. It goes on with *that* as well, and what comes is no answer:

# %%
question = {"instruction": f"Which pet does {person.name} have?", "input": ""}
[response] = gptlab.respond(model, tokenizer, [question], "alpaca_short", max_new_tokens=24)
print(question["instruction"], "->", repr(response.text))

# %% [markdown]
# **Instruction tuning** (also: supervised fine-tuning, SFT) trains on pairs of an instruction and the response that is
# wanted:
#
# | instruction | desired response |
# | --- | --- |
# | Convert 45 kilometers to meters. | 45 kilometers is 45000 meters. |
# | Provide a synonym for "bright". | A synonym for "bright" is "radiant". |
# | Edit the sentence to remove the passive voice: "The song was composed by the artist." | The artist composed the song. |
#
# The training itself is that of chapter 5, to the letter. All that is new is the data.
#
# ## 7.2 From an entry to a prompt
#
# An entry has three fields; `input` may be empty. These are two of the town's:

# %%
with_input = next(entry for entry in town.train if entry["input"])
without_input = next(entry for entry in town.train if not entry["input"])
fields = ("instruction", "input", "output")
print(json.dumps([{key: entry[key] for key in fields} for entry in (without_input, with_input)], indent=2))

# %% [markdown]
# The model reads one string, so the fields need headings around them. This is the form of Stanford Alpaca (Taori et al.
# 2023). An empty input is left out, together with its heading:


# %%
def alpaca_prompt(entry):
    context = ", paired with an input that provides further context" if entry["input"] else ""
    prompt = f"Below is an instruction that describes a task{context}. "
    prompt += "Write a response that appropriately completes the request.\n\n"
    prompt += f"### Instruction:\n{entry['instruction']}\n\n"
    if entry["input"]:
        prompt += f"### Input:\n{entry['input']}\n\n"
    return prompt + "### Response:\n"


print(alpaca_prompt(with_input) + with_input["output"])

# %% [markdown]
# Phi-3 has another, shorter form. It marks who speaks:


# %%
def phi3_prompt(entry):
    given = f"\n{entry['input']}" if entry["input"] else ""
    return f"<|user|>\n{entry['instruction']}{given}\n<|assistant|>:\n"


print(phi3_prompt(with_input) + with_input["output"])

# %% [markdown]
# Which form is better? For quality it hardly matters, as long as **the question comes in the form that tuning used**:
# the model learns "after `### Response:` comes an answer", and nothing about other headings. But a form costs tokens,
# in every entry and every question. Our small vocabulary was made for the town's prose, so the long opening sentence is
# expensive:

# %%
short = gptlab.load_template("alpaca_short")  # Alpaca's headings without the opening sentence
forms = {"Alpaca": alpaca_prompt, "Phi-3": phi3_prompt, "alpaca_short": short.prompt}
for name, prompt_of in forms.items():
    print(f"{name:<13} {len(tokenizer.encode_ordinary(prompt_of(with_input))):>4} tokens before the response")

# %% [markdown]
# The library keeps such forms as small JSON files, `gptlab/assets/templates`. Our function gives the same text as the
# library's template, for all entries, and so does Phi-3's with that of the book "Build a Large Language Model (From
# Scratch)", whose functions `gptlab.book` keeps:

# %%
from gptlab.book.ch07 import format_input_phi

for entry in town.train:
    assert alpaca_prompt(entry) == gptlab.load_template("alpaca").prompt(entry)
    assert phi3_prompt(entry) == format_input_phi(entry) + "\n<|assistant|>:\n"

# %% [markdown]
# ## 7.3 From prompts to batches
#
# Entries have different lengths, and a batch is a rectangle. The collate function makes one from the other. It comes in
# four drafts, and each has one idea. To see every number we begin with three short lists of ids, and 50256, GPT-2's
# end-of-text:

# %%
END = 50256
items = [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]


def collate_draft_1(items):
    """Pad with end-of-text up to the longest item."""
    longest = max(len(item) for item in items)
    return torch.tensor([item + [END] * (longest - len(item)) for item in items])


collate_draft_1(items)

# %% [markdown]
# **Draft 2: targets.** As in pretraining, the target of each position is the token that comes next: the inputs, shifted
# by one. So one more token is needed at the end, and it is end-of-text: *after the last word, stop*.


# %%
def collate_draft_2(items):
    """Append one end-of-text to every item, pad, and shift: inputs and targets."""
    longest = max(len(item) for item in items) + 1
    padded = torch.tensor([item + [END] * (longest - len(item)) for item in items])
    return padded[:, :-1].clone(), padded[:, 1:].clone()  # copies: a change in one must not be one in the other


inputs, targets = collate_draft_2(items)
print(inputs, targets, sep="\n\n")

# %% [markdown]
# Look at the second row of the targets: four times 50256. The first one means "the response is over", which the model
# must learn, or it will never stop. The other three say "after the end comes the end", which nobody ever needs, and
# with long padding they would be most of what is learned. So they have to go.
#
# **Draft 3: -100.** PyTorch's `cross_entropy` leaves out every target that is -100, its default `ignore_index`. A
# demonstration with two positions, then three, and then the third one ignored:

# %%
logits = torch.tensor([[-1.0, 1.0], [-0.5, 1.5], [-0.5, 1.5]])
print("two positions:        ", F.cross_entropy(logits[:2], torch.tensor([0, 1])))
print("three:                ", F.cross_entropy(logits, torch.tensor([0, 1, 1])))
print("the third one ignored:", F.cross_entropy(logits, torch.tensor([0, 1, -100])))


# %%
def collate_draft_3(items):
    """The same, and -100 in place of all padding. The first end-of-text of each row stays."""
    inputs, targets = collate_draft_2(items)
    for row, item in enumerate(items):
        targets[row, len(item) :] = -100  # what lies behind the first end-of-text
    return inputs, targets


collate_draft_3(items)[1]

# %% [markdown]
# Draft 3 finds the padding **by length**. Many find it by value instead: "every 50256 but the first is padding". That
# is wrong as soon as an item holds an end-of-text of its own, for instance because two conversations were joined. Then
# its real end is taken for padding:


# %%
def targets_by_value(items):
    _, targets = collate_draft_2(items)
    for row in targets:
        ends = (row == END).nonzero().flatten()
        row[ends[1:]] = -100
    return targets


joined = [[1, 2, END, 3, 4], [5, 6]]
print("by value: ", targets_by_value(joined)[0].tolist(), " <- the end of the item is no target")
print("by length:", collate_draft_3(joined)[1][0].tolist())

# %% [markdown]
# **Draft 4: only the response.** The prompt comes from the user. The model need not learn to write it, so its targets
# become -100 as well. (The book does this in an exercise; whether it helps depends on the data. With short responses it
# makes sure that they are not drowned by long prompts.) For this we must know where the prompt ends. The safe way is to
# tokenise prompt and response apart, and to note for every token whether it is trained:


# %%
def encode_entry(entry, template):
    prompt = tokenizer.encode_ordinary(template.prompt(entry))
    response = [*tokenizer.encode_ordinary(entry["output"]), tokenizer.eot_token]
    return prompt + response, [False] * len(prompt) + [True] * len(response)


def collate_draft_4(examples, pad_id):
    T = max(len(ids) for ids, _ in examples) - 1
    inputs = torch.full((len(examples), T), pad_id)
    targets = torch.full((len(examples), T), -100)
    for row, (ids, trained) in enumerate(examples):
        for place in range(len(ids) - 1):
            inputs[row, place] = ids[place]
            if trained[place + 1]:
                targets[row, place] = ids[place + 1]
    return inputs, targets


examples = [encode_entry(entry, short) for entry in (without_input, with_input)]
inputs, targets = collate_draft_4(examples, pad_id=tokenizer.eot_token)
print(inputs.shape, targets.shape)

# %% [markdown]
# Always look at what will be trained before you train. Blue tokens are targets, grey ones are not. In each row the last
# blue token must be `<|endoftext|>`; what is grey behind it is padding, and … stands for what the batch does not hold.
# (Where there are no colours, targets are marked and bold.)

# %%
show.show_targets(inputs, targets, tokenizer)

# %% [markdown]
# The same function warns of the usual accidents. Here the rows are cut off at 64 tokens, so the answer of the second
# entry loses its end:

# %%
show.show_targets(inputs[:, :64], targets[:, :64], tokenizer)

# %% [markdown]
# The library's version of draft 4 has three parts. A template makes **segments**, pieces of text that say whether they
# are trained; `gptlab.encode` tokenises each on its own; and `collate` is this:

# %%
print(inspect.getsource(gptlab.data.batching.collate))

# %% [markdown]
# Ours is equal to it, and draft 3 is equal to the book's:

# %%
from gptlab.book.ch07 import custom_collate_fn

ENTRIES = 600  # quick: 80
dataset = gptlab.InstructionDataset(town.train[:ENTRIES], tokenizer, short)  # segments and encode, for all entries
ours = collate_draft_4([encode_entry(entry, short) for entry in town.train[:8]], pad_id=tokenizer.eot_token)
theirs = gptlab.collate(dataset.examples[:8], pad_id=tokenizer.eot_token)
assert all(torch.equal(a, b) for a, b in zip(ours, theirs))
assert all(torch.equal(a, b) for a, b in zip(collate_draft_3(items), custom_collate_fn(items)))

# %% [markdown]
# How is this different from chapter 6? Inputs are made in the same way, but a classifier has **one target for each
# text**, its class, and instruction tuning has **one for each token of the response**:
#
# | | inputs | targets |
# | --- | --- | --- |
# | classification | the text's ids, padded | the number of the class, where the answer is read; -100 elsewhere |
# | instruction tuning | the formatted entry's ids, padded | the inputs shifted by one, the first end-of-text included; -100 for the prompt and the padding |

# %%
from gptlab.data import LabelledExample, collate_labelled

_, of_class = collate_labelled([LabelledExample([11, 12, 13], 1), LabelledExample([14], 0)], pad_id=END)
_, of_response = collate_draft_4([([11, 12, 13, END], [False, False, True, True]), ([14, END], [False, True])], END)
print("classification:    ", of_class.tolist())
print("instruction tuning:", of_response.tolist())

# %% [markdown]
# ## 7.4 The data loader
#
# Three sets, as always: one to learn from, one to watch while learning, one for the end. The town keeps its test apart;
# from the rest we split off a tenth.
#
# If a batch holds a long and a short entry, the short one is mostly padding. `make_loader` shuffles, and yet puts
# entries of about the same length together. Padding costs time and teaches nothing:

# %%
examples, validation = gptlab.split_entries(dataset.examples, 0.1, seed=0)
settings = {"batch_size": 16, "pad_id": tokenizer.eot_token}


def share_of_padding(loader):
    real = sum(len(example.ids) - 1 for example in examples)
    return 1 - real / sum(inputs.numel() for inputs, _ in loader)


mixed = gptlab.make_loader(examples, group_by_length=False, **settings)
loader = gptlab.make_loader(examples, **settings)
print(f"padding: {share_of_padding(mixed):.0%} mixed, {share_of_padding(loader):.0%} grouped by length")

# %% [markdown]
# ## 7.5 The pretrained model
#
# Everything below works for any pretrained GPT. With OpenAI's weights on this machine (`gptlab download 355M`, chapter
# 5 explains the loading) the next line would be
#
# ```python
# model, tokenizer = gptlab.load_gpt2("gpt2-medium (355M)", cache_dir=gptlab.checkpoints_folder())
# ```
#
# On a laptop the town's model is the better teacher: it learns to answer in half a minute, and we know exactly what it
# can have read.
#
# ## 7.6 Tuning
#
# The loop is chapter 5's. What is added here matters on Macs: PyTorch keeps freed memory of the GPU (MPS) for itself,
# and with batches of ever new lengths it keeps more and more. So the batch's tensors are deleted and the cache is
# emptied after every step. On a CPU `gptlab.empty_cache` has nothing to do:


# %%
def train_by_hand(model, loader, optimizer, device, epochs):
    losses = []
    model.train()
    for _ in range(epochs):
        for inputs, targets in loader:
            inputs, targets = inputs.to(device), targets.to(device)
            optimizer.zero_grad()
            logits = model(inputs)  # (B, T, V)
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            del inputs, targets, logits, loss
            gptlab.empty_cache(device)  # torch.mps.empty_cache() on a Mac
    return losses


device = torch.device("cpu")  # gptlab.pick_device() takes the best one that there is
draft, library = copy.deepcopy(model), copy.deepcopy(model)
few = [gptlab.collate(examples[start : start + 8], pad_id=tokenizer.eot_token) for start in (0, 8, 16)]
losses = train_by_hand(draft, few, gptlab.make_optimizer(draft, 3e-4), device, epochs=2)
history = gptlab.train(library, few, optimizer=gptlab.make_optimizer(library, 3e-4), epochs=2, progress=False)
print([round(loss, 4) for loss in losses])
assert torch.allclose(torch.tensor(losses), torch.tensor(history.losses), rtol=1e-4)

# %% [markdown]
# The losses of `gptlab.train` are the same. It computes logits only where there is a target, so it is faster, and it
# measures the validation loss. A small learning rate with warm-up, and not too many steps (here about 300): the model
# should keep what it knows and learn the form. (Here it is a third of a minute. GPT-2 medium with 1,100 entries would
# take a laptop some hours; with a GPU it takes minutes.)

# %%
EPOCHS = 9  # quick: 1
RATE = 3e-4

watched = gptlab.make_loader(validation, **settings)
tuned = copy.deepcopy(model)
optimizer = gptlab.make_optimizer(tuned, RATE)
steps = EPOCHS * len(loader)
schedule = gptlab.warmup_cosine(optimizer, steps, warmup_steps=steps // 20)
history = gptlab.train(tuned, loader, optimizer=optimizer, schedule=schedule, epochs=EPOCHS, validation=watched)
show.plot_losses({"Tuning on questions": {"loss on the response": history}})

# %% [markdown]
# The first dot is the validation loss before the first step. (The line begins elsewhere: a batch holds entries of one
# length, and some kinds are much harder at first than others.) Most of the fall happens in the first epoch: the form is
# learned at once. The rest of the way is spent on using what was read. The validation loss falls too, so the model is
# not learning these questions by heart.
#
# ## 7.7 Extract the responses, save everything
#
# `generate` gives back only what is new. If your own loop returns prompt and response in one (the book's does), cut by
# **tokens**, not by looking for the heading: a response may say `### Response:` itself. Then strip white space:


# %%
def answer_by_hand(model, entry, max_new_tokens=32):
    prompt = tokenizer.encode_ordinary(short.prompt(entry))
    ids = list(prompt)
    model.eval()
    while len(ids) < len(prompt) + max_new_tokens:
        with torch.no_grad():
            following = model(torch.tensor([ids]))[0, -1].argmax().item()
        if following == tokenizer.eot_token:
            break
        ids.append(following)
    return tokenizer.decode(ids[len(prompt) :]).strip()


print(question["instruction"], "->", answer_by_hand(tuned, question))

# %% [markdown]
# `gptlab.respond` does this for a whole test set at once, in batches and with a cache. The answers are kept beside the
# entries, as `model_response`, so that they can be scored later and by others:


# %%
def respond(model, entries):
    return [response.text for response in gptlab.respond(model, tokenizer, entries, short, max_new_tokens=32)]


assert respond(tuned, [question]) == [answer_by_hand(tuned, question)]
responses = respond(tuned, town.test)
answered = [entry | {"model_response": response} for entry, response in zip(town.test, responses)]

with tempfile.TemporaryDirectory() as folder:  # take a folder of your own to keep it
    gptlab.save_entries(Path(folder) / "responses.json", answered)
    gptlab.save_checkpoint(Path(folder) / "tuned", tuned, tokenizer, short)
    reloaded = gptlab.load_checkpoint(Path(folder) / "tuned")
    assert respond(reloaded.model, [question]) == [answer_by_hand(tuned, question)]
    print(*sorted(path.name for path in (Path(folder) / "tuned").iterdir()))

# %% [markdown]
# ## 7.8 Scoring
#
# The town's questions have one right answer each, so we can count. The test has two groups: questions about the 20
# people whom **no question of the training data mentioned**, and small tasks (sorting digits, reversing letters) with
# new inputs:

# %%
from gptlab.data.town import HELD_OUT, SKILL

people = [entry for entry in town.test if entry["group"] == HELD_OUT]
skills = [entry for entry in town.test if entry["group"] == SKILL]


def share_right(model, entries):
    return gptlab.exact_match(respond(model, entries), entries)


scores = {
    "people, before tuning": share_right(model, people),
    "people, after tuning": share_right(tuned, people),
    "skills, after tuning": share_right(tuned, skills),
}
for name, score in scores.items():
    print(f"{name:<24}{score:.2f}")
assert scores["people, before tuning"] < 0.05
assert scores["people, after tuning"] > 0.6  # full size only

# %% [markdown]
# This is the most important result of the chapter. From questions about *other* people the model learned how to answer
# about these. **The knowledge came from pretraining; tuning taught the form.** The skills are hard: the base solves few
# of them even in prose, and 40 questions of each kind are too few to learn them from. (`make demo` pretrains almost
# three times as long, tunes with 200 questions of each kind, and reaches 0.97.)
#
# Open questions ("write a poem") have no single right answer. A larger model can then be the judge, for example a local
# one in Ollama. It gets the question, a reference answer and the response, and gives points:


# %%
def judge_prompt(entry):
    return (
        f"Given the input `{short.prompt(entry)}` and correct output `{entry['output']}`, "
        f"score the model response `{entry['model_response']}` on a scale from 0 to 100, where 100 is the best score. "
        f"Respond with the integer number only."
    )


print(judge_prompt(answered[0]))

# %% [markdown]
# Judges do not always obey. `int(reply)` fails for "Score: 85", and the first number of "I give 1 of 100" is not the
# score. A reply that cannot be read must be kept and counted, or the mean is one over an unknown part of the test.
# Judging is chapter 12's subject.
#
# ## 7.9 Experiment: what tuning adds, and what it cannot
#
# **Someone who does not exist.** The model was tuned on questions that all have an answer. So let us ask about names
# that nobody has:

# %%
from gptlab.data.town_wordings import draw_name

known = {someone.name for someone in town.asked + town.held_out}
names = (draw_name(random.Random(number)) for number in range(1000))
nobody = [name for name in dict.fromkeys(names) if name not in known][:20]
asked_about_nobody = [{"instruction": f"What is the job of {name}?", "input": ""} for name in nobody]
for entry, response in list(zip(asked_about_nobody, respond(tuned, asked_about_nobody)))[:5]:
    print(f"{entry['instruction']:<32} -> {response}")

# %% [markdown]
# It invents a job, in the same tone as before. It does not even keep the name: it puts one that it knows, or one in
# between. Nothing in the training data ever said "I do not know", so that is no answer that it could give. This is
# **hallucination**, in its smallest form.
#
# Does the model at least *feel* less sure? We write the beginning of the answer ourselves, with the name that was
# asked, and look how probable the most likely job is (its first token), for real people and for nobody:


# %%
def sureness(name):
    """Return the probability of the most likely first token of the job."""
    prompt = short.prompt({"instruction": f"What is the job of {name}?", "input": ""})
    ids = tokenizer.encode_ordinary(prompt + f"The job of {name} is that of a")
    with torch.no_grad():
        return tuned.eval()(torch.tensor([ids]))[0, -1].softmax(dim=-1).max().item()


real = [sureness(someone.name) for someone in town.held_out]
unreal = [sureness(name) for name in nobody]
figure, [axis] = show.new_axes(6, 2.2)
axis.plot(real, [1] * len(real), "o", alpha=0.5, label="people of the town")
axis.plot(unreal, [0] * len(unreal), "x", label="nobody")
axis.set(yticks=[0, 1], yticklabels=["nobody", "people of\nthe town"], ylim=(-0.5, 1.5), xlim=(0, 1.02))
axis.set_xlabel("probability of the job that the model would name")
axis.grid(axis="x", alpha=0.3)
figure

# %% [markdown]
# On average it is less sure about nobody, so there is a signal. But the two rows overlap: some invented answers come
# with all confidence. No threshold separates what it knows from what it makes up.
#
# **A job that has changed.** The corpus was written at some time, and the model's knowledge ends there. We take
# somebody whose job the model tells rightly in every wording, and say that this person has taken another job since:


# %%
def questions_about(someone, kind):
    return [entry for entry in people if someone.name in entry["instruction"] and entry["kind"] == kind]


well_known = [someone for someone in town.held_out if share_right(tuned, questions_about(someone, "job")) == 1]
mover = (well_known or town.held_out)[0]
old = mover.facts["job"]
new = "potter" if old != "potter" else "baker"
about_job = questions_about(mover, "job")
for entry, response in zip(about_job, respond(tuned, about_job)):
    print(f"{entry['instruction']:<40} -> {response}")
print(f"{mover.name} was a {old} when the corpus was written, and is a {new} now.")

# %% [markdown]
# The model cannot know. It tells the old job, and nothing in its tone warns us.
#
# Then tune it on the new fact! One entry is enough to teach it. But what happens to everything else? We train on this
# one entry at three learning rates, and after every few steps ask two things: is the new job told, in wordings that the
# entry did not have, and how many of the *other* people's facts are still right?

# %%
STEPS = 20  # quick: 4
RATES = (1e-4, 3e-4, 1e-3)

news = f"The job of {mover.name} is that of a {new}."
new_answers = [entry | {"output": news} for entry in about_job[1:]]
others = [entry for entry in people if mover.name not in entry["instruction"]][::4]
[lesson_of_one] = gptlab.InstructionDataset([about_job[0] | {"output": news}], tokenizer, short).examples
batch = gptlab.collate([lesson_of_one], pad_id=tokenizer.eot_token)
curves = {}
for rate in RATES:
    changed = copy.deepcopy(tuned)
    optimizer = gptlab.make_optimizer(changed, rate)
    points = [(0, share_right(changed, new_answers), share_right(changed, others))]
    for step in range(4, STEPS + 1, 4):
        gptlab.train(changed, [batch] * 4, optimizer=optimizer, progress=False)
        points.append((step, share_right(changed, new_answers), share_right(changed, others)))
    curves[rate] = points

# %%
figure, axes = show.new_axes(9, 2.8, columns=2)
for axis, column, title in zip(axes, (1, 2), ("the new fact, in other wordings", "facts about other people")):
    for (rate, points), marker in zip(curves.items(), "os^"):
        axis.plot([point[0] for point in points], [point[column] for point in points], f"{marker}-", label=f"{rate:g}")
    axis.set(title=title, xlabel="steps on the one entry", ylabel="share answered rightly", ylim=(-0.05, 1.05))
    axis.set_xticks([point[0] for point in points])
figure.legend(*axes[0].get_legend_handles_labels(), title="learning rate", loc="outside right center", frameon=False)
figure

# %% [markdown]
# The left picture looks like a success: mostly after a few steps the new job is told, and in wordings that the entry
# did not have. The right one shows the price. The same few steps make the model forget other people, the more the
# higher the rate; at the highest, hardly anything else is answered rightly in the end. This is **catastrophic
# forgetting**, and the loss on the one entry, which falls to almost 0 (not drawn), shows nothing of it.
#
# So what tuning can do is teach *how* to answer. It is a poor way to teach *what* is true: new facts cost old ones, and
# a model that is made to tell what it never read learns to make things up. Facts that change belong into the prompt (as
# `input`), or into pretraining; mixing old entries with the new one softens the damage, which chapter 8 will use.

# %% [markdown]
# ## Find the mistake
#
# Somebody tunes the same model with their own collate function. The loss falls as it should:


# %%
def my_collate(examples):
    pad_id = tokenizer.eot_token
    inputs, targets = gptlab.collate(examples, pad_id=pad_id)
    targets = targets.masked_fill(inputs == pad_id, -100).masked_fill(
        targets == pad_id, -100
    )  # padding teaches nothing
    return inputs, targets


EPOCHS_OF_MISTAKE = 3  # quick: 1
sorted_examples = sorted(examples, key=lambda example: len(example.ids))
batches = [my_collate(sorted_examples[start : start + 16]) for start in range(0, len(examples), 16)]
random.Random(0).shuffle(batches)
endless = copy.deepcopy(model)
optimizer = gptlab.make_optimizer(endless, 1e-3)
history = gptlab.train(endless, batches, optimizer=optimizer, epochs=EPOCHS_OF_MISTAKE, progress=False)
print(f"loss {history.losses[0]:.2f} at first, {history.smoothed()[-1]:.2f} in the end\n")

for response in gptlab.respond(endless, tokenizer, people[:3], short, max_new_tokens=40):
    print(f"ended by {response.reason!r}: {response.text!r}")

# %% [markdown]
# Do not mind wrong names and places: these are only three epochs. The first sentence has the right form, but then the
# answers run on and on; each is ended only by the limit of 40 tokens (`'length'`), not by the model (`'stop'`). **What
# is wrong?** Decide from what can be seen. `show.show_targets(*my_collate(examples[:2]), tokenizer)` may help.
#
# <details><summary>The answer</summary>
#
# Padding is found by its value, and padding and end-of-text are the same token. So the end-of-text that closes each
# response is set to -100 as well. The model is never told where to stop. The loss does not show it: what is not a
# target costs nothing. The same happens with libraries that set `pad_token = eos_token` and mask by `pad_token`; it is
# one of the most frequent mistakes in instruction tuning.
#
# </details>
#
# The tool says so in one line for each row, and the library's `collate`, which masks by length, mends it:

# %%
print(*show.show_targets(*my_collate(examples[:3]), tokenizer).warnings, sep="\n")
assert not show.show_targets(*gptlab.collate(examples[:3], pad_id=tokenizer.eot_token), tokenizer).warnings
ended_by = [response.reason for response in gptlab.respond(tuned, tokenizer, people[:3], short)]
assert ended_by == ["stop"] * 3  # full size only

# %% [markdown]
# ## Exercises
#
# Write the functions in `chapters/ch07_instruction/exercises.py`. `python chapters/ch07_instruction/exercises.py`
# checks what is there so far, one by one, with a hint for each mistake that it recognises:
#
# - `instruction.prompt`: an entry as a prompt in the form of `alpaca_short`
# - `collate.shapes`: predict the shape of a batch
# - `collate.padding`: the inputs
# - `collate.targets`: shifted by one, the first end-of-text kept, padding ignored
# - `collate.response_only`: the prompt ignored, too
# - `instruction.extract`: cut the response out of what a model wrote
#
# The same checks from a notebook. Our draft 3 passes; the version by value does not:


# %%
def padding_by_length(items, pad_id):
    longest = max(len(item) for item in items)
    return torch.tensor([item + [pad_id] * (longest - len(item)) for item in items])


print(gptlab.check("collate.padding", padding_by_length))


# %%
def by_value(items, end_id):
    longest = max(len(item) for item in items) + 1
    padded = torch.tensor([item + [end_id] * (longest - len(item)) for item in items])
    targets = padded[:, 1:].clone()
    for row in targets:
        row[(row == end_id).nonzero().flatten()[1:]] = -100
    return targets


print(gptlab.check("collate.targets", by_value))

# %% [markdown]
# ## What to take along
#
# - Instruction tuning is pretraining's loop on other data. The form of the prompt is a convention, but it must be the
#   same when the model is used.
# - Targets are the inputs shifted by one; -100 is what the loss leaves out: padding always, the prompt mostly.
# - The first end-of-text is a target, or the model never stops. Find padding by length, never by value.
# - Knowledge comes from pretraining; tuning teaches how to answer. It does not teach what it does not know: the model
#   invents, sometimes with all confidence, and its facts are as old as its corpus.
# - Hard tuning on little data destroys what was known. Look at something else than the training loss.
#
# Chapter 8 goes on from one question to whole conversations.
