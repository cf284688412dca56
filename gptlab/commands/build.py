"""`gptlab build`: instruction data from a corpus, from corrected chats, about the model itself, or by a model."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gptlab.commands.arguments import at_least, path, share, text
from gptlab.commands.build_by_model import add_evol_instruct, add_self_instruct, add_templates_by_model
from gptlab.commands.identity import add_identity, add_more_identity
from gptlab.commands.written import check_written, write_entries

Command = Callable[..., argparse.ArgumentParser]


def add_build(command: Command) -> None:
    """Add the command to the parser."""
    text = "make instruction data: from a corpus, about the model itself, or by asking a language model"
    build = command("build", lambda options: build.print_help(), text, computes=False, waits=False)
    kinds = build.add_subparsers(metavar="WHAT")

    def part(name: str, function: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = kinds.add_parser(
            name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        sub.set_defaults(command=function)
        return sub

    _add_tiny_corpus(part)
    _add_templates(part)
    add_templates_by_model(part)
    _add_corrections(part)
    add_identity(part)
    add_more_identity(part)
    _add_mix(part)
    add_self_instruct(part)
    add_evol_instruct(part)


def _add_tiny_corpus(part: Command) -> None:
    corpus = part("tiny-corpus", _tiny_corpus, "write pairs of English and Chinese sentences, made by a small grammar")
    corpus.add_argument("--out", type=path, required=True, help="a .tsv or .json file")
    corpus.add_argument("--count", type=at_least(1), default=2000, help="how many pairs")
    corpus.add_argument("--seed", type=at_least(0), default=0, help="of the drawing")


def _add_templates(part: Command) -> None:
    templates = part("templates", _templates, "put templates around the pairs of a corpus")
    templates.add_argument("--pairs", type=path, required=True, help="a .tsv, .csv, .json or .jsonl file")
    templates.add_argument("--source", type=text, default="source", help="the column of what is asked")
    templates.add_argument("--target", type=text, default="target", help="the column of the right answer")
    templates.add_argument("--src-lang", type=text, help="the source's language, if no column says it")
    templates.add_argument("--tgt-lang", type=text, help="the target's language, if no column says it")
    templates.add_argument("--templates", type=path, help="one on each line; None is those for translation")
    templates.add_argument("--out", type=path, required=True, help="where the entries go")
    templates.add_argument("--per-pair", type=at_least(1), default=1, help="different templates for each pair")
    templates.add_argument("--one-direction", action="store_true", help="not from target to source, too")
    templates.add_argument("--layout", choices=("mixed", "inside", "field"), default="mixed", help="of the input")
    templates.add_argument("--test-share", type=share, help="hold out this share of the pairs")
    templates.add_argument("--test-templates", type=at_least(1), help="hold out so many templates")
    templates.add_argument("--test-out", type=path, help="where the entries of what is held out go")
    templates.add_argument("--seed", type=at_least(0), default=0, help="of everything random")


def _add_corrections(part: Command) -> None:
    corrections = part("corrections", _corrections, "make entries of a saved chat whose answers were corrected")
    corrections.add_argument("--chat", type=path, required=True, help="as /save writes it, corrected")
    corrections.add_argument("--original", type=path, help="the same before; then only what was changed is taken")
    corrections.add_argument("--out", type=path, required=True, help="where the entries go")


def _add_mix(part: Command) -> None:
    mix = part("mix", _mix, "put several sets of entries into one file, shuffled")
    mix.add_argument("data", type=_with_count, nargs="+", metavar="FILE[:N]", help="all of its entries, or N drawn")
    mix.add_argument("--out", type=path, required=True, help="where the entries go")
    mix.add_argument("--seed", type=at_least(0), default=0, help="of the drawing and the order")


def _with_count(value: str) -> tuple[Path, int | None]:
    """Read "FILE" or "FILE:N"."""
    name, colon, count = value.rpartition(":")
    return (path(name), at_least(1)(count)) if colon and count.isdigit() else (path(value), None)


def _tiny_corpus(options: argparse.Namespace) -> None:
    from gptlab.building import tiny_corpus
    from gptlab.files import to_json, write_text

    check_written({"--out": options.out})
    pairs = tiny_corpus(options.count, seed=options.seed)
    if options.out.suffix == ".json":
        text = to_json(pairs)
    elif options.out.suffix == ".tsv":
        text = "".join("\t".join(map(str, row)) + "\n" for row in [list(pairs[0]), *(pair.values() for pair in pairs)])
    else:
        raise ValueError(f"--out must end in .tsv or .json, got {options.out}")
    write_text(options.out, text)
    print(f"{len(pairs):,} pairs are in {options.out}")


def _templates(options: argparse.Namespace) -> None:
    from gptlab.building import (
        apply_templates,
        hold_out_templates,
        load_pairs,
        load_templates,
        split_pairs,
        unique_pairs,
    )

    held_out = options.test_share is not None or options.test_templates is not None
    if held_out != (options.test_out is not None):
        raise ValueError("--test-out is for --test-share and --test-templates, and they need it")
    read = [options.pairs, *([options.templates] if options.templates else [])]
    check_written({"--out": options.out, "--test-out": options.test_out}, read)
    columns = {"source": options.source, "target": options.target}
    known = {"src_lang": options.src_lang, "tgt_lang": options.tgt_lang}
    both = not options.one_direction
    loaded = load_pairs(options.pairs, **columns, **{key: name for key, name in known.items() if name})
    pairs = unique_pairs(loaded, both_directions=both, **columns)
    if len(pairs) < len(loaded):
        print(f"{len(loaded) - len(pairs):,} pairs were there twice")
    templates, unseen = load_templates(options.templates), []
    if options.test_templates is not None:
        templates, unseen = hold_out_templates(templates, options.test_templates, seed=options.seed)
    test: Sequence[Any] = []
    if options.test_share is not None:
        asked = tuple(columns.values()) if both else (options.source,)  # one answer to many questions is no leak
        pairs, test = split_pairs(pairs, options.test_share, seed=options.seed, columns=asked)
    form = {"seed": options.seed, "both_directions": both, "layout": options.layout, **columns}
    entries = apply_templates(pairs, templates, per_pair=options.per_pair, **form)
    tested = apply_templates(test or pairs, unseen or templates, **form) if held_out else []
    write_entries(options.out, entries)
    if held_out:
        write_entries(options.test_out, tested)


def _corrections(options: argparse.Namespace) -> None:
    from gptlab.building import entries_from_corrections

    check_written({"--out": options.out}, [options.chat, *([options.original] if options.original else [])])
    write_entries(options.out, entries_from_corrections(options.chat, options.original))


def _mix(options: argparse.Namespace) -> None:
    from gptlab.data import load_entries

    check_written({"--out": options.out}, [file for file, _ in options.data])
    rng, mixed = random.Random(options.seed), []
    for file, count in options.data:
        entries = load_entries(file)
        if count is not None and count > len(entries):
            raise ValueError(f"{file} has {len(entries):,} entries, so {count:,} cannot be drawn")
        mixed += entries if count is None else rng.sample(entries, k=count)
        print(f"{len(entries) if count is None else count:>8,} of {file}")
    rng.shuffle(mixed)
    write_entries(options.out, mixed)
