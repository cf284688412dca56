"""Training: the loss, the loop, the learning rate, and what happened."""

from gptlab.training.classification import (
    Classifier,
    accuracy,
    classify,
    load_classifier,
    make_classifier,
    save_classifier,
)
from gptlab.training.finetune import finetune
from gptlab.training.history import History
from gptlab.training.loop import make_optimizer, train
from gptlab.training.loss import evaluate, next_token_loss
from gptlab.training.schedule import warmup_cosine

__all__ = [
    "Classifier",
    "History",
    "accuracy",
    "classify",
    "evaluate",
    "finetune",
    "load_classifier",
    "make_classifier",
    "make_optimizer",
    "next_token_loss",
    "save_classifier",
    "train",
    "warmup_cosine",
]
