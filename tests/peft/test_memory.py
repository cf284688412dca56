"""What is counted: every number once, whatever shares it, and what is really stored."""

import pytest
import torch
from torch import nn

from gptlab.model import GPTModel, count_parameters
from gptlab.peft import LoRA, apply, merge, parameter_report, remove
from gptlab.peft.adapters import Adapter
from gptlab.peft.memory import storage_bytes
from gptlab.peft.qlora import QLoRA
from gptlab.training import make_optimizer


def step(model, optimizer):
    """Make one step, after which the optimizer has its state."""
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("tie_weights", [True, False])
def test_tied_weights_count_once(tiny, tie_weights):
    model = GPTModel(tiny.cfg.to_dict() | {"tie_weights": tie_weights})
    report = parameter_report(model)
    assert report.total == report.trainable == count_parameters(model)
    assert report.total - count_parameters(tiny) == (0 if tie_weights else tiny.tok_emb.weight.numel())
    assert report.weights == report.gradients == 4 * report.total
    assert report.optimizer == 8 * report.total
    assert report.memory == 16 * report.total
    assert report.share == 1


def test_lora_is_the_sum_of_its_ranks_times_sides(tiny):
    """A layer has r (in + out) of them: Hu et al. 2021, section 4.2."""
    total, D = count_parameters(tiny), tiny.cfg.emb_dim
    apply(tiny, LoRA(rank=3, targets="all-linear"))
    report = parameter_report(tiny)
    assert report.trainable == 2 * 3 * (4 * 2 * D + 2 * 5 * D)
    assert report.total == total + report.trainable
    assert report.memory == 4 * total + 16 * report.trainable
    assert str(report).startswith(
        f"{report.trainable:,} of {report.total:,} parameters learn ({report.share:.2%}); weights"
    )
    remove(merge(tiny))
    assert parameter_report(tiny).total == parameter_report(tiny).trainable == total


def test_an_optimizer_is_measured_after_a_step(tiny):
    apply(tiny, LoRA(rank=2))
    optimizer = make_optimizer(tiny, 1e-3)
    assert parameter_report(tiny, optimizer).optimizer == 0  # AdamW's moments are not there yet
    step(tiny, optimizer)
    learned = parameter_report(tiny).trainable
    assert parameter_report(tiny, optimizer).optimizer == 8 * learned + 4 * 8  # and a counter for each of 8 tensors
    plain = step(tiny, torch.optim.SGD([weight for weight in tiny.parameters() if weight.requires_grad], lr=0.1))
    assert parameter_report(tiny, plain).optimizer == 0


def test_quantised_weights_count_as_what_they_stand_for(tiny):
    total, bytes_before = count_parameters(tiny), parameter_report(tiny).weights
    apply(tiny, QLoRA(rank=2, double=False))
    report = parameter_report(tiny)
    assert report.total == total + report.trainable
    quantised = 2 * 12 * tiny.cfg.emb_dim**2
    assert report.weights == bytes_before - 4 * quantised + quantised // 2 + 4 * quantised // 64 + 4 * report.trainable


def test_dtypes_are_as_stored(tiny):
    apply(tiny.to(torch.bfloat16), Adapter(bottleneck=2))
    report = parameter_report(tiny)
    assert report.gradients == sum(weight.nbytes for weight in tiny.parameters() if weight.requires_grad)
    assert report.weights == sum(weight.nbytes for weight in tiny.parameters())


def test_what_shares_a_storage_counts_once():
    whole = torch.zeros(10, 4)
    assert storage_bytes([whole, whole[2:], whole.T, nn.Parameter(whole), 5, None]) == 160
    assert storage_bytes([whole, whole.clone()]) == 320
    assert storage_bytes([]) == 0


def test_a_model_without_numbers_is_counted_too(tiny):
    """On the meta device, as one asks for a model that would not fit."""
    with torch.device("meta"):
        planned = GPTModel(tiny.cfg)
    assert parameter_report(planned) == parameter_report(tiny)
