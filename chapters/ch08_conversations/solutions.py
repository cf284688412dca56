"""One solution of each exercise of chapter 8; there are others. Run it like exercises.py."""

from itertools import accumulate


def chatglm_prompt(history: list[tuple[str, str]], question: str, first_round: int = 0) -> str:
    said = [f"[Round {number}]\n问：{q}\n答：{a}\n" for number, (q, a) in enumerate(history, start=first_round)]
    return "".join(said) + f"[Round {first_round + len(history)}]\n问：{question}\n答："


def no_loss_spans(meta: int, turns: list[list[tuple[str, int]]], before: int, after: int) -> list[tuple[int, int]]:
    spans, place = [(0, meta)], meta
    for turn in turns:
        for key, tokens in turn:
            if key == "Tool Responses":
                spans.append((place + before, place + tokens - after))
            place += tokens  # over all turns: a place in the sample, not in the turn
    return [(begin, end) for begin, end in spans if begin < end]


def per_turn(turns: list[tuple[list[int], list[int]]]) -> list[tuple[list[int], list[bool]]]:
    samples, before = [], []
    for question, answer in turns:
        untrained = before + question
        before = untrained + answer  # a new list, so that the earlier samples keep theirs
        samples.append((before, [False] * len(untrained) + [True] * len(answer)))
    return samples


def tokens_processed(lengths: list[int]) -> tuple[int, int]:
    return sum(accumulate(lengths)), sum(lengths)  # the sample of turn k has all turns up to k


def turns_to_forget(lengths: list[int], system: int, room: int) -> int | None:
    for forgotten in range(len(lengths)):  # the last turn is never forgotten
        if system + sum(lengths[forgotten:]) <= room:
            return forgotten
    return None


def mixture_shares(sizes: list[int], cap: int | None = None, temperature: float = 1.0) -> list[float]:
    rates = [(size if cap is None else min(size, cap)) ** (1 / temperature) for size in sizes]
    return [rate / sum(rates) for rate in rates]


def common_beginning(read: list[int], prompt: list[int]) -> int:
    kept = 0
    for old, new in zip(read, prompt[:-1]):  # without the last one, which must be read again
        if old != new:
            break
        kept += 1
    return kept


if __name__ == "__main__":
    from exercises import EXERCISES

    from gptlab.checks import run

    raise SystemExit(run({name: globals()[stub.__name__] for name, stub in EXERCISES.items()}))
