"""Training: the loss, the loop, the learning rate, and what happened."""

from gptlab.training.checkpoint import TrainingCheckpoints
from gptlab.training.classification import (
    Classifier,
    accuracy,
    classify,
    load_classifier,
    make_classifier,
    save_classifier,
)
from gptlab.training.estimate import Estimate, estimate
from gptlab.training.finetune import finetune
from gptlab.training.history import History
from gptlab.training.hooks import Hook
from gptlab.training.loop import train
from gptlab.training.loss import evaluate, next_token_loss
from gptlab.training.optimizer import make_optimizer
from gptlab.training.rate_search import RateSearch, find_learning_rate
from gptlab.training.schedule import warmup_constant, warmup_cosine
from gptlab.training.stages import Stage, StagesHistory, train_stages

__all__ = [
    "TrainingCheckpoints",
    "Estimate",
    "Hook",
    "RateSearch",
    "Stage",
    "StagesHistory",
    "estimate",
    "find_learning_rate",
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
    "train_stages",
    "warmup_constant",
    "warmup_cosine",
]
