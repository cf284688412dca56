"""Do more kinds of tasks help with a kind never seen? Whole types held out, with and without answers in steps.

Run: python chapters/ch11_selection/task_types.py --seeds 3   writes task_types.json and task_types.png beside this file
     python chapters/ch11_selection/task_types.py --show      prints the table and draws from the file again

Three seeds take about 14 minutes of one core; a run that was stopped goes on where it was.

FLAN was tuned on many kinds of tasks and tested on kinds that were left out; more kinds helped, and answers that reason
step by step helped with reasoning. Here a task is an instruction of three words that vary,

    {Give, Leave out, Double, Hide} the {first, second, third, last} {letter, digit, thing} of b o w k.

which makes 48 types. Letters, digits and things are the spaced-out ones of the town's corpus, one token each; the base
has read about first and last letters in prose, and has never met an instruction. A quarter of the types is held out;
they are composed of words that the other types use, each pair of words too, so they can be understood in principle.

Every arm has the same number of entries, with inputs drawn for it, and the same steps; it differs in how many types
they are of (12 types hold every word, and every operation and every place with every material once; 1 and 4 are of
these), and in the answer:

    It is b w k.                       answers alone
    The second is o. It is b w k.      in steps: first find it, then do it

Only what follows "It is" counts. Its loss is taken after the steps that the model wrote itself, right or wrong.
A seed says which quarter is held out, and draws which types are in, the inputs and the order of the batches.

Source: Wei et al. 2022, Finetuned Language Models Are Zero-Shot Learners (arXiv 2109.01652); Chung et al. 2022, Scaling
Instruction-Finetuned Language Models (arXiv 2210.11416). They have models of billions of parameters, and dozens of
tasks of people's own; this tries the claim on a grid, where what is shared is known.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import experiment
from experiment import Row

import gptlab
from gptlab.data.town import Entry

ANSWER = "It is"
OPERATIONS = ("Give", "Leave out", "Double", "Hide")
PLACES = {"first": 0, "second": 1, "third": 2, "last": -1}
MATERIALS = {  # only what the base's vocabulary has as one token after a space
    "letter": tuple("abcdefghijklmnopstw"),
    "digit": tuple("0123456789"),
    "thing": ("box", "boat", "bridge", "ticket", "sign", "door", "wall", "road", "house", "dice"),
}


class TaskType(NamedTuple):
    operation: str
    place: str
    material: str

    def solve(self, items: Sequence[str]) -> list[str]:
        """Return what is to be answered about `items`.

        >>> TaskType("Hide", "last", "letter").solve(["b", "o", "w"])
        ['b', 'o', 'x']
        """
        at = PLACES[self.place] % len(items)
        before, it, after = list(items[:at]), items[at], list(items[at + 1 :])
        return {
            "Give": [it],
            "Leave out": before + after,
            "Double": [*before, it, it, *after],
            "Hide": [*before, "x", *after],
        }[self.operation]


TYPES = [TaskType(*words) for words in itertools.product(OPERATIONS, PLACES, MATERIALS)]


@dataclass(frozen=True)
class Settings:
    """`tests` is how many inputs of each held-out type are asked about, and as many in all of those that were seen."""

    counts: tuple[int, ...] = (1, 4, 12, 36)
    entries: int = 2400
    steps: int = 500
    rate: float = 2e-3
    tests: int = 10


def split_types(seed: int) -> tuple[list[TaskType], list[TaskType]]:
    """Return the types to train on, in the order in which arms take them, and those held out.

    The sum of the three words' numbers, modulo 4, makes four groups of 12, as in a Latin square: in each group every
    operation and every place stands with every material once.
    """
    groups: list[list[TaskType]] = [[] for _ in range(4)]
    numbers = [{word: number for number, word in enumerate(words)} for words in (OPERATIONS, PLACES, MATERIALS)]
    for kind in TYPES:
        groups[sum(number[word] for number, word in zip(numbers, kind)) % 4].append(kind)
    held_out = groups.pop(seed % 4)
    rng = random.Random(f"{seed}/types")
    rng.shuffle(groups)
    return [kind for group in groups for kind in rng.sample(group, k=len(group))], held_out


def make_entry(kind: TaskType, in_steps: bool, rng: random.Random) -> Entry:
    """Return an entry of this type; its items all differ, so that each place has its own answer."""
    items = rng.sample(MATERIALS[kind.material], k=rng.randint(4, 5))
    found = f"The {kind.place} is {items[PLACES[kind.place]]}. " if in_steps else ""
    return {
        "instruction": f"{kind.operation} the {kind.place} {kind.material} of {' '.join(items)}.",
        "input": "",
        "output": f"{found}{ANSWER} {' '.join(kind.solve(items))}.",
        "items": items,
        "kind": kind,
    }


def measure(start: gptlab.Checkpoint, settings: Settings, seed: int, arm: str) -> Row:
    """Tune on the arm's types, and ask about new inputs of these types and of the held-out ones."""
    count, in_steps = names(settings)[arm]
    ordered, held_out = split_types(seed)
    seen = ordered[:count]
    model = start.model
    if seen:
        rng = random.Random(f"{seed}/{count}/entries")
        entries = [make_entry(seen[number % count], in_steps, rng) for number in range(settings.entries)]
        rng.shuffle(entries)
        model = experiment.tune(start, entries, steps=settings.steps, rate=settings.rate, seed=seed)
    row: Row = {"types": count, "in_steps": in_steps}
    for group, kinds in (("seen", seen), ("held_out", held_out)):
        if kinds:
            rng = random.Random(f"{seed}/{group}/test")
            each = settings.tests * (len(held_out) if group == "held_out" else 12) // len(kinds)  # 12 types' worth
            tests = [make_entry(kind, in_steps, rng) for kind in kinds for _ in range(max(each, 1))]
            row |= {f"{group}_{key}": value for key, value in ask(start, model, tests, seen).items()}
    return row


def ask(start: gptlab.Checkpoint, model: gptlab.GPTModel, tests: list[Entry], seen: Sequence[TaskType]) -> Row:
    """Return the share that is right, the loss of the right answers, and how often another task was done instead."""
    told = experiment.answers(model, start.tokenizer, tests, max_new_tokens=40)
    given = [text.partition(ANSWER)[2] for text in told]
    wanted = [test["output"].partition(ANSWER)[2] for test in tests]
    begun = [text.partition(ANSWER)[0] + ANSWER for text in told]
    trained = [{f" {' '.join(kind.solve(test['items']))}." for kind in seen if kind != test["kind"]} for test in tests]
    steps = [test["output"].partition(ANSWER)[0] for test in tests]
    return {
        "right": experiment.share([text == answer for text, answer in zip(given, wanted)]),
        "loss": experiment.loss_of(model, start.tokenizer, tests, wanted, begun=begun),
        "another": experiment.share([text in others and text != w for text, others, w in zip(given, trained, wanted)]),
        "found": experiment.share([text.startswith(step) for text, step in zip(told, steps)]) if any(steps) else None,
    }


def names(settings: Settings) -> dict[str, tuple[int, bool]]:
    """Return arm -> (number of types, whether answers have steps)."""
    arms = {"0 types": (0, False)}
    for count in settings.counts:
        kinds = f"{count} type{'s' if count > 1 else ''}"
        arms |= {kinds: (count, False), f"{kinds}, in steps": (count, True)}
    return arms


def arms(settings: Settings) -> list[str]:
    """Return the arms; a hurried run has no need of the base as it is."""
    return [arm for arm in names(settings) if settings.steps > 1 or arm != "0 types"]


def table(rows: list[Row]) -> str:
    """Return means and ranges."""
    keys = {
        "seen_right": "seen types, right",
        "seen_loss": "loss",
        "held_out_right": "held-out types, right",
        "held_out_loss": "loss of the right answer",
        "held_out_another": "did a task that was trained instead",
        "held_out_found": "wrote the right step",
    }
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in sorted(rows, key=lambda row: (row["in_steps"], row["types"]))):
        of_arm = [row for row in rows if row["arm"] == arm]
        lines.append([arm, *(experiment.spread(of_arm, key) for key in keys)])
    return experiment.markdown(["trained on", *keys.values()], lines)


def picture(rows: list[Row]):
    """Return a figure: right answers, and the loss of the right answer, against the number of types."""
    from gptlab import show

    figure, [left, right] = show.new_axes(11, 4.4, columns=2)
    counts = sorted({row["types"] for row in rows if row["types"]})
    looks = (("held_out", False, 0, "-"), ("held_out", True, 1, "-"), ("seen", False, 0, ":"), ("seen", True, 1, ":"))
    for group, in_steps, color, line in looks:
        of_count = [[row for row in rows if (row["types"], row["in_steps"]) == (n, in_steps)] for n in counts]
        kind = "held-out types" if group == "held_out" else "seen types, new inputs"
        look = {
            "color": show.COLORS[color],
            "marker": "s" if in_steps else "o",
            "linestyle": line,
            "label": f"{kind}, {'in steps' if in_steps else 'answers alone'}",
        }
        experiment.draw_spread(left, counts, of_count, f"{group}_right", **look)
        experiment.draw_spread(right, counts, of_count, f"{group}_loss", **look)
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.minorticks_off()
        axis.set_xlabel("task types in tuning, entries and steps being the same")
        axis.grid(alpha=0.3)
    left.set_ylim(-0.04, 1.04)
    left.set_ylabel("share of answers that are right")
    right.set_ylim(bottom=0)
    right.set_ylabel("loss of the right answer, nats per token")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return figure


EXPERIMENT = experiment.Experiment(
    title=__doc__.splitlines()[0],
    out=Path(__file__).with_suffix(".json"),
    settings=Settings(),
    quick=Settings(counts=(2,), entries=32, steps=1, tests=1),
    arms=arms,
    measure=measure,
    table=table,
    picture=picture,
)

if __name__ == "__main__":
    experiment.main(EXPERIMENT)
