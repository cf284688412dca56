"""Logit lens: what would the model say if it stopped after this layer?

Every block adds to the residual stream, and the head reads the stream after the last. The lens lets it read earlier:

    logits_l = out_head(final_norm(x_l))        x_0 the embeddings, x_l the stream after block l

At the last layer these are the model's own logits. Before, they are a guess in a language that this layer was never
trained to speak: where the lens shows nonsense, the layer may well know more.

Source: nostalgebraist 2020, "interpreting GPT: the logit lens"; Belrose et al. 2023, arXiv 2303.08112 (its limits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gptlab.analysis.attention_maps import one_text
from gptlab.model import GPTModel, evaluation_mode

CHUNK = 128  # positions whose logits there are at one time


@dataclass(frozen=True)
class LogitLens:
    """What each layer would say at each place of a text. L is the number of blocks, row 0 the embeddings.

    Attributes:
        ids: the text's tokens, (T,).
        tokens: the likeliest next tokens, best first, (L + 1, T, top).
        probabilities: theirs, (L + 1, T, top).
        targets: the token that ranks and probabilities below are about, (T,).
        target_ranks: of the target, 1 is the likeliest, (L + 1, T).
        target_probabilities: of the target, (L + 1, T).
    """

    ids: Tensor
    tokens: Tensor = field(repr=False)
    probabilities: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)
    target_ranks: Tensor = field(repr=False)
    target_probabilities: Tensor = field(repr=False)

    @property
    def layers(self) -> list[str]:
        """What the rows are called."""
        return ["embedding", *(f"block {number}" for number in range(1, len(self.tokens)))]


@torch.no_grad()
def logit_lens(
    model: GPTModel, ids: Sequence[int] | Tensor, *, targets: Sequence[int] | Tensor | None = None, top: int = 5
) -> LogitLens:
    """Return what each layer would say next, at each place of a text.

    Args:
        model: left in the mode that it was in.
        ids: of one text.
        targets: for each place the token whose rank is wanted, such as the one that follows in the text. None is what
            the model itself likes best there.
        top: how many tokens are kept for each place.

    Raises:
        ValueError: ids are not those of one text or do not fit into the context; not as many targets, or one outside
            the vocabulary; or top is out of [1, V].
    """
    V, row = model.cfg.vocab_size, one_text(model, ids)
    if not 1 <= top <= V:
        raise ValueError(f"top must be in [1, {V}], the vocabulary, got {top}")
    if targets is not None:
        targets = torch.as_tensor(targets, device=row.device)
        whole = not targets.is_floating_point()
        if not whole or targets.shape != row[0].shape or not ((targets >= 0) & (targets < V)).all():
            raise ValueError(
                f"targets must be {row.shape[1]} ids in [0, {V}), one for each place, got {targets.tolist()}"
            )
    with evaluation_mode(model):
        features = [model.final_norm(x) for x in _streams(model, row)]  # L + 1 times (T, D)
        if targets is None:
            targets = torch.cat([model.out_head(piece).argmax(dim=-1) for piece in features[-1].split(CHUNK)])
        found = [
            [_look(model.out_head(piece), wanted, top) for piece, wanted in zip(x.split(CHUNK), targets.split(CHUNK))]
            for x in features
        ]
    columns = zip(*([torch.cat(parts) for parts in zip(*pieces)] for pieces in found))
    tokens, probabilities, ranks, of_target = (torch.stack(column).cpu() for column in columns)
    return LogitLens(row[0].cpu(), tokens, probabilities, targets.cpu(), ranks, of_target)


def _streams(model: GPTModel, row: Tensor) -> list[Tensor]:
    """Return the residual stream before the first block and after each, (T, D) each."""
    kept: list[Tensor] = []
    blocks = list(model.trf_blocks)
    handles = [blocks[0].register_forward_pre_hook(lambda _, given: kept.append(given[0][0]))]
    handles += [block.register_forward_hook(lambda _, given, result: kept.append(result[0])) for block in blocks]
    try:
        model.forward_embeddings(model.embed(row))
    finally:
        for handle in handles:
            handle.remove()
    return kept


def _look(logits: Tensor, targets: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the best tokens and their probabilities, (N, top), and the targets' ranks and probabilities, (N,)."""
    logits = logits.float()
    of_target = logits.gather(1, targets.unsqueeze(1))  # (N, 1)
    ranks = 1 + (logits > of_target).sum(dim=-1)
    shares = logits.softmax(dim=-1)
    best = shares.topk(top, dim=-1)
    return best.indices, best.values, ranks, shares.gather(1, targets.unsqueeze(1)).squeeze(1)
