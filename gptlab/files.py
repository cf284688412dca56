"""Reading and writing files: UTF-8 always, and a file is either written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any


def checkpoints_folder() -> Path:
    """Return where models are kept: ./checkpoints, or inside a copy of the repository that copy's own folder.

    So notebooks, lessons and the command line find the same models, whichever folder they run in.
    """
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "chapters" / "chapters.toml").is_file():
            return folder / "checkpoints"
    return Path("checkpoints")


def read_text(path: str | Path) -> str:
    """Return a UTF-8 file's text, without a byte-order mark.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not UTF-8.
    """
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a directory, not a file")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None


def read_json(path: str | Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not UTF-8 or not JSON.
    """
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def to_json(value: Any) -> str:
    """Return `value` as JSON that a person can read, Chinese included."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def write_text(path: str | Path, text: str) -> None:
    """Write one file whole or not at all."""
    path = Path(path)
    write_together(path.parent, {path.name: text})


def write_together(directory: str | Path, contents: Mapping[str, str | bytes], stale: Collection[str] = ()) -> None:
    """Write several files of one directory: all are complete before the first takes its name.

    Args:
        directory: made when it is missing.
        contents: file name -> text (written as UTF-8) or bytes.
        stale: names of files that would contradict the new ones; they are deleted.

    Raises:
        OSError: the directory cannot be made or written to, or one of the names is a directory.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name in contents:
        if (directory / name).is_dir():
            raise IsADirectoryError(f"cannot write {directory / name}: it is a directory")
    waiting: dict[str, Path] = {}
    try:
        for name, content in contents.items():
            waiting[name] = directory / f".{name}.{os.getpid()}.part"
            waiting[name].write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        for name in stale:
            (directory / name).unlink(missing_ok=True)
        for name in contents:
            waiting[name].replace(directory / name)
    finally:
        for leftover in waiting.values():
            leftover.unlink(missing_ok=True)


def append_json(path: Path, record: Mapping[str, Any]) -> None:
    """Add a line of JSON to a file; where that fails, as on a full disk, no part of it stays.

    Raises:
        OSError: it fails.
    """
    content = json.dumps(record, ensure_ascii=False).encode() + b"\n"
    with path.open("ab", buffering=0) as file:
        before = file.seek(0, 2)
        try:
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, "the disk is full")
        except OSError:
            file.truncate(before)
            raise


def check_writable(directory: str | Path) -> None:
    """Make sure, before long work, that `directory` can be made and written to; leave nothing behind.

    Raises:
        OSError: it cannot.
    """
    existing = Path(directory).absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if existing.is_file():
        raise NotADirectoryError(f"cannot write to {directory}: {existing} is a file")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise type(error)(f"cannot write to {directory}: {error.strerror} ({existing})") from None
