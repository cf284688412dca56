"""A training that is run as a program of its own, so that a test can kill it: survivor.py DIRECTORY MOMENT

MOMENT is "never", or one of: step N (after N optimizer steps of this run), file N (while the Nth file of the states is
written, half of it on the disk), rename N (before the Nth state gets its name), remove N (in the middle of the Nth
removal of an old state).
"""

import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_model
from torch.utils.data import DataLoader, TensorDataset

from gptlab.model import GPTModel
from gptlab.training import Hook, TrainingCheckpoints, checkpoint, make_optimizer, train, warmup_cosine

safetensors_save_file = checkpoint.save_file


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DieAfter(Hook):
    def __init__(self, steps):
        self.left = steps

    def after_step(self, model, step):
        self.left -= 1
        if self.left == 0:
            die()


class Noise(Hook):
    """A hook with a state and a loss of its own, both of which a resumed run has to find again."""

    def __init__(self):
        self.average = torch.zeros(16)

    def loss_terms(self, model):
        return 1e-3 * (model.tok_emb.weight.mean(dim=0) * self.average).sum()

    def after_step(self, model, step):
        draw = torch.from_numpy(np.random.rand(16).astype(np.float32))
        self.average = 0.9 * self.average + 0.1 * model.tok_emb.weight.grad.mean(dim=0) + 0.01 * draw

    def state_dict(self):
        return {"average": self.average}

    def load_state_dict(self, state):
        self.average = state["average"]


def count_down(function, number, before_dying=None):
    """Return `function`, whose `number`th call is the last thing that happens."""
    left = [number]

    def counted(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            if before_dying is not None:
                before_dying(*arguments, **options)
            die()
        return function(*arguments, **options)

    return counted


def half_a_file(tensors, path):
    safetensors_save_file(tensors, path)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])


def half_a_removal(folder, **_):
    next(Path(folder).iterdir()).unlink()


def main(directory: Path, moment: str, number: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    cfg = {"vocab_size": 20, "context_length": 8, "emb_dim": 16, "n_heads": 2, "n_layers": 2, "qkv_bias": True}
    model = GPTModel(cfg | {"drop_rate": 0.2, "tie_weights": True})
    rows = torch.randint(0, 20, (42, 9))
    batches = DataLoader(TensorDataset(rows[:, :-1], rows[:, 1:]), 4, shuffle=True)  # draws from the global state
    optimizer = make_optimizer(model, 3e-3)
    hooks = [Noise(), DieAfter(number if moment == "step" else 0)]
    if moment == "file":
        checkpoint.save_file = count_down(checkpoint.save_file, number, half_a_file)
    if moment == "rename":
        checkpoint.Path.rename = count_down(Path.rename, number)
    if moment == "remove":
        checkpoint.shutil.rmtree = count_down(checkpoint.shutil.rmtree, number, half_a_removal)
    train(
        model,
        batches,
        optimizer=optimizer,
        schedule=warmup_cosine(optimizer, 4 * len(batches), 5),
        epochs=4,
        validation=batches,
        hooks=hooks,
        checkpoints=TrainingCheckpoints(
            directory / "states", every=3, resume=True, tell=lambda line: print(line, flush=True)
        ),
        metrics=directory / "metrics.jsonl",
        progress=False,
    )
    save_model(model, directory / "final.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int([*sys.argv, "0"][3]))
