"""Two processes on the loopback compute what one does. torchrun starts them as a user would."""

import json
import os
import subprocess
import sys

import pytest
import torch

from gptlab.training.processes import process_count, process_number, sum_over_processes, wait_for_all
from gptlab.training.report import read_metrics
from gptlab.weights import load_checkpoint


def finetune(processes, out, *options, expected=0) -> subprocess.CompletedProcess:
    start = (
        ["torch.distributed.run", "--nproc-per-node", str(processes), "-m", "gptlab"] if processes > 1 else ["gptlab"]
    )
    command = [sys.executable, "-m", *start, "finetune", "--out", str(out), "--quiet", *map(str, options)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300, check=False
    )
    assert (done.returncode == 0) == (expected == 0), done.stderr
    return done


@pytest.fixture
def options(checkpoint_dir, tmp_path):
    """43 entries of different lengths; the last batch has three rows, one process more than it can share evenly."""
    entries = [
        {"instruction": f"Say the number {number}." + " please" * (number % 5), "input": "", "output": f"{number}."}
        for number in range(43)
    ]
    (tmp_path / "entries.json").write_text(json.dumps(entries), encoding="utf-8")
    return ["--model", checkpoint_dir, "--data", tmp_path / "entries.json", "--epochs", 2, "--learning-rate", 1e-3]


@pytest.mark.parametrize("more", [[], ["--micro-batches", 2, "--packing", "--recompute"]], ids=["plain", "packed"])
def test_two_processes_have_the_losses_and_the_weights_of_one(options, tmp_path, more):
    one = finetune(1, tmp_path / "one", *options, *more)
    two = finetune(2, tmp_path / "two", *options, *more)
    assert two.stdout.count("saved to") == one.stdout.count("saved to") == 2  # only one of them speaks
    losses = [[line["loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl")] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    norms = [[line["gradient_norm"] for line in read_metrics(tmp_path / n / "metrics.jsonl")] for n in ("one", "two")]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    histories = [json.loads((tmp_path / name / "history.json").read_text())["history"] for name in ("one", "two")]
    assert histories[1]["validation"][-1][1] == pytest.approx(histories[0]["validation"][-1][1], rel=1e-5)
    weights = [load_checkpoint(tmp_path / name).model.state_dict() for name in ("one", "two")]
    for name, weight in weights[0].items():
        if not name.endswith("W_key.bias"):  # its true gradient is 0; Adam makes steps of the rounding
            torch.testing.assert_close(weights[1][name], weight, atol=1e-5, rtol=1e-5)


def test_two_processes_resume_together(options, tmp_path):
    finetune(2, tmp_path / "whole", *options)
    cut = ["--save-every", 3, "--keep", 99]
    code = (
        "import sys; from gptlab.training import checkpoint; checkpoint.TrainingCheckpoints.clear = lambda self: None; "
    )
    code += "from gptlab.__main__ import main; sys.exit(main())"
    (tmp_path / "keeping.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(tmp_path / "keeping.py")]
    arguments = ["finetune", "--out", tmp_path / "cut", "--quiet", *options, *cut]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *map(str, arguments)], check=True, capture_output=True, env=environment, timeout=300)
    states = sorted((tmp_path / "cut" / "checkpoints").iterdir())
    for state in states[2:]:  # as if it had been killed after step 6
        for file in state.iterdir():
            file.unlink()
        state.rmdir()
    (tmp_path / "cut" / "history.json").unlink()
    done = finetune(2, tmp_path / "cut", *options, *cut, "--resume")
    assert "after step 6" in done.stdout
    whole, resumed = (load_checkpoint(tmp_path / name).model.state_dict() for name in ("whole", "cut"))
    assert all(whole[name].equal(resumed[name]) for name in whole)


def test_a_batch_that_does_not_divide_is_refused_in_one_line(options, tmp_path):
    done = finetune(2, tmp_path / "out", *options, "--batch-size", 3, expected=1)
    said = [line for line in done.stderr.splitlines() if line.startswith("gptlab:")]
    assert said == ["gptlab: batch_size must divide into micro_batches in each of 2 processes, got 3 and 1"]


def test_alone_nothing_is_waited_for():
    assert (process_count(), process_number()) == (1, 0)
    assert sum_over_processes([1.5, 2]) == [1.5, 2]
    wait_for_all()
