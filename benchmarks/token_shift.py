"""Token shift of two models of 124M over many responses: seconds, and the highest memory.

Run: python benchmarks/token_shift.py [RESPONSES] [CHUNK ...]      1,000 responses; chunks of 32, 128 and 512 positions

Both models are random, and the responses are given as ids: a prompt of 32 to 64 tokens and an answer of 16 to 48 each.
Every chunk is measured in a process of its own. What the logits of all positions would take is printed beside it.
"""

import random
import resource
import subprocess
import sys
import time

import torch

from gptlab.analysis.token_shift import token_shift
from gptlab.config import GPT2_SIZES
from gptlab.model import GPTModel, initialize_like_gpt2

MIB = 2**20


def models() -> list[GPTModel]:
    cfg = GPT2_SIZES["gpt2"]
    made = []
    for seed in (0, 1):
        made.append(GPTModel(cfg).eval())
        initialize_like_gpt2(made[-1], torch.Generator().manual_seed(seed))
    return made


def texts(count: int, vocabulary: int) -> tuple[list[list[int]], list[list[int]]]:
    rng = random.Random(0)
    draw = lambda low, high: [rng.randrange(vocabulary) for _ in range(rng.randint(low, high))]  # noqa: E731
    return [draw(32, 64) for _ in range(count)], [draw(16, 48) for _ in range(count)]


def highest() -> float:
    """The highest memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB


def measure(count: int, chunk: int) -> None:
    base, tuned = models()
    prompts, responses = texts(count, base.cfg.vocab_size)
    largest = 0

    def look(module: torch.nn.Module, given: tuple, logits: torch.Tensor) -> None:
        nonlocal largest
        largest = max(largest, logits.numel())

    for model in (base, tuned):
        model.out_head.register_forward_hook(look)
    token_shift(base, tuned, prompts[:2], responses=responses[:2], chunk=chunk)
    before, begin = highest(), time.perf_counter()
    shift = token_shift(base, tuned, prompts, responses=responses, chunk=chunk)
    seconds, tokens = time.perf_counter() - begin, shift.tokens.tokens
    rows = largest / base.cfg.vocab_size
    whole = tokens * base.cfg.vocab_size * 4 * 2 / MIB
    print(
        f"chunk {chunk:>5}: {count:,} responses, {tokens:,} tokens, {seconds:7.1f} s; at most {highest():,.0f} MiB, "
        f"{before:,.0f} with the models and two responses; logits of at most {rows:.0f} positions at a time; "
        f"those of all would be {whole:,.0f} MiB",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        measure(int(sys.argv[2]), int(sys.argv[3]))
    else:
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
        for chunk in sys.argv[2:] or ("32", "128", "512"):
            subprocess.run([sys.executable, __file__, "one", (sys.argv[1:] or ["1000"])[0], chunk], check=True)
