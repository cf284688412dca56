"""All that was found about a set of responses as one dictionary: what `gptlab judge` writes, and its page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gptlab.judging.metrics import Entry
from gptlab.judging.page import FORMAT
from gptlab.judging.pairwise import PairwiseReport
from gptlab.judging.scoring import ScoreReport


def judging_report(
    entries: Sequence[Entry],
    *,
    metrics: Mapping[str, Any],
    names: tuple[str, str | None],
    numbers: Sequence[int] | None = None,
    key: str = "model_response",
    against: Sequence[Entry] | None = None,
    against_key: str | None = None,
    metrics_against: Mapping[str, Any] | None = None,
    judge: Mapping[str, Any] | None = None,
    scores: ScoreReport | None = None,
    scores_against: ScoreReport | None = None,
    comparison: PairwiseReport | None = None,
) -> dict[str, Any]:
    """Return everything, as JSON can hold it.

    Args:
        entries: with instruction, output and response.
        metrics: of the responses.
        names: what the two sets of responses are called; the second is None where there is one set.
        numbers: of the entries in their file, from 1; None counts them.
        key: where the response is.
        against: the same entries with the other responses.
        against_key: where those are; None is `key`.
        metrics_against: of the other responses.
        judge: name and settings of who scored and compared.
        scores: of the responses.
        scores_against: of the other responses.
        comparison: of both.
    """
    against_key = key if against_key is None else against_key
    rows = []
    for place, entry in enumerate(entries):
        rows.append(
            {
                "number": place + 1 if numbers is None else numbers[place],
                **{name: entry.get(name) or "" for name in ("instruction", "input", "output")},
                "response": entry[key],
                "against": None if against is None else against[place][against_key],
                "score": _result(scores, place),
                "score_against": _result(scores_against, place),
                "pair": _result(comparison, place),
            }
        )
    return {
        "format": FORMAT,
        "responses": names[0],
        "against": names[1],
        "judge": None if judge is None else dict(judge),
        "metrics": dict(metrics),
        "metrics_against": None if metrics_against is None else dict(metrics_against),
        "scores": None if scores is None else {"summary": scores.summary()},
        "scores_against": None if scores_against is None else {"summary": scores_against.summary()},
        "comparison": None if comparison is None else {"summary": comparison.summary()},
        "entries": rows,
    }


def _result(report: ScoreReport | PairwiseReport | None, place: int) -> dict[str, Any] | None:
    return None if report is None else report.results[place].to_dict()
