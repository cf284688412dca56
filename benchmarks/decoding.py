"""Decoding with GPT-2 124M's shape and random weights, beside transformers, on two threads.

Run: python benchmarks/decoding.py            tokens per second, for one prompt and for sixteen
     python benchmarks/decoding.py FILE.json  seconds for the responses to an Alpaca file's test part (85 to 95 %)
     python benchmarks/decoding.py rounding   what rounded weights do to the perplexity of the town's model
Needs transformers, and for FILE GPT-2's vocabulary. The ways take turns; medians of the rounds, and of the ratios.
"""

import logging
import math
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LogitsProcessor, LogitsProcessorList

from gptlab import GPT2_SIZES, GPTModel, load_template, load_weights
from gptlab.data import load_entries
from gptlab.decoding import generate, prepare_for_decoding

CFG = GPT2_SIZES["gpt2"]
END = 50256


def both(dtype: torch.dtype) -> tuple[GPTModel, GPT2LMHeadModel]:
    """Our model and theirs, with the same random weights."""
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config()).eval()
    ours = GPTModel(CFG).eval()
    load_weights(ours, theirs.state_dict())
    return ours.to(dtype), theirs.to(dtype)


@torch.no_grad()
def transformers_generate(model: GPT2LMHeadModel, prompts, new: int, lengths=None) -> list[list[int]]:
    """Greedy, with its cache; prompts are padded on the left."""
    T = max(map(len, prompts))
    ids = torch.tensor([[END] * (T - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (T - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    end = {"eos_token_id": END, "logits_processor": LogitsProcessorList([EndAt(lengths, T)])} if lengths else {}
    if not lengths:
        end = {"min_new_tokens": new, "eos_token_id": END}
    out = model.generate(ids, attention_mask=mask, max_new_tokens=new, do_sample=False, pad_token_id=END, **end)
    return out[:, T:].tolist()


class EndAt(LogitsProcessor):
    """End row i after lengths[i] tokens, so that random weights write responses of real lengths."""

    def __init__(self, lengths: list[int], prompt: int) -> None:
        self.lengths, self.prompt = lengths, prompt

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        over = torch.tensor(self.lengths) <= ids.shape[1] - self.prompt
        return only_end(scores, over)


def only_end(scores: torch.Tensor, over: torch.Tensor) -> torch.Tensor:
    """Allow nothing but the end where `over` is true, and everything but the end elsewhere."""
    scores = scores.masked_fill(over.unsqueeze(1), -math.inf)
    scores[:, END] = torch.where(over, 0.0, -math.inf)
    return scores


@torch.no_grad()
def book_loop(model: GPTModel, prompt: list[int], new: int) -> list[int]:
    """As in the book: one prompt, and everything is computed again for every token."""
    ids = torch.tensor([prompt])
    for _ in range(new):
        logits = model(ids[:, -CFG.context_length :])
        ids = torch.cat([ids, logits[:, -1:].argmax(dim=-1)], dim=1)
    return ids[0, len(prompt) :].tolist()


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(ways: dict, rounds: int, warm_up: bool = True) -> dict[str, list[float]]:
    """Seconds of each way, in each round after the one to warm up."""
    times = [{name: seconds(work) for name, work in ways.items()} for _ in range(rounds + warm_up)][warm_up:]
    return {name: [turn[name] for turn in times] for name in ways}


def report(times: dict[str, list[float]], base: str, count: int = 0) -> None:
    for name, spent in times.items():
        ratio = statistics.median(reference / mine for reference, mine in zip(times[base], spent))
        median = statistics.median(spent)
        speed = f"{count / median:8.1f} tokens/s" if count else f"{median:8.1f} s"
        print(f"  {name:<28}{speed}  x {ratio:5.2f}", flush=True)


def limit_of(model: GPTModel) -> float:
    """Tokens per second if a token took as long as adding up every weight that it needs (positions are not read)."""
    weights = torch.cat([weight.flatten() for name, weight in model.named_parameters() if "emb" not in name])
    head = model.out_head.weight  # tied to tok_emb, so left out above
    return 1 / statistics.median(seconds(lambda: (weights.sum(), head.sum())) for _ in range(9))


def speeds() -> None:
    ours, theirs = both(torch.float32)
    print(f"bandwidth limit in fp32: {limit_of(ours):.1f} tokens/s for one prompt")
    prepared = {weights: prepare_for_decoding(ours, weights) for weights in ("packed", "half", "int8")}
    models = {"plain": ours, **prepared}
    torch.manual_seed(1)
    prompts = torch.randint(0, CFG.vocab_size, (16, 32)).tolist()
    for rows, new, rounds in ((1, 100, 7), (16, 100, 3)):
        chosen = prompts[:rows]
        ways = {"transformers fp32": partial(transformers_generate, theirs, chosen, new)} | {
            f"gptlab {name}": partial(generate, model, chosen, max_new_tokens=new) for name, model in models.items()
        }
        print(f"fp32: {rows} prompts of 32, {new} new tokens")
        report(in_turn(ways, rounds), "transformers fp32", rows * new)
        expected = ways["transformers fp32"]()
        print("  transformers' tokens:", {name: way() == expected for name, way in ways.items()}, flush=True)

    ours, theirs = both(torch.bfloat16)
    packed = prepare_for_decoding(ours, "packed")
    for rows, new in ((1, 20), (16, 3)):  # few: without bf16 instructions theirs takes a second for a token
        chosen = prompts[:rows]
        ways = {
            "transformers bf16": partial(transformers_generate, theirs, chosen, new),
            "gptlab packed": partial(generate, packed, chosen, max_new_tokens=new),
        }
        print(f"bf16: {rows} prompts of 32, {new} new tokens")
        report(in_turn(ways, 1, warm_up=False), "transformers bf16", rows * new)


def responses(path: str) -> None:
    from gptlab import gpt2_tokenizer

    entries = load_entries(path)
    entries = entries[int(len(entries) * 0.85) :][: int(len(entries) * 0.1)]
    tokenizer, template = gpt2_tokenizer(), load_template("alpaca")
    prompts = [tokenizer.encode_ordinary(template.prompt(entry)) for entry in entries]
    outputs = [len(tokenizer.encode_ordinary(entry["output"])) for entry in entries]
    length_of = {tuple(prompt): length for prompt, length in zip(prompts, outputs)}  # two entries may ask the same
    lengths = [length_of[tuple(prompt)] for prompt in prompts]
    longest = max(lengths) + 1
    print(f"{len(entries)} entries: prompts of {statistics.mean(map(len, prompts)):.0f} tokens, ", end="")
    print(f"responses of {statistics.mean(lengths):.0f}, the longest {longest - 1}", flush=True)
    ours, theirs = both(torch.float32)
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))

    def theirs_batched() -> list[list[int]]:
        out = {}
        for start in range(0, len(order), 32):  # sorted by length, as ours are
            rows = order[start : start + 32]
            written = transformers_generate(
                theirs, [prompts[row] for row in rows], longest, [lengths[row] for row in rows]
            )
            out |= {row: ids[: lengths[row]] for row, ids in zip(rows, written)}
        return [out[row] for row in range(len(prompts))]

    starts = sorted({len(prompt) for prompt in prompts})

    def end_at(rows, logits: torch.Tensor) -> torch.Tensor:
        """The rows do not say which prompt they began with; a few lengths have to be tried."""
        begun = [next(tuple(row[:start]) for start in starts if tuple(row[:start]) in length_of) for row in rows]
        over = [len(row) - len(prompt) >= length_of[prompt] for row, prompt in zip(rows, begun)]
        return only_end(logits, torch.tensor(over))

    def ours_batched(model: GPTModel) -> list[list[int]]:
        return generate(model, prompts, max_new_tokens=longest, eos_id=END, filters=[end_at], batch_size=32)

    models = {name: prepare_for_decoding(ours, name) for name in ("packed", "half")}
    ways = {"transformers, batches of 32": theirs_batched, "gptlab plain": partial(ours_batched, ours)} | {
        f"gptlab {name}": partial(ours_batched, model) for name, model in models.items()
    }
    report(in_turn(ways, 3), "transformers, batches of 32")
    expected = theirs_batched()
    for name, model in models.items():
        print(f"  {name}: rows that differ:", sum(a != b for a, b in zip(ours_batched(model), expected)), flush=True)
    some = range(0, len(prompts), 5)
    loop = seconds(lambda: [book_loop(ours, prompts[row], lengths[row]) for row in some]) * len(prompts) / len(some)
    print(f"  the book's loop{loop:21.1f} s  (every fifth entry, times five)", flush=True)
    long = seconds(lambda: [book_loop(ours, prompts[row], 128) for row in some[::8]]) * len(prompts) / len(some[::8])
    spent = seconds(lambda: generate(models["half"], prompts, max_new_tokens=128, batch_size=32))
    print(f"128 tokens for every entry: the book's loop {long:.0f} s (three entries), gptlab half {spent:.0f} s")


def rounding() -> None:
    """Perplexity of the town's model on prose that it has not seen, with rounded weights."""
    from gptlab.data.town import build_town
    from gptlab.decoding import perplexity
    from gptlab.demo import Recipe, town_base

    model, tokenizer, _ = town_base(Path("checkpoints/town-base-large"), recipe=Recipe())
    unseen = build_town(1).corpus  # another town: the same language, other people
    plain = perplexity(model, unseen, tokenizer=tokenizer)
    print(f"{plain.tokens} tokens; plain: {plain.perplexity:.4f}")
    for weights in ("packed", "half", "int8"):
        found = perplexity(prepare_for_decoding(model, weights), unseen, tokenizer=tokenizer)
        print(f"  {weights:<8}{found.perplexity:.4f}  {found.perplexity / plain.perplexity - 1:+.4%}")


if __name__ == "__main__":
    torch.set_num_threads(2)
    logging.disable(logging.WARNING)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    if len(sys.argv) == 1:
        speeds()
    elif sys.argv[1] == "rounding":
        rounding()
    else:
        responses(sys.argv[1])
