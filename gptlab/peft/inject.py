"""Put other modules into a model by name: the one way that LoRA, quantised layers and adapters get in."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn


def replace_modules(model: nn.Module, pattern: str, make: Callable[[nn.Module], nn.Module]) -> list[str]:
    """Replace every submodule whose whole dotted name matches `pattern`, in place, by `make(submodule)`.

    Args:
        model: the model that is changed.
        pattern: a regular expression, such as r".*\\.att\\.(W_query|W_value)".
        make: takes the old module and returns the new one, which may hold the old.

    Returns:
        The names of the replaced modules.

    Raises:
        ValueError: the pattern matches nothing; it matches a module and also one inside it; or `make` returns a kind
            of module that an earlier call has put in at that place already, inside it or around it.
        TypeError: `make` returns something that is no module. Whatever is raised, nothing is replaced then.
    """
    modules = dict(model.named_modules())
    del modules[""]  # the model itself has no place to be replaced in
    names = [name for name in modules if re.fullmatch(pattern, name)]
    if not names:
        raise ValueError(f"no module matches {pattern!r}; names look like {list(modules)[-3:]}")
    for name in names:
        inside = [other for other in names if other.startswith(f"{name}.")]
        if inside:
            raise ValueError(f"{pattern!r} matches {name!r} and also {inside[0]!r} inside it")
    made = {name: make(modules[name]) for name in names}
    for name, module in made.items():
        if not isinstance(module, nn.Module):
            raise TypeError(f"make must return a module, got a {type(module).__name__} for {name!r}")
        around = [outer for other, outer in modules.items() if name.startswith(f"{other}.")]
        for earlier in [*around, *modules[name].modules()]:
            if type(earlier) is type(module) and hasattr(earlier, "_put_in_by"):
                raise ValueError(f"{name!r} has a {type(module).__name__} already, put in by {earlier._put_in_by!r}")
    for name, module in made.items():
        module._put_in_by = pattern
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module)
    return names
