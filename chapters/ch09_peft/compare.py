"""All ways of tuning side by side, on the town: what each learns, what it keeps, what it takes.

Run: python chapters/ch09_peft/compare.py --seeds 3    writes comparison.json and comparison.png beside this file
     python chapters/ch09_peft/compare.py --show       prints the table from comparison.json again

Every way begins with the same pretrained model (`town_base()`, 690,688 parameters), and gets the same 300 steps of 16
questions about half of the people. The new task is to answer questions about the other half, exactly; the old knowledge
is to end the sentences of the corpus about them. A seed draws the adapter and the order of the batches. The learning
rates were chosen by trying a few with seed 0, see RATES. What is there already is not run again; --again starts anew.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

import gptlab
from gptlab import peft
from gptlab.config import GPT2_SIZES
from gptlab.demo import SMALL_TOWN, ask_town, recall_in_prose, tune_town
from gptlab.files import read_json, to_json, write_text
from gptlab.training import Hook

HERE = Path(__file__).parent
WAYS = {  # name -> settings, and the best of the tried learning rates
    "full": (None, 2e-4),
    "lora": (peft.LoRA(rank=8), 5e-3),
    "adalora": (peft.AdaLoRA(init_rank=12, target_rank=8), 1e-2),
    "qlora": (peft.QLoRA(rank=8), 2e-3),
    "adapter": (peft.Adapter(bottleneck=16), 5e-3),
    "prefix": (peft.PrefixTuning(tokens=20), 1e-1),
    "prompt": (peft.PromptTuning(tokens=20), 1e-1),
    "p-tuning": (peft.PTuning(tokens=20), 3e-3),
}


class Stopwatch(Hook):
    """Notes when each step ends, and measures memory after the first ones, when the optimizer's state is there."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_step(self, model, step: int) -> None:
        self.ends.append(time.perf_counter())

    def seconds_per_step(self) -> float:
        gaps = [after - before for before, after in zip(self.ends, self.ends[1:])]
        return statistics.median(gaps)


def run(name: str, seed: int, steps: int, start: gptlab.Checkpoint) -> dict:
    """Tune in one way and return everything that was measured."""
    method, rate = WAYS[name]
    model, tokenizer, town = copy.deepcopy(start.model), start.tokenizer, SMALL_TOWN.town()
    recipe = replace(SMALL_TOWN, tuning_rate=rate, tuning_steps=steps)
    watch = Stopwatch()
    hooks = [watch]
    if method is not None:
        peft.apply(model, method, tokenizer=tokenizer, generator=torch.Generator().manual_seed(seed))
        hooks += method.hooks(model, steps)
    report = peft.parameter_report(model)
    history = tune_town(model, tokenizer, town, recipe, seed=seed, progress=False, hooks=hooks)
    people, skills, _ = ask_town(model.eval(), tokenizer=tokenizer, town=town, recipe=recipe, progress=False)
    return {
        "way": name,
        "seed": seed,
        "rate": rate,
        "trainable": report.trainable,
        "weights": report.weights,
        "gradients": report.gradients,
        "optimizer": report.optimizer,
        "file": file_size(model, method),
        "seconds_per_step": round(watch.seconds_per_step(), 5),
        "people": people,
        "skills": skills,
        "kept": recall_in_prose(model, tokenizer, town),
        "loss": statistics.mean(history.losses[-20:]),
    }


def file_size(model: gptlab.GPTModel, method: peft.Method | None) -> int:
    """Return the bytes of what is saved to answer with, without what only training needs."""
    if method is None:
        return sum(4 * parameter.numel() for parameter in model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        peft.save_adapter(model, folder, for_inference=True)
        return (Path(folder) / "adapter.safetensors").stat().st_size


BITS = 4 + 8 / 64 + 32 / (64 * 256)  # a weight in NF4, with its share of the scales


def formula(report: dict, full: dict) -> float:
    """Return the memory that the formulas say, in float32: 16 P, or 4 P and 16 P of the adapter; QLoRA's P is less."""
    P = full["trainable"]
    if report["way"] == "full":
        return 16 * P
    base = 4 * P
    if report["way"] == "qlora":
        in_blocks = 12 * SMALL_TOWN.n_layers * SMALL_TOWN.emb_dim**2
        base -= (4 - BITS / 8) * in_blocks
    return base + 16 * report["trainable"]


def gpt2_sizes() -> list[tuple[str, float, float, float, float]]:
    """Return, in GB and for GPT-2's sizes: 16 P, 2 P + 16 P_LoRA (r 8 on q, v; r 16 on all linear), and QLoRA's."""
    rows = []
    for name, cfg in GPT2_SIZES.items():
        if not name.startswith("gpt2"):
            continue
        L, D = cfg.n_layers, cfg.emb_dim
        in_blocks = 12 * L * D * D
        P = cfg.vocab_size * D + cfg.context_length * D + in_blocks + L * 13 * D + 2 * D
        small, large = 8 * L * 2 * 2 * D, 16 * L * 18 * D
        four_bits = BITS / 8 * in_blocks + 2 * (P - in_blocks)
        bytes_taken = 16 * P, 2 * P + 16 * small, 2 * P + 16 * large, four_bits + 16 * large
        rows.append((name, *(size / 1e9 for size in bytes_taken)))
    return rows


def table(rows: list[dict]) -> str:
    """Return the measurements as a table in Markdown: means, and the range in brackets."""
    full = next(row for row in rows if row["way"] == "full")
    lines = [
        "| | learns | file | memory | by formula | ms a step | new task | skills | old knowledge |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for way in WAYS:
        of_way = [row for row in rows if row["way"] == way]
        if not of_way:
            continue
        one = of_way[0]
        memory = one["weights"] + one["gradients"] + one["optimizer"]
        scores = [spread([row[key] for row in of_way]) for key in ("people", "skills", "kept")]
        speed = statistics.median(row["seconds_per_step"] for row in of_way) * 1000
        cells = [
            way,
            f"{one['trainable']:,}",
            f"{one['file'] / 1024:,.0f} KiB",
            f"{memory / 1e6:.2f} MB",
            f"{formula(one, full) / 1e6:.2f} MB",
            f"{speed:.0f}",
            *scores,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def picture(rows: list[dict]):
    """Return a figure: what each way learned and kept, with the range over the seeds, and where the memory goes."""
    from gptlab import show

    names = [way for way in WAYS if any(row["way"] == way for row in rows)]
    figure, [left, right] = show.new_axes(11, 4.4, columns=2)
    measures = (("people", "o", "questions about people (new task)"), ("kept", "s", "sentences of the corpus (old)"))
    for (key, marker, label), color in zip(measures, show.COLORS):
        values = [[row[key] for row in rows if row["way"] == way] for way in names]
        means = [statistics.mean(of_way) for of_way in values]
        ranges = [[mean - min(v) for mean, v in zip(means, values)], [max(v) - mean for mean, v in zip(means, values)]]
        left.errorbar(means, names, xerr=ranges, fmt=marker, color=color, capsize=3, label=label)
    counts = [next(row["trainable"] for row in rows if row["way"] == way) for way in names]
    left.set_yticks(range(len(names)), [f"{name}  {count:,}" for name, count in zip(names, counts)])
    left.set_xlim(-0.04, 1.04)
    left.set_xlabel("share right; beside the names, how many parameters learn")
    left.grid(axis="y", alpha=0.3)
    left.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    left.invert_yaxis()
    bottoms = [0.0] * len(names)
    for part, color, hatch in zip(("weights", "gradients", "optimizer"), show.COLORS, ("", "//", "..")):
        sizes = [next(row[part] for row in rows if row["way"] == way) / 1e6 for way in names]
        right.barh(names, sizes, left=bottoms, color=color, hatch=hatch, edgecolor="white", label=part)
        bottoms = [before + size for before, size in zip(bottoms, sizes)]
    right.invert_yaxis()
    right.set_xlabel("MB in training, without activations")
    right.legend(fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--out", type=Path, default=HERE / "comparison.json")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    parser.add_argument("--show", action="store_true", help="print what is there and stop")
    options = parser.parse_args()
    if options.seeds < 1 or options.steps < 2:
        parser.error(f"--seeds must be at least 1 and --steps 2, got {options.seeds} and {options.steps}")
    rows = read_json(options.out)["rows"] if options.out.exists() and not options.again else []
    if not options.show:
        start = gptlab.town_base()
        for seed in range(options.seeds):
            for way in options.ways:
                if any((row["way"], row["seed"]) == (way, seed) for row in rows):
                    continue
                rows.append(run(way, seed, options.steps, start))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "steps": options.steps}
                write_text(options.out, to_json({**about, "rows": rows}))
        picture(rows).savefig(options.out.with_suffix(".png"), dpi=110, bbox_inches="tight")
    print(table(rows))
    print(
        "\nGPT-2, in GB: all weights 16 P, then 2 P + 16 P_LoRA for r 8 on q and v, and for r 16 on all linear; QLoRA\n"
    )
    for name, *sizes in gpt2_sizes():
        print(f"{name:<12}" + "".join(f"{size:8.3f}" for size in sizes))


if __name__ == "__main__":
    main()
