from dataclasses import replace

import pytest

from gptlab import demo


@pytest.fixture(scope="session")
def hurried_base():
    """The small town's model and tokenizer after a few steps: of the true shape, but it knows nothing."""
    recipe = replace(demo.SMALL_TOWN, pretraining_steps=20, pretraining_batch=4)
    model, tokenizer, _ = demo.pretrain_town(recipe.town(), recipe, progress=False)
    return model, tokenizer


@pytest.fixture
def reader(hurried_base, tmp_path, monkeypatch):
    """A working directory in which `town_base()` finds that model instead of training one for a minute."""
    demo._save_base(tmp_path / "checkpoints" / "town-base", *hurried_base, 0, demo.SMALL_TOWN)
    monkeypatch.chdir(tmp_path)
