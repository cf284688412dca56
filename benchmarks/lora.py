"""LoRA and QLoRA with GPT-2 124M's shape and random weights, beside peft on transformers, on two threads.

Run: python benchmarks/lora.py          a training step, its memory, decoding and quantising
     python benchmarks/lora.py step     and so on: step, memory, decode, quantise
Needs transformers and peft. The ways take turns; medians of the rounds, and of the ratios. Rank 16 on all linear layers
of the blocks. peft has one LoRA for query, key and value together, because GPT-2 there has them in one matrix; ours has
three.
"""

import logging
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_

from gptlab import GPT2_SIZES, GPTModel, generate, initialize_like_gpt2
from gptlab.decoding import prepare_for_decoding
from gptlab.devices import reused_memory
from gptlab.peft import LoRA, QLoRA, apply, merge, quantize_nf4, trainable_parameters
from gptlab.training import make_optimizer
from gptlab.training.blocks import blocks_run_as
from gptlab.training.gradients import Gradients

CFG = replace(GPT2_SIZES["gpt2"], drop_rate=0.0)
ALL = "all-linear"


def base() -> GPTModel:
    model = GPTModel(CFG)
    initialize_like_gpt2(model, torch.Generator().manual_seed(0))
    return model.train()


def our_step(method):
    """A step as `train` takes it, of an adapter, or of all weights."""
    model = base()
    if method is not None:
        apply(model, method)
    optimizer = make_optimizer(model, 1e-4, 0.0)
    gradients = Gradients(model, 1, torch.device("cpu"), "float32", torch.amp.GradScaler("cpu", enabled=False), ())

    def step(ids: torch.Tensor) -> None:
        with blocks_run_as(model):
            optimizer.zero_grad()
            gradients.add((ids[:, :-1], ids[:, 1:]))
            clip_grad_norm_(trainable_parameters(model), 1.0)
            optimizer.step()

    return step


def their_step():
    """The same with peft, as its documentation does it."""
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    targets = ["c_attn", "c_proj", "c_fc"]
    settings = LoraConfig(r=16, lora_alpha=32, target_modules=targets, fan_in_fan_out=True, task_type="CAUSAL_LM")
    model = get_peft_model(model, settings).train()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-4, fused=True)

    def step(ids: torch.Tensor) -> None:
        optimizer.zero_grad()
        model(input_ids=ids[:, :-1], labels=ids[:, :-1]).loss.backward()
        clip_grad_norm_(learned, 1.0)
        optimizer.step()

    return step


WAYS = {
    "peft on transformers": their_step,
    "gptlab, LoRA": lambda: our_step(LoRA(rank=16, alpha=32, targets=ALL)),
    "gptlab, QLoRA": lambda: our_step(QLoRA(rank=16, alpha=32)),
    "gptlab, all weights": lambda: our_step(None),
}


def tokens(B: int, T: int) -> torch.Tensor:
    return torch.randint(0, CFG.vocab_size, (B, T + 1), generator=torch.Generator().manual_seed(0))


def seconds(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def show(times: dict[str, list[float]], reference: str, count: int, unit: str = "tokens/s") -> None:
    for name, spent in times.items():
        ratio = statistics.median(theirs / mine for theirs, mine in zip(times[reference], spent))
        print(f"  {name:<34}{count / statistics.median(spent):8.1f} {unit}  x {ratio:5.2f}", flush=True)


def step(B: int = 2, T: int = 256, rounds: int = 5) -> None:
    """In turn, one step to warm up and three to measure; ours as in `train`, which keeps freed memory."""
    ids = tokens(B, T)
    ways = {name: make() for name, make in WAYS.items()}
    times: dict[str, list[float]] = {name: [] for name in [*ways, "peft, memory reused"]}

    def measure(name: str, one) -> None:
        one(ids)
        times[name].append(seconds(lambda: [one(ids) for _ in range(3)]) / 3)

    for _ in range(rounds):
        measure("peft on transformers", ways["peft on transformers"])
        with reused_memory():
            measure("peft, memory reused", ways["peft on transformers"])
            for name in [*ways][1:]:
                measure(name, ways[name])
    print(f"a training step of {B} x {T} tokens")
    show(times, "peft on transformers", B * T)


def memory(B: int = 2, T: int = 256) -> None:
    """The highest memory of three steps, each way in a fresh process, above that of the process with its imports."""
    print(f"memory of a training step of {B} x {T} tokens, with the weights")
    for name in WAYS:
        done = subprocess.run([sys.executable, __file__, "peak", name], capture_output=True, text=True, check=True)
        print(f"  {name:<34}{done.stdout.strip()}", flush=True)


def peak(name: str, B: int = 2, T: int = 256) -> None:
    import peft  # noqa: F401  in every process, so that its imports are in each baseline
    import transformers  # noqa: F401
    from transformers import GPT2LMHeadModel  # noqa: F401

    before, ids = resident("VmRSS"), tokens(B, T)
    one = WAYS[name]()
    ready = resident("VmRSS")
    reset_peak()
    with reused_memory():
        for _ in range(3):
            one(ids)
    now = resident("VmHWM")
    print(
        f"{(ready - before) / 1024:7.0f} MiB before the first step, {(now - before) / 1024:7.0f} MiB at most in a step"
    )


def resident(kind: str) -> int:
    """KiB that this process holds (VmRSS) or has held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))


def reset_peak() -> None:
    """Begin to measure VmHWM anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def decode(new: int = 64, rounds: int = 5) -> None:
    """Tokens per second of one prompt, and of sixteen; greedy."""
    plain = base().eval()
    models = {"without an adapter": plain}
    for name, targets in (("W_query, W_value", ("W_query", "W_value")), ("all linear", ALL)):
        adapted = apply(base().eval(), LoRA(rank=16, targets=targets))
        for parameter in trainable_parameters(adapted):
            torch.nn.init.normal_(parameter, std=0.01)
        models[f"LoRA on {name}"] = adapted
    models["the last one, merged"] = merge(apply_trained(base().eval()))
    for way in ("plain", "packed"):
        ready = models if way == "plain" else {name: prepare_for_decoding(model) for name, model in models.items()}
        for prompts in (tokens(1, 31).tolist(), tokens(16, 31).tolist()):
            times: dict[str, list[float]] = {name: [] for name in ready}
            for turn in range(rounds + 1):
                for name, model in ready.items():
                    spent = seconds(partial(generate, model, prompts, max_new_tokens=new))
                    if turn:
                        times[name].append(spent)
            print(f"decoding {len(prompts)} of 32 tokens, {new} new ones, weights {way}")
            show(times, "without an adapter", new * len(prompts))


def apply_trained(model: GPTModel) -> GPTModel:
    apply(model, LoRA(rank=16, targets=ALL))
    for parameter in trainable_parameters(model):
        torch.nn.init.normal_(parameter, std=0.01)
    return model


def quantise(rounds: int = 5) -> None:
    """All linear layers of the blocks, in NF4 with double quantisation."""
    linears = [module.weight for module in base().trf_blocks.modules() if type(module) is torch.nn.Linear]
    count = sum(weight.numel() for weight in linears)
    spent = [seconds(lambda: [quantize_nf4(weight) for weight in linears]) for _ in range(rounds)]
    bits = sum(quantize_nf4(weight).bits_per_parameter * weight.numel() for weight in linears) / count
    print(f"{count:,} weights in NF4: {statistics.median(spent):.2f} s, {bits:.3f} bits each")


if __name__ == "__main__":
    torch.set_num_threads(2)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["peak"]:
        peak(sys.argv[2])
    else:
        print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
        for name in sys.argv[1:] or ("step", "memory", "decode", "quantise"):
            {"step": step, "memory": memory, "decode": decode, "quantise": quantise}[name]()
