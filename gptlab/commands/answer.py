"""`gptlab generate` and `gptlab chat`: answers of a model, to one question, to a file of them, or in a conversation."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gptlab.commands.arguments import TEMPLATE, add_model, at_least, open_model, path

if TYPE_CHECKING:
    from gptlab.weights import Checkpoint


def add_answer(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add both commands to the parser."""
    generate = command("generate", run_generate, "answer one instruction, or every entry of a file")
    generate.add_argument("prompt", nargs="?", help="an instruction")
    add_model(generate)
    generate.add_argument("--input", default="", help="the input that goes with PROMPT")
    generate.add_argument("--data", type=path, help="Alpaca entries, .json or .jsonl, instead of PROMPT")
    generate.add_argument("--out", type=path, help="with --data: where the entries with their responses go")
    generate.add_argument("--template", default=None, help=TEMPLATE)
    generate.add_argument("--few-shot", type=at_least(0), help="show so many worked examples instead of a template")
    generate.add_argument("--examples", type=path, help="with --few-shot: entries, of which the first are shown")
    _add_choices(generate)

    chat = command("chat", run_chat_command, "talk with a model, line by line, until Ctrl-D")
    add_model(chat)
    chat.add_argument("--template", default=None, help=TEMPLATE)
    chat.add_argument("--system", default="", help="what is said to the model before the first turn")
    chat.add_argument("--max-context", type=at_least(2), help="the most tokens shown to the model before an answer")
    chat.add_argument(
        "--history",
        action=argparse.BooleanOptionalAction,
        help="answer with what was said before; None: if the model was tuned on conversations",
    )
    _add_choices(chat)


def _add_choices(parser: argparse.ArgumentParser) -> None:
    """How tokens are chosen; the names are those of `generate`."""
    parser.add_argument("--max-new-tokens", type=at_least(1), default=128, help="the longest response")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the most likely token each time")
    parser.add_argument("--top-k", type=at_least(1), help="draw from the k most likely tokens")
    parser.add_argument("--top-p", type=float, help="draw from the fewest tokens that together have probability p")
    parser.add_argument("--min-p", type=float, help="draw from tokens at least p times as likely as the best")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1: what was said is less likely")
    parser.add_argument("--seed", type=at_least(0), help="of the drawing")
    parser.add_argument(
        "--weights",
        choices=("plain", "packed", "half", "int8"),
        default="plain",
        help="faster on a CPU: packed writes the same, half and int8 round the weights",
    )


def _choices(options: argparse.Namespace) -> dict[str, Any]:
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    return {name: getattr(options, name) for name in names}


def run_generate(options: argparse.Namespace) -> None:
    """Run `generate`."""
    from gptlab.data import load_entries, save_entries
    from gptlab.decoding import respond
    from gptlab.files import check_writable
    from gptlab.judging.few_shot import respond_few_shot

    if (options.prompt is None) == (options.data is None):
        raise ValueError("generate needs either a PROMPT or --data FILE")
    if (options.data is None) != (options.out is None):
        raise ValueError("--data and --out go together: a file to read and a file to write")
    if options.data is not None and options.input:
        raise ValueError("--input goes with PROMPT; with --data each entry has its own")
    if options.data is None:
        entries = [{"instruction": options.prompt, "input": options.input}]
    else:
        entries = load_entries(options.data, needs=["instruction"])
        check_writable(options.out.parent)
        if options.out.exists() and options.out.samefile(options.data):
            raise ValueError("--out must be another file than --data")
        if options.out.is_dir():
            raise IsADirectoryError(f"--out must name a file, {options.out} is a directory")
    examples = _examples(options, entries)
    found = _load(options)
    model, tokenizer, template = found
    if options.data is None:
        if _print_response(found, entries[0], examples, options) == "prompt too long":
            raise ValueError(f"the prompt is longer than the context of {model.cfg.context_length} tokens")
        return
    form = template if examples is None else examples
    answer = respond if examples is None else respond_few_shot
    responses = answer(model, tokenizer, entries, form, progress=not options.quiet, **_choices(options))
    answered = [entry | {"model_response": r.text, "ended_by": r.reason} for entry, r in zip(entries, responses)]
    save_entries(options.out, answered)
    ends = ", ".join(f"{count} {reason}" for reason, count in Counter(r.reason for r in responses).most_common())
    print(f"{len(entries)} responses are in {options.out} (ended by: {ends})")


def run_chat_command(options: argparse.Namespace) -> None:
    """Run `chat`."""
    from gptlab.chat import run_chat
    from gptlab.data import ChatFormat
    from gptlab.decoding import ChatSession

    model, tokenizer, template = _load(options)
    shown = {"system": options.system, "max_context": options.max_context}
    session = ChatSession(model, tokenizer, template, **shown, **_choices(options))
    remembers = isinstance(template, ChatFormat) if options.history is None else options.history
    run_chat(session, remembers=remembers, read=input)


def _examples(options: argparse.Namespace, asked: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Return the worked examples to show; None if the model is asked in a template.

    Raises:
        ValueError: there are too few, or one of them is asked about.
    """
    from gptlab.data import load_entries

    if options.few_shot is None:
        if options.examples is not None:
            raise ValueError("--examples goes with --few-shot, how many of them to show")
        return None
    if options.template is not None:
        raise ValueError("--few-shot has its own form, so it takes no --template")
    if options.few_shot and options.examples is None:
        raise ValueError("--few-shot needs --examples, a file of entries with outputs")
    there = load_entries(options.examples) if options.few_shot else []
    if len(there) < options.few_shot:
        raise ValueError(f"--few-shot {options.few_shot} is more than the {len(there)} entries in {options.examples}")
    shown = there[: options.few_shot]
    questions = {(entry["instruction"], entry.get("input", "")) for entry in shown}
    for number, entry in enumerate(asked, start=1):
        if (entry["instruction"], entry.get("input", "")) in questions:
            raise ValueError(f"entry {number} is also one of the examples: take them from other entries")
    return shown


def _print_response(
    found: Checkpoint, entry: dict[str, str], examples: list[dict[str, Any]] | None, options: argparse.Namespace
) -> str:
    """Print a response, as it is written or after worked examples as a whole, and return why it ended."""
    from gptlab.decoding import Streamed, stream_response
    from gptlab.judging.few_shot import respond_few_shot

    model, tokenizer, template = found
    if examples is not None:
        [response] = respond_few_shot(model, tokenizer, [entry], examples, **_choices(options))
        if response.reason != "prompt too long":
            print(response.text)
        return response.reason
    pieces = Streamed(stream_response(model, tokenizer, entry, template, **_choices(options)))
    for piece in pieces:
        print(piece, end="", flush=True)
    if pieces.result.reason != "prompt too long":
        print()
    return pieces.result.reason


def _load(options: argparse.Namespace) -> Checkpoint:
    """Return the model that the options name, with the template that they name, if they do."""
    from gptlab.data import ChatFormat, another_template, find_format, find_template
    from gptlab.decoding import prepare_for_decoding

    template = find_template(options.template) if options.template is not None else None
    found = open_model(options)
    if options.weights != "plain":
        found = found._replace(model=prepare_for_decoding(found.model, options.weights))
    if template is None:
        return found
    if isinstance(found.template, ChatFormat):
        template = find_format(template)  # a model that was tuned on conversations goes on with them
    if note := another_template(found.template, template):
        print(f"gptlab: {note}", file=sys.stderr)
    return found._replace(template=template)
