"""What becomes of knowledge when tuning says something else: facts of the town told rightly, wrongly, and new facts.

Run: python chapters/ch11_selection/contradictions.py --seeds 3   writes contradictions.json and contradictions.png
     python chapters/ch11_selection/contradictions.py --show      prints the table and draws from the file again

Three seeds take about 8 minutes of one core; a run that was stopped goes on where it was.

Ren et al. tuned on answers that agree with what a model knows, and on answers that do not: what contradicts it brought
nothing, and did harm. Here the base has read about 40 people. Every arm tunes on 320 questions with answers and the
same 280 entries of skills, for the same steps:

    0 % ... 100 %   about the 20 asked people; for that share of their facts all answers give a false value, always
                    the same one
    new people      about 20 people whom the base never read about: neither consistent nor a contradiction

Then what tuning never touched is asked: the 20 held-out people, in questions and in the corpus' own prose, and skills.
Of the asked people the prose is continued in wordings that no answer uses: does the old value come, or the new one?

A seed draws the false values, the new people and the order of the batches; a larger share holds the smaller one.

Source: Ren et al. 2024, Learning or Self-aligning? Rethinking Instruction Fine-tuning (arXiv 2402.18243). They measure
7B models on multiple choice; this is the same contrast on a town, no repetition of their numbers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import experiment
from experiment import Row

import gptlab
from gptlab.data.town import ASKED, HELD_OUT, SKILL, Entry, Inhabitant, Town
from gptlab.data.town_wordings import ATTRIBUTES, draw_name
from gptlab.decoding import exact_match, generate

BEFORE, NEW = "before tuning", "new people"
SHARES = {"0 %": 0.0, "25 %": 0.25, "50 %": 0.5, "75 %": 0.75, "100 %": 1.0}  # of the facts, told wrongly

Fact = tuple[str, str]  # a name and an attribute


@dataclass(frozen=True)
class Settings:
    """`people` is how many of each group are looked at, None all."""

    steps: int = 200
    rate: float = 3e-4
    people: int | None = None


def false_facts(asked: Sequence[Inhabitant], share: float, seed: int) -> dict[Fact, str]:
    """Return a false value for a share of all facts; the facts of a smaller share are among those of a larger one."""
    rng = random.Random(f"{seed}/false")
    facts = [(person, attribute) for person in asked for attribute in ATTRIBUTES]
    rng.shuffle(facts)
    values = [rng.choice([v for v in what.values if v != person.facts[what.name]]) for person, what in facts]
    count = round(share * len(facts))
    return {(person.name, what.name): value for (person, what), value in zip(facts[:count], values)}


def new_people(town: Town, seed: int) -> list[Inhabitant]:
    """Return as many people as are asked about, whom no text of the town names."""
    rng = random.Random(f"{seed}/new")
    known = {person.name for person in town.asked + town.held_out}
    while len(known) < 2 * len(town.asked) + len(town.held_out):
        name = draw_name(rng)
        if name not in town.corpus:
            known.add(name)
    names = sorted(known - {person.name for person in town.asked + town.held_out})
    return [Inhabitant(name, {what.name: rng.choice(what.values) for what in ATTRIBUTES}) for name in names]


def questions(people: Sequence[Inhabitant], told: dict[Fact, str]) -> list[Entry]:
    """Return every question about every person, answered with what is `told`, else with the truth."""
    entries = []
    for person in people:
        for what in ATTRIBUTES:
            value = told.get((person.name, what.name), person.facts[what.name])
            output = what.statements[0].format(name=person.name, value=value)
            entries += [
                {"instruction": question.format(name=person.name), "input": "", "output": output, "value": value}
                for question in what.questions
            ]
    return entries


def continued_prose(start: gptlab.Checkpoint, model: gptlab.GPTModel, people: Sequence[Inhabitant]) -> dict[Fact, list]:
    """Return how the model goes on with sentences of the corpus that stop before the value, by fact.

    The wordings are those in which the name comes before the value, without the one that answers have.
    """
    facts, beginnings = [], []
    for person in people:
        for what in ATTRIBUTES:
            for statement in what.statements[1:]:
                before, _, _ = statement.partition("{value}")
                if "{name}" in before:
                    facts.append((person.name, what.name))
                    beginnings.append(start.tokenizer.encode_ordinary(before.strip().format(name=person.name)))
    written: dict[Fact, list] = {}
    for fact, ids in zip(facts, generate(model, beginnings, max_new_tokens=8)):
        written.setdefault(fact, []).append(start.tokenizer.decode(ids))
    return written


def tells(written: dict[Fact, list], values: dict[Fact, str]) -> float | None:
    """Return how often the sentences about these facts went on with these values."""
    return experiment.share([text.startswith(f" {value}") for fact, value in values.items() for text in written[fact]])


def truth(people: Sequence[Inhabitant]) -> dict[Fact, str]:
    return {(person.name, what): value for person in people for what, value in person.facts.items()}


def measure(start: gptlab.Checkpoint, settings: Settings, seed: int, arm: str) -> Row:
    """Tune on the arm's facts and return what was learned, what was kept, and what was lost."""
    town, told = experiment.town(), {}
    taught = town.asked
    if arm == NEW:
        taught = new_people(town, seed)
    elif arm != BEFORE:
        told = false_facts(town.asked, SHARES[arm], seed)
    lessons = questions(taught, told)
    skills = [entry for entry in town.train if entry["group"] == SKILL]
    model = start.model
    if arm != BEFORE:
        order = random.Random(f"{seed}/order").sample(lessons + skills, k=len(lessons + skills))
        model = experiment.tune(start, order, steps=settings.steps, rate=settings.rate, seed=seed)
    cut = slice(settings.people)
    held_out, asked, taught = town.held_out[cut], town.asked[cut], taught[cut]
    tests = {
        ASKED: questions(taught, told),
        HELD_OUT: questions(held_out, {}),
        SKILL: [entry for entry in town.test if entry["group"] == SKILL][cut],
    }
    said = {group: experiment.answers(model, start.tokenizer, entries) for group, entries in tests.items()}
    prose = continued_prose(start, model, held_out + asked)
    about_new = continued_prose(start, model, taught) if arm == NEW else prose
    right, wrong = truth(asked), {fact: value for fact, value in told.items() if fact in prose}
    expected = truth(taught) if arm == NEW else wrong
    asked_for = [entry["value"] for entry in tests[HELD_OUT]]
    endings = [entry["output"] for entry in tests[HELD_OUT]]
    return {
        "taught": None if arm == BEFORE else exact_match(said[ASKED], tests[ASKED]),
        "held_out": exact_match(said[HELD_OUT], tests[HELD_OUT]),
        "held_out_value": experiment.share([value in text for value, text in zip(asked_for, said[HELD_OUT])]),
        "held_out_loss": experiment.loss_of(model, start.tokenizer, tests[HELD_OUT], endings),
        "held_out_prose": tells(prose, truth(held_out)),
        "skills": exact_match(said[SKILL], tests[SKILL]),
        "untouched_old": tells(prose, {fact: value for fact, value in right.items() if fact not in wrong}),
        "contradicted_old": tells(prose, {fact: right[fact] for fact in wrong}),
        "told_new": tells(about_new, expected),
    }


def arms(settings: Settings) -> list[str]:
    """Return the names; a hurried run leaves out the shares between."""
    return [BEFORE, *SHARES, NEW] if settings.people is None else ["50 %", NEW]


def table(rows: list[Row]) -> str:
    """Return means and ranges: what answers and sentences were right."""
    keys = {
        "taught": "answers as taught",
        "held_out": "held-out people, questions",
        "held_out_value": "right value somewhere",
        "held_out_loss": "loss of the right answer",
        "held_out_prose": "held-out people, prose",
        "skills": "skills",
        "untouched_old": "prose: old value, not contradicted",
        "contradicted_old": "old value, contradicted",
        "told_new": "value that tuning brought",
    }
    lines = []
    for arm in arms(Settings()):
        of_arm = [row for row in rows if row["arm"] == arm]
        if of_arm:
            lines.append([arm, *(experiment.spread(of_arm, key) for key in keys)])
    return experiment.markdown(["told wrongly", *keys.values()], lines)


def picture(rows: list[Row]):
    """Return a figure: left what tuning never touched, right what becomes of the facts that it contradicts."""
    from gptlab import show

    figure, [left, right] = show.new_axes(11, 4.4, columns=2)
    groups = [[row for row in rows if row["arm"] == arm] for arm in SHARES]
    xs = [100 * share for share in SHARES.values()]
    curves = (
        (left, "held_out", "questions about held-out people"),
        (left, "held_out_prose", "prose about held-out people"),
        (left, "skills", "skills, new inputs"),
        (right, "untouched_old", "the old value of facts that were not contradicted"),
        (right, "contradicted_old", "the old value of facts that were contradicted"),
        (right, "told_new", "the value that tuning brought"),
    )
    new = [[row for row in rows if row["arm"] == NEW]]
    for number, (axis, key, label) in enumerate(curves):
        look = {"color": show.COLORS[number % 3], "marker": "os^"[number % 3]}
        experiment.draw_spread(axis, xs, groups, key, label=label, **look)
        experiment.draw_spread(axis, [118], new, key, linestyle="", **look)
    for axis in (left, right):
        axis.axvline(109, color="black", linewidth=0.6, linestyle=":")
        axis.set_xticks([*xs, 118], [*SHARES, "new\npeople"])
        axis.set_xlabel("share of the facts that tuning tells wrongly")
        axis.set_ylim(-0.04, 1.04)
        axis.grid(axis="y", alpha=0.3)
        axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.08), frameon=False)
    left.set_title("what tuning did not ask about", fontsize=10)
    right.set_title("in wordings of the prose that no answer uses", fontsize=10)
    left.set_ylabel("share right")
    return figure


EXPERIMENT = experiment.Experiment(
    title=__doc__.splitlines()[0],
    out=Path(__file__).with_suffix(".json"),
    settings=Settings(),
    quick=Settings(steps=1, people=1),
    arms=arms,
    measure=measure,
    table=table,
    picture=picture,
)

if __name__ == "__main__":
    experiment.main(EXPERIMENT)
