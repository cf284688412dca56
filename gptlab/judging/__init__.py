"""Judging: is the tuned model any good? Scores by a judge, comparisons by a judge, and metrics that need none."""

from gptlab.judging.metrics import MetricsReport, exact_match, measure
from gptlab.judging.pairwise import PairwiseReport, compare_responses
from gptlab.judging.parsing import parse_score, parse_verdict
from gptlab.judging.scoring import ScoreReport, score_responses
from gptlab.rouge import rouge_l

__all__ = [
    "MetricsReport",
    "PairwiseReport",
    "ScoreReport",
    "compare_responses",
    "exact_match",
    "measure",
    "parse_score",
    "parse_verdict",
    "rouge_l",
    "score_responses",
]
