"""Checks of exercises, named by subject and with hints; `gptlab.check("collate.padding", my_function)` runs one."""

from gptlab.checks.core import Mistake, Result, check, names
from gptlab.checks.run import run

__all__ = ["Mistake", "Result", "check", "names", "run"]
