"""Decoding: let the model write, and answer instructions with it."""

from gptlab.decoding.generate import generate
from gptlab.decoding.respond import exact_match, respond

__all__ = ["exact_match", "generate", "respond"]
