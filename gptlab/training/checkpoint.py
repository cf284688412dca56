"""Training that survives: its whole state as folders of plain files, of which the last few are kept.

    directory/step-00000200/model.safetensors      the weights
                            training.safetensors   every other tensor: the optimizer's, the random states
                            training.json          everything else: place in the data, schedule, history, settings

A folder is written under another name and renamed when it is complete, so a folder called step-... is whole, whenever
the run was killed. Nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor, nn

from gptlab.files import read_json
from gptlab.training.processes import process_number, wait_for_all
from gptlab.training.state import TrainingState

_STEP = "step-"
_TENSOR, _TUPLE, _KEYS = "__tensor__", "__tuple__", "__keys__"


class TrainingCheckpoints:
    """Where and how often `train` saves its state, and whether it goes on from there.

    Args:
        directory: of the folders; each holds one state.
        every: optimizer steps from one save to the next; the end of training is saved too.
        keep: how many of the last ones stay.
        resume: whether to go on from the last one. If there is none, training starts afresh and says so.
        settings: what a run must have in common with the one that it goes on from, such as a digest of its data.
        save_model: writes the model into a folder, as model.safetensors and what belongs to it; None writes the
            weights alone.
        weights: returns the tensors of the model that are saved, by name, when not all are needed: what is frozen is
            there when training starts again. None is all of them.
        tell: takes a line about what was found.

    Raises:
        ValueError: every or keep is below 1.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        every: int = 100,
        keep: int = 2,
        resume: bool = False,
        settings: Mapping[str, Any] | None = None,
        save_model: Callable[[Path], None] | None = None,
        weights: Callable[[nn.Module], dict[str, Tensor] | None] = lambda model: None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        if every < 1 or keep < 1:
            raise ValueError(f"every and keep must be >= 1, got {every} and {keep}")
        self.directory, self.every, self.keep, self.resume = Path(directory), every, keep, resume
        self.settings, self.save_model = json.loads(json.dumps(dict(settings or {}))), save_model
        self.weights = weights
        self.tell = tell or (lambda line: None)
        self.last: int | None = None  # the step of the newest complete checkpoint

    def found(self) -> list[Path]:
        """Return the folders of states, the newest first."""
        return sorted(self.directory.glob(f"{_STEP}*"), reverse=True)

    def check_settings(self, saved: Mapping[str, Any], where: Path) -> None:
        """Raise ValueError if a run was made with other settings, and say which differ."""
        names = [*saved, *(name for name in self.settings if name not in saved)]
        differ = [
            f"{name} was {saved.get(name)!r}, is {self.settings.get(name)!r}"
            for name in names
            if saved.get(name) != self.settings.get(name)
        ]
        if differ:
            raise ValueError(f"{where} is of another run: {'; '.join(differ)}")

    def start(self, state: TrainingState) -> None:
        """Go on from the newest complete checkpoint if that was asked for; else make sure that none is in the way.

        Raises:
            ValueError: the checkpoint is of a run with other settings or another model; or there are checkpoints that
                a run which starts afresh would mix with its own.
        """
        self._put_back()
        found = self.found()
        if not self.resume and found:
            raise ValueError(
                f"{self.directory} holds checkpoints of another run, the newest is {found[0].name}: resume it, or "
                "remove them"
            )
        for folder in found:
            try:
                weights, saved = _read(folder)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                self.tell(f"{folder} is damaged and passed over: {error}")
                self._set_aside(folder)
                continue
            self.check_settings(saved["settings"], folder)
            if (own := self.weights(state.model)) is None:
                _load_weights(state.model, weights, folder)
            else:
                _copy_weights(own, weights, folder)
            state.load_state_dict(saved["state"])
            self.last = state.history.steps
            self.tell(f"going on from {folder}, after step {self.last}")
            if saved["threads"] != torch.get_num_threads():
                self.tell(f"it ran on {saved['threads']} threads, this is {torch.get_num_threads()}: roundings differ")
            return
        if self.resume:
            self.tell(f"there is no checkpoint in {self.directory} yet: starting afresh")

    def save(self, state: TrainingState) -> None:
        """Write the state as a folder, complete or not at all, and remove the oldest ones.

        Raises:
            OSError: it cannot be written; the folders from before are as they were.
        """
        saved = {
            "state": state.state_dict(),
            "settings": self.settings,
            "threads": torch.get_num_threads(),
        }
        if process_number() == 0:
            folder = self.directory / f"{_STEP}{state.history.steps:08d}"
            part = self.directory / f".{folder.name}.part"
            self._clear_parts()
            part.mkdir(parents=True)
            try:
                self._write(part, state.model, saved)
            except SafetensorError as error:  # such as a full disk
                shutil.rmtree(part, ignore_errors=True)
                raise OSError(f"cannot write {folder}: {error}") from None
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
            same = self._out_of_the_way(folder)  # the end of training may be saved twice
            part.rename(folder)
            if same.exists():
                shutil.rmtree(same, ignore_errors=True)
            for old in self.found()[self.keep :]:
                self._remove(old)
        wait_for_all()
        self.last = state.history.steps

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Add to any error, Ctrl-C too, from where training can go on."""
        try:
            yield
        except BaseException as error:
            if self.last is None:
                error.add_note("no state was saved yet to resume from")
            else:
                error.add_note(f"the state after step {self.last} is complete, resume goes on from there")
            raise

    def clear(self) -> None:
        """Remove all checkpoints, when training is over and its result is saved elsewhere."""
        if process_number() == 0:
            for folder in self.found():
                self._remove(folder)
            self._clear_parts()
            if self.directory.exists() and not any(self.directory.iterdir()):
                self.directory.rmdir()
        wait_for_all()

    def _write(self, part: Path, model: nn.Module, saved: dict[str, Any]) -> None:
        if (own := self.weights(model)) is not None:
            own = {name: tensor.detach().cpu().contiguous() for name, tensor in own.items()}
            save_file(own, part / "model.safetensors")
        elif self.save_model is None:
            save_model(model, str(part / "model.safetensors"))
        else:
            self.save_model(part)
        tensors: dict[str, Tensor] = {}
        plain = _without_tensors(saved, "", tensors)
        save_file(tensors, part / "training.safetensors")
        (part / "training.json").write_text(json.dumps(plain), encoding="utf-8")

    def _remove(self, folder: Path) -> None:
        """Rename, then delete: a folder that is only half deleted must not look like a checkpoint."""
        with suppress(OSError):  # such as a file that somebody has open on Windows; it stays, and does no harm
            shutil.rmtree(self._out_of_the_way(folder), ignore_errors=True)

    def _out_of_the_way(self, folder: Path) -> Path:
        gone = folder.with_name(f".{folder.name}.gone.part")
        if folder.exists():
            folder.rename(gone)
        return gone

    def _put_back(self) -> None:
        """Give a state its name back if a run was killed before the new state of the same step had taken it."""
        if process_number() == 0 and not self.found():
            for gone in sorted(self.directory.glob(f".{_STEP}*.gone.part"))[-1:]:
                gone.rename(gone.with_name(gone.name.removeprefix(".").removesuffix(".gone.part")))
        wait_for_all()

    def _set_aside(self, folder: Path) -> None:
        """Rename what is damaged, so that it does not count as the newest state; every process must call this."""
        wait_for_all()
        if process_number() == 0:
            aside = folder.with_name(f"damaged-{folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        wait_for_all()

    def _clear_parts(self) -> None:
        for leftover in self.directory.glob(f".{_STEP}*.part"):
            shutil.rmtree(leftover, ignore_errors=True)


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    # Copies, for the optimizer would keep the file itself in memory, which Windows then does not delete.
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "training.safetensors").items()}
    saved = _with_tensors(read_json(folder / "training.json"), tensors)
    if not {"state", "settings", "threads"} <= set(saved):
        raise ValueError(f"training.json lacks a part, it has {list(saved)}")
    return load_file(folder / "model.safetensors"), saved


def _load_weights(model: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    """Copy the weights into the model; of weights that are one tensor, one name is enough.

    Raises:
        ValueError: a name or a shape differs; the model is as it was.
    """
    own = model.state_dict(keep_vars=True)
    given = {own[name].data_ptr() for name in weights if name in own}
    lacking = [name for name, tensor in own.items() if name not in weights and tensor.data_ptr() not in given]
    unknown = [name for name in weights if name not in own]
    others = [name for name in weights if name in own and weights[name].shape != own[name].shape]
    if lacking or unknown or others:
        raise ValueError(
            f"{folder} is of another model: it lacks {lacking[:3]}, has unknown {unknown[:3]} and others in shape, "
            f"{others[:3]}"
        )
    model.load_state_dict(weights, strict=False)


def _copy_weights(own: dict[str, Tensor], weights: dict[str, Tensor], folder: Path) -> None:
    """Copy the weights into the tensors of the same names, or raise ValueError and leave them as they were."""
    strange = sorted(own.keys() ^ weights.keys())
    strange += [name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape]
    if strange:
        raise ValueError(f"{folder} is of another model: {strange[0]} is missing, too many or of another shape")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def _without_tensors(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Return `value` as JSON can hold it; its tensors go into `tensors`, under the place where they were."""
    if isinstance(value, Tensor):
        tensors[place] = value.detach().cpu().contiguous()
        return {_TENSOR: place}
    if isinstance(value, dict):
        keys, values = list(value), [_without_tensors(item, f"{place}.{key}", tensors) for key, item in value.items()]
        if all(isinstance(key, str) for key in keys):
            return dict(zip(keys, values))
        return {_KEYS: keys, "values": values}  # JSON would make texts of numbers
    if isinstance(value, list | tuple):
        items = [_without_tensors(item, f"{place}.{number}", tensors) for number, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"cannot save {place.lstrip('.')}: a {type(value).__name__} is neither a tensor, number nor text")


def _with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `_without_tensors`."""
    if isinstance(value, list):
        return [_with_tensors(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _TUPLE in value:
        return tuple(_with_tensors(item, tensors) for item in value[_TUPLE])
    if _KEYS in value:
        return dict(zip(value[_KEYS], (_with_tensors(item, tensors) for item in value["values"])))
    return {key: _with_tensors(item, tensors) for key, item in value.items()}
