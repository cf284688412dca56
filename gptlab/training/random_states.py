"""Every random number that training draws, as states that can be saved and put back."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


@contextmanager
def own_random_numbers(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Draw PyTorch's random numbers, from a seed if it is given, and put the former state back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def random_states(batches: Iterable, device: torch.device) -> dict[str, Tensor]:
    """Return the states of PyTorch's, NumPy's and Python's random numbers, and of the generators of a DataLoader."""
    version, words, gauss = random.getstate()
    _, keys, place, has_gauss, cached = np.random.get_state()
    states = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(keys.astype(np.int64)),
        "numpy_rest": torch.tensor([place, has_gauss, cached], dtype=torch.float64),
        "python": torch.tensor([version, *words], dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states | {name: generator.get_state() for name, generator in _generators(batches).items()}


def restore_random_states(states: Mapping[str, Tensor], batches: Iterable, device: torch.device) -> None:
    """Put back what `random_states` returned; a state of something that is not here is passed over."""
    torch.set_rng_state(states["torch"])
    place, has_gauss, cached = states["numpy_rest"].tolist()
    np.random.set_state(("MT19937", states["numpy"].numpy().astype(np.uint32), int(place), int(has_gauss), cached))
    version, *words = states["python"].tolist()
    random.setstate((version, tuple(words), next(iter(states["python_gauss"].tolist()), None)))
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
    for name, generator in _generators(batches).items():
        if name in states:
            generator.set_state(states[name])


def _generators(batches: Any) -> dict[str, torch.Generator]:
    """Return the generators that a DataLoader and its samplers draw from, by where they are."""
    batch_sampler = getattr(batches, "batch_sampler", None)
    places = {
        "loader": batches,
        "sampler": getattr(batches, "sampler", None),
        "batch_sampler": batch_sampler,
        "batch_sampler.sampler": getattr(batch_sampler, "sampler", None),
    }
    found = {name: getattr(place, "generator", None) for name, place in places.items()}
    return {name: generator for name, generator in found.items() if isinstance(generator, torch.Generator)}
