import pytest
import torch

from gptlab.devices import empty_cache, pick_device


@pytest.mark.parametrize(("device", "called"), [("cpu", []), ("mps", ["mps"]), ("cuda", ["cuda"])])
def test_each_device_empties_its_own_cache(monkeypatch, device, called):
    calls = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: calls.append("mps"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("cuda"))
    empty_cache(torch.device(device))
    empty_cache(device)
    assert calls == 2 * called


def test_auto_prefers_cuda_and_never_picks_mps(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    assert pick_device("mps").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda"


def test_devices_that_are_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'cuda:1' is not available here; available: \\['cpu'"):
        pick_device("cuda:1")
    with pytest.raises(ValueError, match="got 'gpu'"):
        pick_device("gpu")
