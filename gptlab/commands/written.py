"""What commands that write entries have in common: the files are checked before the work, and told after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def check_written(written: Mapping[str, Path | None], read: Sequence[Path] = ()) -> None:
    """Make sure before long work that the results can be written, and over nothing else.

    Args:
        written: option -> file; None is one that is not written.
        read: files that are read.

    Raises:
        ValueError: a file would be written over one that is read, or over another result.
        OSError: a file's folder cannot be written to, or the file is a folder.
    """
    from gptlab.files import check_writable

    wanted = {option: file for option, file in written.items() if file is not None}
    for option, file in wanted.items():
        if file.resolve() in [one.resolve() for one in read]:
            raise ValueError(f"{option} must be another file than those that are read, got {file}")
        if file.is_dir():
            raise IsADirectoryError(f"{option} must name a file, {file} is a directory")
        check_writable(file.parent)
    if len({file.resolve() for file in wanted.values()}) < len(wanted):
        raise ValueError(f"{' and '.join(wanted)} must be different files")


@contextmanager
def kept_in(file: Path | None, what: str) -> Iterator[None]:
    """Say about work that Ctrl-C ends where it can go on; None keeps nothing."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        if file is not None:
            stopped.add_note(f"{file} keeps every {what}, so the same command goes on")
        raise


def write_entries(file: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write entries and say so."""
    from gptlab.data import save_entries

    save_entries(file, entries)
    print(f"{len(entries):,} entries are in {file}")
