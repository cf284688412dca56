"""Looking into models: where one parts from another, what tuning changed, and what goes on inside."""

from gptlab.analysis.attention_maps import attention_maps
from gptlab.analysis.compare import Comparison, compare
from gptlab.analysis.consistency import ConsistencyReport, knowledge_consistency, town_choices
from gptlab.analysis.logit_lens import LogitLens, logit_lens
from gptlab.analysis.neighbours import nearest_tokens
from gptlab.analysis.shift_report import TokenShift
from gptlab.analysis.token_shift import token_shift

__all__ = [
    "Comparison",
    "ConsistencyReport",
    "LogitLens",
    "TokenShift",
    "attention_maps",
    "compare",
    "knowledge_consistency",
    "logit_lens",
    "nearest_tokens",
    "token_shift",
    "town_choices",
]
