"""Tuning a few parameters."""

from gptlab.peft.inject import replace_modules

__all__ = ["replace_modules"]
