"""The command line: `gptlab demo | doctor | download | finetune | generate | chat | export`, or `python -m gptlab`.

Without a command it prints the table of chapters.

Every command ends with exit code 0, or with one line that says what is wrong: 2 for bad input and failed training, 130
for Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab import __version__
from gptlab.commands.alpaca_lora import from_alpaca_lora
from gptlab.commands.arguments import MODEL, TEMPLATE, at_least, path, text
from gptlab.commands.export import add_export
from gptlab.commands.finetune import add_finetune

if TYPE_CHECKING:
    from gptlab.data import ChatFormat, Template
    from gptlab.model import GPTModel
    from gptlab.tokenizer import Tokenizer
    from gptlab.weights import Checkpoint


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):  # a model may write what the terminal's encoding does not have
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments[:1] == ["finetune"]:
            arguments[1:] = from_alpaca_lora(arguments[1:])
        options = _parser().parse_args(arguments)
        options.command(options)
    except (ValueError, OSError, FloatingPointError) as error:
        _say("", error, str(error))
        return 2
    except RuntimeError as error:
        if not any(words in str(error) for words in ("out of memory", "can't allocate memory")):
            raise
        _say("", error, f"there is too little memory: {str(error).splitlines()[0]}")
        return 2
    except KeyboardInterrupt as error:
        _say("\n", error, "stopped" if _notes(error) else "stopped; every file that was written is complete")
        return 130
    return 0


def _say(before: str, error: BaseException, text: str) -> None:
    """Print the one line about an error; of several processes one does."""
    if os.environ.get("RANK", "0") == "0":
        print(f"{before}gptlab: {'; '.join([text, *_notes(error)])}", file=sys.stderr)


def _notes(error: BaseException) -> list[str]:
    """Return what was added to an error on its way up, such as where training can go on."""
    return getattr(error, "__notes__", [])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gptlab", description="Build, train and question a small GPT.")
    parser.add_argument("--version", action="version", version=f"gptlab {__version__}")
    parser.set_defaults(command=_chapters)
    commands = parser.add_subparsers(metavar="COMMAND")

    def command(name: str, function, text: str, computes: bool = True, waits: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        sub.set_defaults(command=function)
        if computes:
            sub.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
        if waits:
            sub.add_argument("--quiet", action="store_true", help="no progress bars")
        return sub

    text = "show what is on this machine, what is missing, and how to mend it"
    doctor = command("doctor", _doctor, text, computes=False, waits=False)
    doctor.add_argument("--cache-dir", type=path, default=Path("checkpoints"), help="where models are kept")
    text = "fetch a GPT-2 from the Hugging Face Hub, or from the mirror in HF_ENDPOINT"
    download = command("download", _download, text, computes=False)
    download.add_argument("name", help="124M, 355M, 774M, 1558M, gpt2-medium, distilgpt2 ... or owner/name")
    download.add_argument("--cache-dir", type=path, default=Path("checkpoints"), help="where it goes")
    _add_demo(command)
    add_finetune(command)
    _add_using(command)
    add_export(command)
    return parser


def _add_demo(command: Callable[..., argparse.ArgumentParser]) -> None:
    demo = command("demo", _demo, "pretrain a small GPT, tune it on instructions, and test what it learned")
    demo.add_argument("--out", type=path, default=Path("checkpoints/town"), help="where everything is written")
    demo.add_argument("--seed", type=at_least(0), default=0, help="of the town, the weights and the batches")
    demo.add_argument("--control", action="store_true", help="also tune a model that was never pretrained")


def _add_using(command: Callable[..., argparse.ArgumentParser]) -> None:
    generate = command("generate", _generate, "answer one instruction, or every entry of a file")
    generate.add_argument("prompt", nargs="?", help="an instruction")
    generate.add_argument("--model", type=text, required=True, help=MODEL)
    generate.add_argument("--input", default="", help="the input that goes with PROMPT")
    generate.add_argument("--data", type=path, help="Alpaca entries, .json or .jsonl, instead of PROMPT")
    generate.add_argument("--out", type=path, help="with --data: where the entries with their responses go")
    generate.add_argument("--template", default=None, help=TEMPLATE)
    _add_choices(generate)

    chat = command("chat", _chat, "talk with a model, line by line, until Ctrl-D")
    chat.add_argument("--model", type=text, required=True, help=MODEL)
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


def _chapters(options: argparse.Namespace) -> None:
    from gptlab.chapters import load_chapters, table

    try:
        print(table(load_chapters()))
    except FileNotFoundError:
        print("The lessons are in gptlab's repository, which is not here.")
    print("\ngptlab --help tells the commands.")


def _demo(options: argparse.Namespace) -> None:
    from gptlab.demo import run_demo
    from gptlab.devices import pick_device

    run_demo(
        options.out,
        seed=options.seed,
        control=options.control,
        device=pick_device(options.device),
        tell=partial(print, flush=True),
        progress=not options.quiet,
    )


def _doctor(options: argparse.Namespace) -> None:
    from gptlab.doctor import diagnose, report

    print(report(diagnose(options.cache_dir)))


def _download(options: argparse.Namespace) -> None:
    from gptlab.weights.hub import download

    folder = download(options.name, options.cache_dir, progress=not options.quiet)
    print(f"{options.name} is in {folder}")


def _generate(options: argparse.Namespace) -> None:
    from gptlab.data import load_entries, save_entries
    from gptlab.decoding import respond
    from gptlab.files import check_writable

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
    model, tokenizer, template = _load(options)
    if options.data is None:
        if _print_response(model, tokenizer, entries[0], template, options) == "prompt too long":
            raise ValueError(f"the prompt is longer than the context of {model.cfg.context_length} tokens")
        return
    responses = respond(model, tokenizer, entries, template, progress=not options.quiet, **_choices(options))
    answered = [entry | {"model_response": r.text, "ended_by": r.reason} for entry, r in zip(entries, responses)]
    save_entries(options.out, answered)
    ends = ", ".join(f"{count} {reason}" for reason, count in Counter(r.reason for r in responses).most_common())
    print(f"{len(entries)} responses are in {options.out} (ended by: {ends})")


def _chat(options: argparse.Namespace) -> None:
    from gptlab.chat import run_chat
    from gptlab.data import ChatFormat
    from gptlab.decoding import ChatSession

    model, tokenizer, template = _load(options)
    shown = {"system": options.system, "max_context": options.max_context}
    session = ChatSession(model, tokenizer, template, **shown, **_choices(options))
    remembers = isinstance(template, ChatFormat) if options.history is None else options.history
    run_chat(session, remembers=remembers, read=input)


def _print_response(
    model: GPTModel,
    tokenizer: Tokenizer,
    entry: dict[str, str],
    template: Template | ChatFormat,
    options: argparse.Namespace,
) -> str:
    """Print a response as it is written, and return why it ended."""
    from gptlab.decoding import Streamed, stream_response

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
    from gptlab.devices import pick_device
    from gptlab.peft import is_adapter, load_tuned
    from gptlab.weights import load_checkpoint

    template = find_template(options.template) if options.template is not None else None
    load = load_tuned if is_adapter(options.model) else load_checkpoint
    found = load(options.model, pick_device(options.device), progress=not options.quiet)
    if options.weights != "plain":
        found = found._replace(model=prepare_for_decoding(found.model, options.weights))
    if template is None:
        return found
    if isinstance(found.template, ChatFormat):
        template = find_format(template)  # a model that was tuned on conversations goes on with them
    if note := another_template(found.template, template):
        print(f"gptlab: {note}", file=sys.stderr)
    return found._replace(template=template)


if __name__ == "__main__":
    sys.exit(main())
