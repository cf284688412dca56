"""One solution of each exercise of chapter 6; there are others. Run it like exercises.py."""

import torch
from torch import Tensor

from gptlab import GPTModel


def shapes_of_classifier(B: int, T: int, D: int, classes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (B, T, classes), (B, classes)  # a head works on every token; the loss takes one token of each text


def pad_rows(rows: list[list[int]], pad_id: int) -> Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [pad_id] * (longest - len(row)) for row in rows])


def logits_at_last_real(logits: Tensor, lengths: Tensor) -> Tensor:
    return logits[torch.arange(len(lengths)), lengths - 1]  # (B, classes)


def accuracy_of(batches: list[tuple[Tensor, Tensor]]) -> float:
    right = sum((logits.argmax(dim=-1) == classes).sum().item() for logits, classes in batches)
    return right / sum(len(classes) for _, classes in batches)


def train_last_block(model: GPTModel) -> None:
    model.requires_grad_(False)
    for part in (model.trf_blocks[-1], model.final_norm, model.out_head):
        part.requires_grad_(True)


def balance_texts(pairs: list[tuple[str, str]], generator: torch.Generator) -> list[tuple[str, str]]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for text, label in pairs:
        groups.setdefault(label, []).append((text, label))
    fewest = min(len(group) for group in groups.values())
    kept = []
    for group in groups.values():
        order = torch.randperm(len(group), generator=generator)[:fewest]
        kept += [group[number] for number in order.tolist()]
    return kept


if __name__ == "__main__":
    from exercises import EXERCISES

    from gptlab.checks import run

    raise SystemExit(run({name: globals()[stub.__name__] for name, stub in EXERCISES.items()}))
