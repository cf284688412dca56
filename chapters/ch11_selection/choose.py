"""Few chosen entries against many noisy ones: which way of choosing gives the best model per entry used?

Run: python chapters/ch11_selection/choose.py --seeds 3   writes choose.json and choose.png beside this file
     python chapters/ch11_selection/choose.py --show      prints the tables and draws from the file again

Three seeds take about 27 minutes of one core; a run that was stopped goes on where it was.

3,000 entries are made from the 600 that the town's lesson tunes on (see KINDS): each of these once, many of a few
favourites said again with a word before or after, wrong answers, answers cut in the middle, empty ones, right ones lost
in talk, and prose that nobody asked for. Every way of choosing takes 100, 300 and 1,000 of them; "all" takes all, and
"the 600" is what nobody knows who has a noisy set: the entries it was made from. Each choice tunes the same base for
the same number of steps of 16 entries, so a small choice is gone through more often: what is compared is the data and
not the time spent. Then come the questions about the held-out people.

    random             the baseline, without which no other number says anything
    longest            the longest outputs
    quality            the best rated by a judge; equal ratings in the order of the set, which is random
    k-means            one of each cluster of embeddings (TF-IDF and SVD of the whole entry)
    coverage           facility location, alpha = 0
    coverage, quality  QDIT: facility location with these ratings, alpha = 0.5
    no repeats         near-duplicates out, then random

The judge is a stand-in made of rules, not a language model. It knows the right answers to three questions of four;
where it does not, it goes by form; and one entry in ten it rates by chance. Through `rate_quality` it is asked as any
judge is. A real judge errs in other ways; and how much of each kind of noise there is was decided here: with other
noise the order of the methods may be another.

A seed draws the noise, the judge's knowledge and slips, the random choices and the order of the batches.

Source: Chen et al. 2023 (ratings), Zhao et al. 2024 and Shen 2024 (longest), Bukharin et al. 2023 (QDIT).
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import experiment
import numpy as np
from experiment import Row

import gptlab
from gptlab.data.town import HELD_OUT, SKILL, Entry
from gptlab.data.town_wordings import ATTRIBUTES
from gptlab.decoding import exact_match
from gptlab.selection.diversity import kmeans_diverse
from gptlab.selection.duplicates import without_near_duplicates
from gptlab.selection.embedding import embed
from gptlab.selection.facility_location import facility_location, scaled_quality
from gptlab.selection.length import longest
from gptlab.selection.quality import quality_messages, rate_quality

GOOD, REPEATED, WRONG, CUT, EMPTY, TALK, PROSE = "good", "repeated", "wrong", "cut", "empty", "talk", "prose"
KINDS = {GOOD: 600, REPEATED: 1200, WRONG: 450, CUT: 200, EMPTY: 100, TALK: 250, PROSE: 200}
FAVOURITES = 40  # entries that are said again and again, the first of them most often
BEFORE = ("", "Please: ", "Hello! ", "Now, ", "Tell me: ")
AFTER = ("", " Thank you.", " Please.", " I want to know.")
TALKS = (
    "You have a question and here is what I can say.",
    "It is good that you ask for this.",
    "There are many people in this town and many things to know.",
    "If there is more to know, ask me again.",
    "All of this is as I have heard it.",
)
WANTS = ("Tell me something.", "What is new?", "Say what you like.", "Go on.", "Read me a page.")
WHOLE = ("instruction", "input", "output")

Pool = tuple[dict, ...]


@dataclass(frozen=True)
class Settings:
    """`tests` is how many questions of each group are asked, None all."""

    sizes: tuple[int, ...] = (100, 300, 1000)
    steps: int = 150
    rate: float = 3e-4
    longest_answer: int = 100
    tests: int | None = None


@cache
def noisy_pool(seed: int) -> Pool:
    """Return the noisy set, shuffled. "noise" is the kind, "truth" the right answer, which only the judge may see."""
    rng, town = random.Random(f"{seed}/noise"), experiment.town()
    good = [entry | {"truth": entry["output"], "noise": GOOD} for entry in town.train]
    favourites = rng.sample(good, k=FAVOURITES)
    weights = [1 / (1 + rank) for rank in range(FAVOURITES)]
    prose = [document for document in town.corpus.strip().split("\n\n") if not _about_held_out(document)]
    makers: dict[str, Callable[[], Entry]] = {
        REPEATED: lambda: _said_again(rng.choices(favourites, weights)[0], rng),
        WRONG: lambda: _answered_wrongly(rng.choice(good), good, rng),
        CUT: lambda: _cut(rng.choice(good), rng),
        EMPTY: lambda: rng.choice(good) | {"output": ""},
        TALK: lambda: _lost_in_talk(rng.choice(good), rng),
        PROSE: lambda: {"instruction": rng.choice(WANTS), "input": "", "output": rng.choice(prose), "truth": None},
    }
    pool = good + [make() | {"noise": kind} for kind, make in makers.items() for _ in range(KINDS[kind])]
    rng.shuffle(pool)
    return tuple(pool)


@cache
def _held_out_names() -> tuple[str, ...]:
    return tuple(person.name for person in experiment.town().held_out)


def _about_held_out(document: str) -> bool:
    return any(name in document for name in _held_out_names())


def _said_again(entry: Entry, rng: random.Random) -> Entry:
    return entry | {"instruction": f"{rng.choice(BEFORE)}{entry['instruction']}{rng.choice(AFTER)}"}


def _answered_wrongly(entry: Entry, good: Sequence[Entry], rng: random.Random) -> Entry:
    """Return the entry with another value of the same kind: of another person, or the result of another input."""
    if entry["group"] == SKILL:
        return entry | {"output": rng.choice([o["output"] for o in good if _differs(o, entry)])}
    [what] = [attribute for attribute in ATTRIBUTES if attribute.name == entry["kind"]]
    [value] = [value for value in what.values if entry["output"].endswith(f" {value}.")]
    other = rng.choice([other for other in what.values if other != value])
    return entry | {"output": entry["output"].removesuffix(f"{value}.") + f"{other}."}


def _differs(other: Entry, entry: Entry) -> bool:
    return other["kind"] == entry["kind"] and other["output"] != entry["output"]


def _cut(entry: Entry, rng: random.Random) -> Entry:
    words = entry["output"].split()
    return entry | {"output": " ".join(words[: rng.randint(1, len(words) - 1)])}


def _lost_in_talk(entry: Entry, rng: random.Random) -> Entry:
    talk = rng.sample(TALKS, k=3)
    return entry | {"output": " ".join([*talk[:2], entry["output"], talk[2]])}


@cache
def ratings(seed: int) -> list[float]:
    """Return what the stand-in judge says about each entry of the pool, from 0 to 5."""
    pool, said = noisy_pool(seed), {}
    for entry in pool:
        said[json.dumps(quality_messages(entry))] = _rate(entry, seed)
    report = rate_quality(pool, lambda messages: f"{said[json.dumps(messages)]}")
    return [score or 0.0 for score in report.scores]


def _rate(entry: Entry, seed: int) -> float:
    """Rate as the stand-in does: by the right answer where it is known, else by form, and now and then by chance."""
    output, truth = entry["output"], entry["truth"]
    slip = random.Random(f"{seed}/{entry['instruction']}/{entry['input']}/{output}")
    if slip.random() < 0.1:
        return slip.randint(0, 10) / 2
    if not output:
        return 0.0
    long = len(output.split()) > 20
    if truth is not None and random.Random(f"{seed}/knows/{truth}/{entry['input']}").random() < 0.75:
        return (4.0 if long else 5.0) if truth in output else 1.5
    if not output.endswith("."):
        return 2.0
    return 3.5 if long else 4.5


@cache
def embeddings(seed: int) -> np.ndarray:
    """Return a vector for each entry of the pool, of all that stands in it."""
    return embed([" ".join(entry[field] for field in WHOLE) for entry in noisy_pool(seed)])


@cache
def without_repeats(seed: int) -> tuple[int, ...]:
    return tuple(without_near_duplicates(noisy_pool(seed), fields=WHOLE))


def _draw(numbers: Sequence[int], k: int, seed: int) -> list[int]:
    return random.Random(f"{seed}/draw").sample(list(numbers), k=min(k, len(numbers)))


def _best(scores: Sequence[float], k: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda number: -scores[number])[:k]


METHODS: dict[str, Callable[[gptlab.Checkpoint, int, int], list[int]]] = {
    "random": lambda start, k, seed: _draw(range(len(noisy_pool(seed))), k, seed),
    "longest": lambda start, k, seed: longest(noisy_pool(seed), k, start.tokenizer),
    "quality": lambda start, k, seed: _best(ratings(seed), k),
    "k-means": lambda start, k, seed: kmeans_diverse(embeddings(seed), k, seed=seed),
    "coverage": lambda start, k, seed: facility_location(embeddings(seed), k),
    "coverage, quality": lambda start, k, seed: facility_location(
        embeddings(seed), k, quality=scaled_quality(ratings(seed), k), alpha=0.5
    ),
    "no repeats": lambda start, k, seed: _draw(without_repeats(seed), k, seed),
}
ALL, SOURCE = "all", "the 600"  # nothing chosen; and what the noisy set was made from


def picks(start: gptlab.Checkpoint, method: str, k: int, seed: int) -> list[int]:
    """Return the numbers of the entries that a method takes from the pool."""
    pool = noisy_pool(seed)
    if method == ALL:
        return list(range(len(pool)))
    if method == SOURCE:
        return [number for number, entry in enumerate(pool) if entry["noise"] == GOOD]
    return METHODS[method](start, k, seed)


def measure(start: gptlab.Checkpoint, settings: Settings, seed: int, arm: str) -> Row:
    """Tune on what the arm takes; say what that was, and what share of the questions is answered rightly."""
    method, k = names(settings)[arm]
    chosen = [noisy_pool(seed)[number] for number in picks(start, method, k, seed)]
    kinds = Counter(entry["noise"] for entry in chosen)
    right = [entry for entry in chosen if entry["output"] == entry["truth"]]
    model = experiment.tune(start, chosen, steps=settings.steps, rate=settings.rate, seed=seed)
    tests = {
        group: [entry for entry in experiment.town().test if entry["group"] == group][: settings.tests]
        for group in (HELD_OUT, SKILL)
    }
    ask = partial(experiment.answers, model, start.tokenizer, max_new_tokens=settings.longest_answer)
    said = {group: ask(of_group) for group, of_group in tests.items()}
    values = [entry["output"].removesuffix(".").rpartition(" ")[2] for entry in tests[HELD_OUT]]
    wanted = [entry["output"] for entry in tests[HELD_OUT]]
    return {
        "method": method,
        "entries": len(chosen),
        "people": exact_match(said[HELD_OUT], tests[HELD_OUT]),
        "value": experiment.share([value in text for value, text in zip(values, said[HELD_OUT])]),
        "loss": experiment.loss_of(model, start.tokenizer, tests[HELD_OUT], wanted),
        "skills": exact_match(said[SKILL], tests[SKILL]),
        "right": len(right) / len(chosen),
        "answers": len({entry["truth"] for entry in right}) / len(chosen),
        "kinds": dict(kinds),
    }


def names(settings: Settings) -> dict[str, tuple[str, int]]:
    """Return arm -> (method, how many entries)."""
    arms = {f"{method} {k}": (method, k) for k in settings.sizes for method in METHODS}
    return {ALL: (ALL, 0), SOURCE: (SOURCE, 0)} | arms


def arms(settings: Settings) -> list[str]:
    """Return the arms; a hurried run takes the methods that need no scikit-learn and little time."""
    if settings.tests is None:
        return list(names(settings))
    return [f"{method} {settings.sizes[0]}" for method in ("random", "quality")]


def table(rows: list[Row]) -> str:
    """Return means and ranges of what the models answer, and below what each choice consists of."""
    keys = {
        "people": "held-out people, exactly",
        "value": "right value somewhere",
        "loss": "loss of the right answer",
        "skills": "skills",
    }
    ordered = sorted(rows, key=lambda row: (row["method"] not in (ALL, SOURCE), row["arm"].rpartition(" ")[2].zfill(5)))
    answered, taken = [], []
    for arm in dict.fromkeys(row["arm"] for row in ordered):
        of_arm = [row for row in rows if row["arm"] == arm]
        count = experiment.spread(of_arm, "entries", 0)
        answered.append([of_arm[0]["method"], count, *(experiment.spread(of_arm, key) for key in keys)])
        shares = [
            f"{100 * sum(row['kinds'].get(kind, 0) / row['entries'] for row in of_arm) / len(of_arm):.0f}"
            for kind in KINDS
        ]
        taken.append([arm, *shares, experiment.spread(of_arm, "right"), experiment.spread(of_arm, "answers")])
    first = experiment.markdown(["chosen by", "entries", *keys.values()], answered)
    header = ["chosen, in per cent", *KINDS, "right", "different right answers per entry"]
    return f"{first}\n\n{experiment.markdown(header, taken)}"


def picture(rows: list[Row]):
    """Return a figure: right answers against the number of entries, and against how many of these are right."""
    from gptlab import show

    figure, [left, right] = show.new_axes(11, 4.6, columns=2)
    sizes = sorted({int(row["arm"].rpartition(" ")[2]) for row in rows if row["method"] in METHODS})
    for number, (method, color, marker) in enumerate(zip(METHODS, show.COLORS, "os^Dvp*")):
        groups = [[row for row in rows if row["arm"] == f"{method} {size}"] for size in sizes]
        apart = [size * 1.04 ** (number - 3) for size in sizes]  # so that the bars do not hide each other
        look = {"color": color, "marker": marker}
        experiment.draw_spread(left, apart, groups, "people", label=method, markersize=5, **look)
        for size, group in enumerate(groups):
            taken, reached = [row["right"] for row in group], [row["people"] for row in group]
            right.scatter(taken, reached, s=15 + 25 * size, alpha=0.7, linewidth=0, **look)
    for method, line in ((ALL, "--"), (SOURCE, ":")):
        values = [row["people"] for row in rows if row["method"] == method]
        if values:
            label = "all 3,000" if method == ALL else "the 600 they were made from"
            left.axhline(sum(values) / len(values), color="black", linestyle=line, linewidth=1, label=label)
    left.set_xscale("log")
    left.set_xticks(sizes, [f"{size:,}" for size in sizes])
    left.minorticks_off()
    left.set_xlabel("entries chosen of 3,000; the steps are the same")
    right.set_xlabel("share of the choice that is right; larger marks, more entries")
    for axis in (left, right):
        axis.set_ylim(-0.04, 1.04)
        axis.set_ylabel("questions about held-out people, right")
        axis.grid(alpha=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    return figure


EXPERIMENT = experiment.Experiment(
    title=__doc__.splitlines()[0],
    out=Path(__file__).with_suffix(".json"),
    settings=Settings(),
    quick=Settings(sizes=(20,), steps=1, longest_answer=5, tests=2),
    arms=arms,
    measure=measure,
    table=table,
    picture=picture,
)

if __name__ == "__main__":
    experiment.main(EXPERIMENT)
