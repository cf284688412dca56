"""Conversations: how fast they become examples, and what a kept cache saves a chat. Two threads.

Run: python benchmarks/conversations.py data    10,000 conversations in MOSS's form, written out, tokenised and masked
     python benchmarks/conversations.py chat    seconds to the first token of a second turn, cache kept or not
Needs GPT-2's vocabulary. The conversations are made of this repository's own English and Chinese.
"""

import random
import statistics
import sys
import time
from pathlib import Path

import torch

from gptlab import GPT2_SIZES, ChatSession, Conversation, ConversationDataset, GPTModel, gpt2_tokenizer
from gptlab.data import Turn, find_format, to_moss
from gptlab.tokenizer import with_special_tokens

ROOT = Path(__file__).parent.parent
TEXTS = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")]
WORDS = ("the", "mill", "by", "the", "river", "has", "a", "wheel", "of", "wood", "and", "iron")
SYSTEM = "You are a guide.\n- Inner thoughts: disabled.\n- Web search: disabled.\n- Calculator: disabled.\n" * 4


def piece(rng: random.Random, letters: int) -> str:
    """Return some text of about so many letters, one time in two Chinese, which has fewer for the same."""
    text = rng.choice(TEXTS)
    letters = letters if text is TEXTS[0] else letters // 4
    start = rng.randrange(len(text) - 2 * letters)
    return text[start : start + rng.randrange(letters // 2, 2 * letters)].strip() or "?"


def moss_records(count: int) -> list[dict]:
    """Return records with as many turns as MOSS's files have on average, 3.8."""
    rng = random.Random(0)
    records = []
    for number in range(count):
        turns = [Turn(piece(rng, 100), piece(rng, 500)) for _ in range(rng.choice((1, 2, 3, 4, 4, 5, 5, 6)))]
        records.append(to_moss(Conversation(turns, SYSTEM), str(number)))
    return records


def measure_data() -> None:
    records = moss_records(10_000)
    tokenizer = with_special_tokens(gpt2_tokenizer(), find_format("moss").markers)
    for arrangement in ("per_session", "per_turn"):
        begin = time.perf_counter()
        dataset = ConversationDataset(records, tokenizer, format="moss", max_length=2048, arrangement=arrangement)
        seconds = time.perf_counter() - begin
        tokens = sum(len(example.ids) for example in dataset.examples)
        trained = sum(sum(example.trained) for example in dataset.examples)
        print(f"{arrangement}: {len(records):,} conversations, {len(dataset):,} samples, {tokens:,} tokens", end=", ")
        print(f"{trained / tokens:.0%} trained, {seconds:.1f} s; {dataset.length_report()}", flush=True)


def measure_chat(rounds: int = 9, history: int = 500) -> None:
    torch.manual_seed(0)
    model, tokenizer = GPTModel(GPT2_SIZES["gpt2"]).eval(), gpt2_tokenizer()
    rng = random.Random(0)
    ratios, kept, recomputed = [], [], []
    for _ in range(rounds):
        words = " ".join(rng.choices(WORDS, k=history - 30))
        times = []
        for keep in (True, False):
            session = ChatSession(model, tokenizer, "chatglm", max_new_tokens=2, temperature=1.0, seed=1)
            list(session.ask(words))
            before = len(session.ids())
            if not keep:  # as a session that only has the text
                turns, session = session.turns, ChatSession(model, tokenizer, "chatglm", max_new_tokens=2)
                session.turns = list(turns)
            begin = time.perf_counter()
            first_token(session, "And where does the road from there go?")
            times.append(time.perf_counter() - begin)
        kept.append(times[0])
        recomputed.append(times[1])
        ratios.append(times[0] / times[1])
    print(f"{before} tokens of history: {statistics.median(kept):.3f} s with the cache kept, ", end="")
    print(f"{statistics.median(recomputed):.3f} s computed again; median of the ratios {statistics.median(ratios):.2f}")


def first_token(session: ChatSession, question: str) -> None:
    """Ask, and wait for one token; with 1 to write, the answer is over with it."""
    session.set(max_new_tokens=1)
    list(session.ask(question))


if __name__ == "__main__":
    torch.set_num_threads(2)
    {"data": measure_data, "chat": measure_chat}[sys.argv[1]]()
