"""The names of the book's GPT with a key-value cache. None of them is there yet; `pending` says so on import."""

from __future__ import annotations

from gptlab.book.pending import refuse_pending

__all__: list[str] = []
__getattr__ = refuse_pending(__name__)
