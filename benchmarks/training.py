"""Training with GPT-2 124M's shape and random weights, beside transformers and the plain loop, on two threads.

Run: python benchmarks/training.py            a pretraining step of 2 x 256 tokens
     python benchmarks/training.py FILE.json  one epoch over an Alpaca file, and the memory of a large batch
     python benchmarks/training.py saving     what saving the state every 100 steps costs
Needs transformers, and for FILE GPT-2's vocabulary. The ways take turns; medians of the rounds, and of the ratios.
"""

import logging
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from gptlab import GPT2_SIZES, GPTModel, initialize_like_gpt2, load_template
from gptlab.data import InstructionDataset, collate, load_entries, make_loader
from gptlab.devices import autocast, reused_memory
from gptlab.training import TrainingCheckpoints, make_optimizer, train
from gptlab.training.gradients import Gradients

CFG = replace(GPT2_SIZES["gpt2"], drop_rate=0.0)
CPU = torch.device("cpu")


def model_of(cfg=CFG) -> GPTModel:
    model = GPTModel(cfg)
    initialize_like_gpt2(model, torch.Generator().manual_seed(0))
    return model.train()


def seconds(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def in_turn(ways: dict, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, in each round after one to warm up."""
    times = [{name: seconds(work) for name, work in ways.items()} for _ in range(rounds + 1)][1:]
    return {name: [turn[name] for turn in times] for name in ways}


def report(times: dict[str, list[float]], base: str, count: int = 0) -> None:
    for name, spent in times.items():
        ratio = statistics.median(reference / mine for reference, mine in zip(times[base], spent))
        median = statistics.median(spent)
        speed = f"{count / median:8.1f} tokens/s" if count else f"{median:8.1f} s"
        print(f"  {name:<40}{speed}  x {ratio:5.2f}", flush=True)


def matrix_product(dtype: torch.dtype) -> float:
    """GFLOP/s of a large matrix product, the limit of everything here."""
    a, b = torch.randn(2048, 2048, dtype=dtype), torch.randn(2048, 2048, dtype=dtype)
    return 2 * 2048**3 / statistics.median(seconds(lambda: a @ b) for _ in range(9)) / 1e9


def flops_of_a_step(B: int, T: int) -> float:
    """Multiplications and additions of matrix products, forward and backward (three times the forward pass)."""
    D, L, V = CFG.emb_dim, CFG.n_layers, CFG.vocab_size
    return 3 * 2 * B * T * (L * 12 * D * D + D * V + L * T * D)  # attention: half of 2 T D, it is causal


def ours(model: GPTModel, precision: str):
    optimizer = make_optimizer(model, 1e-4)
    gradients = Gradients(model, 1, CPU, precision, torch.amp.GradScaler("cpu", enabled=False), ())

    def step(ids: torch.Tensor) -> None:
        optimizer.zero_grad()
        gradients.add((ids[:, :-1], ids[:, 1:]))
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def theirs(precision: str):
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(ids: torch.Tensor) -> None:
        optimizer.zero_grad()
        with autocast(CPU, precision):
            loss = model(ids[:, :-1], labels=ids[:, :-1]).loss
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def steps(precision: str = "float32", B: int = 2, T: int = 256, rounds: int = 5) -> None:
    """In turn, two steps to warm up and three to measure, because `train` keeps freed memory for the next step."""
    ids = torch.randint(0, CFG.vocab_size, (B, T + 1), generator=torch.Generator().manual_seed(0))
    speed = matrix_product(torch.float32 if precision == "float32" else torch.bfloat16)
    limit = B * T * speed * 1e9 / flops_of_a_step(B, T)
    print(f"{precision}: the matrix product makes {speed:.0f} GFLOP/s, so at most {limit:.0f} tokens/s")
    ways = {"transformers": theirs(precision), "gptlab": ours(model_of(), precision)}
    times: dict[str, list[float]] = {name: [] for name in [*ways, "transformers, memory reused"]}

    def measure(name: str, step) -> None:
        step(ids), step(ids)
        times[name].append(seconds(lambda: [step(ids) for _ in range(3)]) / 3)

    for _ in range(rounds):
        measure("transformers", ways["transformers"])
        with reused_memory():
            measure("gptlab", ways["gptlab"])
            measure("transformers, memory reused", ways["transformers"])
    report(times, "transformers", B * T)


def plain_loop(model: GPTModel, batches: DataLoader, optimizer: torch.optim.Optimizer) -> None:
    """As in the book: padded batches, logits for every position, and the loss leaves out what is not learned."""
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def epoch(path: str, share: float = 0.15) -> None:
    """One epoch over some entries, drawn at random; the same ones for all ways."""
    from gptlab import gpt2_tokenizer

    examples = InstructionDataset(load_entries(path), gpt2_tokenizer(), load_template("alpaca")).examples
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0)).tolist()
    examples = [examples[number] for number in order[: int(share * len(examples))]]
    tokens = sum(len(example.ids) - 1 for example in examples)
    targets = sum(map(sum, (example.trained for example in examples)))
    print(f"{len(examples)} entries, {tokens} tokens, of which {targets} are learned; batches of 8")
    model = model_of()
    optimizer = make_optimizer(model, 1e-5)
    padded = DataLoader(examples, 8, shuffle=True, collate_fn=partial(collate, pad_id=0))
    ours = partial(train, model, optimizer=optimizer, progress=False)
    ways = {
        "padded, all logits": partial(plain_loop, model, padded, optimizer),
        "gptlab": lambda: ours(make_loader(examples, 8)),
        "gptlab, packed into rows": lambda: ours(make_loader(examples, 8, packing=CFG.context_length)),
    }
    report(in_turn(ways, 2), "padded, all logits")


def memory() -> None:
    """The highest memory above weights, gradients and moments, each way in a fresh process."""
    for way in ("plain", "gptlab", "recompute"):
        done = subprocess.run([sys.executable, __file__, "peak", way], capture_output=True, text=True, check=True)
        print(f"  8 x 512 tokens, a quarter learned, {way:<10}{done.stdout.strip()}", flush=True)


def peak(way: str) -> None:
    ids = torch.randint(0, CFG.vocab_size, (8, 513), generator=torch.Generator().manual_seed(0))
    inputs, targets = ids[:, :-1], ids[:, 1:].clone()
    targets[:, : 3 * 512 // 4] = -100
    model = model_of()
    optimizer = make_optimizer(model, 1e-5)
    small = [(inputs[:1, -8:], targets[:1, -8:])]
    plain_loop(model, small, optimizer)  # makes gradients and moments
    before = resident("VmRSS")
    if way == "plain":
        plain_loop(model, [(inputs, targets)] * 3, optimizer)
    else:
        train(model, [(inputs, targets)] * 3, optimizer=optimizer, recompute=way == "recompute", progress=False)
    print(f"{(resident('VmHWM') - before) / 2**20:6.2f} GiB")


def resident(kind: str) -> int:
    """KiB that this process holds (VmRSS) or has held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))


def saving() -> None:
    model = model_of()
    ids = torch.randint(0, CFG.vocab_size, (2, 257), generator=torch.Generator().manual_seed(0))
    batches = [(ids[:, :-1], ids[:, 1:])] * 4
    optimizer = make_optimizer(model, 1e-5)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        saves = []

        class Timed(TrainingCheckpoints):
            def save(self, state) -> None:
                saves.append(seconds(partial(super().save, state)))

        begin = time.perf_counter()
        train(model, batches, optimizer=optimizer, checkpoints=Timed(folder, every=2), progress=False)
        step = (time.perf_counter() - begin - sum(saves)) / len(batches)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*")) / len(list(Path(folder).iterdir()))
    save = statistics.median(saves)
    print(f"a step of 2 x 256 tokens {step:.2f} s, a save of {size / 2**30:.2f} GiB {save:.2f} s, ", end="")
    print(f"so every 100 steps {save / (100 * step):.1%}")


if __name__ == "__main__":
    torch.set_num_threads(2)
    logging.disable(logging.WARNING)
    if sys.argv[1:2] != ["peak"]:
        print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    if len(sys.argv) == 1:
        steps()
    elif sys.argv[1] == "saving":
        saving()
    elif sys.argv[1] == "peak":
        peak(sys.argv[2])
    else:
        memory()
        epoch(sys.argv[1])
