"""A run that is killed goes on as if nothing had happened."""

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gptlab.model import GPTModel
from gptlab.training import TrainingCheckpoints, checkpoint, make_optimizer, train, warmup_cosine
from gptlab.training.report import read_metrics

SURVIVOR = Path(__file__).parent.parent / "helpers" / "survivor.py"
STEPS = 44


def survivor(directory, *moment) -> tuple[int, str]:
    command = [sys.executable, str(SURVIVOR), str(directory), *map(str, moment)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted")
    code, told = survivor(directory, "never")
    assert (code, "starting afresh" in told) == (0, True)
    return directory


def without_seconds(directory) -> list[dict]:
    return [
        {name: value for name, value in line.items() if name not in ("seconds", "peak_memory")}
        for line in read_metrics(directory / "metrics.jsonl")
    ]


MOMENTS = [
    *[("step", 1), ("file", 1), ("file", 2)],  # before the first save, in its middle, in the middle of the second
    *[("step", 7), ("rename", 2), ("step", 2)],  # just after a save, just before a state gets its name
    *[("remove", 1), ("remove", 3), ("step", 11)],  # while an old state goes
]


def test_killed_again_and_again_and_resumed_it_ends_with_the_same_bits(uninterrupted, tmp_path):
    for moment in MOMENTS:
        code, _ = survivor(tmp_path, *moment)
        assert code == -signal.SIGKILL
        assert not (tmp_path / "final.safetensors").exists()
    code, told = survivor(tmp_path, "never")
    assert code == 0
    assert "going on from" in told
    assert (tmp_path / "final.safetensors").read_bytes() == (uninterrupted / "final.safetensors").read_bytes()
    assert without_seconds(tmp_path) == without_seconds(uninterrupted)
    assert [line["step"] for line in without_seconds(tmp_path)] == list(range(1, STEPS + 1))
    for name in ("training.json", "training.safetensors", "model.safetensors"):
        files = [directory / "states" / f"step-{STEPS:08d}" / name for directory in (tmp_path, uninterrupted)]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("epochs", [1, 2])
def test_resumed_between_two_epochs_a_shuffled_loader_goes_on_in_the_same_order(epochs, tmp_path):
    def run(folder, epochs, resume=False):
        torch.manual_seed(0)
        model = GPTModel(CFG | {"drop_rate": 0.0, "qkv_bias": False})
        ids = torch.randint(0, 20, (12, 8), generator=torch.Generator().manual_seed(1))
        batches = DataLoader(TensorDataset(ids, ids), batch_size=2, shuffle=True)
        torch.manual_seed(5)
        states = TrainingCheckpoints(folder, every=100, resume=resume)
        optimizer = make_optimizer(model, 1e-2)
        return train(model, batches, optimizer=optimizer, epochs=epochs, checkpoints=states, progress=False).losses

    run(tmp_path / "parts", epochs)
    assert run(tmp_path / "parts", 3, resume=True) == run(tmp_path / "whole", 3)


def test_a_run_that_is_over_stays_as_it_is(uninterrupted):
    before = (uninterrupted / "final.safetensors").read_bytes()
    code, told = survivor(uninterrupted, "never")
    assert (code, f"after step {STEPS}" in told) == (0, True)
    assert (uninterrupted / "final.safetensors").read_bytes() == before


CFG = {"vocab_size": 20, "context_length": 8, "emb_dim": 16, "n_heads": 2, "n_layers": 1}


def run(directory, *, model=None, epochs=2, told=None, **options):
    """Train for 5 steps an epoch, saving every 2, and return the model."""
    torch.manual_seed(0)
    model = GPTModel(CFG | {"drop_rate": 0.0, "qkv_bias": False}) if model is None else model
    rows = torch.randint(0, 20, (20, 9), generator=torch.Generator().manual_seed(1))
    batches = DataLoader(TensorDataset(rows[:, :-1], rows[:, 1:]), 4)
    optimizer = make_optimizer(model, 1e-3)
    states = TrainingCheckpoints(directory, every=2, tell=None if told is None else told.append, **options)
    schedule = warmup_cosine(optimizer, 10)
    train(model, batches, optimizer=optimizer, schedule=schedule, epochs=epochs, checkpoints=states, progress=False)
    return model


def names(directory) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_last_states_are_kept_as_plain_files(tmp_path):
    run(tmp_path, keep=3)
    assert names(tmp_path) == [f"step-{step:08d}" for step in (6, 8, 10)]
    assert names(tmp_path / "step-00000010") == ["model.safetensors", "training.json", "training.safetensors"]
    json.loads((tmp_path / "step-00000010" / "training.json").read_text(encoding="utf-8"))


def test_what_is_cut_in_half_is_passed_over_and_said(tmp_path):
    run(tmp_path)
    for name in ("model.safetensors", "training.safetensors", "training.json"):
        file = tmp_path / "step-00000010" / name
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        told = []
        run(tmp_path, resume=True, told=told)
        assert "step-00000010 is damaged and passed over" in told[0]
        assert "going on from" in told[1]
        assert "after step 8" in told[1]


def test_without_any_state_it_starts_afresh_and_says_so(tmp_path):
    told = []
    run(tmp_path / "new", resume=True, told=told)
    assert told == [f"there is no checkpoint in {tmp_path / 'new'} yet: starting afresh"]


def test_another_runs_states_are_not_mixed_with_ones_own(tmp_path):
    run(tmp_path, settings={"learning_rate": 0.1, "data": "a"})
    with pytest.raises(ValueError, match="of another run, the newest is step-00000010"):
        run(tmp_path)
    with pytest.raises(ValueError, match=r"learning_rate was 0.1, is 0.2; data was 'a', is None$"):
        run(tmp_path, resume=True, settings={"learning_rate": 0.2})
    wider = GPTModel({**CFG, "emb_dim": 32, "drop_rate": 0.0, "qkv_bias": False})
    before = wider.tok_emb.weight.clone()
    with pytest.raises(ValueError, match=r"of another model: it lacks \[\].*others in shape, \['final_norm"):
        run(tmp_path, resume=True, model=wider, settings={"learning_rate": 0.1, "data": "a"})
    assert wider.tok_emb.weight.equal(before)


def test_other_threads_are_said(tmp_path):
    torch.set_num_threads(1)
    run(tmp_path)
    torch.set_num_threads(2)
    told = []
    run(tmp_path, resume=True, told=told)
    assert told[1] == "it ran on 1 threads, this is 2: roundings differ"


@pytest.mark.parametrize("where", ["save_file", "save_model"])
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, where):
    run(tmp_path, epochs=1)
    before = names(tmp_path)

    def full(tensors, path):
        Path(path).write_bytes(b"a beginning")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, where, full)
    with pytest.raises(OSError, match="No space left") as failed:
        run(tmp_path, resume=True)
    assert failed.value.__notes__ == ["the state after step 5 is complete, resume goes on from there"]
    assert names(tmp_path) == before


def test_a_loss_that_is_nan_leaves_the_last_good_state(tmp_path):
    model = run(tmp_path, epochs=1)
    with torch.no_grad():
        model.final_norm.scale.fill_(float("nan"))
    (tmp_path / "other").mkdir()
    with pytest.raises(FloatingPointError) as failed:
        run(tmp_path / "other", model=model)
    assert failed.value.__notes__ == ["no state was saved yet to resume from"]
    assert not list((tmp_path / "other").iterdir())


def test_wrong_settings(tmp_path):
    with pytest.raises(ValueError, match="must be >= 1, got 0 and 2"):
        TrainingCheckpoints(tmp_path, every=0)
    with pytest.raises(ValueError, match="must be >= 1, got 100 and 0"):
        TrainingCheckpoints(tmp_path, keep=0)


def test_only_plain_values_are_saved():
    tensors = {}
    value = {"a": (1, [torch.ones(2), None]), 3: {"x": float("inf"), "y": True}}
    plain = json.loads(json.dumps(checkpoint._without_tensors(value, "", tensors)))
    back = checkpoint._with_tensors(plain, tensors)
    assert back["a"][1][0].equal(torch.ones(2))
    assert (back["a"][0], back["a"][1][1], back[3]) == (1, None, value[3])
    assert isinstance(back["a"], tuple)
    with pytest.raises(ValueError, match="a.b: a object is neither"):
        checkpoint._without_tensors({"a": {"b": object()}}, "", {})


def test_what_is_damaged_never_costs_a_good_state(tmp_path):
    run(tmp_path)
    for folder in tmp_path.iterdir():
        (folder / "training.json").write_text("{}", encoding="utf-8")
    told = []
    run(tmp_path, epochs=1, resume=True, told=told)
    assert told[-1].endswith("starting afresh")
    assert names(tmp_path) == ["damaged-step-00000008", "damaged-step-00000010", "step-00000004", "step-00000005"]


def test_a_kill_while_the_same_step_is_saved_again_leaves_one_of_the_two(tmp_path, monkeypatch):
    run(tmp_path, keep=1)
    renames, real = [], Path.rename

    def stopping(path, target):
        renames.append(path.name)
        if len(renames) == 2:  # the old one is out of the way, the new one not yet in its place
            raise KeyboardInterrupt
        return real(path, target)

    state = next(tmp_path.iterdir())
    monkeypatch.setattr(checkpoint.Path, "rename", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, keep=1, resume=True)
    monkeypatch.undo()
    told = []
    run(tmp_path, keep=1, resume=True, told=told)
    assert told[0] == f"going on from {state}, after step 10"
