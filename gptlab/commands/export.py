"""`gptlab export`: write a checkpoint or an adapter for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from gptlab.commands.arguments import add_model, open_model, path


def add_export(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    export = command("export", run_export, "write a checkpoint for transformers, or an adapter for peft")
    add_model(export)
    export.add_argument("--out", type=path, required=True, help="where the folder goes")
    export.add_argument(
        "--format",
        choices=("huggingface", "peft", "gptlab"),
        default="huggingface",
        help="for transformers; the adapter alone, for peft; or a checkpoint of ours",
    )
    export.add_argument("--merge", action="store_true", help="make the adapter part of the weights first")


def _on_the_hub(base: str | Path) -> str | None:
    """Return the base's name as others know it; None if it is a folder here."""
    from gptlab.weights.hub import repository_of

    return None if Path(base).exists() else repository_of(str(base))


def _check_another_folder(out: Path, option: str, model: str | Path) -> None:
    """Raise ValueError if a model that was read would be written over."""
    from gptlab.weights.hub import find_local

    path = Path(model).expanduser()
    found = path if path.exists() else find_local(str(model))
    if found is not None and out.exists() and out.samefile(found.parent if found.is_file() else found):
        raise ValueError(f"--out must be another folder than {option}, {out}, which would be lost")


def run_export(options: argparse.Namespace) -> None:
    """Run the command."""
    from gptlab.files import check_writable
    from gptlab.peft import export_peft, is_adapter, merge, remove
    from gptlab.peft.io import find_base
    from gptlab.weights import export_huggingface, save_checkpoint

    adapted = is_adapter(options.model)
    if not adapted and (options.merge or options.format == "peft"):
        raise ValueError(f"{options.model} is no adapter; --merge and --format peft are for adapters")
    if adapted and options.format == "peft" and options.merge:
        raise ValueError("--merge makes the adapter part of the weights; --format peft writes the adapter alone")
    if adapted and options.format != "peft" and not options.merge:
        raise ValueError(
            f"{options.model} is an adapter: --merge makes it part of the weights, --format peft exports it"
        )
    found = open_model(options)
    _check_another_folder(options.out, "--model", options.model)
    base = (options.base or find_base(options.model)) if adapted else None
    if base:
        _check_another_folder(options.out, "the adapter's base", base)
    check_writable(options.out)
    if options.format == "peft":
        export_peft(found.model, options.out, base_model_name_or_path=_on_the_hub(base))
        print(f'PeftModel.from_pretrained(model, "{options.out}") puts it on a GPT-2 of transformers')
        return
    if adapted:
        remove(merge(found.model))
    if options.format == "gptlab":
        save_checkpoint(options.out, *found)
        print(f"--model {options.out} opens it")
        return
    export_huggingface(found.model, found.tokenizer, options.out, found.template)
    print(f'AutoModelForCausalLM.from_pretrained("{options.out}") opens it; so does --model {options.out}')
