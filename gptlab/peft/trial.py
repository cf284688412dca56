"""A tuning method tried on a model, and comparisons that say what they found: what `contract` stands on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from gptlab.config import GPTConfig
from gptlab.model import GPTModel, evaluation_mode, initialize_like_gpt2
from gptlab.peft.manage import adapter_modules, apply
from gptlab.peft.method import Method, own_modules
from gptlab.tokenizer import Tokenizer
from gptlab.training import Hook, make_optimizer, train

NAME = "first"  # of the adapter


class Broken(Exception):
    """What was found in place of what was promised, and where to look."""


class Trial:
    """A method, and models to try it on.

    Attributes:
        base: a plain model, of which a part is frozen.
        prepared: what the method makes of the base before an adapter goes in.
        ids: (B, T) int64, what the adapter learns to continue.
        tuned: a model whose adapter was trained, after `tune`.
    """

    tuned: GPTModel

    def __init__(
        self, method: Method, model: GPTModel | None, tokenizer: Tokenizer | None, steps: int, learning_rate: float
    ) -> None:
        self.method, self.tokenizer, self.steps, self.learning_rate = method, tokenizer, steps, learning_rate
        self.base = small_model() if model is None else copy.deepcopy(model).eval()
        self.base.pos_emb.requires_grad_(False)
        self.prepared = copy.deepcopy(self.base)
        if method.changes_base:
            method.prepare(self.prepared)
        self.ids = torch.randint(self.base.cfg.vocab_size, (3, 13))

    def fresh(self) -> GPTModel:
        return copy.deepcopy(self.base)

    def begun(self) -> GPTModel:
        """Return a copy of the base with a new adapter."""
        return self.put_on(self.fresh())

    def put_on(self, model: GPTModel, name: str = NAME, seed: int = 1) -> GPTModel:
        generator = torch.Generator().manual_seed(seed)
        return apply(model, self.method, name=name, tokenizer=self.tokenizer, generator=generator)

    def tune(self) -> list[str]:
        """Train an adapter, and return the names of its parameters that never had a gradient."""
        watch = Watch()
        self.tuned = self.train(self.begun(), watch)
        return [name for name, _ in parameters(self.tuned) if name not in watch.learned]

    def train(self, model: GPTModel, *hooks: Hook) -> GPTModel:
        """Train the active adapter to continue the ids."""
        optimizer = make_optimizer(model, self.learning_rate, weight_decay=0)
        hooks = (*hooks, *self.method.hooks(model, self.steps))
        batches = [(self.ids[:, :-1], self.ids[:, 1:])] * self.steps
        train(model, batches, optimizer=optimizer, hooks=hooks, progress=False)
        return model.eval()

    def copy(self) -> GPTModel:
        """Return a copy of the model whose adapter was trained."""
        return copy.deepcopy(self.tuned)

    @torch.no_grad()
    def logits(self, model: GPTModel, ids: Tensor | None = None) -> Tensor:
        """Return what the model makes of the ids, (B, T, V)."""
        with evaluation_mode(model):
            return model(self.ids if ids is None else ids)

    def loss(self, model: GPTModel) -> float:
        """Return the mean cross-entropy of the next ids."""
        return nn.functional.cross_entropy(self.logits(model)[:, :-1].transpose(1, 2), self.ids[:, 1:]).item()

    def require_same_base(self, model: GPTModel, look: str) -> None:
        """Raise Broken if a weight under the adapters is not, to the bit, what it was."""
        expected, found = base_tensors(self.prepared), base_tensors(model)
        names = expected.keys() ^ found.keys()
        require(not names, f"{first_of(names)} of the base is missing or too many", look)
        changed = [name for name in expected if not torch.equal(expected[name], found[name])]
        require(not changed, f"{first_of(changed)} of the base has changed", look)


class Watch(Hook):
    """Remembers which of the adapter's parameters had a gradient."""

    def __init__(self) -> None:
        self.learned: set[str] = set()

    def after_step(self, model: nn.Module, step: int) -> None:
        for name, weight in parameters(model):
            if weight.grad is not None and weight.grad.any():
                self.learned.add(name)


def small_model() -> GPTModel:
    """Return a model of random weights in which nothing is zero, with tied embeddings and all biases."""
    cfg = GPTConfig(
        vocab_size=61, context_length=64, emb_dim=48, n_heads=4, n_layers=2, qkv_bias=True, tie_weights=True
    )
    model = GPTModel(cfg)
    initialize_like_gpt2(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape), alpha=0.02)
    return model.eval()


def parameters(model: GPTModel) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of the adapter and their names."""
    for place, module in adapter_modules(model, NAME).items():
        for name, weight in module.named_parameters():
            yield f"{place}:{name}", weight


def base_tensors(model: GPTModel) -> dict[str, Tensor]:
    """Return what the model holds beside its adapters, by name."""
    return {
        f"{place}.{name}": tensor
        for place, module in own_modules(model)
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    }


def kinds(model: nn.Module) -> dict[str, type]:
    """Return the type of every module, by name."""
    return {name: type(module) for name, module in model.named_modules()}


def require(kept: bool, found: str, look: str) -> None:
    """Raise Broken unless something is so."""
    if not kept:
        raise Broken(f"{found}; look at {look}{'' if look.endswith('?') else '.'}")


def require_close(found: Tensor, expected: Tensor, tolerance: float, look: str) -> None:
    """Raise Broken if logits differ by more than the tolerance, or its share of the largest if that is above 1."""
    difference = (found - expected).abs().max().item()
    allowed = tolerance * max(1.0, expected.abs().max().item())
    require(difference <= allowed, f"the logits differ by {difference:.3g}, {allowed:.1g} is allowed", look)


def require_refused(call: Callable[[], object], reason: str, look: str) -> None:
    """Raise Broken unless a call raises a ValueError that says the reason."""
    try:
        call()
    except ValueError as error:
        require(reason in str(error), f"it is refused because of {str(error)!r}", look)
    else:
        require(False, f"no error says {reason!r}", look)


def first_of(names: Iterable[str]) -> str:
    """Return the first names, for a message."""
    return ", ".join(sorted(names)[:3])
