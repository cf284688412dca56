"""Choosing instruction data: which entries are worth training on.

What selects returns indices into the entries, in the order of picking.
"""

from gptlab.selection.card import ReportCard, report_card, write_card
from gptlab.selection.contamination import contaminated
from gptlab.selection.diversity import kmeans_diverse
from gptlab.selection.duplicates import near_duplicates, without_near_duplicates
from gptlab.selection.embedding import embed
from gptlab.selection.facility_location import coverage, coverage_curve, facility_location, scaled_quality
from gptlab.selection.length import longest
from gptlab.selection.novelty import NoveltyFilter, novel_instructions
from gptlab.selection.quality import QualityReport, parse_rating, rate_quality
from gptlab.selection.root_words import root_table, root_words
from gptlab.selection.rules import Rule, RulesReport, apply_rules, lima_rules

__all__ = [
    "NoveltyFilter",
    "QualityReport",
    "ReportCard",
    "Rule",
    "RulesReport",
    "apply_rules",
    "contaminated",
    "coverage",
    "coverage_curve",
    "embed",
    "facility_location",
    "kmeans_diverse",
    "lima_rules",
    "longest",
    "near_duplicates",
    "novel_instructions",
    "parse_rating",
    "rate_quality",
    "report_card",
    "root_table",
    "root_words",
    "scaled_quality",
    "without_near_duplicates",
    "write_card",
]
