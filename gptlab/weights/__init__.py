"""Weights: checkpoints of our own, and GPT-2's as OpenAI and Hugging Face store them."""

from gptlab.weights.checkpoint import Checkpoint, load_checkpoint, load_gpt2, save_checkpoint
from gptlab.weights.digest import weights_digest
from gptlab.weights.gpt2 import assign_check, load_weights
from gptlab.weights.huggingface import export_huggingface
from gptlab.weights.special_tokens import add_special_tokens

__all__ = [
    "Checkpoint",
    "add_special_tokens",
    "assign_check",
    "export_huggingface",
    "load_checkpoint",
    "load_gpt2",
    "load_weights",
    "save_checkpoint",
    "weights_digest",
]
