"""Exercises of chapter 7, instruction tuning. Write the functions, then run this file: it checks what is there so far.

    python chapters/ch07_instruction/exercises.py                       # all of them
    python chapters/ch07_instruction/exercises.py collate.targets       # one

Items are lists of ids without an end; `end_id` is the id of end-of-text, which also fills the inputs up. Solutions are
in solutions.py. They help most when they are opened last.
"""

import torch
from torch import Tensor


def alpaca_prompt(entry: dict[str, str]) -> str:
    """Return the prompt of an entry in the form of `alpaca_short`, up to and with "### Response:" and a line end.

    The headings are "### Instruction:", "### Input:" and "### Response:", each in a line of its own, its text in the
    line below, and an empty line between the parts. Without an input, or with an empty one, that part is left out.
    """
    raise NotImplementedError


def shape_of_batch(lengths: list[int]) -> tuple[int, int]:
    """Predict: items of these lengths get one end-of-text each and become inputs and targets. Of which shape?"""
    raise NotImplementedError


def pad_inputs(items: list[list[int]], end_id: int) -> Tensor:
    """Return the items as one tensor, padded on the right with end_id up to the longest: (B, longest) int64."""
    raise NotImplementedError


def make_targets(items: list[list[int]], end_id: int) -> Tensor:
    """Return the targets of those inputs, of the same shape.

    Each target is the id that follows. The first end-of-text after an item is a target, too; what lies behind it is
    -100. An item may hold end_id itself, as an ordinary id.
    """
    raise NotImplementedError


def response_only(targets: Tensor, prompt_lengths: list[int]) -> Tensor:
    """Return targets (B, T) in which only the response is left: -100 where a token of the prompt would be predicted.

    The first `prompt_lengths[row]` tokens of each row are the prompt. The response's first token stays a target.
    """
    raise NotImplementedError


def extract_response(ids: list[int], prompt_length: int, end_id: int) -> list[int]:
    """Return the response's ids from what a model wrote: without the prompt, up to the end of text, which is left off.

    The text may have no end, because there was a limit.
    """
    raise NotImplementedError


EXERCISES = {
    "instruction.prompt": alpaca_prompt,
    "collate.shapes": shape_of_batch,
    "collate.padding": pad_inputs,
    "collate.targets": make_targets,
    "collate.response_only": response_only,
    "instruction.extract": extract_response,
}

if __name__ == "__main__":
    from gptlab.checks import run

    raise SystemExit(run(EXERCISES))
