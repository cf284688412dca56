"""One solution of each exercise of chapter 7; there are others. Run it like exercises.py."""

import torch
from torch import Tensor


def alpaca_prompt(entry: dict[str, str]) -> str:
    given = f"### Input:\n{entry['input']}\n\n" if entry.get("input") else ""
    return f"### Instruction:\n{entry['instruction']}\n\n{given}### Response:\n"


def shape_of_batch(lengths: list[int]) -> tuple[int, int]:
    return len(lengths), max(lengths)  # one longer with its end, one shorter by the shift


def pad_inputs(items: list[list[int]], end_id: int) -> Tensor:
    longest = max(len(item) for item in items)
    return torch.tensor([item + [end_id] * (longest - len(item)) for item in items])


def make_targets(items: list[list[int]], end_id: int) -> Tensor:
    longest = max(len(item) for item in items)
    return torch.tensor([[*item[1:], end_id] + [-100] * (longest - len(item)) for item in items])


def response_only(targets: Tensor, prompt_lengths: list[int]) -> Tensor:
    targets = targets.clone()
    for row, length in enumerate(prompt_lengths):
        targets[row, : length - 1] = -100  # the last token of the prompt predicts the first of the response
    return targets


def extract_response(ids: list[int], prompt_length: int, end_id: int) -> list[int]:
    response = ids[prompt_length:]
    return response[: response.index(end_id)] if end_id in response else response


if __name__ == "__main__":
    from exercises import EXERCISES

    from gptlab.checks import run

    raise SystemExit(run({name: globals()[stub.__name__] for name, stub in EXERCISES.items()}))
