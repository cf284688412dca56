"""Check what a reader wrote: by properties that every right answer has, with the hint that fits the mistake.

A check is a function that calls the answer on small inputs and says with `expect` what must hold, in the order in
which one would look for a mistake. The first thing that does not hold gives the hint.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sysconfig
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

_CHECKS: dict[str, Check] = {}
_PATIENCE = 20.0  # seconds; a right answer takes well under one


class Mistake(Exception):
    """The answer is wrong; the message is the hint."""


@dataclass(frozen=True)
class Check:
    """What is asked, in a few words, and the function that looks at the answer and raises a Mistake."""

    name: str
    title: str
    test: Callable[[Any], None]


@dataclass(frozen=True)
class Result:
    """What came of a check; as a truth value, whether it passed.

    Attributes:
        name: of the check.
        title: what was asked.
        status: an answer that still raises NotImplementedError is not started.
        hint: for a failed one, what to look at.
    """

    name: str
    title: str
    status: Literal["passed", "not started", "failed"]
    hint: str = ""

    def __str__(self) -> str:
        line = f"{self.status:<12} {self.name}: {self.title}"
        return f"{line}\n             {self.hint}" if self.hint else line

    __repr__ = __str__

    def __bool__(self) -> bool:
        return self.status == "passed"


def check(name: str, answer: Any) -> Result:
    """Check an answer, such as a function that you wrote, and return whether it passed, or a hint.

    The random state is as before afterwards.

    Args:
        name: of the check, such as "collate.padding"; `gptlab.checks.names()` has all.
        answer: what the exercise asks for, mostly a function or a class.

    Raises:
        TypeError: the name is not text.
        ValueError: there is no such check; the message has similar names.
    """
    if not isinstance(name, str):
        raise TypeError(f"the first argument is the name of a check, the second one the answer; got {name!r} first")
    found = _find(name)
    error = _error_of(found.test, answer) if callable(answer) else _not_a_function(answer)
    if error is None:
        return Result(name, found.title, "passed")
    if isinstance(error, NotImplementedError):
        return Result(name, found.title, "not started")
    return Result(name, found.title, "failed", str(error) if isinstance(error, Mistake) else _say_where(error))


def _error_of(test: Callable[[Any], None], answer: Any) -> Exception | None:
    """Return what the test raises, if anything; an answer that does not come to an end is a mistake, too.

    It runs in a thread of its own, the only place from which one can walk away.
    """
    raised: list[Exception] = []

    def run() -> None:
        torch.manual_seed(0)
        try:
            test(answer)
        except Exception as error:
            raised.append(error)

    with torch.random.fork_rng(devices=[]):
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(_PATIENCE)
        if thread.is_alive():
            return Mistake(f"no end after {_PATIENCE:g} seconds: does every way through each loop move on?")
    return raised[0] if raised else None


def _not_a_function(answer: Any) -> Mistake:
    return Mistake(f"give the function itself, without calling it; got {_described(answer)}")


def names() -> list[str]:
    """Return the names of all checks."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"gptlab.checks.{module.name}")
    return list(_CHECKS)


def check_of(name: str, title: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Make a check of the function that follows."""

    def keep(test: Callable[[Any], None]) -> Callable[[Any], None]:
        _CHECKS[name] = Check(name, title, test)
        return test

    return keep


def expect(holds: bool, hint: str) -> None:
    """Raise a Mistake with the hint unless it holds."""
    if not holds:
        raise Mistake(hint)


def expect_tuple(got: Any, what: str) -> tuple:
    """Return `got` as a tuple if it is one, or a list; else raise a Mistake that says what it is."""
    expect_returned(got)
    expect(isinstance(got, tuple | list), f"{what} should be a tuple, got {_described(got)}")
    return tuple(got)


def expect_tensor(got: Any, shape: tuple[int, ...], what: str = "the result") -> Tensor:
    """Return `got` if it is a tensor of that shape without NaN, else raise a Mistake that says what it is."""
    expect_returned(got)
    expect(isinstance(got, Tensor), f"{what} should be a tensor, got {_described(got)}")
    expect(got.shape == shape, f"{what} should have the shape {shape}, got {tuple(got.shape)}")
    expect(not got.is_floating_point() or not got.isnan().any(), f"{what} holds NaN, such as 0 / 0 or inf - inf gives")
    return got


def expect_returned(got: Any) -> None:
    """Raise a Mistake if nothing came back."""
    expect(got is not None, "it returns None: a `return` seems to be missing")


def close(left: Any, right: Any, tolerance: float = 1e-5) -> bool:
    """Say whether two numbers or tensors of one shape are equal up to rounding."""
    left, right = torch.as_tensor(left, dtype=torch.float64), torch.as_tensor(right, dtype=torch.float64)
    return left.shape == right.shape and torch.allclose(left, right, rtol=tolerance, atol=tolerance)


def _described(got: Any) -> str:
    """Return what something is, in a few words."""
    if isinstance(got, Tensor):
        return f"a tensor of shape {tuple(got.shape)}"
    if isinstance(got, tuple | list):
        return f"{type(got).__name__} of {len(got)}"
    return f"{got!r:.60} ({type(got).__name__})"


def _find(name: str) -> Check:
    known = names()
    if name not in known:
        similar = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
        raise ValueError(f"there is no check {name!r}; did you mean {', '.join(similar)}?")
    return _CHECKS[name]


def _say_where(error: Exception) -> str:
    """Return the error with the last line outside this package and PyTorch, which is where the reader can mend it."""
    message = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": ")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    if not frames:
        return f"{message}, when it is called as the exercise says"
    return f"{message}, in line {frames[-1].lineno}: {frames[-1].line}"


def _is_library(filename: str) -> bool:
    folders = [Path(__file__).parents[1], *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))]
    return filename.startswith("<frozen") or any(Path(filename).is_relative_to(folder) for folder in folders)
