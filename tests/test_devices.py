import pytest
import torch

from gptlab import devices
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


def test_memory_is_counted_in_bytes():
    held = torch.ones(40_000_000)  # 160 MB
    assert held.nbytes < devices.peak_memory("cpu") < 10**12  # of this process so far, whatever ran before
    assert 10**7 < devices.available_memory("cpu") < 10**14


def test_a_containers_limit_is_respected(tmp_path, monkeypatch):
    files = {"memory.max": "4000\n", "memory.current": "1500\n", "memory.stat": "anon 900\ninactive_file 500\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(devices, "CONTAINER", tmp_path)
    assert devices.available_memory("cpu") == 3000
    (tmp_path / "memory.max").write_text("max\n", encoding="utf-8")
    assert devices.available_memory("cpu") > 10**7


def test_reused_memory_changes_no_number():
    a, b = torch.randn(300, 400), torch.randn(400, 300)
    with devices.reused_memory():
        inside = [(a @ b).sum() for _ in range(3)]
    assert all(total.equal((a @ b).sum()) for total in inside)


def test_precisions():
    a = torch.randn(8, 8)
    with devices.autocast("cpu"):
        assert (a @ a).dtype == torch.float32
    with devices.autocast("cpu", "bfloat16"):
        assert (a @ a).dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"one of \['float32', 'bfloat16', 'float16'\], got 'half'"):
        devices.autocast("cpu", "half")
