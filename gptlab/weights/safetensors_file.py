"""Read a safetensors file tensor by tensor, without mapping it into memory.

The format is 8 bytes with the length N of a header, N bytes of JSON that say where each tensor lies, and the numbers.
Mapped pages count as memory of the process until the system wants them back, so a loop over a mapped file needs twice
the weights. Here each tensor is read straight into the memory that it will live in.

Source: https://github.com/huggingface/safetensors, section "Format".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from gptlab.files import read_json

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class SafetensorsFile(Mapping[str, Tensor]):
    """The tensors of one file by name; each look-up reads that tensor from the disk.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no safetensors file, or it is cut off or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= size - 8:
                raise ValueError(f"{path} is no safetensors file: it has {size} bytes and a header of {length}")
            header = file.read(length)
        try:
            self._entries = json.loads(header)
            self._entries.pop("__metadata__", None)
            self._start = 8 + length
            for name, entry in self._entries.items():
                self._check(name, entry, size)
            end = self._start + max((entry["data_offsets"][1] for entry in self._entries.values()), default=0)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no safetensors file: its header is damaged ({error!r})") from None
        if end != size:
            raise ValueError(f"{path} is damaged: its last tensor ends at byte {end}, the file at {size}")

    def _check(self, name: str, entry: dict, size: int) -> None:
        begin, end = entry["data_offsets"]
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{self.path}: {name} is of type {entry['dtype']!r}; known are {list(DTYPES)}")
        needed = torch.Size(entry["shape"]).numel() * DTYPES[entry["dtype"]].itemsize
        if begin < 0 or end - begin != needed:
            raise ValueError(f"{self.path}: {name} needs {needed} bytes for {entry['shape']}, has {end - begin}")
        if self._start + end > size:
            raise ValueError(f"{self.path} is cut off: {name} ends at byte {self._start + end}, the file at {size}")

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        return tuple(self._entries[name]["shape"])

    def __getitem__(self, name: str) -> Tensor:
        entry = self._entries[name]
        tensor = torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]])
        if tensor.numel():
            with self.path.open("rb") as file:
                file.seek(self._start + entry["data_offsets"][0])
                file.readinto(tensor.view(-1).view(torch.uint8).numpy())
        return tensor

    def __contains__(self, name: object) -> bool:  # Mapping's own would read the tensor
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class ShardedSafetensors(Mapping[str, Tensor]):
    """The tensors of several files by name, as `model.safetensors.index.json` places them.

    Raises:
        FileNotFoundError: a shard is missing.
        ValueError: a shard lies outside the folder, or does not hold a tensor that the index places there.
    """

    def __init__(self, index: str | Path) -> None:
        index = Path(index)
        placed = _placed_tensors(index)
        shards = {}
        for file in shards_of(index):
            if not (index.parent / file).is_file():
                raise FileNotFoundError(f"{index.parent} lacks {file}, which {index.name} names")
            shards[file] = SafetensorsFile(index.parent / file)
        self._shard_of = {name: shards[file] for name, file in placed.items()}
        for name, shard in self._shard_of.items():
            if name not in shard:
                raise ValueError(f"{shard.path} lacks {name}, which {index.name} places there")

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        return self._shard_of[name].shape(name)

    def __getitem__(self, name: str) -> Tensor:
        return self._shard_of[name][name]

    def __contains__(self, name: object) -> bool:
        return name in self._shard_of

    def __iter__(self) -> Iterator[str]:
        return iter(self._shard_of)

    def __len__(self) -> int:
        return len(self._shard_of)


def shards_of(index: str | Path) -> list[str]:
    """Return the names of the files that `model.safetensors.index.json` places tensors in.

    Raises:
        ValueError: it is no such index, or a file lies outside the folder.
    """
    files = sorted(set(_placed_tensors(Path(index)).values()))
    for file in files:
        if Path(file).name != file:
            raise ValueError(f"{index} places tensors in {file!r}, outside its folder")
    return files


def _placed_tensors(index: Path) -> dict[str, str]:
    content = read_json(index)
    placed = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(placed, dict) or not all(isinstance(file, str) for file in placed.values()):
        raise ValueError(f"{index} must hold a 'weight_map' from tensor names to files")
    return placed
