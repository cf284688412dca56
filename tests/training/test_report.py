import json

import pytest

from gptlab.training import History, make_optimizer, train
from gptlab.training.history import history_from_dict
from gptlab.training.report import read_metrics


@pytest.fixture
def batches(tiny):
    import torch

    ids = torch.randint(0, tiny.cfg.vocab_size, (3, 9), generator=torch.Generator().manual_seed(0))
    return [(ids[:, :-1], ids[:, 1:])] * 4


def test_every_step_is_a_line(tiny, batches, tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    history = train(tiny, batches, optimizer=make_optimizer(tiny, 1e-3), metrics=path, progress=False)
    lines = read_metrics(path)
    assert [line["loss"] for line in lines] == history.losses
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert {line["tokens"] for line in lines} == {line["targets"] for line in lines} == {24}
    assert all(line["seconds"] > 0 and line["gradient_norm"] > 0 for line in lines)
    assert all(line["peak_memory"] > 10**7 for line in lines)


def test_a_line_that_was_cut_off_and_steps_that_are_done_again_go(tiny, batches, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 9.0}\n{"step": 2, "lo', encoding="utf-8")
    assert read_metrics(path) == [{"step": 1, "loss": 9.0}]
    train(tiny, batches, optimizer=make_optimizer(tiny, 1e-3), metrics=path, progress=False)  # afresh
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3, 4]
    assert read_metrics(path)[0]["loss"] < 9
    assert read_metrics(tmp_path / "none") == []


def test_the_bar_shows_loss_speed_and_memory(tiny, batches, capsys):
    train(tiny, batches, optimizer=make_optimizer(tiny, 1e-3), title="learning")
    shown = capsys.readouterr().err
    assert "learning: 100%" in shown
    for what in ("loss=5.", "tokens/s=", "memory="):
        assert what in shown


def test_validation_every_so_many_steps_and_the_books_tuple(tiny, batches):
    history = train(
        tiny, batches, optimizer=make_optimizer(tiny, 1e-3), validation=batches[:1], validate_every=3, progress=False
    )
    assert [step for step, _ in history.validation] == [0, 3, 4]
    train_losses, val_losses, tokens_seen = history
    assert val_losses == [loss for _, loss in history.validation[1:]]
    assert tokens_seen == [3 * 24, 4 * 24]
    assert train_losses == pytest.approx([sum(history.losses[:3]) / 3, sum(history.losses) / 4])
    assert history_from_dict(json.loads(json.dumps(vars(history)))) == history
    assert list(History()) == [[], [], []]
    with pytest.raises(ValueError, match="validate_every must be >= 1, got 0"):
        train(tiny, batches, optimizer=make_optimizer(tiny, 1e-3), validate_every=0, progress=False)
    for norm in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"max_grad_norm must be > 0, got {norm}"):
            train(tiny, batches, optimizer=make_optimizer(tiny, 1e-3), max_grad_norm=norm, progress=False)
    with pytest.raises(ValueError, match="micro_batches must be >= 1, got 0"):
        train(tiny, batches, optimizer=make_optimizer(tiny, 1e-3), micro_batches=0, progress=False)
