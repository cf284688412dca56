"""`gptlab export`: write a checkpoint or an adapter for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from gptlab.commands.arguments import MODEL, path, text


def add_export(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    export = command("export", run_export, "write a checkpoint for transformers, or an adapter for peft")
    export.add_argument("--model", type=text, required=True, help=MODEL)
    export.add_argument("--out", type=path, required=True, help="where the folder goes")
    export.add_argument(
        "--format",
        choices=("huggingface", "peft", "gptlab"),
        default="huggingface",
        help="for transformers; the adapter alone, for peft; or a checkpoint of ours",
    )
    export.add_argument("--merge", action="store_true", help="make the adapter part of the weights first")
    export.add_argument("--base", type=text, help="the checkpoint under an adapter; None is the one that it remembers")


def _on_the_hub(adapter: str, base: str | None) -> str | None:
    """Return the base's name as others know it; None if it is a folder here."""
    from gptlab.peft.io import read_about
    from gptlab.weights.hub import repository_of

    base = read_about(adapter).get("base_model") if base is None else base
    is_folder = base is None or Path(base).exists() or (Path(adapter) / base).exists()
    return None if is_folder else repository_of(base)


def run_export(options: argparse.Namespace) -> None:
    """Run the command."""
    from gptlab.devices import pick_device
    from gptlab.files import check_writable
    from gptlab.peft import export_peft, is_adapter, load_tuned, merge, remove
    from gptlab.weights import export_huggingface, load_checkpoint, save_checkpoint

    device, adapted = pick_device(options.device), is_adapter(options.model)
    if not adapted and (options.merge or options.format == "peft" or options.base):
        raise ValueError(f"{options.model} is no adapter; --merge, --base and --format peft are for adapters")
    if adapted and options.format == "peft" and options.merge:
        raise ValueError("--merge makes the adapter part of the weights; --format peft writes the adapter alone")
    if adapted and options.format != "peft" and not options.merge:
        raise ValueError(
            f"{options.model} is an adapter: --merge makes it part of the weights, --format peft exports it"
        )
    show = {"progress": not options.quiet}
    if not adapted:
        found = load_checkpoint(options.model, device, **show)
    else:
        found = load_tuned(options.model, device, base=options.base, **show)
    check_writable(options.out)
    if options.format == "peft":
        export_peft(found.model, options.out, base_model_name_or_path=_on_the_hub(options.model, options.base))
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
