"""The command line: `gptlab demo | doctor | download | build | select | finetune | generate | chat | judge | export`.

`python -m gptlab` is the same.

Without a command it prints the table of chapters.

Every command ends with exit code 0, or with one line that says what is wrong: 2 for bad input and failed training, 130
for Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from gptlab import __version__
from gptlab.commands.alpaca_lora import from_alpaca_lora
from gptlab.commands.answer import add_answer
from gptlab.commands.arguments import at_least, path
from gptlab.commands.build import add_build
from gptlab.commands.export import add_export
from gptlab.commands.finetune import add_finetune
from gptlab.commands.judge import add_judge
from gptlab.commands.select import add_select


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
    except ImportError as error:
        if "pip install" not in str(error):  # not said by us for people
            raise
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
    text = "fetch a GPT-2 from the Hugging Face Hub, or from the mirror in HF_ENDPOINT; or Alpaca's 52,000 entries"
    download = command("download", _download, text, computes=False)
    names = "124M, 355M, 774M, 1558M, gpt2-medium, distilgpt2 ... or owner/name; alpaca or alpaca-cleaned"
    download.add_argument("name", help=names)
    download.add_argument("--cache-dir", type=path, default=Path("checkpoints"), help="where it goes")
    download.add_argument("--url", help="another address of Alpaca's file")
    _add_demo(command)
    add_finetune(command)
    add_answer(command)
    add_judge(command)
    add_build(command)
    add_select(command)
    add_export(command)
    return parser


def _add_demo(command: Callable[..., argparse.ArgumentParser]) -> None:
    demo = command("demo", _demo, "pretrain a small GPT, tune it on instructions, and test what it learned")
    demo.add_argument("--out", type=path, default=Path("checkpoints/town"), help="where everything is written")
    demo.add_argument("--seed", type=at_least(0), default=0, help="of the town, the weights and the batches")
    demo.add_argument("--control", action="store_true", help="also tune a model that was never pretrained")


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
    from gptlab.data.alpaca import SOURCES, fetch_alpaca
    from gptlab.weights.hub import download

    if options.name in SOURCES:
        print(SOURCES[options.name].terms, flush=True)
        file = fetch_alpaca(options.name, options.cache_dir, url=options.url, progress=not options.quiet)
        print(f"{options.name} is in {file}")
        return
    if options.url is not None:
        raise ValueError(f"--url is for {' and '.join(SOURCES)}; for a model HF_ENDPOINT names a mirror")
    folder = download(options.name, options.cache_dir, progress=not options.quiet)
    print(f"{options.name} is in {folder}")


if __name__ == "__main__":
    sys.exit(main())
