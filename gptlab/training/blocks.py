"""Ways to run a model's blocks in training: parts of them computed twice to save memory, or compiled to save time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gptlab.model import GPTModel
from gptlab.model.layers import FeedForward


@contextmanager
def blocks_run_as(model: GPTModel, *, recompute: bool = False, compile: bool = False) -> Iterator[None]:
    """Run the blocks in these ways for a while; GELU is recomputed in any case."""
    with ExitStack() as stack:
        stack.enter_context(recomputed_blocks(model) if recompute else recomputed_gelu(model))
        if compile:
            stack.enter_context(compiled_blocks(model))
        yield


@contextmanager
def recomputed_gelu(model: GPTModel) -> Iterator[None]:
    """Let the backward pass compute GELU's output again: a quarter less to remember for a hundredth more time.

    Recomputing stops as soon as it has what the backward pass asks for, so the linear layer behind is not run again.
    Only that layer's own weight, when it learns, needs GELU's output; where it is frozen or somebody replaced a layer,
    the feed-forward is left alone.
    """
    plain = [block.ff for block in model.trf_blocks if _learns_plainly(block.ff)]
    for feed_forward in plain:
        feed_forward.forward = partial(_lean_forward, feed_forward.layers)
    try:
        yield
    finally:
        for feed_forward in plain:
            del feed_forward.forward


def _learns_plainly(feed_forward: nn.Module) -> bool:
    if type(feed_forward) is not FeedForward or type(feed_forward.layers) is not nn.Sequential:
        return False
    behind = feed_forward.layers[-1]
    return type(behind) is nn.Linear and behind.weight.requires_grad


def _lean_forward(layers: nn.Sequential, x: Tensor) -> Tensor:
    return checkpoint(layers[1:], layers[0](x), use_reentrant=False)


@contextmanager
def recomputed_blocks(model: GPTModel) -> Iterator[None]:
    """Let the backward pass compute the inside of every block again; only the blocks' inputs are remembered.

    Source: Chen et al. 2016, arXiv 1604.06174 (gradient checkpointing).
    """
    for block in model.trf_blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in model.trf_blocks:
            del block.forward  # the class's own is found again


@contextmanager
def compiled_blocks(model: GPTModel) -> Iterator[None]:
    """Compile every block with `torch.compile`; without a working compiler, warn and leave them as they are."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=model.tok_emb.weight.device))
    except Exception as error:  # whatever a missing or broken compiler raises, in whatever release
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(f"torch.compile does not work here, so training goes on without: {reason}", stacklevel=2)
        yield
        return
    for block in model.trf_blocks:
        block.compile(dynamic=True)
    try:
        yield
    finally:
        for block in model.trf_blocks:
            block._compiled_call_impl = None
