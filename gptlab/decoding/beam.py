"""Beam search: keep several beginnings at a time, and return the ones that are most likely as a whole.

The rules are those of transformers, whose results it equals. A hypothesis is finished when its end-of-text id is among
the best `num_beams` candidates, or when nothing more may be written. Its score is

    sum of log p(token) / (number of tokens, end-of-text counted) ** length_penalty

Source: Graves 2012, arXiv 1211.3711, section 2.5; Wu et al. 2016, arXiv 1609.08144, section 7 (length penalty).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import torch

from gptlab.decoding.filters import Filter, compose
from gptlab.decoding.generate import check_prompts, set_of_ids
from gptlab.model import GPTModel, KVCache, evaluation_mode

EarlyStopping = bool | Literal["never"]


class Hypothesis(NamedTuple):
    """One way to go on: the new tokens without the end-of-text id, the score, and whether it ended with that id."""

    ids: list[int]
    score: float
    ended: bool


@torch.no_grad()
def beam_search(
    model: GPTModel,
    prompt: Sequence[int],
    *,
    num_beams: int,
    max_new_tokens: int,
    eos_id: int | Collection[int] | None = None,
    length_penalty: float = 1.0,
    early_stopping: EarlyStopping = False,
    repetition_penalty: float = 1.0,
    no_repeat_ngram: int = 0,
    filters: Sequence[Filter] = (),
) -> list[Hypothesis]:
    """Return up to `num_beams` finished hypotheses, the best first.

    Args:
        model: left in the mode that it was in.
        prompt: token ids.
        num_beams: how many beginnings are kept.
        max_new_tokens: the most that is written; the end of the context ends it too.
        eos_id: the id, or ids, with which a hypothesis ends.
        length_penalty: above 0 favours long hypotheses, below 0 short ones, 0 compares the sums.
        early_stopping: when to end the search with `num_beams` finished hypotheses. True: at once. False: when the
            best beginning, scored at its present length, is no better than the worst of them. "never": when even the
            length that helps it most would not make it better.
        repetition_penalty: as for `generate`; applied to log-probabilities, as in transformers.
        no_repeat_ngram: as for `generate`.
        filters: as for `generate`, on log-probabilities.

    Raises:
        ValueError: a setting is out of its range, or the prompt is empty, holds an id outside the vocabulary, or is as
            long as the context.
    """
    V = model.cfg.vocab_size
    if not 1 <= num_beams <= V:
        raise ValueError(f"num_beams must be in [1, {V}], the vocabulary, got {num_beams}")
    if not isinstance(max_new_tokens, int) or max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be a whole number >= 1, got {max_new_tokens!r}")
    if early_stopping not in (True, False, "never"):
        raise ValueError(f"early_stopping must be True, False or 'never', got {early_stopping!r}")
    check_prompts(model, [prompt])
    chain = compose(repetition_penalty=repetition_penalty, no_repeat_ngram=no_repeat_ngram, filters=filters)
    longest = min(max_new_tokens, model.cfg.context_length - len(prompt))
    search = _Search(set_of_ids(eos_id, V), num_beams, longest, length_penalty, early_stopping)
    with evaluation_mode(model):
        return _search(model, list(prompt), search, chain)


class _Search(NamedTuple):
    eos_ids: frozenset[int]
    num_beams: int
    longest: int
    length_penalty: float
    early_stopping: EarlyStopping


def _search(model: GPTModel, prompt: list[int], search: _Search, chain: Sequence[Filter]) -> list[Hypothesis]:
    device = next(model.parameters()).device
    cache = KVCache(model.cfg.n_layers)
    running: list[tuple[float, list[int]]] = [(0.0, [])]  # (sum of log-probabilities, new tokens)
    finished: list[Hypothesis] = []
    ids = torch.tensor([prompt], device=device)
    for length in range(1, search.longest + 1):
        features = model.forward_embeddings(model.embed(ids), cache=cache)  # (beams, T, D)
        scores = model.out_head(features[:, -1]).float().log_softmax(dim=-1)  # (beams, V)
        for change in chain:
            scores = change([prompt + tokens for _, tokens in running], scores)
        scores = scores + torch.tensor([[total] for total, _ in running], device=device)
        # Enough candidates that num_beams of them go on, even if all the others end here.
        count = max(2, 1 + len(search.eos_ids)) * search.num_beams
        best = scores.flatten().topk(min(count, scores.numel()))
        candidates = [
            (total, flat // scores.shape[1], flat % scores.shape[1])
            for total, flat in zip(best.values.tolist(), best.indices.tolist())
        ]
        ends = [length == search.longest or token in search.eos_ids for _, _, token in candidates]
        for (total, beam, token), end in list(zip(candidates, ends))[: search.num_beams]:
            if end:
                ended = token in search.eos_ids
                tokens = running[beam][1] + ([] if ended else [token])
                finished.append(Hypothesis(tokens, total / length**search.length_penalty, ended))
        finished = sorted(finished, key=lambda hypothesis: -hypothesis.score)[: search.num_beams]
        going_on = [candidate for candidate, end in zip(candidates, ends) if not end][: search.num_beams]
        if not going_on or _is_over(going_on[0][0], finished, length, search):
            break
        running = [(total, [*running[beam][1], token]) for total, beam, token in going_on]
        cache.reorder(torch.tensor([beam for _, beam, _ in going_on], device=device))
        ids = torch.tensor([[token] for _, _, token in going_on], device=device)
    return finished


def _is_over(best: float, finished: list[Hypothesis], length: int, search: _Search) -> bool:
    """Whether no beginning, the best of which has the sum `best`, can still displace a finished hypothesis."""
    if len(finished) < search.num_beams:
        return False
    if search.early_stopping is True:
        return True
    favourable = search.early_stopping == "never" and search.length_penalty > 0
    return best / (search.longest if favourable else length) ** search.length_penalty <= finished[-1].score
