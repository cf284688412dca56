"""What every way of tuning a few parameters has in common: settings that say which modules go in where.

A method is a frozen dataclass. Everything else follows from what it builds: applying, switching, saving, merging and
reporting are written once, for all. To add a method is to write its settings and its `Branch`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gptlab.model import GPTModel
from gptlab.peft.adapted import Adapted, Branch
from gptlab.tokenizer import Tokenizer
from gptlab.training import Hook

METHODS: dict[str, type[Method]] = {}  # every method by its name; a class enters itself when it is defined
ALL_LINEAR = "all-linear"  # stands for every linear layer in the blocks


@dataclass(frozen=True)
class Method(ABC):
    """The settings of a tuning method, and what it puts into a model.

    Attributes:
        method: the method's name, in files and on the command line.
        exact_start: whether a model computes at first what it did without the adapter.
        changes_base: whether `prepare` changes the model itself, so that "without the adapter" is what it made of it.
        learning_rate: the peak that `finetune` takes if none is chosen.
        virtual_tokens: how many positions of the context it takes.
    """

    method: ClassVar[str]
    exact_start: ClassVar[bool] = True
    changes_base: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 1e-3

    @property
    def virtual_tokens(self) -> int:
        """What stands in front of every text takes positions from it."""
        return 0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "method" in cls.__dict__:
            METHODS[cls.method] = cls

    @abstractmethod
    def build(
        self, model: GPTModel, *, tokenizer: Tokenizer | None = None, generator: torch.Generator | None = None
    ) -> dict[str, nn.Module]:
        """Return new modules: place -> a `Branch` for the module of that name, or "" -> a `Beginning`.

        Nothing of the model is changed.

        Raises:
            ValueError: the settings do not fit the model.
        """

    def blank(self, model: GPTModel) -> dict[str, nn.Module]:
        """Return the same modules as `build`, with whatever numbers, to be filled from a file."""
        return self.build(model, generator=torch.Generator())  # torch's global random state stays as it is

    def prepare(self, model: GPTModel) -> None:
        """Change the model itself before the modules go in, such as by quantising it, once for several adapters."""
        return

    def shares_base(self, other: Method) -> bool:
        """Whether an adapter of another method can stand on the same base: each leaves it as the other does."""
        return not (self.changes_base or other.changes_base) or type(self) is type(other)

    def hooks(self, model: GPTModel, total_steps: int) -> list[Hook]:
        """Return what the training loop needs to run for this method; `model` has it applied."""
        return []

    def check_trained(self, modules: dict[str, nn.Module]) -> None:
        """Raise RuntimeError if these modules were trained in a way that this method cannot have wanted."""
        return

    def for_inference(
        self, model: GPTModel, modules: dict[str, nn.Module]
    ) -> tuple[Method, dict[str, dict[str, Tensor]]]:
        """Return settings and tensors, place -> name -> tensor, that answer the same but need not be trainable."""
        return self, {place: dict(module.state_dict()) for place, module in modules.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dictionary, from which `method_from_dict` makes them again."""
        return {"method": self.method, **asdict(self)}


class OnModules(Method):
    """A method that puts a branch at every module that its `targets` name.

    A target is a name, or a regular expression, that a module's dotted name ends with: "W_query", "ff.layers.[02]",
    "trf_blocks.0.att.out_proj". "all-linear" stands for every linear layer in the blocks.
    """

    targets: Sequence[str]  # a field of each subclass, which chooses its place among the others, and a default

    def __post_init__(self) -> None:
        targets = (self.targets,) if isinstance(self.targets, str) else tuple(self.targets)
        object.__setattr__(self, "targets", targets)  # as it comes back from a file

    @abstractmethod
    def branch(self, name: str, module: nn.Module, generator: torch.Generator | None) -> Branch:
        """Return the branch for the module of this name.

        Raises:
            ValueError: it cannot be tuned in this way.
        """

    def build(
        self, model: GPTModel, *, tokenizer: Tokenizer | None = None, generator: torch.Generator | None = None
    ) -> dict[str, nn.Module]:
        return {
            place: self.branch(place, module, generator) for place, module in find_targets(model, self.targets).items()
        }


def find_targets(model: nn.Module, targets: str | Sequence[str]) -> dict[str, nn.Module]:
    """Return the modules that the targets name, by their names, without adapters that are on them.

    Raises:
        ValueError: a target matches nothing, with near names; it is no regular expression; or none is given.
    """
    targets = [targets] if isinstance(targets, str) else list(targets)
    if not targets:
        raise ValueError("targets must name at least one module, got none")
    modules = dict(own_modules(model))
    matched: set[str] = set()
    for target in targets:
        names = _matching(modules, target)
        if not names:
            raise ValueError(f"no module matches {target!r}; {_near(modules, target)}")
        matched.update(names)
    return {name: module for name, module in modules.items() if name in matched}


def own_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and modules that the model has without its adapters."""
    for name, module in places(model):
        yield name, module.base if isinstance(module, Adapted) else module


def places(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the same names, and what stands there now: with adapters, an `Adapted`."""
    for name, child in model.named_children():
        if name == "adapters" and isinstance(child, nn.ModuleDict):
            continue
        yield prefix + name, child
        yield from places(child.base if isinstance(child, Adapted) else child, f"{prefix}{name}.")


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raise ValueError if a setting is no whole number, or too small."""
    if type(value) is not int or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")


def check_linear(name: str, module: nn.Module) -> None:
    """Raise ValueError if a target is no linear layer."""
    if not is_linear(module):
        raise ValueError(f"targets must be linear layers, {name!r} is a {type(module).__name__}")


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer, quantised or not."""
    return isinstance(module, nn.Linear) or (hasattr(module, "in_features") and hasattr(module, "to_linear"))


def is_tied_head(model: nn.Module, name: str) -> bool:
    """Whether a module is the output head and shares its weight with the embeddings."""
    return name == "out_head" and model.out_head.weight is model.tok_emb.weight


def _matching(modules: dict[str, nn.Module], target: str) -> list[str]:
    if target == ALL_LINEAR:
        return [name for name, module in modules.items() if name.startswith("trf_blocks.") and is_linear(module)]
    pattern = compiled(target)
    return [name for name in modules if pattern.fullmatch(name)]


def compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern for names that end with `pattern`, at a dot.

    Raises:
        ValueError: it is no regular expression.
    """
    try:
        return re.compile(rf"(?:.*\.)?(?:{pattern})")
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None


def _near(modules: dict[str, nn.Module], target: str) -> str:
    endings = sorted({name.rpartition(".")[2] for name in modules if not name.rpartition(".")[2].isdigit()})
    near = get_close_matches(target.replace("_", "-"), [ALL_LINEAR]) or get_close_matches(
        target, [*endings, *modules], n=3, cutoff=0.5
    )
    if target.rpartition(".")[2] in _OTHERS_NAMES:
        near = ["W_query", "W_key", "W_value", "out_proj", "ff.layers.0", "ff.layers.2"]
    return f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(endings)}"


_OTHERS_NAMES = ("q_proj", "k_proj", "v_proj", "o_proj", "c_attn", "c_proj", "c_fc")  # in other libraries


def method_from_dict(settings: dict[str, Any]) -> Method:
    """Return what `to_dict` was called on.

    Raises:
        ValueError: the method is not known, or has other settings.
    """
    settings = dict(settings)
    name = settings.pop("method", None)
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(
            f"method must be one of {', '.join(METHODS)}, got {name!r}; one of your own must be defined before its "
            "adapter is loaded"
        )
    try:
        return METHODS[name](**{key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()})
    except (AttributeError, TypeError) as error:
        raise ValueError(f"these are no settings of {name}: {error}") from None
