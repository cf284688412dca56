"""The parts of `gptlab build` that ask a language model: more templates, Self-Instruct and Evol-Instruct."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from gptlab.commands.arguments import at_least, names, path
from gptlab.commands.asking import MODEL_OF_THE_SOURCE, add_bounds, add_server, open_server
from gptlab.commands.written import check_written, kept_in, write_entries

Command = Callable[..., argparse.ArgumentParser]

NEW_TASKS, HARDER = 0.7, 1.0  # temperatures: DECODING of Self-Instruct, TEMPERATURE of Evol-Instruct


def add_templates_by_model(part: Command) -> None:
    """Add `build more-templates`."""
    more = part("more-templates", _more_templates, "let a model write more templates after a few examples")
    more.add_argument("--templates", type=path, help="known ones, one on each line; None is those for translation")
    more.add_argument("--count", type=at_least(1), default=20, help="how many new ones")
    more.add_argument("--examples", type=at_least(1), default=3, help="how many the model is shown, drawn at random")
    more.add_argument("--out", type=path, required=True, help="a text file, the known ones included")
    more.add_argument("--seed", type=at_least(0), default=0, help="of the examples")
    add_asking(more, workers=False)


def add_self_instruct(part: Command) -> None:
    """Add `build self-instruct`."""
    made = part("self-instruct", _self_instruct, "let a model make tasks and their answers from a few seed tasks")
    made.add_argument("--seeds", type=path, help="seed tasks as Self-Instruct's .jsonl; None is those of gptlab")
    made.add_argument("--count", type=at_least(1), default=100, help="how many new tasks")
    made.add_argument("--out", type=path, required=True, help="where the entries go")
    made.add_argument("--journal", type=path, help="what was asked and became of it; None is NAME.journal.jsonl")
    made.add_argument("--seed", type=at_least(0), default=0, help="of all that is drawn")
    made.add_argument("--thinking", type=at_least(0), default=0, help="tokens for thoughts, on top of those of a reply")
    add_asking(made, temperature=NEW_TASKS)


def add_evol_instruct(part: Command) -> None:
    """Add `build evol-instruct`."""
    evolved = part("evol-instruct", _evol_instruct, "let a model make given entries harder, round after round")
    evolved.add_argument("--entries", type=path, required=True, help="those to begin with")
    evolved.add_argument("--rounds", type=at_least(1), default=4, help="how many")
    evolved.add_argument("--operations", type=names, help="of these alone; None is all six")
    evolved.add_argument("--latest", action="store_true", help="write the last generation alone, not all of them")
    evolved.add_argument("--tree", action="store_true", help="print which entry was made from which, and how")
    evolved.add_argument("--out", type=path, required=True, help="where the entries go")
    evolved.add_argument("--journal", type=path, help="every step; None is NAME.journal.jsonl beside --out")
    evolved.add_argument("--seed", type=at_least(0), default=0, help="of the operations")
    add_asking(evolved, temperature=HARDER, workers=False)


def add_asking(parser: argparse.ArgumentParser, *, temperature: float = 0.0, workers: bool = True) -> None:
    """Add the options that `opened` takes.

    Args:
        parser: of the command.
        temperature: of the replies, if none is given.
        workers: whether several questions can be asked at the same time.
    """
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps, for a checkpoint")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    form = {"model": MODEL_OF_THE_SOURCE, "temperature": temperature, "workers": workers}
    group = add_server(parser, "who is asked", context=8192, **form)  # 2,048 are for the reply alone
    add_bounds(group)


def _beside(out: Path, what: str) -> Path:
    return out.with_name(f"{out.name.removesuffix('.json').removesuffix('.txt')}.{what}.jsonl")


def opened(options: argparse.Namespace, read: list[Path | None], **written: Path) -> Any:
    """Return who is asked, once it is sure that all can be written."""
    if options.server is None and options.replay is None:
        raise ValueError("who shall be asked? --server ollama, --server openai --model NAME, or --replay FILE")
    cache = None if options.replay else _beside(options.out, "replies")
    written |= {"the file of replies": cache}
    check_written({"--out": options.out, **written}, [file for file in [*read, options.replay] if file is not None])
    return closing(open_server(options, cache))


def _more_templates(options: argparse.Namespace) -> None:
    from gptlab.building import load_templates, write_templates
    from gptlab.files import write_text

    known = load_templates(options.templates)
    shown = random.Random(options.seed).sample(known, k=min(options.examples, len(known)))
    with opened(options, [options.templates]) as server:
        report = write_templates(server, shown, options.count, seed=options.seed)
    for one in report.rejected:
        print(f"out, {one.reason}: {one.text}")
    new = [template for template in report.templates if template not in known]
    write_text(options.out, "\n".join([*known, *new]) + "\n")
    print(f"{report}\n{len(known)} known and {len(new)} new templates are in {options.out}")


def _self_instruct(options: argparse.Namespace) -> None:
    from gptlab.building import SelfInstruct, load_seed_tasks

    journal = options.journal or _beside(options.out, "journal")
    seeds = load_seed_tasks(options.seeds)
    with opened(options, [options.seeds], **{"--journal": journal}) as server, kept_in(journal, "step"):
        form = {"decoding": _decoding(options), "journal": journal, "workers": options.workers}
        run = SelfInstruct(server, seeds, seed=options.seed, **form)
        report = run.run(options.count, progress=not options.quiet)
    print(report)
    write_entries(options.out, report.entries)


def _decoding(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return what differs from the published decoding: new tasks' temperature, or none at all, and more tokens."""
    from gptlab.building.task_prompts import DECODING

    room = {step: {"max_tokens": form["max_tokens"] + options.thinking} for step, form in DECODING.items()}
    if options.temperature is None:
        return {step: {**form, "temperature": None} for step, form in room.items()}
    return room | {"instructions": {**room["instructions"], "temperature": options.temperature}}


def _evol_instruct(options: argparse.Namespace) -> None:
    from gptlab.building import OPERATIONS, EvolInstruct, lineage_text
    from gptlab.data import load_entries

    journal = options.journal or _beside(options.out, "journal")
    entries = load_entries(options.entries)
    with opened(options, [options.entries], **{"--journal": journal}) as server, kept_in(journal, "step"):
        chosen = options.operations or OPERATIONS
        form = {"operations": chosen, "journal": journal, "temperature": options.temperature}
        run = EvolInstruct(server, seed=options.seed, rounds=options.rounds, **form)
        report = run.run(entries, progress=not options.quiet)
    if options.tree:
        print(lineage_text(report.lineage))
    print(report)
    write_entries(options.out, report.latest if options.latest else report.entries)
