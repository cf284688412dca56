import math
from itertools import pairwise

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from gptlab.training import warmup_constant, warmup_cosine
from gptlab.training.schedule import choose_schedule


def rates(total, warmup, final=0.1, peak=2.0, make=None):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = make(optimizer) if make else warmup_cosine(optimizer, total, warmup, final)
    seen = []
    for _ in range(total):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_warm_up_peak_and_end():
    seen = rates(total=104, warmup=4)
    assert seen[:4] == [0.5, 1.0, 1.5, 2.0]
    assert seen[4] == 2.0
    assert seen[-1] == pytest.approx(0.2)
    assert all(later <= earlier for earlier, later in pairwise(seen[4:]))


@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 1), (2, 1), (5, 5), (7, 0)])
def test_no_length_divides_by_zero(total, warmup):
    assert all(0 < rate <= 2.0 and math.isfinite(rate) for rate in rates(total, warmup))


def test_the_cosine_is_that_of_transformers():
    def make(optimizer):
        return get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=0, num_training_steps=49)

    ours, theirs = rates(50, 0, final=0.0), rates(50, 0, make=make)
    assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(
    ("total", "warmup", "message"), [(0, 0, "got 0"), (5, 6, r"\[0, 5\], got 6"), (5, -1, "got -1")]
)
def test_impossible_schedules(total, warmup, message):
    with pytest.raises(ValueError, match=message):
        warmup_cosine(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), total, warmup)


def test_constant_stays_at_the_peak():
    def make(optimizer):
        return choose_schedule("constant")(optimizer, 8, 4)

    assert rates(8, 4, make=make) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert rates(3, 0, make=lambda optimizer: warmup_constant(optimizer, 3)) == [2.0, 2.0, 2.0]
    with pytest.raises(ValueError, match=r"one of \['cosine', 'constant'\], got 'linear'"):
        choose_schedule("linear")
    with pytest.raises(ValueError, match=r"warmup_steps must be in \[0, 3\], got 4"):
        rates(3, 4, make=lambda optimizer: warmup_constant(optimizer, 3, 4))
