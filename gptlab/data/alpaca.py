"""Alpaca's 52,000 entries: fetched once, checked, and kept with the terms that they come under.

Nothing of them is part of gptlab: their licence forbids commercial use.

Source: Taori and others 2023, "Stanford Alpaca: An Instruction-following LLaMA model"; the cleaned copy is by Ruebsamen
and others, "AlpacaDataCleaned".
"""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from gptlab.data.instruction import load_entries
from gptlab.files import check_writable, write_text

ATTEMPTS = 5  # after a connection that broke; each goes on where the last one stopped
SECONDS = 30  # without a byte, after which a connection counts as broken
_PIECE = 1 << 16


@dataclass(frozen=True)
class Source:
    """Where a set of entries is, and its terms.

    Attributes:
        url: of the file; {hub} stands for the Hugging Face Hub, or its mirror in HF_ENDPOINT.
        entries: how many were published.
        terms: what may be done with them, in sentences.
    """

    url: str
    entries: int
    terms: str


_TERMS = (
    "The entries are licensed under Creative Commons BY-NC 4.0 (https://creativecommons.org/licenses/by-nc/4.0/): they "
    "may be used and shared for research and study, with their makers named, and not commercially. OpenAI's "
    "text-davinci-003 wrote them, and OpenAI's terms forbid building models with them that compete with OpenAI."
)
SOURCES = {
    "alpaca": Source(
        "https://raw.githubusercontent.com/tatsu-lab/stanford_alpaca/main/alpaca_data.json",
        52_002,
        f"Alpaca, 52,002 entries by Stanford's tatsu-lab. {_TERMS}",
    ),
    "alpaca-cleaned": Source(
        "{hub}/datasets/yahma/alpaca-cleaned/resolve/main/alpaca_data_cleaned.json",
        51_760,
        f"Alpaca cleaned, about 52,000 entries of which people mended many, by yahma and gururise. {_TERMS}",
    ),
}


def fetch_alpaca(
    name: str = "alpaca", cache_dir: str | Path = "checkpoints", *, url: str | None = None, progress: bool = True
) -> Path:
    """Return the file of Alpaca's entries, which is downloaded if it is not there; the terms are written beside it.

    A download that was stopped goes on where it stopped.

    Args:
        name: "alpaca", or "alpaca-cleaned", which comes from the Hugging Face Hub or its mirror in HF_ENDPOINT.
        cache_dir: the file goes to a folder "alpaca" in it.
        url: another address of the same file, such as a mirror of GitHub.
        progress: whether to show a bar.

    Raises:
        ValueError: the name is none of these, or what arrived are no entries; then nothing is kept.
        FileNotFoundError: the address does not answer; the message says which file belongs where.
    """
    if name not in SOURCES:
        raise ValueError(f"{name!r} is none of the sets of entries that are known: {', '.join(SOURCES)}")
    source, folder = SOURCES[name], Path(cache_dir) / "alpaca"
    address = url or source.url.format(hub=(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/"))
    path = folder / source.url.rsplit("/", 1)[1]
    if path.is_file():
        load_entries(path)
        return path
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with _in_our_words(address, path):
        _download(address, part, progress)
    try:
        found = len(load_entries(part))
        if found < source.entries * 0.9:
            raise ValueError(f"there are {found:,} entries, where {source.entries:,} were published")
    except ValueError as error:
        part.unlink()
        raise ValueError(f"what {address} sent is not {name}, and was deleted: {error}") from None
    write_text(folder / "TERMS.txt", "\n\n".join(one.terms for one in SOURCES.values()) + "\n")
    part.replace(path)
    return path


def _download(address: str, part: Path, progress: bool) -> None:
    """Put what is at an address into a file, to the end of it."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _go_on(address, part, progress)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416 and part.exists():  # there is nothing after what is here: another file, or all of it
                part.unlink()
            elif error.code < 500:
                raise
            if attempt == ATTEMPTS:
                raise
        except (OSError, http.client.HTTPException):
            if attempt == ATTEMPTS:
                raise


def _go_on(address: str, part: Path, progress: bool) -> None:
    """Load from where the part ends.

    Raises:
        OSError: the connection broke.
    """
    here = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"User-Agent": "gptlab"})
    if here:
        request.add_header("Range", f"bytes={here}-")
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        goes_on = response.status == 206
        rest = response.headers.get("Content-Length")
        here = here if goes_on else 0  # a server that knows no ranges sends all of it
        total = here + int(rest) if rest else None
        with (
            part.open("ab" if goes_on else "wb") as file,
            tqdm(total=total, initial=here, unit="B", unit_scale=True, desc=part.stem, disable=not progress) as bar,
        ):
            while piece := response.read(_PIECE):
                file.write(piece)
                here += len(piece)
                bar.update(len(piece))
    if total is not None and here < total:
        raise ConnectionError(f"the connection broke after {here:,} of {total:,} bytes")


@contextmanager
def _in_our_words(address: str, path: Path) -> Iterator[None]:
    """Say about a download that failed what can be done."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise FileNotFoundError(
            f"{address} cannot be loaded: {reason}. Try again, which goes on where it stopped; or give another address "
            "of the file by --url; or `gptlab download alpaca-cleaned`, with HF_ENDPOINT=https://hf-mirror.com where "
            f"the hub is slow; or put the file, from a friend, at {path}"
        ) from error
