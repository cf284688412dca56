"""Decoding: let the model write, and answer instructions with it."""

from gptlab.decoding.beam import Hypothesis, beam_search
from gptlab.decoding.chat import ChatSession
from gptlab.decoding.generate import Generated, generate, stream
from gptlab.decoding.perplexity import Perplexity, perplexity
from gptlab.decoding.prepare import prepare_for_decoding
from gptlab.decoding.respond import Response, exact_match, respond, stream_response
from gptlab.decoding.text import Streamed

__all__ = [
    "ChatSession",
    "Generated",
    "Hypothesis",
    "Perplexity",
    "Response",
    "Streamed",
    "beam_search",
    "exact_match",
    "generate",
    "perplexity",
    "prepare_for_decoding",
    "respond",
    "stream",
    "stream_response",
]
