import json

import pytest
import torch
from safetensors.torch import save_file

from gptlab.weights.safetensors_file import SafetensorsFile, ShardedSafetensors

TENSORS = {
    "a": torch.randn(3, 4),
    "b": torch.randn(5).half(),
    "c": torch.randn(2, 2, 2).bfloat16(),
    "d": torch.tensor(7),
    "e": torch.zeros(0, 3),
    "f": torch.tensor([True, False]),
}


@pytest.fixture
def path(tmp_path):
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"format": "pt"})
    return tmp_path / "x.safetensors"


def test_reads_what_the_library_wrote(path):
    file = SafetensorsFile(path)
    assert set(file) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert file[name].equal(tensor)
        assert file[name].dtype == tensor.dtype
        assert file.shape(name) == tuple(tensor.shape)


def rewrite(path, change):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    new = json.dumps(header).encode()
    path.write_bytes(len(new).to_bytes(8, "little") + new + content[8 + length :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h["a"].update(shape=[3, 5]), r"a needs 60 bytes for \[3, 5\], has 48"),
        (lambda h: h["a"].update(dtype="F4"), "a is of type 'F4'"),
        (lambda h: h["a"].update(data_offsets=[10_000, 10_048]), "is cut off: a ends at byte"),
        (lambda h: h["a"].update(data_offsets=[-48, 0]), "a needs 48 bytes"),
        (lambda h: h["a"].pop("shape"), "header is damaged .*shape"),
        (lambda h: h["a"].update(shape="no"), "header is damaged"),
    ],
)
def test_damaged_headers(path, change, message):
    rewrite(path, change)
    with pytest.raises(ValueError, match=message):
        SafetensorsFile(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\x10\0\0\0\0\0\0\0{not json at all", b"\xff" * 20])
def test_other_files(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="is no safetensors file"):
        SafetensorsFile(tmp_path / "x.safetensors")


@pytest.mark.parametrize("kept", [4, 100, -1, -40])
def test_cut_off_files(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="is cut off|is no safetensors file"):
        SafetensorsFile(path)


def test_shards(tmp_path):
    save_file({"a": TENSORS["a"]}, tmp_path / "1.safetensors")
    save_file({"b": TENSORS["b"]}, tmp_path / "2.safetensors")
    index = tmp_path / "model.safetensors.index.json"

    def place(**files):
        index.write_text(json.dumps({"weight_map": files}), encoding="utf-8")
        return ShardedSafetensors(index)

    shards = place(a="1.safetensors", b="2.safetensors")
    assert shards["a"].equal(TENSORS["a"])
    assert shards.shape("b") == (5,)
    assert len(shards) == 2
    with pytest.raises(FileNotFoundError, match="lacks 3.safetensors, which model.safetensors.index.json names"):
        place(a="1.safetensors", b="3.safetensors")
    with pytest.raises(ValueError, match=r"places tensors in '\.\./x\.safetensors', outside its folder"):
        place(a="../x.safetensors")
    with pytest.raises(ValueError, match=r"1\.safetensors lacks b"):
        place(a="1.safetensors", b="1.safetensors")
    index.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="must hold a 'weight_map'"):
        ShardedSafetensors(index)
