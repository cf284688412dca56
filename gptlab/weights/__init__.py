"""Weights: checkpoints of our own, and GPT-2's as OpenAI and Hugging Face store them."""

from gptlab.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from gptlab.weights.gpt2 import assign_check, load_weights

__all__ = ["Checkpoint", "assign_check", "load_checkpoint", "load_weights", "save_checkpoint"]
