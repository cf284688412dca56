import warnings

import pytest
import torch

from gptlab.training import device_check


def test_a_device_that_computes_wrongly_is_named(tiny, monkeypatch):
    """No wrong device is at hand: the loss of the model itself is falsified, that of its copy on the CPU is not."""
    ids = torch.randint(0, tiny.cfg.vocab_size, (3, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        here, on_cpu = device_check.compare_with_cpu(tiny, (ids, ids))
    assert here == on_cpu
    real = device_check.next_token_loss

    def wrong(model, *batch):
        total, count = real(model, *batch)
        return (total * 1.3 if model is tiny else total), count

    monkeypatch.setattr(device_check, "next_token_loss", wrong)
    with pytest.warns(UserWarning, match=r"is 7\.\d+ on cpu and 5\.\d+ on the CPU: this device computes wrongly"):
        device_check.compare_with_cpu(tiny, (ids, ids))
    monkeypatch.setattr(device_check, "next_token_loss", lambda *_: (torch.tensor(float("nan")), 1))
    with pytest.warns(UserWarning, match="nan"):
        device_check.compare_with_cpu(tiny, (ids, ids))
