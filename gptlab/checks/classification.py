"""Checks about classification: shapes, padding, where the answer is read, accuracy, frozen layers, balanced data."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gptlab.checks.core import check_of, close, expect, expect_returned, expect_tensor
from gptlab.config import GPTConfig
from gptlab.model import GPTModel


@check_of("classification.shapes", "the logits, and what the loss gets")
def shapes(answer) -> None:
    for B, T, D, classes in ((4, 9, 32, 2), (3, 7, 16, 5)):
        got = answer(B, T, D, classes)
        expect_returned(got)
        expect(len(got) == 2, f"two shapes are asked for, that of the logits and that for the loss; got {got!r:.60}")
        logits, for_loss = (tuple(shape) for shape in got)
        expect(D not in logits + for_loss, "the head multiplies D away: each of its rows makes one number of a vector")
        expect(logits != (B, classes), "the model gives logits at every token; which one is read is chosen afterwards")
        expect(logits == (B, T, classes), f"first shape: {B} texts, {T} tokens, {classes} scores at each; got {logits}")
        expect(for_loss not in (logits, (B * T, classes)), "a text has one answer, so the loss gets one token of each")
        expect(for_loss != (B,), "cross-entropy needs the scores of all classes of a text, not only the chosen class")
        expect(for_loss == (B, classes), f"second shape: one row of scores for each of the {B} texts, got {for_loss}")


@check_of("classification.pad", "rows of ids as one rectangle")
def pad(answer) -> None:
    rows, pad_id = [[5, 6, 7], [8], [9, 3, 9, 4, 9], [2, 2]], 9
    given = copy.deepcopy(rows)
    got = answer(given, pad_id)
    expect_returned(got)
    expect(isinstance(got, Tensor) and got.dim() == 2, f"the result should be a tensor (B, T), got {got!r:.60}")
    B, T = got.shape
    expect(len(rows) == B, f"there are {len(rows)} rows, the result has {B}")
    expect(T >= 5, f"T is {T}, but the longest row has 5 tokens: something was cut off")
    expect(T == 5, f"the longest row has 5 tokens, so T should be 5 and not {T}: every further column is padding")
    for number, row in enumerate(rows):
        expect(
            len(row) == T or got[number, T - len(row) :].tolist() != row or got[number, : len(row)].tolist() == row,
            "the padding stands on the left: then the text's tokens see it, and stand at other positions",
        )
        kept = got[number, : len(row)].tolist()
        expect(kept == row, f"row {number} should begin with its own tokens {row}, got {kept}")
        expect(
            set(got[number, len(row) :].tolist()) <= {pad_id},
            f"behind its tokens row {number} should hold pad_id, {pad_id}, got {got[number, len(row) :].tolist()}",
        )
    expect(not got.is_floating_point(), f"ids are whole numbers (int64), got {got.dtype}")
    expect(given == rows, "the lists that came in were changed: make new ones (`+` does, `append` and `+=` do not)")


@check_of("classification.last_real", "the logits behind the text")
def last_real(answer) -> None:
    for lengths in (
        [3, 5, 1, 4],
        [3, 6, 1, 5],
    ):  # first without a full row, behind which an index would leave the tensor
        _look_at_last_real(answer, torch.tensor(lengths))


def _look_at_last_real(answer: Callable, lengths: Tensor) -> None:
    B, T, classes = 4, 6, 3
    logits = torch.randn(B, T, classes)
    got = answer(logits.clone(), lengths.clone())
    expect_returned(got)
    expect(
        isinstance(got, Tensor),
        f"the result should be one tensor (B, classes), got a {type(got).__name__}; torch.stack makes one of rows",
    )
    expect(
        tuple(got.shape) != (B, B, classes),
        "every row was combined with every length; pair row 0 with length 0, row 1 with length 1, ...",
    )
    expect_tensor(got, (B, classes), "the result")
    rows = torch.arange(B)
    expect(not close(got, logits[:, -1]), "that is the last position of every row; in shorter rows it is padding")
    expect(not close(got, logits[:, 0]), "that is the first token, which has seen nothing but itself")
    expect(not close(got, logits[:, int(lengths.max()) - 1]), "each row has a length of its own")
    expect(not close(got, logits[rows, lengths - 2]), "one too early: counting from 0, the last of n tokens has n - 1")
    expect(not close(got, logits.mean(dim=1)), "that is a mean over the tokens, padding among them; take one token")
    shifted = [lengths[row] == T or close(got[row], logits[row, min(lengths[row], T - 1)]) for row in rows]
    expect(not all(shifted), "one too late: counting from 0, the last of n tokens is at n - 1; at n is padding")
    for row in rows.tolist():
        expect(
            close(got[row], logits[row, lengths[row] - 1]),
            f"row {row} has {lengths[row]} tokens, and its result is not the logits at the last one of them",
        )
    behind = torch.arange(T) >= lengths[:, None]
    changed = answer(logits.masked_fill(behind[:, :, None], 9.0), lengths.clone())
    expect(close(changed, got), "the result changes when logits at padding change")


@check_of("classification.accuracy", "one accuracy for several batches")
def accuracy(answer) -> None:
    square = torch.tensor([[3.0, 1.0, 0.0], [4.0, 2.0, 1.0], [5.0, 0.0, 2.0]])  # each row chooses 0
    got = answer([(square, torch.tensor([0, 0, 0]))])
    expect_returned(got)
    over_texts = "the highest logit is looked for among the texts; take the argmax over the classes, dim=-1"
    expect(not close(got, 0.0), over_texts)
    batches = []
    for B, rights in ((8, 7), (2, 0), (4, 1)):  # how many of B are right
        classes = torch.arange(B) % 3
        logits = torch.rand(B, 3)
        logits[torch.arange(B), (classes + (torch.arange(B) >= rights)) % 3] += 2.0
        batches.append((logits - 5.0, classes))
    given = [(logits.clone(), classes.clone()) for logits, classes in batches]
    got = answer(given)
    expect_returned(got)
    expect(torch.as_tensor(got).numel() == 1, f"one number is asked for, got {got!r:.60}")
    got = float(got)
    expect(not close(got, 8), "that is how many are right; the accuracy is their share")
    expect(not close(got, 800 / 14), "that is in percent; a share lies between 0 and 1")
    expect(
        not close(got, (7 / 8 + 0 + 1 / 4) / 3),
        "that is the mean of the batches' accuracies, in which a text of a small batch counts more; count texts",
    )
    expect(not close(got, 6 / 14), "that is the share of wrong answers, or the highest logit is not looked for at all")
    expect(not close(got, 8 / 3), "it is divided by the number of batches, not of texts")
    expect(not close(got, 1 / 4), "that is the last batch alone")
    expect(not close(got, 7 / 8), "that is the first batch alone")
    expect(close(got, 8 / 14), f"8 of these 14 texts are right, so it should be {8 / 14:.4f}, got {got:.4f}")


@check_of("classification.freeze", "the layers that learn")
def freeze(answer) -> None:
    for layers, learning_before in ((3, True), (2, False)):
        model = GPTModel(GPTConfig(50, 16, emb_dim=16, n_heads=2, n_layers=layers, tie_weights=True))
        model.out_head = head = nn.Linear(16, 2)
        model.requires_grad_(learning_before)
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        answer(model)
        _expect_untouched(model, head, before)
        learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        _expect_learning(model, learning, f"trf_blocks.{layers - 1}.", learning_before)


def _expect_untouched(model: GPTModel, head: nn.Module, before: dict[str, Tensor]) -> None:
    expect(model.out_head is head, "the head was replaced; it is a new one already, only choose what learns")
    after = dict(model.named_parameters())
    same = set(after) == set(before) and all(close(after[name].detach(), before[name]) for name in before)
    expect(same, "weights were changed; to freeze means to set requires_grad, the numbers stay as they are")


def _expect_learning(model: GPTModel, learning: set[str], last: str, learning_before: bool) -> None:
    every = {name for name, _ in model.named_parameters()}
    block = {name for name in every if name.startswith(last)}
    norm = {name for name in every if name.startswith("final_norm.")}
    head = {name for name in every if name.startswith("out_head.")}
    on_modules = [name for name, part in model.named_modules() if "requires_grad" in vars(part)]
    expect(
        not on_modules,
        "requires_grad was set on a module, which changes none of its parameters: call module.requires_grad_(...)",
    )
    expect(bool(learning), "nothing learns, not even the head: freeze everything first, then let parts learn again")
    expect(learning != every, "everything learns: the layers before the last block should be frozen")
    expect(learning != every - block - norm - head, "it is the wrong way round: what should learn is frozen")
    expect(head <= learning, "the head must learn: its weights are random, pretraining has given it nothing")
    expect(learning != head, "only the head learns; the last block and the final norm should, too")
    expect(norm <= learning, f"the final norm is frozen; of it {sorted(norm)} should learn")
    expect(
        bool(block & learning) or not any(name.startswith("trf_blocks.0.") for name in learning),
        "the first block learns instead of the last one",
    )
    expect(block <= learning, f"of the last block {len(block - learning)} of {len(block)} parameters are frozen")
    wrong = sorted(learning - block - norm - head)
    expect(not any("emb" in name for name in wrong), f"the embeddings should be frozen, but {wrong} learn")
    expect(not wrong, f"earlier blocks should be frozen, but {len(wrong)} parameters learn there, such as {wrong[:1]}")


@check_of("classification.balance", "equally many texts of each label")
def balance(answer) -> None:
    counts = {"ham": 40, "spam": 6, "news": 11}
    pairs = [(f"{label} text {number}", label) for label, count in counts.items() for number in range(count)]
    pairs = [pairs[number] for number in torch.randperm(len(pairs)).tolist()]
    given = list(pairs)
    got = answer(given, torch.Generator().manual_seed(1))
    expect_returned(got)
    got = [tuple(pair) for pair in got]
    expect(given == pairs, "the list that came in was changed; make a new one")
    expect(all(len(pair) == 2 for pair in got), f"a list of pairs (text, label) is asked for, got {got[:1]!r:.60}")
    expect(set(got) <= set(pairs), "there are pairs that did not come in: a text has lost its own label")
    found = Counter(label for _, label in got)
    expect(set(found) == set(counts), f"the labels are {sorted(counts)}, the result has {sorted(found)}")
    if max(found.values()) > min(counts.values()):
        expect(
            len(set(got)) == len(got), "texts are repeated: a balanced set is made by leaving out, not by doubling them"
        )
    expect(len(set(found.values())) == 1, f"the labels should be equally frequent, got {dict(found)}")
    expect(len(set(got)) == len(got), "some text is there twice, and so another one is missing; draw each at most once")
    expect(found["spam"] == 6, f"the rarest label has 6 texts, all of them can stay; got {found['spam']} of each label")
    draws = [frozenset(answer(list(pairs), torch.Generator().manual_seed(seed))) for seed in range(2, 6)]
    expect(
        len(set(draws)) > 1,
        "with other random numbers the same texts are kept, such as the first ones; draw them at random",
    )
    torch.manual_seed(5)
    again = frozenset(answer(list(pairs), torch.Generator().manual_seed(2)))
    expect(again == draws[0], "the same generator gave other texts: draw with the generator that is handed in")
