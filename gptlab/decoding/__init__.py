"""Decoding: let the model write, and answer instructions with it."""

from gptlab.decoding.generate import Generated, generate
from gptlab.decoding.respond import Response, exact_match, respond

__all__ = ["Generated", "Response", "exact_match", "generate", "respond"]
