"""Exercises of chapter 6, classification. Write the functions, then run this file: it checks what is there so far.

    python chapters/ch06_classification/exercises.py                              # all of them
    python chapters/ch06_classification/exercises.py classification.last_real     # one

Solutions are in solutions.py. They help most when they are opened last.
"""

import torch
from torch import Tensor

from gptlab import GPTModel


def shapes_of_classifier(B: int, T: int, D: int, classes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Predict two shapes, for B texts of T tokens each and a head with `classes` rows on features (B, T, D).

    The first is that of the logits which the model returns. The second is that of the logits which the loss gets, when
    each text has one answer.
    """
    raise NotImplementedError


def pad_rows(rows: list[list[int]], pad_id: int) -> Tensor:
    """Return the rows of ids as one rectangle (B, T) int64, filled up with pad_id; T is the longest row.

    Padding must not change what the tokens of a text see, nor at which positions they stand. The lists that come in
    stay as they are.
    """
    raise NotImplementedError


def logits_at_last_real(logits: Tensor, lengths: Tensor) -> Tensor:
    """Return each row's logits at the last token of its text: (B, classes), from logits (B, T, classes).

    lengths (B,) int64 says how many tokens each text has; the rest of its row is padding, on the right.
    """
    raise NotImplementedError


def accuracy_of(batches: list[tuple[Tensor, Tensor]]) -> float:
    """Return the share of texts, in all batches together, whose right class has the highest logit.

    A batch is a pair: logits (B, classes), and the right classes (B,) int64. B differs from batch to batch.
    """
    raise NotImplementedError


def train_last_block(model: GPTModel) -> None:
    """Choose which parameters of `model` learn: those of the last block, the final norm and the head, and no others.

    Whatever the parameters' requires_grad was before. The model has blocks `trf_blocks`, `final_norm` and `out_head`,
    which is a new head already. Nothing is returned.
    """
    raise NotImplementedError


def balance_texts(pairs: list[tuple[str, str]], generator: torch.Generator) -> list[tuple[str, str]]:
    """Return as many pairs (text, label) of each label as the rarest label has.

    Which ones of the others are kept is drawn at random with the generator, each at most once. There may be more than
    two labels. The order of the result does not matter.
    """
    raise NotImplementedError


EXERCISES = {
    "classification.shapes": shapes_of_classifier,
    "classification.pad": pad_rows,
    "classification.last_real": logits_at_last_real,
    "classification.accuracy": accuracy_of,
    "classification.freeze": train_last_block,
    "classification.balance": balance_texts,
}

if __name__ == "__main__":
    from gptlab.checks import run

    raise SystemExit(run(EXERCISES))
