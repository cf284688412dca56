"""`gptlab build identity` and `more-identity`: who the model says that it is, by wordings of ours or by a model's."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from gptlab.commands.arguments import at_least, names, path, text
from gptlab.commands.build_by_model import add_asking, opened
from gptlab.commands.written import check_written, write_entries

Command = Callable[..., argparse.ArgumentParser]


def add_identity(part: Command) -> None:
    """Add `build identity`."""
    identity = part("identity", _identity, "make entries that tell a model its name, its developer and what it can do")
    _add_names(identity)
    identity.add_argument("--count", type=at_least(1), help="how many; None is each wording once")
    identity.add_argument("--no-negatives", action="store_true", help="no questions whose answer is without the name")
    identity.add_argument("--test-out", type=path, help="where questions go in wordings that --out does not have")


def add_more_identity(part: Command) -> None:
    """Add `build more-identity`."""
    more = part("more-identity", _more_identity, "let a language model write such entries")
    _add_names(more)
    more.add_argument("--count", type=at_least(1), default=40, help="how many")
    add_asking(more, temperature=0.7, workers=False)


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", type=text, required=True, help="of the model")
    parser.add_argument("--name-zh", type=text, help="in Chinese, if it differs")
    parser.add_argument("--developer", type=text, required=True, help="who made it")
    parser.add_argument("--developer-zh", type=text, help="in Chinese, if it differs")
    parser.add_argument("--abilities", type=text, required=True, help="what it can do, such as 'translating sentences'")
    parser.add_argument("--abilities-zh", type=text, help="in Chinese")
    parser.add_argument("--languages", type=names, default=("en", "zh"), help="of the entries")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the drawing")
    parser.add_argument("--out", type=path, required=True, help="where the entries go")


def _named(options: argparse.Namespace) -> Any:
    from gptlab.building import Identity

    def in_both(name: str) -> Any:
        english, chinese = getattr(options, name), getattr(options, f"{name}_zh")
        return english if chinese is None else {"en": english, "zh": chinese}

    return Identity(in_both("name"), in_both("developer"), in_both("abilities"), languages=options.languages)


def _identity(options: argparse.Namespace) -> None:
    from gptlab.building import identity_entries

    check_written({"--out": options.out, "--test-out": options.test_out})
    me, form = _named(options), {"seed": options.seed, "negatives": not options.no_negatives}
    write_entries(options.out, identity_entries(me, n=options.count, **form))
    if options.test_out is not None:
        write_entries(options.test_out, identity_entries(me, wordings="held out", **form))


def _more_identity(options: argparse.Namespace) -> None:
    from gptlab.building import identity_entries, write_identity

    me = _named(options)
    held_out = identity_entries(me, wordings="held out")  # the measure's own questions must not be trained on
    with opened(options, []) as server:
        report = write_identity(server, me, options.count, seed=options.seed, avoid=held_out)
    print(report)
    write_entries(options.out, report.entries)
