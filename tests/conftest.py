"""Small things that many tests need: a tokenizer, a model, a checkpoint."""

import os

import pytest
import torch

from gptlab.config import GPTConfig
from gptlab.model import GPTModel, initialize_like_gpt2
from gptlab.tokenizer import train_tokenizer
from gptlab.weights import save_checkpoint

TEXT = "The home of Lumika is in Fenn. The pet of Lumika is a goat. Fenn has a mill and a market by the river. " * 3


@pytest.fixture(autouse=True)
def two_threads():
    """At most two, or fewer where the environment asks for it, as when something else computes at the same time."""
    torch.set_num_threads(min(2, int(os.environ.get("OMP_NUM_THREADS", "2"))))


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(TEXT, 300)


@pytest.fixture
def tiny(tokenizer):
    """A random model of two layers over the small tokenizer, in evaluation mode."""
    cfg = GPTConfig(
        vocab_size=tokenizer.n_vocab, context_length=160, emb_dim=32, n_heads=4, n_layers=2, tie_weights=True
    )
    model = GPTModel(cfg)
    initialize_like_gpt2(model, torch.Generator().manual_seed(0))
    return model.eval()


@pytest.fixture
def checkpoint_dir(tiny, tokenizer, tmp_path):
    directory = tmp_path / "tiny"
    save_checkpoint(directory, tiny, tokenizer, "alpaca_short")
    return directory


@pytest.fixture
def entries():
    return [
        {"instruction": f"Say the number {number}.", "input": "", "output": f"It is {number}."} for number in range(20)
    ]
