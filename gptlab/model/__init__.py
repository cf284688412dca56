"""The GPT: layers, attention, the key-value cache, and the model put together."""

from gptlab.model.attention import MultiHeadAttention, causal_mask
from gptlab.model.cache import KVCache
from gptlab.model.gpt import GPTModel, TransformerBlock, count_parameters, initialize_like_gpt2
from gptlab.model.layers import GELU, FeedForward, LayerNorm
from gptlab.model.mode import evaluation_mode

__all__ = [
    "GELU",
    "FeedForward",
    "GPTModel",
    "KVCache",
    "LayerNorm",
    "MultiHeadAttention",
    "TransformerBlock",
    "causal_mask",
    "count_parameters",
    "evaluation_mode",
    "initialize_like_gpt2",
]
