"""What the experiments of this chapter share: arguments, results that are kept as they come, tuning and asking.

An experiment goes through the same arms for every seed. Each (seed, arm) gives one row of numbers, which is written
into the JSON file at once, so a run that was stopped goes on where it was. The pretrained model, `town_base()`, is the
same for all seeds: a seed draws the data and the order of the batches, and the spread in the tables is theirs alone.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

import gptlab
from gptlab.data import Segment, Template, collate, encode
from gptlab.data.town import Town
from gptlab.decoding import respond
from gptlab.demo import SMALL_TOWN, tune_town
from gptlab.files import read_json, to_json, write_text
from gptlab.training import evaluate

Row = dict[str, Any]
# Alpaca's headings take 27 tokens of the town's vocabulary, as many as a question and its answer. Without them a step
# takes half the time, and half the steps are enough.
BARE = Template("bare", "{instruction}\n{input}\n", "{instruction}\n", "\n", "The instruction on a line of its own.")


@dataclass(frozen=True)
class Experiment:
    """One program.

    Attributes:
        title: for --help.
        out: the JSON file; the picture has the same name.
        settings: a frozen dataclass; results of other settings are never mixed with these.
        quick: the same class, with settings that only show whether everything runs.
        arms: settings -> the arms' names.
        measure: (base, settings, seed, arm) -> numbers.
        table: rows -> text.
        picture: rows -> figure.
    """

    title: str
    out: Path
    settings: Any
    quick: Any
    arms: Callable[[Any], Sequence[str]]
    measure: Callable[[gptlab.Checkpoint, Any, int, str], Row]
    table: Callable[[list[Row]], str]
    picture: Callable[[list[Row]], Any]


def main(experiment: Experiment, argv: Sequence[str] | None = None) -> list[Row]:
    """Run what is missing, print the table, write the JSON and the PNG, and return the rows."""
    parser = argparse.ArgumentParser(description=experiment.title)
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0")
    parser.add_argument(
        "--out", type=Path, help=f"the JSON file, {experiment.out.name} beside the program if not given"
    )
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    parser.add_argument("--show", action="store_true", help="print and draw what is there and stop")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see whether it runs; needs an --out")
    options = parser.parse_args(argv)
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    if options.quick and options.out is None:
        parser.error("--quick measures nothing, so it does not write over the results: it needs an --out")
    settings, out = experiment.quick if options.quick else experiment.settings, options.out or experiment.out
    try:
        rows = [] if options.again else _read(out, asdict(settings))
    except ValueError as error:
        parser.error(str(error))
    arms = experiment.arms(settings)
    if options.show and not rows:
        parser.error(f"{out} holds no results yet")
    if not options.show:
        _run_missing(experiment, settings, range(options.seeds), arms, rows, out)
    figure = experiment.picture(rows)
    figure.savefig(out.with_suffix(".png"), dpi=110, bbox_inches="tight")
    print(experiment.table(rows))
    return rows


def _read(out: Path, settings: dict[str, Any]) -> list[Row]:
    if not out.exists():
        return []
    kept, now = read_json(out), to_json(settings)
    if to_json(kept["settings"]) != now:
        raise ValueError(f"{out} holds results of the settings {kept['settings']}, not {settings}; --again starts anew")
    return kept["rows"]


def _run_missing(
    experiment: Experiment, settings: Any, seeds: Sequence[int], arms: Sequence[str], rows: list[Row], out: Path
) -> None:
    done = {(row["seed"], row["arm"]) for row in rows}
    missing = [(seed, arm) for seed in seeds for arm in arms if (seed, arm) not in done]
    start = gptlab.town_base() if missing else None
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "settings": asdict(settings)}
    for number, (seed, arm) in enumerate(missing, start=1):
        begun = time.perf_counter()
        row = {"seed": seed, "arm": arm} | experiment.measure(start, settings, seed, arm)
        rows.append({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
        write_text(out, to_json(about | {"rows": rows}))
        numbers = ", ".join(f"{key} {value}" for key, value in rows[-1].items() if key not in ("seed", "arm"))
        taken = f"{time.perf_counter() - begun:.0f} s"
        print(f"{number} of {len(missing)}: seed {seed}, {arm}: {numbers} ({taken})", file=sys.stderr, flush=True)


@cache
def town() -> Town:
    """Return the town that the base has read about."""
    return SMALL_TOWN.town()


def tune(
    start: gptlab.Checkpoint,
    entries: Sequence[dict[str, Any]],
    *,
    steps: int,
    rate: float,
    seed: int,
) -> gptlab.GPTModel:
    """Return a tuned copy of the base: as many steps whatever the number of entries, which are gone through anew."""
    model = copy.deepcopy(start.model)
    recipe = replace(SMALL_TOWN, tuning_steps=steps, tuning_rate=rate, template=BARE)
    lesson = replace(town(), train=list(entries))
    tune_town(model, start.tokenizer, lesson, recipe, seed=seed, progress=False)
    return model.eval()


def answers(
    model: gptlab.GPTModel,
    tokenizer: Any,
    entries: Sequence[dict[str, Any]],
    *,
    max_new_tokens: int = 32,
) -> list[str]:
    """Return what the model answers, greedily."""
    told = respond(model, tokenizer, entries, BARE, max_new_tokens=max_new_tokens, batch_size=64)
    return [response.text for response in told]


def loss_of(
    model: gptlab.GPTModel,
    tokenizer: Any,
    entries: Sequence[dict[str, Any]],
    endings: Sequence[str],
    *,
    begun: Sequence[str] | None = None,
) -> float:
    """Return the mean loss, in nats per token, of the right endings of answers that have `begun` (with nothing)."""
    batches = []
    for at in range(0, len(entries), 64):
        examples = []
        for number in range(at, min(at + 64, len(entries))):
            read = BARE.prompt(entries[number]) + (begun[number] if begun else "")
            examples.append(encode([Segment(read, False), Segment(endings[number], True)], tokenizer))
        batches.append(collate(examples, pad_id=tokenizer.eot_token))
    return evaluate(model, batches)


def share(hits: Sequence[bool]) -> float | None:
    """Return the share that is true, None of nothing."""
    return sum(hits) / len(hits) if hits else None


def spread(rows: Sequence[Row], key: str, digits: int = 2) -> str:
    """Return the mean over the seeds, and from where to where they lie if they differ."""
    values = [row[key] for row in rows if row.get(key) is not None]
    if not values:
        return "-"
    least, mean, most = (f"{value:.{digits}f}" for value in (min(values), statistics.mean(values), max(values)))
    return mean if least == most else f"{mean} ({least} to {most})"


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *lines])


def draw_spread(axis: Any, xs: Sequence[float], groups: Sequence[Sequence[Row]], key: str, **style: Any) -> None:
    """Draw a line through the means of each group of rows, with a bar from its least to its greatest."""
    kept = [(x, [row[key] for row in group if row.get(key) is not None]) for x, group in zip(xs, groups)]
    kept = [(x, values) for x, values in kept if values]
    if not kept:
        return
    means = [statistics.mean(values) for _, values in kept]
    below = [mean - min(values) for mean, (_, values) in zip(means, kept)]
    above = [max(values) - mean for mean, (_, values) in zip(means, kept)]
    axis.errorbar([x for x, _ in kept], means, yerr=[below, above], capsize=3, **style)
