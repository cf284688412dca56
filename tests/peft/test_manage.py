"""Adapters on, off, next to each other, around each other and in the weights: what no single method can promise."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from gptlab.decoding import generate, prepare_for_decoding
from gptlab.peft import (
    LoRA,
    apply,
    disable,
    load_adapter,
    merge,
    remove,
    save_adapter,
    trainable_parameters,
    unmerge,
    use,
)
from gptlab.peft.adapted import Adapted, Branch
from gptlab.peft.adapters import Adapter
from gptlab.peft.manage import active_adapter, adapter_modules, adapters_of, is_untrained
from gptlab.peft.method import METHODS, OnModules
from gptlab.peft.prefix import PrefixTuning
from gptlab.peft.qlora import QLoRA
from gptlab.weights import add_special_tokens, export_huggingface, load_checkpoint, load_gpt2, save_checkpoint

IDS = torch.tensor([[5, 9, 2, 7, 7, 1], [3, 0, 8, 4, 6, 2]])
EVERYWHERE = LoRA(rank=2, targets="all-linear")


def shake(model, size=0.1):
    """Change what learns, as training does."""
    with torch.no_grad():
        for number, weight in enumerate(trainable_parameters(model)):
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)), alpha=size)
    return model


def tuned(model, method=EVERYWHERE, name="default"):
    return shake(apply(model, method, name=name))


def logits(model):
    with torch.no_grad():
        return model(IDS)


def kinds(model):
    return {name: type(module) for name, module in model.named_modules()}


def learning(model):
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


# --- names


@pytest.mark.parametrize("name", ["", "a.b", "two words", "keys", "training", "名", "a\n", 5, None])
def test_refused_names(tiny, name):
    before = kinds(tiny)
    with pytest.raises(ValueError, match=r"name must be of letters, digits, - and _, .*got"):
        apply(tiny, LoRA(), name=name)
    assert kinds(tiny) == before
    assert adapters_of(tiny) is None


def test_names_that_are_not_there(tiny):
    with pytest.raises(ValueError, match=r"the model has no adapter; apply\(model, method\)"):
        use(tiny, None)
    for call in (remove, merge, unmerge, active_adapter):
        with pytest.raises(ValueError, match="the model has no adapter; apply"):
            call(tiny)
    with pytest.raises(ValueError, match="the model has no adapter; apply"), disable(tiny):
        pass
    tuned(tiny, name="one")
    for call in (use, remove):
        with pytest.raises(ValueError, match="the model has no adapter 'two'; it has one"):
            call(tiny, "two")
    with pytest.raises(ValueError, match="the model has no adapter 'two'"):
        active_adapter(tiny, "two")
    use(tiny, None)
    with pytest.raises(ValueError, match="the model has no active adapter"):
        active_adapter(tiny)
    with pytest.raises(ValueError, match=r"no adapter is active: use\(model, name\)"):
        merge(tiny)


def test_settings_that_do_not_fit_leave_the_model(tiny):
    before = kinds(tiny)
    for method, message in ((LoRA(targets=("q_proj",)), "no module matches 'q_proj'"), (LoRA(rank=99), "rank must be")):
        with pytest.raises(ValueError, match=message):
            apply(tiny, method)
    assert kinds(tiny) == before
    assert adapters_of(tiny) is None
    tuned(tiny, name="one")
    before, answers = kinds(tiny), logits(tiny)
    with pytest.raises(ValueError, match="tokens must be below 160"):
        apply(tiny, PrefixTuning(tokens=160), name="two")
    assert kinds(tiny) == before
    assert logits(tiny).equal(answers)


def test_a_place_that_is_not_there_leaves_the_model(tiny):
    @dataclass(frozen=True)
    class Astray(QLoRA):
        def build(self, model, **options):
            return super().build(model, **options) | {"trf_blocks.7.ff": Small(32, False)}

    before = kinds(tiny)
    with pytest.raises(AttributeError, match="7"):
        apply(tiny, Astray(rank=2))
    assert kinds(tiny) == before
    assert adapters_of(tiny) is None


@pytest.mark.parametrize("method", [LoRA, "lora", None])
def test_settings_are_asked_for(tiny, method):
    with pytest.raises(TypeError, match=r"method must be settings, such as LoRA\(rank=8\), got"):
        apply(tiny, method)


# --- switching


def test_none_lets_the_model_alone_answer(tiny):
    before = logits(tiny)
    answers = logits(tuned(tiny))
    use(tiny, None)
    assert logits(tiny).equal(before)
    assert not learning(tiny)
    use(tiny, "default")
    assert logits(tiny).equal(answers)
    assert all(".adapters.default." in name for name in learning(tiny))


def test_disabling_ends_with_an_error_too_and_may_be_nested(tiny):
    before = logits(tiny)
    answers = logits(tuned(tiny))
    with pytest.raises(KeyError), disable(tiny), disable(tiny):
        assert logits(tiny).equal(before)
        raise KeyError
    assert logits(tiny).equal(answers)
    use(tiny, None)
    with disable(tiny):
        pass
    assert logits(tiny).equal(before)


def test_what_was_put_on_while_disabled_waits(tiny):
    """The adapter that answers again is also the one that learns."""
    answers = logits(tuned(tiny, name="first"))
    with disable(tiny):
        tuned(tiny, LoRA(rank=1), name="second")
        assert not logits(tiny).equal(answers)
    assert logits(tiny).equal(answers)
    assert all(".first." in name for name in learning(tiny))


def test_what_learned_before_disabling_learns_after_it(tiny):
    tuned(tiny)
    tiny.final_norm.requires_grad_(True)  # by hand
    before = learning(tiny)
    with disable(tiny):
        pass
    assert learning(tiny) == before


def test_a_name_that_answered_only_may_learn_when_it_is_given_again(tiny, tmp_path):
    save_adapter(tuned(copy.deepcopy(tiny)), tmp_path)
    load_adapter(tiny, tmp_path)
    assert not learning(tiny)
    remove(tiny, "default")
    apply(tiny, PrefixTuning(tokens=2), name="other")
    assert learning(apply(tiny, EVERYWHERE))


def test_a_copy_keeps_its_own_account(tiny, tmp_path):
    """What becomes of the copy's adapters is not noticed by the first model, and the other way round."""
    save_adapter(tuned(copy.deepcopy(tiny)), tmp_path)
    apply(tiny, LoRA(rank=1), name="first")
    other = copy.deepcopy(tiny)
    load_adapter(other, tmp_path)
    assert not learning(other)
    assert learning(apply(tiny, EVERYWHERE))
    use(copy.deepcopy(tiny), "first")
    assert "default" in adapters_of(tiny).methods


def test_an_adapter_is_in_the_mode_of_its_model(tiny):
    method = LoRA(rank=2, dropout=0.5)
    for training in (True, False):
        apply(tiny.train(training), method)
        assert {module.training for module in tiny.modules()} == {training}
        merge(tiny)
        assert {module.training for module in tiny.modules()} == {training}
        remove(tiny)


def test_a_fresh_head_is_a_target(tiny):
    """Everything but the adapter is frozen, a new head too; its own difference, of full rank, learns in its place."""
    tiny.out_head = nn.Linear(tiny.cfg.emb_dim, 2)
    apply(tiny, LoRA(rank=4, targets=("W_query", "out_head"), rank_pattern={"out_head": 2}))
    assert len(tiny.out_head.adapters["default"].B) == len(tiny.out_head.adapters["default"].A) == 2
    expected = logits(shake(tiny))
    torch.testing.assert_close(logits(remove(merge(tiny))), expected, atol=1e-5, rtol=0)


def test_what_is_removed_while_disabled_does_not_come_back(tiny):
    before = logits(tiny)
    second = logits(tuned(tuned(tiny, name="first"), LoRA(rank=1), name="second"))
    assert not second.equal(before)
    with disable(tiny):
        remove(tiny, "second")
    assert logits(tiny).equal(before)
    with pytest.raises(ValueError, match="no adapter is active"):
        merge(tiny)
    with disable(tiny):
        remove(tiny)
    assert adapters_of(tiny) is None
    assert logits(tiny).equal(before)


def test_one_of_two_is_removed(tiny):
    before, modules = logits(tiny), kinds(tiny)
    first = logits(tuned(tiny, name="first"))
    tuned(tiny, PrefixTuning(tokens=3), name="second")
    assert tiny.cfg.context_length == 157
    remove(tiny, "second")  # the active one
    assert logits(tiny).equal(before)
    assert tiny.cfg.context_length == 160
    use(tiny, "first")
    assert logits(tiny).equal(first)
    tuned(tiny, LoRA(rank=1), name="third")
    use(tiny, "first")
    remove(tiny, "third")
    assert logits(tiny).equal(first)
    assert all(".first." in name for name in learning(tiny))
    remove(tiny, "first")
    assert kinds(tiny) == modules
    assert logits(tiny).equal(before)


def test_what_learns_is_as_before(tiny):
    frozen = [tiny.pos_emb, tiny.trf_blocks[0], tiny.trf_blocks[1].att.W_query]
    for module in frozen:
        module.requires_grad_(False)
    before = learning(tiny)
    assert "trf_blocks.1.att.W_key.weight" in before
    tuned(tuned(tiny, name="first"), name="second")
    assert learning(remove(tiny)) == before
    remove(merge(tuned(tiny)))
    assert learning(tiny) == before
    apply(tiny, QLoRA(rank=2))  # weights become codes, which never learn
    assert learning(remove(tiny)) == {name for name in before if name in dict(tiny.named_parameters())}


def test_a_vocabulary_may_grow_under_an_adapter(tiny, tokenizer):
    tuned(tiny, PrefixTuning(tokens=2))
    add_special_tokens(tiny, tokenizer, ["<mark>"])
    size = tokenizer.n_vocab + 1
    assert tiny.cfg.vocab_size == size
    with disable(tiny):
        assert (tiny.cfg.vocab_size, tiny.cfg.context_length) == (size, 160)
    assert (tiny.cfg.vocab_size, tiny.cfg.context_length) == (size, 158)
    assert remove(tiny).cfg.vocab_size == size


def test_an_adapter_is_untrained_in_whatever_order_it_was_built(tiny):
    apply(tiny, Adapter(bottleneck=2, norms=True))  # builds norms last, and they are not last in the model
    assert is_untrained(tiny, "default")
    assert not is_untrained(shake(tiny), "default")


# --- merging


def test_a_merged_model_refuses_what_it_has_no_place_for(tiny):
    merge(tuned(tiny))
    merged = logits(tiny)
    for call in (merge, active_adapter, lambda model: use(model, None), lambda model: remove(model, "default")):
        with pytest.raises(ValueError, match="the adapter 'default' is merged already: unmerge"):
            call(tiny)
    with pytest.raises(ValueError, match="merged already"):
        apply(tiny, LoRA(), name="other")
    with pytest.raises(ValueError, match="merged already"), disable(tiny):
        pass
    assert logits(tiny).equal(merged)
    unmerge(tiny)
    with pytest.raises(ValueError, match=r"nothing to unmerge: merge\(model\) was not called"):
        unmerge(tiny)


@pytest.mark.parametrize("removed", [True, False])
def test_a_merged_model_is_saved_and_exported(tiny, tokenizer, tmp_path, removed):
    apply(tiny, PrefixTuning(tokens=2), name="other")  # not in use, and not in the files
    expected = logits(tuned(tiny))
    merge(tiny)
    if removed:
        remove(tiny)
    save_checkpoint(tmp_path / "ours", tiny, tokenizer)
    torch.testing.assert_close(logits(load_checkpoint(tmp_path / "ours").model), expected, atol=1e-5, rtol=0)
    export_huggingface(tiny, tokenizer, tmp_path / "theirs")
    torch.testing.assert_close(logits(load_gpt2(tmp_path / "theirs")[0]), expected, atol=1e-5, rtol=0)


def test_an_adapted_model_is_neither_saved_nor_exported(tiny, tokenizer, tmp_path):
    tuned(tiny)
    for write in (
        lambda: save_checkpoint(tmp_path / "a", tiny, tokenizer),
        lambda: export_huggingface(tiny, tokenizer, tmp_path / "b"),
    ):
        with pytest.raises(ValueError, match=r"trf_blocks.0.att.W_(query.weight|key.adapters)"):
            write()
    assert not list(tmp_path.iterdir())


def test_only_the_active_one_is_merged(tiny):
    tuned(tiny, LoRA(rank=3, targets=("W_query", "ff.layers.0")), name="first")
    second = logits(tuned(tiny, LoRA(rank=1, targets=("W_query", "out_proj")), name="second"))
    apply(tiny, PrefixTuning(tokens=2), name="third")
    use(tiny, "first")
    first, modules, shapes = logits(tiny), kinds(tiny), set(tiny.state_dict())
    torch.testing.assert_close(logits(merge(tiny)), first, atol=1e-5, rtol=0)
    assert not any(isinstance(module, Adapted) for module in tiny.modules())
    unmerge(tiny)
    assert kinds(tiny) == modules
    assert set(tiny.state_dict()) == shapes
    assert logits(tiny).equal(first)
    use(tiny, "second")
    assert logits(tiny).equal(second)


def test_quantised_layers_without_a_branch_are_full_when_merged(tiny):
    modules = kinds(tiny)
    before = logits(tuned(tiny, QLoRA(rank=2, targets=("W_query",))))
    torch.testing.assert_close(logits(merge(tiny)), before, atol=1e-5, rtol=0)
    assert kinds(tiny) == modules
    assert logits(unmerge(tiny)).equal(before)


def test_unmerged_in_another_mode(tiny):
    """Dropout is off in a model that was merged in training and evaluated afterwards."""
    tuned(tiny.train(), LoRA(rank=2, dropout=0.9))
    merge(tiny)
    unmerge(tiny.eval())
    assert logits(tiny).equal(logits(tiny))
    assert not any(module.training for module in tiny.modules())


def test_unmerged_on_another_device(tiny):
    merge(tuned(tiny)).to("meta")
    assert {weight.device.type for weight in unmerge(tiny).parameters()} == {"meta"}


@pytest.mark.parametrize("change", ["train", "half"])
def test_what_was_done_to_a_merged_model_is_not_lost(tiny, change):
    merge(tuned(tiny))
    if change == "train":
        tiny.final_norm.requires_grad_(True)
        torch.optim.SGD([tiny.final_norm.scale], lr=0.1).step(lambda: tiny(IDS).pow(2).mean().backward())
    else:
        tiny.to(torch.bfloat16)
    after = logits(tiny)
    with pytest.raises(ValueError, match="the weights have changed since the merge, which would be lost; remove"):
        unmerge(tiny)
    assert logits(tiny).equal(after)
    assert logits(remove(tiny)).equal(after)


def test_a_copy_of_a_merged_model_stays_merged(tiny):
    before = logits(tuned(tiny))
    other = copy.deepcopy(merge(tiny))
    assert adapters_of(other).merged == {}  # what was put aside is as large as the model
    assert logits(other).equal(logits(tiny))
    with pytest.raises(ValueError, match="nothing to unmerge: this is a copy of a merged model"):
        unmerge(other)
    remove(other)
    assert "trf_blocks.0.att.W_query.weight" in learning(other)
    assert logits(unmerge(tiny)).equal(before)


def test_adapters_stay_the_same_objects(tiny):
    """An optimizer that was made before still has the parameters that learn."""
    tuned(tiny)
    before = trainable_parameters(tiny)
    copy.deepcopy(merge(tiny))
    unmerge(tiny)
    use(tiny, None)
    use(tiny, "default")
    assert all(now is then for now, then in zip(trainable_parameters(tiny), before, strict=True))


# --- one adapter around another


@dataclass(frozen=True)
class Beside(OnModules):
    """A small layer beside a whole module, as parallel adapters have it (He et al. 2022, arXiv 2110.04366)."""

    targets: Sequence[str] = ("ff",)
    merges: bool = False
    method: ClassVar[str] = "beside"

    def branch(self, name, module, generator):
        first = next(inside for inside in module.modules() if isinstance(inside, nn.Linear))
        return Small(first.in_features, self.merges)


class Small(Branch):
    def __init__(self, D, merges):
        super().__init__()
        self.W, self.merges = nn.Parameter(torch.zeros(D, D)), merges

    def forward(self, x, base):
        return base(x) + x @ self.W

    def merged(self, base):
        if not self.merges:
            raise TypeError("a mistake of its author")
        return Sum(base, self.W)


class Sum(nn.Module):
    def __init__(self, base, W):
        super().__init__()
        self.base, self.W = base, W

    def forward(self, x):
        return self.base(x) + x @ self.W


del METHODS["beside"]  # known in these tests only


@pytest.fixture
def beside(monkeypatch):
    monkeypatch.setitem(METHODS, "beside", Beside)


@pytest.mark.parametrize("order", [("outer", "inner"), ("inner", "outer")])
def test_around_each_other(tiny, order):
    before, modules = logits(tiny), kinds(tiny)
    answers = {}
    for name in order:
        answers[name] = logits(tuned(tiny, Beside() if name == "outer" else EVERYWHERE, name=name))
    assert "trf_blocks.0.ff.layers.0" in adapter_modules(tiny, "inner")  # the name without what is around
    assert list(adapter_modules(tiny, "outer")) == ["trf_blocks.0.ff", "trf_blocks.1.ff"]
    for name in ("outer", "inner", "outer"):
        use(tiny, name)
        assert logits(tiny).equal(answers[name])
    use(tiny, "inner")
    torch.testing.assert_close(logits(merge(tiny)), answers["inner"], atol=1e-5, rtol=0)
    assert kinds(tiny) == modules
    assert logits(unmerge(tiny)).equal(answers["inner"])
    remove(tiny, order[0])
    use(tiny, order[1])
    assert logits(tiny).equal(answers[order[1]])
    remove(tiny)
    assert kinds(tiny) == modules
    assert logits(tiny).equal(before)


def test_one_method_around_itself(tiny):
    before, modules = logits(tiny), kinds(tiny)
    answers = logits(tuned(tiny, Beside(targets=("ff", "ff.layers"), merges=True)))
    assert len(adapter_modules(tiny, "default")) == 4
    torch.testing.assert_close(logits(merge(tiny)), answers, atol=1e-5, rtol=0)
    assert logits(unmerge(tiny)).equal(answers)
    assert logits(remove(tiny)).equal(before)
    assert kinds(tiny) == modules


def test_the_outer_one_is_merged_over_the_inner(tiny):
    tuned(tiny, name="inner")
    answers = logits(tuned(tiny, Beside(merges=True), name="outer"))
    torch.testing.assert_close(logits(merge(tiny)), answers, atol=1e-5, rtol=0)
    assert logits(unmerge(tiny)).equal(answers)


def test_a_merge_that_fails_halfway_is_undone(tiny):
    tuned(tiny, name="inner")
    answers = logits(tuned(tiny, Beside(), name="outer"))
    modules = kinds(tiny)
    with pytest.raises(TypeError, match="a mistake of its author"):
        merge(tiny)
    assert kinds(tiny) == modules
    assert logits(tiny).equal(answers)


def test_a_file_names_places_as_the_plain_model_does(tiny, tmp_path, beside):
    plain = copy.deepcopy(tiny)
    tuned(tiny, Beside(), name="outer")
    answers = logits(tuned(tiny, name="inner"))
    save_adapter(tiny, tmp_path)
    assert logits(load_adapter(plain, tmp_path)).equal(answers)


# --- prepared for decoding


@pytest.mark.parametrize("method", [EVERYWHERE, LoRA(rank=2), PrefixTuning(tokens=3)], ids=["all", "qv", "prefix"])
def test_a_prepared_model_has_its_adapter(tiny, method):
    base, expected = logits(tiny), logits(tuned(tiny, method))
    prepared = prepare_for_decoding(tiny)
    torch.testing.assert_close(logits(prepared), expected, atol=1e-5, rtol=0)
    with disable(prepared):
        torch.testing.assert_close(logits(prepared), base, atol=1e-5, rtol=0)
    prompts = [[5, 3, 8], [1]]
    assert generate(prepared, prompts, max_new_tokens=6) == generate(tiny, prompts, max_new_tokens=6)
    shake(tiny)
    torch.testing.assert_close(logits(prepared), expected, atol=1e-5, rtol=0)


def test_a_prepared_model_does_not_copy_what_a_merge_put_aside(tiny):
    expected = logits(tuned(tiny))
    prepared = prepare_for_decoding(merge(tiny))
    torch.testing.assert_close(logits(prepared), expected, atol=1e-5, rtol=0)
    assert adapters_of(prepared).merged == {}
    assert logits(unmerge(tiny)).equal(expected)
