"""Training: the loss, the loop, the learning rate, what happened, and checkpoints."""

from gptlab.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from gptlab.training.finetune import finetune
from gptlab.training.history import History
from gptlab.training.loop import make_optimizer, train
from gptlab.training.loss import evaluate, next_token_loss
from gptlab.training.schedule import warmup_cosine

__all__ = [
    "Checkpoint",
    "History",
    "evaluate",
    "finetune",
    "load_checkpoint",
    "make_optimizer",
    "next_token_loss",
    "save_checkpoint",
    "train",
    "warmup_cosine",
]
