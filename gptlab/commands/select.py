"""`gptlab select`: choose which entries are worth training on, and say what went out and why."""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Sequence
from contextlib import closing
from numbers import Real
from pathlib import Path
from typing import Any

from gptlab.commands.arguments import at_least, path, text
from gptlab.commands.asking import MODEL_OF_THE_SOURCE, add_server, open_server
from gptlab.commands.written import check_written, kept_in, write_entries

METHODS = ("random", "longest", "novel", "quality", "kmeans", "facility-location")
_READ = 300_000  # characters; more do not change which words are frequent
RATING = "quality"  # the key of an entry under which its rating is kept


def add_select(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    select = command("select", run_select, "choose entries: the longest, the best, the most diverse, or all that pass")
    select.add_argument("--entries", type=path, required=True, help="a file of entries")
    select.add_argument("--out", type=path, required=True, help="where those that are chosen go")
    before = select.add_argument_group("what goes out first")
    before.add_argument("--rules", action="store_true", help="answers that break LIMA's rules: length, person, links")
    before.add_argument("--near-duplicates", type=_likeness, metavar="T", help="prompts with a ROUGE-L above T, as 0.9")
    before.add_argument("--test", type=path, help="entries that meet one of this file")
    method = select.add_argument_group("how the rest is chosen from")
    method.add_argument("--method", choices=METHODS, help="None takes all that is left")
    method.add_argument("--count", type=at_least(1), help="how many")
    method.add_argument("--threshold", type=float, help="of novel, 0.7 by default, and of quality, 4.5 by default")
    method.add_argument("--alpha", type=float, default=0.0, help="facility-location: the weight of quality, 0 to 1")
    method.add_argument("--embed-with", type=text, help="a checkpoint whose hidden states are the embeddings")
    method.add_argument("--seed", type=at_least(0), default=0, help="of random and kmeans")
    method.add_argument("--card", type=path, help="where a page that shows what was chosen goes")
    server = add_server(
        select, "who rates quality", model=MODEL_OF_THE_SOURCE, without=f"the key {RATING!r} of entries"
    )
    server.add_argument("--cache", type=path, help="where replies are kept; None is beside --out, NAME.replies.jsonl")


def run_select(options: argparse.Namespace) -> None:
    """Run the command."""
    from gptlab.data import load_entries

    cache = options.cache or options.out.with_name(f"{options.out.name.removesuffix('.json')}.replies.jsonl")
    cache = cache if options.server is not None and options.replay is None else None
    _check_combination(options)
    read = [file for file in (options.entries, options.test, options.replay) if file is not None]
    check_written({"--out": options.out, "--card": options.card, "--cache": cache}, read)
    entries = load_entries(options.entries)
    if options.count is not None and options.count > len(entries):
        raise ValueError(f"--count must be at most {len(entries):,}, the number of entries, got {options.count:,}")
    test = None if options.test is None else load_entries(options.test, needs=("instruction",))
    rejected: dict[str, int] = {}
    left = _cleaned(entries, test, options, rejected)
    if options.method is not None:
        chosen = _chosen(left, options, cache)
        rejected[f"not chosen by {options.method}"] = len(left) - len(chosen)
        left = chosen
    _check_left(left, rejected)
    for reason, count in rejected.items():
        print(f"{count:>8,} out: {reason}")
    write_entries(options.out, left)
    if options.card is not None:
        _write_card(left, test, rejected, options)


def _likeness(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number in [0, 1], got {value!r}")
    return number


def _check_combination(options: argparse.Namespace) -> None:
    if not 0 <= options.alpha <= 1:
        raise ValueError(f"--alpha must be in [0, 1], got {options.alpha}")
    rates = options.method == "quality" or (options.method == "facility-location" and options.alpha > 0)
    asks = options.server is not None or options.replay is not None
    if asks and not rates:
        raise ValueError("--server and --replay are for --method quality, and facility-location with --alpha")
    if options.alpha and options.method != "facility-location":
        raise ValueError("--alpha is for --method facility-location")
    if options.embed_with is not None and options.method not in ("kmeans", "facility-location"):
        raise ValueError("--embed-with is for --method kmeans and facility-location")
    if options.threshold is not None and options.method not in ("novel", "quality"):
        raise ValueError("--threshold is for --method novel and quality")
    low, high = (0, 1) if options.method == "novel" else (0, 5) if asks else (-math.inf, math.inf)
    if options.threshold is not None and not low <= options.threshold <= high:
        raise ValueError(f"--threshold of {options.method} must be in [{low}, {high}], got {options.threshold}")
    if options.method in ("random", "longest", "kmeans", "facility-location") and options.count is None:
        raise ValueError(f"--method {options.method} needs --count")
    if options.method is None and options.count is not None:
        raise ValueError(f"--count needs --method: {', '.join(METHODS)}")


def _cleaned(entries: list[Any], test: list[Any] | None, options: argparse.Namespace, rejected: dict) -> list[Any]:
    """Return the entries without those that the options throw out, and count these."""
    from gptlab.selection import apply_rules, contaminated, near_duplicates

    if options.rules:
        report = apply_rules(entries)
        rejected |= {f"rule: {rule}": count for rule, count in report.dropped.items() if count}
        entries = [entries[number] for number in report.kept]
    if options.near_duplicates is not None and entries:
        found = near_duplicates(entries, threshold=options.near_duplicates, progress=not options.quiet)
        rejected["near-duplicates"] = len(found.dropped)
        entries = [entries[number] for number in found.kept]
    if test is not None and entries:
        met = contaminated(entries, test, progress=not options.quiet)
        rejected["in the test"] = len(met.indices)
        entries = [entries[number] for number in met.clean]
    _check_left(entries, rejected)
    return entries


def _check_left(entries: Sequence[Any], rejected: dict[str, int]) -> None:
    if not entries:
        raise ValueError(f"nothing is left: {', '.join(f'{count:,} {reason}' for reason, count in rejected.items())}")


def _chosen(entries: list[Any], options: argparse.Namespace, cache: Path | None) -> list[Any]:
    """Return the entries that the method chooses, in its order."""
    from gptlab import selection

    count = None if options.count is None else min(options.count, len(entries))
    rated = []
    if options.method == "quality" or options.alpha:
        rated = _rated(entries, options, cache)
        entries = [entry | {RATING: score} for entry, score in zip(entries, rated)]
    vectors = _embedded(entries, options) if options.method in ("kmeans", "facility-location") else None
    if options.method == "random":
        numbers = random.Random(options.seed).sample(range(len(entries)), k=count)
    elif options.method == "longest":
        numbers = selection.longest(entries, count, _tokenizer(entries))
    elif options.method == "novel":
        threshold = 0.7 if options.threshold is None else options.threshold
        texts = [entry["instruction"] for entry in entries]
        numbers = selection.novel_instructions(texts, threshold=threshold, progress=not options.quiet)[:count]
    elif options.method == "quality":
        threshold = 4.5 if options.threshold is None else options.threshold
        good = [number for number, score in enumerate(rated) if score is not None and score >= threshold]
        numbers = sorted(good, key=lambda number: (-rated[number], number))[:count]
    elif options.method == "kmeans":
        numbers = selection.kmeans_diverse(vectors, count, seed=options.seed)
    else:
        quality = None
        if options.alpha:
            worst = min((score for score in rated if score is not None), default=0.0)
            scores = [min(worst, 0.0) if score is None else score for score in rated]
            quality = selection.scaled_quality(scores, count)
        more = {"quality": quality, "alpha": options.alpha, "progress": not options.quiet}
        numbers = selection.facility_location(vectors, count, **more)
    return [entries[number] for number in numbers]


def _tokenizer(entries: Sequence[Any]) -> Any:
    """Return GPT-2's tokenizer, or where it is not on this machine one that is trained on the outputs."""
    from gptlab.tokenizer import gpt2_tokenizer, train_tokenizer

    try:
        return gpt2_tokenizer()
    except OSError:
        print("GPT-2's vocabulary is not on this machine, so lengths are in tokens of one trained on these outputs")
        return train_tokenizer("\n".join(entry["output"] for entry in entries)[:_READ], 1000)


def _rated(entries: Sequence[Any], options: argparse.Namespace, cache: Path | None) -> list[float | None]:
    """Return the judge's rating of each entry, or the one that it came with."""
    from gptlab.selection import rate_quality

    if options.server is None and options.replay is None:
        missing = [number for number, entry in enumerate(entries, start=1) if RATING not in entry]
        if missing:
            raise ValueError(
                f"{len(missing):,} entries have no {RATING!r}, the first is {missing[0]}; --server says who rates them"
            )
        for number, entry in enumerate(entries, start=1):
            score = entry[RATING]
            if score is not None and (
                isinstance(score, bool) or not isinstance(score, Real) or not math.isfinite(score)
            ):
                raise ValueError(
                    f"entry {number}: {RATING!r} must be a number, or null where there is none, got {score!r}"
                )
        return [entry[RATING] for entry in entries]
    with closing(open_server(options, cache)) as judge, kept_in(cache, "reply"):
        report = rate_quality(entries, judge, workers=options.workers, progress=not options.quiet)
    print(report)
    return report.scores


def _embedded(entries: Sequence[Any], options: argparse.Namespace) -> Any:
    """Return a vector for each entry, of its instruction, input and output."""
    from gptlab.selection import embed
    from gptlab.selection.entries import text_of

    texts = [text_of(entry, ("instruction", "input", "output")) for entry in entries]
    if options.embed_with is None:
        return embed(texts, progress=not options.quiet)
    from gptlab.commands.arguments import open_model

    model, tokenizer, _ = open_model(argparse.Namespace(**vars(options) | {"model": options.embed_with, "base": None}))
    return embed(texts, model=model, tokenizer=tokenizer, progress=not options.quiet)


def _write_card(entries: list[Any], test: list[Any] | None, rejected: dict, options: argparse.Namespace) -> None:
    from gptlab.selection import report_card, write_card

    write_card(report_card(entries, test=test, rejected=rejected), options.card)
    print(f"{options.card} shows it, in any browser")
