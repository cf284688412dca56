"""Every method keeps the contract, and the contract sees every promise that is broken."""

import copy
import importlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from gptlab.peft import LoRA, apply
from gptlab.peft.adapted import Branch
from gptlab.peft.beginning import Beginning, read_alone
from gptlab.peft.contract import CHECKS, assert_peft_contract
from gptlab.peft.method import METHODS, Method, OnModules
from gptlab.training import Hook

KNOWN = dict(METHODS)


@dataclass(frozen=True)
class IA3(OnModules):
    """A factor for every key, value and inner activation. Source: Liu et al. 2022, arXiv 2205.05638, section 3.3."""

    targets: Sequence[str] = ("W_key", "W_value", "ff.layers.2")
    method: ClassVar[str] = "ia3"

    def branch(self, name, module, generator):
        return Factors(module, on_input=name.endswith("ff.layers.2"))


class Factors(Branch):
    def __init__(self, linear, on_input):
        super().__init__()
        self.on_input = on_input
        self.factors = nn.Parameter(torch.ones(linear.in_features if on_input else linear.out_features))

    def forward(self, x, base):
        return base(x * self.factors) if self.on_input else base(x) * self.factors

    def merged(self, base):
        merged = copy.deepcopy(base)
        with torch.no_grad():
            merged.weight.mul_(self.factors if self.on_input else self.factors[:, None])
            if not self.on_input:
                merged.bias.mul_(self.factors)
        return merged


def settings(module, name, **choices):
    """Make settings of a method of gptlab.peft."""
    return pytest.param(module, name, choices, id=f"{name}-{'-'.join(map(str, choices.values()))}")


@pytest.mark.parametrize(
    ("module", "name", "choices"),
    [
        settings("lora", "LoRA", rank=2),
        settings("lora", "LoRA", rank=2, targets="all-linear", dropout=0.2, rank_pattern={"out_proj": 3}),
        settings("adalora", "AdaLoRA", init_rank=3, target_rank=1),
        settings("qlora", "QLoRA", rank=2),
        settings("qlora", "QLoRA", rank=2, targets=("W_query",), double=False),
        settings("adapters", "Adapter", bottleneck=3),
        settings("adapters", "Adapter", bottleneck=3, norms=True),
        settings("prefix", "PrefixTuning", tokens=3),
        settings("prefix", "PrefixTuning", tokens=3, hidden=7),
        settings("prompts", "PromptTuning", tokens=3),
        settings("prompts", "PTuning", tokens=3, encoder="lstm", inside=1),
    ],
)
def test_every_method_keeps_the_contract(module, name, choices):
    method = getattr(importlib.import_module(f"gptlab.peft.{module}"), name)
    assert len(assert_peft_contract(method(**choices))) == len(CHECKS)


def test_a_method_of_a_readers_own_keeps_it(own_methods):
    promises = assert_peft_contract(IA3())
    assert len(set(promises)) == len(CHECKS)
    assert any(promise.startswith("Merged, it is a plain GPTModel") for promise in promises)


def test_what_a_method_does_not_promise_is_said():
    from gptlab.peft.prefix import PrefixTuning

    promises = assert_peft_contract(PrefixTuning(tokens=2))
    assert "It does not begin as the base does, and says so." in promises
    assert "It cannot be merged, says why, and stays as it was." in promises


def test_a_model_of_ones_own_stays_as_it_was(tiny, tokenizer):
    from gptlab.peft.prompts import PromptTuning

    before, state = copy.deepcopy(tiny.state_dict()), torch.get_rng_state()
    assert_peft_contract(PromptTuning(tokens=3, start="text", text="The home of"), model=tiny, tokenizer=tokenizer)
    assert all(torch.equal(before[name], weight) for name, weight in tiny.state_dict().items())
    assert all(weight.requires_grad for weight in tiny.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="must be plain, but it has adapters"):
        assert_peft_contract(LoRA(), model=apply(tiny, LoRA()))
    with pytest.raises(TypeError, match="must be settings, such as .*, got <class 'gptlab.peft.lora.LoRA'>"):
        assert_peft_contract(LoRA)


# --- methods that break one promise each

BROKEN = []


def breaks(promise, found):
    """Enter a class, with words of the sentence that should tell what is wrong with it."""
    return lambda cls: BROKEN.append(pytest.param(cls, promise, found, id=cls.__name__)) or cls


def with_branch(name, kind):
    """Make a method whose branch is of this kind."""
    namespace = {"method": name, "branch": lambda self, place, module, generator: kind(module, "ff" in place)}
    return dataclass(frozen=True)(type(name, (IA3,), {"__annotations__": {"method": ClassVar[str]}, **namespace}))


def breaks_in_its_branch(promise, found):
    def enter(kind):
        method = with_branch(f"with-{kind.__name__}", kind)
        BROKEN.append(pytest.param(method, promise, found, id=kind.__name__))
        return kind

    return enter


@breaks("The settings are frozen", "'strength' can be set; look at the class")
class NoDataclass(Method):
    method = "no-dataclass"

    def __init__(self, strength=2.0):
        self.strength = strength

    def build(self, model, **options):
        return IA3().build(model)


@breaks("come back equal from JSON", "frozenset is not JSON serializable")
@dataclass(frozen=True)
class NoJson(IA3):
    targets: Sequence[str] = ("W_key",)
    others: frozenset = frozenset(["W_key"])
    method: ClassVar[str] = "no-json"


@breaks("come back equal from JSON", r"\['W_key'\].* look at the types of the settings")
@dataclass(frozen=True)
class ComesBackOther(IA3):
    targets: Sequence[str] = ("W_key",)
    nested: Sequence[Sequence[str]] = (("W_key",),)
    method: ClassVar[str] = "comes-back-other"


@breaks("Applying changes no weight", "trf_blocks.0.att.W_key.bias, .* of the base has changed; look at build, branch")
@dataclass(frozen=True)
class ChangesTheBase(IA3):
    method: ClassVar[str] = "changes-the-base"

    def branch(self, name, module, generator):
        module.bias.data.zero_()
        return super().branch(name, module, generator)


@breaks("Applying changes no weight", "pos_emb.weight of the base has changed; .* has changes_base = True")
@dataclass(frozen=True)
class PreparesInSilence(IA3):
    method: ClassVar[str] = "prepares-in-silence"

    def prepare(self, model):
        model.pos_emb.weight.data.mul_(0.5)


@breaks_in_its_branch(
    "the adapter's parameters learn", "holds trf_blocks.0.att.W_key.bias, .*it must not keep the module"
)
class KeepsTheBase(Factors):
    def __init__(self, linear, on_input):
        super().__init__(linear, on_input)
        self.linear = linear


@breaks("the adapter's parameters learn", "a Factors for ''; look at build: a Beginning belongs there")
@dataclass(frozen=True)
class AtNoPlace(IA3):
    method: ClassVar[str] = "at-no-place"

    def build(self, model, **options):
        return {"": Factors(model.out_head, False)}


@breaks_in_its_branch("The same generator", "W_key:factors.* differs; look at how it is drawn")
class DrawnWithout(Factors):
    def __init__(self, linear, on_input):
        super().__init__(linear, on_input)
        self.factors.data.add_(torch.rand(self.factors.shape), alpha=0.01)


@breaks_in_its_branch("With exact_start", "the logits differ by .*, 0 is allowed; look at what the branch begins with")
class BeginsElsewhere(Factors):
    def __init__(self, linear, on_input):
        super().__init__(linear, on_input)
        self.factors.data.fill_(1.01)


@breaks_in_its_branch("gets a gradient", "W_key:unused, .* got none; look at forward: is it used")
class NeverUsed(Factors):
    def __init__(self, linear, on_input):
        super().__init__(linear, on_input)
        self.unused = nn.Parameter(torch.ones(3))


@breaks_in_its_branch("gets a gradient", "RuntimeError: .*does not require grad.*look at where it was raised")
class Detached(Factors):
    def forward(self, x, base):
        return base(x) * self.factors.detach() if not self.on_input else base(x)


@breaks_in_its_branch(
    "A deep copy", "the copy were changed, and its logits are not; look at what the branch reads from outside"
)
class InAGlobal(Factors):
    everywhere: ClassVar[dict] = {}

    def __init__(self, linear, on_input):
        super().__init__(linear, on_input)
        self.key = len(self.everywhere)
        self.everywhere[self.key] = self.factors

    def forward(self, x, base):
        factors = self.everywhere[self.key]
        return base(x * factors) if self.on_input else base(x) * factors


class TrainsTheNorm(Hook):
    def after_step(self, model, step):
        model.final_norm.scale.data.mul_(1.01)


@breaks(
    "Training lowers the loss, and leaves the base",
    "final_norm.scale of the base has changed; look at forward and hooks",
)
@dataclass(frozen=True)
class TrainsTheBase(IA3):
    method: ClassVar[str] = "trains-the-base"

    def hooks(self, model, total_steps):
        return [TrainsTheNorm()]


class Ascends(Hook):
    def after_step(self, model, step):
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data.add_(weight.grad, alpha=10)


@breaks("Training lowers the loss", "the loss was .* and is .*; look at forward, and whether")
@dataclass(frozen=True)
class LearnsNothing(IA3):
    method: ClassVar[str] = "learns-nothing"

    def hooks(self, model, total_steps):
        return [Ascends()]


@breaks_in_its_branch("A batch gives what its rows give", "look at forward: does it compute anything over the batch")
class OverTheBatch(Factors):
    def forward(self, x, base):
        return super().forward(x + (self.factors.mean() - 1) * x.mean(dim=0), base)


@breaks_in_its_branch("Reading on with a cache", "look at forward: a token may see itself and those before it")
class SeesTheFuture(Factors):
    def forward(self, x, base):
        return super().forward(x + (self.factors.mean() - 1) * x.mean(dim=1, keepdim=True), base)


class Longer(Beginning):
    def __init__(self, tokens, D):
        super().__init__()
        self.tokens, self.vectors = tokens, nn.Parameter(torch.ones(tokens + 1, D))

    def keys_and_values(self, model):
        return read_alone(model, self.vectors[None])


@breaks("(Every parameter of|Reading on with)", "RuntimeError: The size of tensor .*look at where it was raised")
@dataclass(frozen=True)
class CountsWrongly(Method):
    tokens: int = 2
    method: ClassVar[str] = "counts-wrongly"
    exact_start: ClassVar[bool] = False

    def build(self, model, **options):
        return {"": Longer(self.tokens, model.cfg.emb_dim)}


class OneOn(Branch):
    def __init__(self, embedding):
        super().__init__()
        self.factors = nn.Parameter(torch.ones(embedding.embedding_dim))

    def forward(self, x, base):
        return base(x + 1) * self.factors


@breaks("It reads as many tokens as model.cfg says", "IndexError: index out of range")
@dataclass(frozen=True)
class ShiftsPositions(IA3):
    targets: Sequence[str] = ("pos_emb",)
    method: ClassVar[str] = "shifts-positions"
    exact_start: ClassVar[bool] = False

    def branch(self, name, module, generator):
        return OneOn(module)


@breaks("While it is disabled", "0 is allowed; look at what build and hooks do to the model")
@dataclass(frozen=True)
class StaysOn(IA3):
    method: ClassVar[str] = "stays-on"

    def build(self, model, **options):
        made = super().build(model, **options)
        factors = made["trf_blocks.1.att.W_key"].factors
        model.drop_emb.register_forward_hook(lambda module, x, y: y * factors.mean())
        return made


@breaks_in_its_branch("A second adapter", "look at what the branch reads from outside: a global, the base")
class CountsAdapters(Factors):
    there: ClassVar[list] = []

    def __init__(self, linear, on_input):
        super().__init__(linear, on_input)
        self.there.append(1)

    def forward(self, x, base):
        y = super().forward(x, base)
        return y + (y - base(x)) * 0.01 * len(self.there)


@breaks_in_its_branch("Saved and loaded", "look at state_dict: does it hold everything")
class ForgetsABuffer(Factors):
    def __init__(self, linear, on_input):
        super().__init__(linear, on_input)
        self.register_buffer("steps", torch.zeros(()), persistent=False)

    def forward(self, x, base):
        self.steps += self.training
        return super().forward(x, base) + self.steps * 0.01


@breaks_in_its_branch(
    "untrained, it is not saved", "no error says 'train it before'; look at state_dict: does it change"
)
class CountsCalls(Factors):
    def __init__(self, linear, on_input):
        super().__init__(linear, on_input)
        self.register_buffer("one", torch.ones(()))

    def state_dict(self, **options):
        self.one += 1
        return super().state_dict(**options)


@breaks("Saved and loaded on a fresh base", "final_norm.scale of the base has changed; look at blank and prepare")
@dataclass(frozen=True)
class ChangesOnLoading(IA3):
    method: ClassVar[str] = "changes-on-loading"

    def blank(self, model):
        model.final_norm.scale.data.mul_(1.01)
        return super().blank(model)


@breaks("Saved for inference only", "look at for_inference")
@dataclass(frozen=True)
class AnswersOtherwise(IA3):
    method: ClassVar[str] = "answers-otherwise"

    def for_inference(self, model, modules):
        return self, {place: {"factors": module.factors * 1.1} for place, module in modules.items()}


@breaks_in_its_branch(
    "Merged, it is a plain GPTModel with the same logits", "look at merged: is it what forward computes"
)
class ForgetsTheBias(Factors):
    def merged(self, base):
        merged = super().merged(base)
        merged.bias = base.bias
        return merged


@breaks_in_its_branch("unmerging is exact", "look at merged: it must return a new module")
class MergesInPlace(Factors):
    def merged(self, base):
        base.load_state_dict(super().merged(base).state_dict())
        return base


@breaks_in_its_branch("it is a plain GPTModel", "other modules .*; look at merged: it must return a plain module")
class MergesIntoTwo(Factors):
    def merged(self, base):
        return nn.Sequential(super().merged(base), nn.Identity())


@breaks("it is a plain GPTModel", "other modules or weights than a GPTModel's")
@dataclass(frozen=True)
class UntiesTheHead(IA3):
    targets: Sequence[str] = ("out_head",)
    method: ClassVar[str] = "unties-the-head"

    def branch(self, name, module, generator):
        return Factors(module, on_input=True)


@breaks_in_its_branch("Merged", "no reason; look at the ValueError of merged")
class GivesNoReason(Factors):
    def merged(self, base):
        raise ValueError


@breaks_in_its_branch("Merged", "NotImplementedError: later; look at where it was raised")
class MergesLater(Factors):
    def merged(self, base):
        raise NotImplementedError("later")


@breaks("Removed", "other attributes; look at what build, prepare and hooks do to the model")
@dataclass(frozen=True)
class LeavesAMark(IA3):
    method: ClassVar[str] = "leaves-a-mark"

    def build(self, model, **options):
        model.tuned_by = self
        return super().build(model, **options)


OWN = {name: METHODS.pop(name) for name in METHODS.keys() - KNOWN.keys()}  # known in these tests only


@pytest.fixture
def own_methods(monkeypatch):
    for name, method in OWN.items():
        monkeypatch.setitem(METHODS, name, method)


@pytest.mark.parametrize(("method", "promise", "found"), BROKEN)
def test_a_broken_promise_is_named(own_methods, method, promise, found):
    with pytest.raises(AssertionError, match=f"{method.__name__} breaks a promise: .*{promise}.* Found: .*{found}"):
        assert_peft_contract(method(), steps=4)


@pytest.mark.parametrize(
    ("function", "instead", "promise"),
    [
        ("io.is_untrained", lambda *_: False, "untrained, it is not saved"),
        ("io._check_base", lambda *_: None, "A base of another size, or with other weights, is refused"),
        ("contract.disable", nullcontext, "While it is disabled"),
        ("contract.use", lambda *_: None, "A second adapter does not disturb the first"),
        ("contract.unmerge", lambda model: model, "unmerging is exact"),
        ("contract.remove", lambda model, *_: model, "Removed, the model is the plain base again"),
    ],
)
def test_faults_of_the_library_are_seen_too(monkeypatch, function, instead, promise):
    monkeypatch.setattr(f"gptlab.peft.{function}", instead)
    with pytest.raises(AssertionError, match=f"LoRA breaks a promise: .*{promise}.* Found: .*; look at"):
        assert_peft_contract(LoRA(rank=2), steps=4)
