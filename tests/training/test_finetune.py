"""Settings of `finetune` that its command line does not show alone."""

import json
import math

import pytest

from gptlab.training import finetune
from gptlab.weights import load_checkpoint

TALK = [
    {"role": role, "content": f"{word} {number}"}
    for number in range(2)
    for role, word in (("user", "Hello"), ("assistant", "Hi"))
]


@pytest.mark.parametrize("share", [math.inf, math.nan, -0.1, 1.5, -1])
def test_shares_that_are_none(checkpoint_dir, entries, tmp_path, share):
    message = r"a share in \[0, 1\), or from 1 a whole number of entries, got "
    with pytest.raises(ValueError, match=f"{message}{share}"):
        finetune(load_checkpoint(checkpoint_dir), entries, tmp_path / "out", val_share=share)
    assert not (tmp_path / "out").exists()


def test_a_rule_that_is_given_comes_before_training_on_all(checkpoint_dir, tmp_path):
    """The digest of the data set tells what carries loss."""

    def digest(**options):
        out = tmp_path / str(options)
        run = {"epochs": 1, "batch_size": 7, "template": "chatml", "special_tokens": False, **options}
        finetune(load_checkpoint(checkpoint_dir), [{"messages": TALK}] * 8, out, **run)
        return json.loads((out / "history.json").read_text(encoding="utf-8"))["settings"]["dataset"]

    last, answers, everything = digest(loss_on="last"), digest(), digest(train_on="all")
    assert len({last, answers, everything}) == 3
    assert digest(loss_on="last", train_on="all") == last
    assert digest(loss_on="all") == everything


def test_weights_that_are_frozen_are_not_counted(checkpoint_dir, entries, tmp_path):
    start, told = load_checkpoint(checkpoint_dir), []
    start.model.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train: no parameter of the model has requires_grad"):
        finetune(start, entries, tmp_path / "out", tell=told.append)
    assert not told
    assert not (tmp_path / "out").exists()
    start.model.final_norm.requires_grad_(True)
    finetune(start, entries, tmp_path / "out", epochs=1, batch_size=10, tell=told.append)
    assert any("parameters, 64 of them learning" in line for line in told)
