"""`gptlab judge`: measure responses, let a language model score them, or compare them with others'."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from gptlab.commands.arguments import MODEL, at_least, open_model, path, text
from gptlab.commands.asking import MODEL_OF_THE_SOURCE, add_server, open_server
from gptlab.commands.written import check_written, kept_in

if TYPE_CHECKING:
    from gptlab.servers import Server


def add_judge(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    judge = command("judge", run_judge, "measure responses, and let a language model score or compare them")
    judge.add_argument("--responses", type=path, required=True, help="entries with responses, as generate writes them")
    judge.add_argument("--against", type=path, help="the same entries with other responses, to be compared with")
    judge.add_argument("--key", type=text, default="model_response", help="where an entry holds its response")
    judge.add_argument("--against-key", type=text, help="the same in --against; None is --key")
    judge.add_argument("--samples", type=at_least(1), help="judge only so many entries, drawn at random")
    judge.add_argument("--seed", type=at_least(0), default=0, help="of that drawing")
    judge.add_argument("--out", type=path, help="where the JSON goes; None is beside --responses, NAME.judged.json")
    judge.add_argument("--html", type=path, help="where a page to look through goes")
    judge.add_argument("--translation", action="store_true", help="measure BLEU and chrF, too")
    judge.add_argument("--perplexity-of", type=text, help=f"measure how well this model foresees the outputs: {MODEL}")
    server = add_server(judge, "who judges", model=MODEL_OF_THE_SOURCE, without="metrics alone")
    server.add_argument("--only", choices=("scores", "comparison"), help="with --against: not both")
    server.add_argument("--cache", type=path, help="where replies are kept; None is beside --out, NAME.replies.jsonl")


def run_judge(options: argparse.Namespace) -> None:
    """Run the command."""
    from gptlab.files import to_json, write_text
    from gptlab.judging.page import write_page
    from gptlab.judging.report import judging_report

    _check_combination(options)
    sides, numbers = _sides(options)
    out = options.out or options.responses.with_name(f"{options.responses.stem}.judged.json")
    beside = out.with_name(f"{out.name.removesuffix('.json')}.replies.jsonl")
    cache = (options.cache or beside) if options.server is not None and options.replay is None else None
    read = [file for file in (options.responses, options.against, options.replay) if file is not None]
    check_written({"--out": out, "--html": options.html, "--cache": cache}, read)
    server, judged = open_server(options, cache), {}
    metrics = [_measure(side, options) for side in sides]
    if options.perplexity_of is not None:
        metrics[0]["perplexity"] = _perplexity(sides[0], options)
    if server is not None:
        with closing(server), kept_in(cache, "reply"):
            judged = {"judge": {"name": server.name, **server.identity}, **_judge(sides, numbers, server, options)}
    report = judging_report(
        sides[0].entries,
        metrics=metrics[0],
        names=(sides[0].name, sides[1].name if sides[1:] else None),
        numbers=numbers,
        key=sides[0].key,
        against=sides[1].entries if sides[1:] else None,
        against_key=sides[1].key if sides[1:] else None,
        metrics_against=metrics[1] if metrics[1:] else None,
        **judged,
    )
    write_text(out, to_json(report))
    print(f"all of it is in {out}")
    if options.html is not None:
        write_page(report, options.html)
        print(f"{options.html} shows it, in any browser")


class _Side(NamedTuple):
    """One set of responses."""

    name: str
    key: str
    entries: list[dict[str, Any]]


def _check_combination(options: argparse.Namespace) -> None:
    asks = options.server is not None or options.replay is not None
    if options.against is None and (options.only is not None or options.against_key is not None):
        raise ValueError("--only and --against-key are for --against")
    if options.model is not None and not asks:
        raise ValueError("--model is for --server: ollama, openai, or a checkpoint")
    if options.cache is not None and (options.replay is not None or not asks):
        raise ValueError("nobody is asked, so there is nothing to keep in --cache")


def _sides(options: argparse.Namespace) -> tuple[list[_Side], list[int]]:
    """Return the sets of responses, and the numbers of their entries."""
    from gptlab.data import load_entries
    from gptlab.judging.pairwise import check_lined_up

    chosen = [(options.responses, options.key)]
    if options.against is not None:
        chosen.append((options.against, options.against_key or options.key))
    same = len({file.name for file, _ in chosen}) < len(chosen)
    sides = [
        _Side(str(file) if same else file.name, key, load_entries(file, needs=("instruction", "output", key)))
        for file, key in chosen
    ]
    if sides[1:]:
        check_lined_up(sides[0].entries, sides[1].entries)
    count = len(sides[0].entries)
    numbers = list(range(1, count + 1))
    if options.samples is not None and options.samples < count:
        numbers = sorted(random.Random(options.seed).sample(numbers, options.samples))
    return [side._replace(entries=[side.entries[number - 1] for number in numbers]) for side in sides], numbers


def _measure(side: _Side, options: argparse.Namespace) -> dict[str, Any]:
    """Print and return what can be measured without a judge."""
    from gptlab.judging.metrics import bleu, chrf, measure

    report = measure(side.entries, key=side.key)
    print(f"{side.name}, {side.key}\n{report}")
    numbers = report.to_dict()
    if options.translation:
        texts = [entry[side.key] for entry in side.entries], [entry["output"] for entry in side.entries]
        numbers |= {"bleu": bleu(*texts), "chrf": chrf(*texts)}
        print(f"{'BLEU':<19}  {numbers['bleu']:>8.2f}\n{'chrF':<19}  {numbers['chrf']:>8.2f}")
    print()
    return numbers


def _perplexity(side: _Side, options: argparse.Namespace) -> dict[str, Any]:
    """Print and return how well a model foresees the outputs, which are the same on both sides."""
    from gptlab.judging.metrics import response_perplexity

    asked = argparse.Namespace(**vars(options) | {"model": options.perplexity_of, "base": None})
    model, tokenizer, template = open_model(asked)
    found = response_perplexity(model, tokenizer, side.entries, template)
    bits = "" if found.bits_per_byte is None else f"{found.bits_per_byte:.3f} bits per byte, "
    note = f"of the outputs, {bits}{found.measured:,} measured, {len(found.too_long):,} too long"
    print(f"{'perplexity':<19}  {found.perplexity:>8.2f}  {note}\n")
    return found._asdict()


def _judge(sides: list[_Side], numbers: list[int], server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Ask, print and return what was said.

    Raises:
        ValueError: a recorded file does not hold all of it.
    """
    from gptlab.judging import compare_responses, score_responses

    shown = {"workers": options.workers, "progress": not options.quiet and options.replay is None}
    found: dict[str, Any] = {}

    def checked(report: Any) -> Any:
        for number, result in zip(numbers, report.results):
            if options.replay is not None and result.error is not None:
                raise ValueError(f"entry {number}: {result.error}")
        return report

    if options.only != "comparison":
        for name, side in zip(("scores", "scores_against"), sides):
            found[name] = checked(score_responses(side.entries, server, key=side.key, **shown))
            print(f"scores of {side.name}\n{found[name]}\n")
    if sides[1:] and options.only != "scores":
        one, other = sides
        keys = {"key_a": one.key, "key_b": other.key}
        found["comparison"] = checked(compare_responses(one.entries, other.entries, server, **keys, **shown))
        print(f"A is {one.name}, B is {other.name}\n{found['comparison']}\n")
    return found
