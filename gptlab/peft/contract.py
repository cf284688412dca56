"""What this library promises of every tuning method, as checks to run on one: on those here, or on one of your own.

    assert_peft_contract(LoRA(rank=2))

A check is a function whose docstring is the promise. They stand in the order in which one would look for a mistake: a
later one takes for granted what an earlier one has found to be so.
"""

from __future__ import annotations

import json
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch

from gptlab.decoding import generate
from gptlab.model import GPTModel, KVCache
from gptlab.peft.adapted import Branch
from gptlab.peft.beginning import Beginning
from gptlab.peft.io import load_adapter, save_adapter
from gptlab.peft.manage import adapter_modules, adapters_of, disable, remove, use
from gptlab.peft.merging import merge, unmerge
from gptlab.peft.method import METHODS, Method, is_tied_head, method_from_dict
from gptlab.peft.trial import (
    NAME,
    Broken,
    Trial,
    base_tensors,
    first_of,
    kinds,
    parameters,
    require,
    require_close,
    require_refused,
)
from gptlab.tokenizer import Tokenizer
from gptlab.training.random_states import own_random_numbers


def assert_peft_contract(
    method: Method,
    *,
    model: GPTModel | None = None,
    tokenizer: Tokenizer | None = None,
    steps: int = 10,
    learning_rate: float = 0.01,
) -> list[str]:
    """Return the promises that a method makes, after checking that it keeps them.

    Args:
        method: settings, such as `LoRA(rank=2)`.
        model: a plain model, which stays as it is; None makes a small one of random weights.
        tokenizer: the model's, for methods that begin with the embeddings of a text.
        steps: how long an adapter is trained, on one batch of random tokens.
        learning_rate: of these steps.

    Raises:
        AssertionError: a promise is broken: which one, what was found instead, and where to look.
        TypeError: `method` is no settings, but perhaps their class.
        ValueError: the model has adapters.
    """
    if not isinstance(method, Method):
        raise TypeError(f"method must be settings, such as LoRA(rank=2), got {method!r}")
    if model is not None and adapters_of(model) is not None:
        raise ValueError("model must be plain, but it has adapters: remove(model) takes them off")
    kept = []
    with own_random_numbers(torch.device("cpu"), 0):
        trial = Trial(method, model, tokenizer, steps, learning_rate)
        for check in CHECKS:
            try:
                kept.append(check(trial) or check.__doc__)
            except Exception as error:
                own = isinstance(error, Broken)
                found = error if own else f"{type(error).__name__}: {error}; look at where it was raised."
                text = f"{type(method).__name__} breaks a promise: {check.__doc__} Found: {found}"
                raise AssertionError(text) from (None if own else error)
    return kept


def settings_are_data(trial: Trial) -> None:
    """The settings are frozen, and come back equal from JSON."""
    method, name = trial.method, getattr(trial.method, "method", None)
    stands_for = METHODS.get(name)
    require(stands_for is type(method), f"the name {name!r} stands for {stands_for}", "the class attribute `method`")
    for setting, value in vars(method).items():
        try:
            setattr(method, setting, value)
        except AttributeError:
            continue
        raise Broken(f"{setting!r} can be set; look at the class: is it a @dataclass(frozen=True)?")
    again = method_from_dict(json.loads(json.dumps(method.to_dict())))
    equal = again == method and vars(again) == vars(method)
    require(equal, f"{again} in place of {method}", "the types of the settings: of a list, JSON makes a tuple")


def applying_leaves_the_base(trial: Trial) -> None:
    """Applying changes no weight of the base; the adapter's parameters learn, and no others."""
    model = trial.begun()
    for place, module in adapter_modules(model, NAME).items():
        kind = Branch if place else Beginning
        require(
            isinstance(module, kind),
            f"a {type(module).__name__} for {place!r}",
            f"build: a {kind.__name__} belongs there",
        )
    trial.require_same_base(model, "build, branch and prepare; a method that changes the base has changes_base = True")
    own = {id(weight) for _, weight in parameters(model)}
    require(
        bool(own), "the adapter has no parameters", "build, and whether they are each an nn.Parameter of the branch"
    )
    kept = [name for name, weight in base_tensors(model).items() if id(weight) in own]
    require(not kept, f"the adapter holds {first_of(kept)}", "the branch: it must not keep the module that it is given")
    learning = {id(weight): name for name, weight in model.named_parameters() if weight.requires_grad}
    others = [name for key, name in learning.items() if key not in own]
    require(not others, f"{first_of(others)} learns too", "build, branch and prepare")


def generator_decides(trial: Trial) -> None:
    """The same generator begins the same adapter."""
    first, again = dict(parameters(trial.begun())), dict(parameters(trial.begun()))
    differ = [name for name in first if not torch.equal(first[name], again[name])]
    require(not differ, f"{first_of(differ)} differs", "how it is drawn: with generator=generator?")


def begins_as_the_base(trial: Trial) -> str | None:
    """With exact_start, the logits are at first those of the base, bit for bit."""
    if not trial.method.exact_start:
        return "It does not begin as the base does, and says so."
    look = "what the branch begins with: is its last matrix zero? Or say exact_start = False"
    require_close(trial.logits(trial.begun()), trial.logits(trial.prepared), 0, look)
    return None


def every_parameter_learns(trial: Trial) -> None:
    """Every parameter of the adapter gets a gradient within a few steps."""
    without = trial.tune()
    require(not without, f"{first_of(without)} got none", "forward: is it used, and not detached?")


def copies_are_independent(trial: Trial) -> None:
    """A deep copy answers as the model does, from parameters of its own."""
    before, other = trial.logits(trial.tuned), trial.copy()
    look = "what the branch reads from outside: a global, a closure, the settings"
    require_close(trial.logits(other), before, 0, look)
    with torch.no_grad():
        for _, weight in parameters(other):
            weight.add_(torch.randn(weight.shape), alpha=0.1)
    changed = not torch.equal(trial.logits(other), before)
    require(changed, "the parameters of the copy were changed, and its logits are not", look)
    require_close(trial.logits(trial.tuned), before, 0, look)


def training_helps(trial: Trial) -> None:
    """Training lowers the loss, and leaves the base as it was, bit for bit."""
    trial.require_same_base(trial.tuned, "forward and hooks")
    before, after = trial.loss(trial.begun()), trial.loss(trial.tuned)
    look = "forward, and whether `steps` and `learning_rate` suit the method"
    require(after < before, f"the loss was {before:.4f} and is {after:.4f}", look)


def rows_are_alone(trial: Trial) -> None:
    """A batch gives what its rows give alone."""
    alone = torch.cat([trial.logits(trial.tuned, row[None]) for row in trial.ids])
    require_close(trial.logits(trial.tuned), alone, 1e-5, "forward: does it compute anything over the batch?")


def cache_remembers(trial: Trial) -> None:
    """Reading on with a cache gives what reading everything again gives; so does decoding."""
    model, cache = trial.tuned, KVCache(trial.base.cfg.n_layers)
    look = "forward: a token may see itself and those before it, and nothing else"
    with torch.no_grad():
        parts = [model(part, cache=cache) for part in trial.ids.split([6, 1, 4, 2], dim=1)]
    require_close(torch.cat(parts, dim=1), trial.logits(model), 1e-5, look)
    prompts = [trial.ids[0, :5].tolist(), trial.ids[1, :3].tolist()]
    for prompt, written in zip(prompts, generate(model, prompts, max_new_tokens=5)):
        logits = trial.logits(model, torch.tensor([prompt + written]))[0, len(prompt) - 1 : -1]  # (5, V)
        chosen = logits.gather(1, torch.tensor(written)[:, None])[:, 0]
        require_close(chosen, logits.amax(dim=1), 1e-5, look)


def context_is_as_said(trial: Trial) -> None:
    """It reads as many tokens as model.cfg says, and not one more."""
    ids = torch.randint(trial.base.cfg.vocab_size, (1, trial.tuned.cfg.context_length + 1))
    look = "`tokens` of the beginning: is it how many keys and values there are?"
    require(trial.logits(trial.tuned, ids[:, 1:]).isfinite().all(), "logits that are not finite", look)
    require_refused(lambda: trial.logits(trial.tuned, ids), "the context holds", look)


def disabling_is_exact(trial: Trial) -> None:
    """While it is disabled the model answers as the base, bit for bit, and afterwards as before."""
    model, before = trial.copy(), trial.logits(trial.tuned)
    with disable(model):
        require_close(trial.logits(model), trial.logits(trial.prepared), 0, "what build and hooks do to the model")
    require_close(trial.logits(model), before, 0, "what the branch remembers from call to call")


def adapters_are_independent(trial: Trial) -> None:
    """A second adapter does not disturb the first, and may not have its name."""
    model, before = trial.copy(), trial.logits(trial.tuned)
    look = "what the branch reads from outside: a global, the base, the settings"
    require_refused(lambda: trial.put_on(model), f"has an adapter {NAME!r} already", "build")
    require_close(trial.logits(model), before, 0, look)
    trial.train(trial.put_on(model, "second", seed=2))
    second = trial.logits(model)
    for name, expected in ((NAME, before), ("second", second), (NAME, before)):
        use(model, name)
        require_close(trial.logits(model), expected, 0, look)
    require_close(trial.logits(remove(model, "second")), before, 0, look)


def files_hold_it(trial: Trial) -> None:
    """Saved and loaded on a fresh base, it gives the same logits and can learn on; untrained, it is not saved."""
    with TemporaryDirectory() as folder:
        require_refused(lambda: save_adapter(trial.begun(), folder), "train it before", "state_dict: does it change?")
        save_adapter(trial.tuned, folder)
        expected, look = trial.logits(trial.tuned), "state_dict: does it hold everything that forward uses?"
        for trainable in (False, True):
            model = load_adapter(trial.fresh(), folder, name=NAME, trainable=trainable)
            trial.require_same_base(model, "blank and prepare")
            require_close(trial.logits(model), expected, 1e-6, look)
            learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
            wanted = {name for name, weight in trial.tuned.named_parameters() if weight.requires_grad and trainable}
            require(learning == wanted, f"{first_of(learning ^ wanted)} learns, or does not", "blank")


def smaller_files_answer(trial: Trial) -> None:
    """Saved for inference only, it gives the same logits."""
    with TemporaryDirectory() as folder:
        save_adapter(trial.tuned, folder, for_inference=True)
        model = load_adapter(trial.fresh(), folder)
        require_close(trial.logits(model), trial.logits(trial.tuned), 1e-5, "for_inference")


def other_bases_are_refused(trial: Trial) -> None:
    """A base of another size, or with other weights, is refused, and stays as it was."""
    larger = GPTModel(replace(trial.base.cfg, n_layers=trial.base.cfg.n_layers + 1)).eval()
    changed = trial.fresh()
    changed.final_norm.scale.data.mul_(1.5)
    with TemporaryDirectory() as folder:
        save_adapter(trial.tuned, folder)
        for model, reason in ((larger, "of another size"), (changed, "with other weights")):
            before, modules, look = trial.logits(model), kinds(model), "blank: does it change the model?"
            require_refused(lambda model=model: load_adapter(model, folder), reason, look)
            require(kinds(model) == modules, "other modules", look)
            require_close(trial.logits(model), before, 0, look)


def merging_keeps_the_answers(trial: Trial) -> str | None:
    """Merged, it is a plain GPTModel with the same logits; it is merged once, and unmerging is exact."""
    model, before = trial.copy(), trial.logits(trial.tuned)
    modules, look = kinds(model), "merged: it must return a new module, and change neither the base nor the branch"
    try:
        merge(model)
    except ValueError as error:
        require(bool(str(error).partition("cannot be merged: ")[2]), "no reason", "the ValueError of merged")
        require(kinds(model) == modules, "other modules", look)
        require_close(trial.logits(model), before, 0, look)
        return "It cannot be merged, says why, and stays as it was."
    plain = kinds(model) == kinds(trial.base) and model.state_dict().keys() == trial.base.state_dict().keys()
    plain = plain and is_tied_head(model, "out_head") == is_tied_head(trial.base, "out_head")
    require(plain, "other modules or weights than a GPTModel's", "merged: it must return a plain module")
    require_close(trial.logits(model), before, 1e-5, "merged: is it what forward computes?")
    require_refused(lambda: merge(model), "merged already", look)
    require_close(trial.logits(unmerge(model)), before, 0, look)
    trial.require_same_base(model, look)
    return None


def removing_leaves_nothing(trial: Trial) -> None:
    """Removed, the model is the plain base again, bit for bit, and learns what it learned before."""
    model, look = remove(trial.copy()), "what build, prepare and hooks do to the model"
    require(kinds(model) == kinds(trial.prepared), "other modules", look)
    left = vars(model).keys() - ({"_adapters"} if trial.method.changes_base else set())  # that it was changed
    require(left == vars(trial.base).keys() and model.cfg == trial.base.cfg, "other attributes", look)
    trial.require_same_base(model, look)
    require_close(trial.logits(model), trial.logits(trial.prepared), 0, look)
    learned = dict(trial.base.named_parameters())
    others = [name for name, weight in model.named_parameters() if weight.requires_grad != learned[name].requires_grad]
    require(not others, f"{first_of(others)} learns, or does not", look)


CHECKS = (
    settings_are_data,
    applying_leaves_the_base,
    generator_decides,
    begins_as_the_base,
    every_parameter_learns,
    copies_are_independent,
    training_helps,
    rows_are_alone,
    cache_remembers,
    context_is_as_said,
    disabling_is_exact,
    adapters_are_independent,
    files_hold_it,
    smaller_files_answer,
    other_bases_are_refused,
    merging_keeps_the_answers,
    removing_leaves_nothing,
)
