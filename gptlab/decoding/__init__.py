"""Decoding: let the model write, and answer instructions with it."""

from gptlab.decoding.beam import Hypothesis, beam_search
from gptlab.decoding.generate import Generated, generate, stream
from gptlab.decoding.respond import Response, exact_match, respond

__all__ = ["Generated", "Hypothesis", "Response", "beam_search", "exact_match", "generate", "respond", "stream"]
