"""What `finetune` does differently when an adapter learns."""

import sys

import pytest
import torch

from gptlab.model import count_parameters
from gptlab.peft import (
    AdaLoRA,
    AdapterTuning,
    LoRA,
    PrefixTuning,
    PTuning,
    QLoRA,
    apply,
    load_tuned,
    merge,
    parameter_report,
    remove,
)
from gptlab.peft.manage import adapter_modules, adapters_of
from gptlab.training import finetune
from gptlab.training.estimate import foresee
from gptlab.training.tuning import FullTuning, Tuning
from gptlab.weights import load_checkpoint, save_checkpoint


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_of_two_kinds(tiny, tokenizer):
    assert issubclass(AdapterTuning, Tuning)
    assert not issubclass(AdapterTuning, FullTuning)
    with pytest.raises(TypeError, match="abstract"):
        Tuning()


@pytest.mark.parametrize("method", [LoRA(rank=2), QLoRA(rank=3), AdaLoRA(), PrefixTuning(4, hidden=8)])
def test_it_counts_what_will_learn_and_changes_nothing(tiny, tokenizer, method):
    before, state = count_parameters(tiny), torch.get_rng_state()
    counted = AdapterTuning(method).count(tiny, tokenizer)
    assert adapters_of(tiny) is None
    assert (count_parameters(tiny), *torch.get_rng_state()) == (before, *state)
    learning = parameter_report(apply(tiny, method)).trainable
    assert counted == (learning, learning)


def test_nothing_pulls_an_adapter_to_zero(checkpoint_dir, entries, tmp_path):
    """In the first step B is zero, so that A has no gradient; weight decay alone would move it."""
    finetune(
        load_checkpoint(checkpoint_dir),
        entries,
        tmp_path / "out",
        tuning=AdapterTuning(LoRA(rank=2), checkpoint_dir),
        batch_size=20,
        epochs=1,
        val_share=0,
        warmup_steps=0,
        seed=3,
    )
    begun = load_checkpoint(checkpoint_dir).model
    apply(begun, LoRA(rank=2), generator=torch.Generator().manual_seed(3))
    begun = adapter_modules(begun, "default")
    for place, branch in adapter_modules(load_tuned(tmp_path / "out").model, "default").items():
        assert branch.A.equal(begun[place].A)
        assert not branch.B.equal(begun[place].B)


@pytest.mark.parametrize("change", [lambda model: model, merge], ids=["on it", "merged"])
@pytest.mark.parametrize("tuning", [AdapterTuning(LoRA(rank=2)), None], ids=["adapter", "full"])
def test_a_model_with_an_adapter_is_refused_at_the_door(checkpoint_dir, entries, tmp_path, tuning, change):
    """Before an earlier run in the folder is touched; taken off, the adapter is in nobody's way."""
    start, out, told = load_checkpoint(checkpoint_dir), tmp_path / "out", []
    run = {"tuning": tuning, "epochs": 1, "batch_size": 10, "tell": told.append}
    finetune(load_checkpoint(checkpoint_dir), entries, out, **run)
    before = files(out)
    change(apply(start.model, LoRA(rank=2), name="mine"))
    told.clear()
    with pytest.raises(ValueError, match="has an adapter already, 'mine'|no plain GPTModel|nothing to train"):
        finetune(start, entries, out, **run)
    assert (files(out), told) == (before, [])
    remove(start.model)
    finetune(start, entries, out, **run)


def test_a_base_that_was_quantised_is_refused_at_the_door(checkpoint_dir, entries, tmp_path):
    start, told = load_checkpoint(checkpoint_dir), []
    remove(apply(start.model, QLoRA(rank=2)))
    with pytest.raises(ValueError, match="no plain GPTModel"):
        finetune(start, entries, tmp_path / "out", tell=told.append)
    with pytest.raises(ValueError, match="base was changed by QLoRA"):
        finetune(start, entries, tmp_path / "out", tuning=AdapterTuning(LoRA(rank=2)), tell=told.append)
    assert not told
    assert not (tmp_path / "out").exists()


def test_settings_that_fit_no_such_run_leave_everything(checkpoint_dir, entries, tmp_path):
    """How many steps there are is known late, when the adapter is on the model already."""
    start, out = load_checkpoint(checkpoint_dir), tmp_path / "out"
    run = {"epochs": 1, "batch_size": 10}
    finetune(load_checkpoint(checkpoint_dir), entries, out, tuning=AdapterTuning(LoRA(rank=2)), **run)
    before = files(out)
    wrong = AdapterTuning(AdaLoRA(init_rank=4, target_rank=2, initial_steps=4, final_steps=4))
    with pytest.raises(ValueError, match="must leave steps to choose in, got 4 and 4 of 2"):
        finetune(start, entries, out, tuning=wrong, **run)
    with pytest.raises(ValueError, match="positive and finite, got -1"):
        finetune(load_checkpoint(checkpoint_dir), entries, out, learning_rate=-1.0, tuning=AdapterTuning(LoRA()), **run)
    assert files(out) == before
    assert adapters_of(start.model) is None


def test_virtual_tokens_inside_the_text_are_refused():
    with pytest.raises(ValueError, match="inside a text, got inside=2: with inside=0 .*insert_virtual"):
        AdapterTuning(PTuning(tokens=4, inside=2))
    assert AdapterTuning(PTuning(tokens=4)).virtual_tokens == 4


def test_the_base_is_remembered_from_where_the_folder_really_is(checkpoint_dir, entries, tmp_path):
    """What lies beside a link does not lie beside what it leads to: the way is between the folders themselves."""
    far, near = tmp_path / "far" / "away", tmp_path / "near"
    far.mkdir(parents=True)
    near.symlink_to(far, target_is_directory=True)
    checkpoint_dir = checkpoint_dir.rename(tmp_path / "far" / "base")
    run = {"epochs": 1, "batch_size": 10, "tuning": AdapterTuning(LoRA(rank=2), near / ".." / "base")}
    finetune(load_checkpoint(checkpoint_dir), entries, near / "out", **run)
    for folder in (near / "out", far / "out"):
        assert load_tuned(folder).model.cfg == load_checkpoint(checkpoint_dir).model.cfg


def test_the_line_about_memory_is_of_the_adapter(checkpoint_dir, tiny, tokenizer, entries, tmp_path, monkeypatch):
    """The quantised base as it is held, and what learns beside it, though that is more than the model has."""
    told, method = [], QLoRA(rank=32, targets="all-linear")
    monkeypatch.setattr(sys.modules[foresee.__module__], "readable", lambda count: f"{count} bytes")
    save_checkpoint(tmp_path / "base", tiny, tokenizer)
    run = {"epochs": 1, "batch_size": 10, "tell": told.append, "tuning": AdapterTuning(method)}
    finetune(load_checkpoint(tmp_path / "base"), entries, tmp_path / "out", **run)
    report = parameter_report(apply(tiny, method))
    line = next(line for line in told if "of memory" in line)
    assert f"{report.total:,} parameters, {report.trainable:,} of them learning" in line
    for name in ("weights", "gradients", "optimizer"):
        assert f"{name} {getattr(report, name)} bytes" in line
