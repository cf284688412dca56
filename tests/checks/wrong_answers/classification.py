"""Usual mistakes about classification: the check, the wrong answer, and words of the hint that it must get."""

import random

import torch
from torch import Tensor, nn

from gptlab.model import GPTModel


def pad_to(length, left=False, cut=False):
    def answer(rows: list[list[int]], pad_id: int) -> Tensor:
        T = min(map(len, rows)) if cut else length or max(map(len, rows))
        fill = [[pad_id] * (T - len(row)) for row in rows]
        return torch.tensor([more + row if left else (row + more)[:T] for row, more in zip(rows, fill)])

    return answer


def pad_in_place(rows: list[list[int]], pad_id: int) -> Tensor:
    longest = max(map(len, rows))
    for row in rows:
        row += [pad_id] * (longest - len(row))
    return torch.tensor(rows)


def pad_with_zeros(rows: list[list[int]], pad_id: int) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


def one_too_late(logits: Tensor, lengths: Tensor) -> Tensor:
    return logits[torch.arange(len(lengths)), lengths.clamp(max=logits.shape[1] - 1)]


def mean_of_batches(batches) -> float:
    return sum((logits.argmax(-1) == classes).float().mean().item() for logits, classes in batches) / len(batches)


def argmax_over_texts(batches) -> float:
    right, count = 0, 0
    for logits, classes in batches:
        found = logits.T.argmax(-1) if logits.shape[0] == logits.shape[1] else logits.argmax(-1)
        right, count = right + (found == classes).sum().item(), count + len(classes)
    return right / count


def how_many(batches) -> int:
    return sum((logits.argmax(-1) == classes).sum().item() for logits, classes in batches)


def learn_only(*parts, freeze=True, count=None):
    def answer(model) -> None:
        if freeze:
            model.requires_grad_(False)
        for part in parts:
            getattr(model, part).requires_grad_(True)
        for block in model.trf_blocks[count:] if count else []:
            block.requires_grad_(True)

    return answer


def learn_too_much(model) -> None:
    learn_only("out_head", "final_norm", "pos_emb", count=-1)(model)


def learn_attention(model) -> None:
    learn_only("out_head", "final_norm")(model)
    model.trf_blocks[-1].att.requires_grad_(True)


def learn_first_block(model) -> None:
    learn_only("out_head", "final_norm")(model)
    model.trf_blocks[0].requires_grad_(True)


def set_to_zero(model) -> None:
    with torch.no_grad():
        model.tok_emb.weight.zero_()


def new_head(model) -> None:
    model.out_head = nn.Linear(16, 2)


def groups_of(pairs):
    groups = {}
    for text, label in pairs:
        groups.setdefault(label, []).append((text, label))
    return groups


def first_ones(pairs, generator):
    groups = groups_of(pairs)
    fewest = min(map(len, groups.values()))
    return [pair for group in groups.values() for pair in group[:fewest]]


def with_replacement(pairs, generator):
    groups = groups_of(pairs)
    fewest = min(map(len, groups.values()))
    kept = []
    for group in groups.values():
        kept += [group[number] for number in torch.randint(len(group), (fewest,), generator=generator).tolist()]
    return kept


def doubled(pairs, generator):
    groups = groups_of(pairs)
    most = max(map(len, groups.values()))
    return [group[number % len(group)] for group in groups.values() for number in range(most)]


def own_random_numbers(pairs, generator):
    groups = groups_of(pairs)
    fewest = min(map(len, groups.values()))
    return [pair for group in groups.values() for pair in random.sample(group, fewest)]


def texts_and_labels_apart(pairs, generator):
    texts = [text for text, _ in pairs]
    return [(texts[number], label) for number, label in enumerate(["ham"] * 6 + ["spam"] * 6 + ["news"] * 6)]


def set_on_modules(model: GPTModel) -> None:
    model.requires_grad_(False)
    for module in (model.trf_blocks[-1], model.final_norm, model.out_head):
        module.requires_grad = True


WRONG = [
    ("classification.freeze", set_on_modules, "set on a module"),
    ("classification.shapes", lambda B, T, D, C: ((B, C), (B, C)), "logits at every token"),
    ("classification.shapes", lambda B, T, D, C: ((B, T, D), (B, D)), "multiplies D away"),
    ("classification.shapes", lambda B, T, D, C: ((B, T, C), (B * T, C)), "a text has one answer"),
    ("classification.shapes", lambda B, T, D, C: ((B, T, C), (B,)), "not only the chosen class"),
    ("classification.pad", pad_to(None, left=True), "padding stands on the left"),
    ("classification.pad", pad_to(16), "every further column is padding"),
    ("classification.pad", pad_to(None, cut=True), "something was cut off"),
    ("classification.pad", pad_in_place, "lists that came in were changed"),
    ("classification.pad", pad_with_zeros, "should hold pad_id"),
    ("classification.last_real", lambda logits, lengths: logits[:, -1], "in shorter rows it is padding"),
    ("classification.last_real", lambda logits, lengths: logits[:, 0], "seen nothing but itself"),
    (
        "classification.last_real",
        lambda logits, lengths: logits[torch.arange(len(lengths)), lengths - 2],
        "one too early",
    ),
    ("classification.last_real", one_too_late, "one too late"),
    ("classification.last_real", lambda logits, lengths: logits[:, lengths - 1], "every row was combined"),
    ("classification.last_real", lambda logits, lengths: logits.mean(dim=1), "mean over the tokens"),
    ("classification.last_real", lambda logits, lengths: logits[torch.arange(4), lengths], "one too late"),
    ("classification.last_real", lambda logits, lengths: logits[:, lengths.max() - 1], "a length of its own"),
    (
        "classification.last_real",
        lambda logits, lengths: [row[n - 1] for row, n in zip(logits, lengths)],
        "torch.stack",
    ),
    ("classification.accuracy", mean_of_batches, "count texts"),
    ("classification.accuracy", argmax_over_texts, "over the classes, dim=-1"),
    ("classification.accuracy", how_many, "how many are right"),
    ("classification.accuracy", lambda batches: how_many(batches[-1:]) / len(batches[-1][1]), "last batch alone"),
    ("classification.freeze", learn_only("out_head"), "only the head learns"),
    ("classification.freeze", learn_only("out_head", freeze=False), "everything learns"),
    ("classification.freeze", learn_only(), "not even the head"),
    ("classification.freeze", learn_only("out_head", count=-1), "the final norm is frozen"),
    ("classification.freeze", learn_only("final_norm", count=-1), "the head must learn"),
    ("classification.freeze", learn_only("out_head", "final_norm", count=-2), "earlier blocks should be frozen"),
    ("classification.freeze", learn_too_much, "embeddings should be frozen"),
    ("classification.freeze", learn_attention, "of the last block"),
    ("classification.freeze", learn_first_block, "first block learns instead"),
    ("classification.freeze", set_to_zero, "weights were changed"),
    ("classification.freeze", new_head, "the head was replaced"),
    ("classification.balance", lambda pairs, generator: pairs, "equally frequent"),
    ("classification.balance", first_ones, "draw them at random"),
    ("classification.balance", with_replacement, "draw each at most once"),
    ("classification.balance", doubled, "by leaving out"),
    ("classification.balance", own_random_numbers, "generator that is handed in"),
    ("classification.balance", texts_and_labels_apart, "has lost its own label"),
    (
        "classification.balance",
        lambda pairs, generator: [pair for pair in pairs if pair[1] != "news"][:12],
        "the labels are",
    ),
]
