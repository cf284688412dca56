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
    options = _parser().parse_args(arguments)
    try:
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
    doctor.add_argument("--cache-dir", type=_path, default=Path("checkpoints"), help="where models are kept")
    text = "fetch a GPT-2 from the Hugging Face Hub, or from the mirror in HF_ENDPOINT"
    download = command("download", _download, text, computes=False)
    download.add_argument("name", help="124M, 355M, 774M, 1558M, gpt2-medium, distilgpt2 ... or owner/name")
    download.add_argument("--cache-dir", type=_path, default=Path("checkpoints"), help="where it goes")
    _add_demo(command)
    _add_finetune(command)
    _add_using(command)
    return parser


_TEMPLATE = "alpaca, chatml, moss ..., or a .json file; None takes the checkpoint's"
_MODEL = "a checkpoint directory, or a name of GPT-2 such as 124M or gpt2-medium"


def _add_demo(command: Callable[..., argparse.ArgumentParser]) -> None:
    demo = command("demo", _demo, "pretrain a small GPT, tune it on instructions, and test what it learned")
    demo.add_argument("--out", type=_path, default=Path("checkpoints/town"), help="where everything is written")
    demo.add_argument("--seed", type=_at_least(0), default=0, help="of the town, the weights and the batches")
    demo.add_argument("--control", action="store_true", help="also tune a model that was never pretrained")


def _add_finetune(command: Callable[..., argparse.ArgumentParser]) -> None:
    finetune = command("finetune", _finetune, "tune a checkpoint on a file of Alpaca entries or conversations")
    finetune.add_argument("--model", type=_text, required=True, help=_MODEL)
    finetune.add_argument("--data", type=_path, required=True, help="entries or conversations, .json or .jsonl")
    finetune.add_argument("--out", type=_path, required=True, help="where the tuned checkpoint goes")
    text = "pretraining text to mix in against forgetting: documents with an empty line between them"
    finetune.add_argument("--text", type=_path, help=text)
    finetune.add_argument("--text-share", type=float, default=0.3, help="share of the rows that is such text")
    finetune.add_argument("--val-share", type=float, default=0.1, help="share of the entries kept for validation")
    finetune.add_argument("--epochs", type=_at_least(1), default=2, help="how often to go through the entries")
    finetune.add_argument("--batch-size", type=_at_least(1), default=8, help="entries in a step")
    finetune.add_argument("--max-tokens", type=_at_least(1), help="the most tokens in a step, padding counted")
    finetune.add_argument("--micro-batches", type=_at_least(1), default=1, help="parts of a step, to save memory")
    finetune.add_argument("--packing", action="store_true", help="let entries share rows instead of padding them")
    finetune.add_argument(
        "--group-by-length",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="batches of entries of about the same length",
    )
    finetune.add_argument("--learning-rate", type=float, default=2e-4, help="the peak, after a warm-up")
    finetune.add_argument("--schedule", choices=("cosine", "constant"), default="cosine", help="after the warm-up")
    finetune.add_argument("--warmup-steps", type=_at_least(0), help="None is a twentieth of all steps")
    finetune.add_argument("--train-on", choices=("response", "all"), default="response", help="what carries loss")
    finetune.add_argument("--template", default=None, help=_TEMPLATE)
    finetune.add_argument(
        "--arrangement",
        choices=("per_session", "per_turn"),
        default="per_session",
        help="a conversation is one sample, or one for each turn",
    )
    rules = ("assistant", "last", "moss", "all")
    finetune.add_argument("--loss-on", choices=rules, help="of conversations; None is the form's own rule")
    finetune.add_argument(
        "--special-tokens",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="make tokens of the marks of a form of conversations",
    )
    finetune.add_argument(
        "--too-long", choices=("drop", "cut", "raise"), default="drop", help="entries beyond the context"
    )
    finetune.add_argument("--seed", type=_at_least(0), default=0, help="of the split, the batches and dropout")
    finetune.add_argument(
        "--precision", choices=("float32", "bfloat16", "float16"), default="float32", help="of the matrix products"
    )
    finetune.add_argument("--recompute", action="store_true", help="save memory, take a third more time")
    finetune.add_argument("--compile", action="store_true", help="compile the blocks with torch.compile")
    finetune.add_argument("--save-every", type=_at_least(1), default=100, help="steps between two saved states")
    finetune.add_argument("--keep", type=_at_least(1), default=2, help="how many of the last states stay")
    finetune.add_argument("--resume", action="store_true", help="go on from the last saved state, if there is one")


def _add_using(command: Callable[..., argparse.ArgumentParser]) -> None:
    generate = command("generate", _generate, "answer one instruction, or every entry of a file")
    generate.add_argument("prompt", nargs="?", help="an instruction")
    generate.add_argument("--model", type=_text, required=True, help=_MODEL)
    generate.add_argument("--input", default="", help="the input that goes with PROMPT")
    generate.add_argument("--data", type=_path, help="Alpaca entries, .json or .jsonl, instead of PROMPT")
    generate.add_argument("--out", type=_path, help="with --data: where the entries with their responses go")
    generate.add_argument("--template", default=None, help=_TEMPLATE)
    _add_choices(generate)

    export = command("export", _export, "write a checkpoint as a folder that transformers opens")
    export.add_argument("--model", type=_text, required=True, help=_MODEL)
    export.add_argument("--out", type=_path, required=True, help="where the folder goes")

    chat = command("chat", _chat, "talk with a model, line by line, until Ctrl-D")
    chat.add_argument("--model", type=_text, required=True, help=_MODEL)
    chat.add_argument("--template", default=None, help=_TEMPLATE)
    chat.add_argument("--system", default="", help="what is said to the model before the first turn")
    chat.add_argument("--max-context", type=_at_least(2), help="the most tokens shown to the model before an answer")
    chat.add_argument(
        "--history",
        action=argparse.BooleanOptionalAction,
        help="answer with what was said before; None: if the model was tuned on conversations",
    )
    _add_choices(chat)


def _add_choices(parser: argparse.ArgumentParser) -> None:
    """How tokens are chosen; the names are those of `generate`."""
    parser.add_argument("--max-new-tokens", type=_at_least(1), default=128, help="the longest response")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the most likely token each time")
    parser.add_argument("--top-k", type=_at_least(1), help="draw from the k most likely tokens")
    parser.add_argument("--top-p", type=float, help="draw from the fewest tokens that together have probability p")
    parser.add_argument("--min-p", type=float, help="draw from tokens at least p times as likely as the best")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1: what was said is less likely")
    parser.add_argument("--seed", type=_at_least(0), help="of the drawing")
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


def _finetune(options: argparse.Namespace) -> None:
    from gptlab.data import load_entries_or_conversations
    from gptlab.files import check_writable, read_text
    from gptlab.training import finetune
    from gptlab.training.processes import joined_processes
    from gptlab.weights import load_checkpoint

    names = (
        *("val_share", "epochs", "batch_size", "max_tokens", "micro_batches", "group_by_length", "packing"),
        *("learning_rate", "schedule", "warmup_steps", "train_on", "template", "too_long", "precision", "recompute"),
        *("compile", "save_every", "keep", "resume", "seed", "arrangement", "loss_on", "special_tokens", "text_share"),
    )
    with joined_processes(options.device) as device:
        entries = load_entries_or_conversations(options.data)
        text = [] if options.text is None else read_text(options.text).strip().split("\n\n")
        if options.out.exists() and Path(options.model).exists() and options.out.samefile(options.model):
            raise ValueError("--out must be another folder than --model, which would be lost")
        start = load_checkpoint(options.model, device, progress=not options.quiet)
        check_writable(options.out)
        chosen = {name: getattr(options, name) for name in names}
        show = {"tell": partial(print, flush=True), "progress": not options.quiet}
        finetune(start, entries, options.out, text=text, **chosen, **show)


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


def _export(options: argparse.Namespace) -> None:
    from gptlab.files import check_writable
    from gptlab.weights import export_huggingface

    model, tokenizer, template = _load(options)
    check_writable(options.out)
    export_huggingface(model, tokenizer, options.out, template)
    print(f'AutoModelForCausalLM.from_pretrained("{options.out}") opens it; so does --model {options.out}')


def _load(options: argparse.Namespace) -> Checkpoint:
    """Return the model that the options name, with the template that they name, if they do."""
    from gptlab.data import ChatFormat, find_format, find_template
    from gptlab.decoding import prepare_for_decoding
    from gptlab.devices import pick_device
    from gptlab.weights import load_checkpoint

    wanted = getattr(options, "template", None)
    template = find_template(wanted) if wanted is not None else None
    found = load_checkpoint(options.model, pick_device(options.device), progress=not options.quiet)
    if getattr(options, "weights", "plain") != "plain":
        found = found._replace(model=prepare_for_decoding(found.model, options.weights))
    if template is not None and isinstance(found.template, ChatFormat):
        template = find_format(template)  # a model that was tuned on conversations goes on with them
    return found if template is None else found._replace(template=template)


def _at_least(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not text.lstrip("-").isdigit() or not least <= int(text) < 2**63:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to 2^63 - 1, got {text!r}")
        return int(text)

    return whole_number


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _path(text: str) -> Path:
    return Path(_text(text))


if __name__ == "__main__":
    sys.exit(main())
