"""GPT-2's weights by name: found on this machine, or downloaded once from the Hugging Face Hub or a mirror of it.

Downloading is left to huggingface_hub (`pip install huggingface_hub`). What it does not do is done here: every file
that arrives is compared with the checksum that the hub gives for it, and what has arrived of a large file is kept when
a download is stopped, so that the next run goes on there (releases from 1.31 on would begin anew).

These variables of the environment are honoured: HF_ENDPOINT, a mirror's address; HF_HUB_OFFLINE=1, no network at all;
HF_HUB_CACHE and HF_HOME, where transformers keeps what it has downloaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gptlab.config import GPT2_SIZES
from gptlab.files import check_writable
from gptlab.weights.safetensors_file import SafetensorsFile, ShardedSafetensors, shards_of

Result = TypeVar("Result")

OFFICIAL = "https://huggingface.co"
MIRROR = "https://hf-mirror.com"
REPOSITORIES = {size: f"{'distilbert' if size == 'distilgpt2' else 'openai-community'}/{size}" for size in GPT2_SIZES}
_PARAMETERS = {"124M": "gpt2", "355M": "gpt2-medium", "774M": "gpt2-large", "1558M": "gpt2-xl"}
_BOOK_NAMES = {f"{size} ({count})": size for count, size in _PARAMETERS.items()}
_ALIASES = {**_PARAMETERS, **_BOOK_NAMES, "gpt2-small": "gpt2", "gpt2-small (124M)": "gpt2"}
_NAME_ON_THE_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")

# Small files first: a folder that holds its weights then holds all the rest too.
_BESIDE_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ATTEMPTS = 5


def known_names() -> list[str]:
    """Return the names that need no owner: those of the hub, and the numbers of parameters."""
    return [*REPOSITORIES, *_PARAMETERS]


def repository_of(name: str) -> str:
    """Return the hub's `owner/name` for a name of GPT-2, such as "355M", "gpt2-medium" or "gpt2-medium (355M)".

    Raises:
        ValueError: the name is not known, and not of the form `owner/name`.

    >>> repository_of("gpt2-medium (355M)")
    'openai-community/gpt2-medium'
    """
    size = _ALIASES.get(name, name)
    if size in REPOSITORIES:
        return REPOSITORIES[size]
    if _NAME_ON_THE_HUB.fullmatch(name):
        return name
    raise ValueError(
        f"{name!r} is neither a folder nor a model's name; known names are {', '.join(known_names())}, "
        "or owner/name on the Hugging Face Hub"
    )


def locate(name_or_path: str | Path, cache_dir: str | Path = "checkpoints", *, progress: bool = True) -> Path:
    """Return the folder or file that `name_or_path` stands for; a model that is not on this machine is downloaded.

    Args:
        name_or_path: a path, a name of GPT-2 (see `repository_of`), or `owner/name` on the hub.
        cache_dir: where downloads go, and where models are looked for first.
        progress: whether a download shows bars.

    Raises:
        ValueError: it is no path and no name, or the download arrived damaged.
        FileNotFoundError: there is no such path, or the model is not here and cannot be downloaded.
    """
    if not str(name_or_path):
        raise ValueError("a folder or a model's name is needed, got ''")
    path = Path(name_or_path).expanduser()
    known = str(name_or_path) in {*REPOSITORIES, *_ALIASES, *REPOSITORIES.values()}
    if path.exists() and not (known and not (path / "config.json").is_file()):
        return path
    if not known and (_is_meant_as_path(name_or_path) or path.parts[0] == Path(cache_dir).name):
        raise FileNotFoundError(f"there is no file or folder {path}")
    repository = repository_of(str(name_or_path))
    return find_local(repository, cache_dir) or download(repository, cache_dir, progress=progress)


def _is_meant_as_path(name_or_path: str | Path) -> bool:
    path = Path(name_or_path)
    in_a_folder_that_is_there = path.parent != Path() and path.parent.exists()
    begins_like_one = str(name_or_path).startswith((".", "~")) or path.is_absolute()
    return (
        isinstance(name_or_path, Path)
        or in_a_folder_that_is_there
        or begins_like_one
        or path.suffix in (".safetensors", ".pth", ".json")
    )


def find_local(name: str, cache_dir: str | Path = "checkpoints") -> Path | None:
    """Return a folder on this machine that holds the whole model, None if there is none.

    Looks for `cache_dir/gpt2-medium`, `cache_dir/openai-community/gpt2-medium`, and the layout that huggingface_hub and
    transformers leave in `cache_dir` and in their own cache.
    """
    repository = repository_of(name)
    names = [repository]
    if repository in REPOSITORIES.values():  # these are also known without their owner, to transformers too
        names.append(repository.split("/")[1])
    folders = [Path(cache_dir) / called for called in reversed(names)]
    for cache in (Path(cache_dir), _own_cache_of_transformers()):
        for called in names:
            folders += _snapshots(cache / f"models--{called.replace('/', '--')}")
    return next((folder for folder in folders if is_complete(folder)), None)


def is_complete(folder: Path) -> bool:
    """Say whether a folder holds a config and all weights that belong to it, none of them cut off."""
    if not (folder / "config.json").is_file():
        return False
    try:
        if (folder / _WEIGHTS).is_file():
            return bool(SafetensorsFile(folder / _WEIGHTS))
        return bool(ShardedSafetensors(folder / _INDEX))
    except (FileNotFoundError, ValueError):
        return False


def endpoint() -> str:
    """Return the address that downloads come from."""
    address = (os.environ.get("HF_ENDPOINT") or OFFICIAL).strip().rstrip("/")
    return address if "://" in address else f"https://{address}"


def is_offline() -> bool:
    """Say whether HF_HUB_OFFLINE forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def download(name: str, cache_dir: str | Path = "checkpoints", *, progress: bool = True) -> Path:
    """Download a model into `cache_dir`, check every file, and return its folder.

    Files that are there are not loaded again, only checked. A download that was stopped goes on where it stopped. A
    model that was put into `cache_dir` or into transformers' cache by other means is returned as it is, and so is one
    that is here when the hub cannot be reached.

    Raises:
        FileNotFoundError: the hub cannot be reached, or huggingface_hub is missing; the message says which files belong
            in which folder.
        ValueError: there is no such model, it has no safetensors, or a file is not what the hub says it is.
    """
    repository = repository_of(name)
    here = find_local(repository, cache_dir)
    if here is not None and (is_offline() or _blobs(repository, cache_dir).parent not in here.parents):
        return here
    if importlib.util.find_spec("huggingface_hub") is None:
        raise _not_here(repository, cache_dir, "huggingface_hub is not installed (pip install huggingface_hub)")
    if is_offline():
        raise _not_here(repository, cache_dir, "HF_HUB_OFFLINE forbids the network")
    import huggingface_hub

    hub = huggingface_hub.HfApi(endpoint=endpoint())
    ask = partial(_ask, repository=repository, cache_dir=cache_dir)
    check_writable(cache_dir)
    try:
        listing = ask(lambda: hub.model_info(repository, files_metadata=True))
    except FileNotFoundError:
        if here is not None:
            return here
        raise
    on_hub = {file.rfilename: file for file in listing.siblings}

    def fetch(file: str) -> Path:
        if on_hub[file].lfs is not None:
            ask(lambda: _fetch_large(repository, on_hub[file], Path(cache_dir)), attempts=_ATTEMPTS)
        path = ask(lambda: hub.hf_hub_download(repository, file, cache_dir=Path(cache_dir)), attempts=_ATTEMPTS)
        return _checked(Path(path), on_hub[file])

    with _bars(progress):
        for file in _BESIDE_WEIGHTS:
            if file in on_hub:
                fetch(file)
        return _fetch_weights(repository, on_hub, fetch)


def _fetch_large(repository: str, on_hub: Any, cache_dir: Path) -> None:
    """Put a large file where huggingface_hub looks for it before it downloads; a part of it that is there is kept.

    Two processes that want the same file take turns, and the second finds it there.
    """
    from filelock import FileLock  # huggingface_hub has it too
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get

    whole = _blobs(repository, cache_dir) / on_hub.lfs["sha256"]
    if whole.exists():
        return
    metadata = get_hf_file_metadata(hf_hub_url(repository, on_hub.rfilename, endpoint=endpoint()))
    if metadata.etag != whole.name:
        return  # a mirror with names of its own; huggingface_hub will load the file
    whole.parent.mkdir(parents=True, exist_ok=True)
    part = whole.with_name(f"{whole.name}.part")
    with FileLock(f"{part}.lock"):
        if whole.exists():
            return
        try:
            with part.open("ab") as file:
                if file.tell() < on_hub.size:
                    http_get(
                        metadata.location,
                        file,
                        resume_size=file.tell(),
                        expected_size=on_hub.size,
                        displayed_filename=on_hub.rfilename,
                    )
        except HfHubHTTPError:  # such as 416: the server will not go on at this place
            part.unlink()
            raise
        part.replace(whole)


def _blobs(repository: str, cache_dir: str | Path) -> Path:
    """Return where huggingface_hub's layout keeps the content of files, by checksum."""
    return Path(cache_dir) / f"models--{repository.replace('/', '--')}" / "blobs"


def _fetch_weights(repository: str, on_hub: dict[str, Any], fetch: Callable[[str], Path]) -> Path:
    """Fetch the weights, in one file or in shards, and return the folder that they are in."""
    if _WEIGHTS in on_hub:
        return fetch(_WEIGHTS).parent
    if _INDEX not in on_hub:
        pickles = [file for file in on_hub if file.endswith((".bin", ".pt", ".pth"))]
        found = f"only {pickles[0]}, a pickle, which can run code when it is opened" if pickles else f"{sorted(on_hub)}"
        raise ValueError(f"{repository} has no {_WEIGHTS}, but {found}")
    index = fetch(_INDEX)
    for shard in shards_of(index):
        if shard not in on_hub:
            raise ValueError(f"{repository} lacks {shard}, which its {_INDEX} names")
        fetch(shard)
    return index.parent


def _ask(call: Callable[[], Result], repository: str, cache_dir: str | Path, attempts: int = 1) -> Result:
    """Call huggingface_hub, again after a cut connection, and put its errors into our words."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    for attempt in range(1, attempts + 1):
        try:
            return call()
        except RepositoryNotFoundError as error:
            raise ValueError(f"there is no model {repository} at {endpoint()}, or it asks for a login") from error
        except Exception as error:  # requests and httpx, whichever huggingface_hub uses, have their own
            if isinstance(error, HfHubHTTPError) and not isinstance(error, LocalEntryNotFoundError):
                reason = f"{endpoint()} answered: {str(error).splitlines()[0]}"
                raise _not_here(repository, cache_dir, reason) from error
            if not _is_of_the_network(error):
                raise
            if attempt == attempts:
                reason = f"{endpoint()} cannot be reached ({type(error).__name__})"
                raise _not_here(repository, cache_dir, reason) from error
    raise AssertionError("unreachable")


def _is_of_the_network(error: BaseException) -> bool:
    homes = {cls.__module__.split(".")[0].rstrip("2") for cls in type(error).__mro__}
    return bool(homes & {"requests", "urllib3", "httpx", "httpcore"}) or isinstance(
        error, ConnectionError | TimeoutError
    )


def _checked(path: Path, on_hub: Any) -> Path:
    """Compare a file with its checksum: SHA-256 for large files, git's own for the others. A wrong one is deleted."""
    content = path.resolve()
    if on_hub.lfs is None and on_hub.blob_id is None:
        return path  # a mirror that gives none
    if on_hub.lfs is not None:
        digest, expected = hashlib.sha256(), on_hub.lfs["sha256"]
    else:
        digest, expected = hashlib.sha1(b"blob %d\0" % content.stat().st_size), on_hub.blob_id
    with content.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        path.unlink()
        content.unlink(missing_ok=True)
        raise ValueError(
            f"{path.name} arrived damaged: its checksum is {digest.hexdigest()}, the hub says {expected}; "
            "it was deleted, so try again, or set HF_ENDPOINT to another mirror"
        )
    return path


def _not_here(repository: str, cache_dir: str | Path, reason: str) -> FileNotFoundError:
    folder = Path(cache_dir) / repository.split("/")[1]
    return FileNotFoundError(
        f"{repository} is not in {cache_dir} and cannot be downloaded: {reason}. Either set HF_ENDPOINT to a mirror "
        f"such as {MIRROR} and try again; or put config.json, {_WEIGHTS}, vocab.json and merges.txt, "
        f"from {endpoint()}/{repository}/tree/main or from a friend, into {folder}"
    )


def _snapshots(folder: Path) -> Iterator[Path]:
    """Give the versions of a model in huggingface_hub's layout, the one that `main` points to first."""
    main = folder / "refs" / "main"
    if main.is_file():
        yield folder / "snapshots" / main.read_text(encoding="utf-8").strip()
    if (folder / "snapshots").is_dir():
        yield from sorted((folder / "snapshots").iterdir())


def _own_cache_of_transformers() -> Path:
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


@contextmanager
def _bars(progress: bool) -> Iterator[None]:
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    hide = not progress and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            enable_progress_bars()
