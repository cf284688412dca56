"""Looking into models: where one parts from another."""

from gptlab.analysis.compare import Comparison, compare

__all__ = ["Comparison", "compare"]
