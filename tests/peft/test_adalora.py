"""AdaLoRA against peft's, wrapped around a copy of our own model; its schedule by hand; training without its hook."""

import copy
import json
import warnings

import pytest
import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader, TensorDataset

from gptlab.data import Example, Mixture
from gptlab.model import GPTModel
from gptlab.peft import apply, disable, load_adapter, merge, remove, save_adapter, trainable_parameters, unmerge
from gptlab.peft.adalora import AdaLoRA, RankAllocation
from gptlab.peft.lora import LoRA
from gptlab.peft.manage import adapter_modules
from gptlab.training import (
    Hook,
    Stage,
    TrainingCheckpoints,
    find_learning_rate,
    make_optimizer,
    next_token_loss,
    train,
    train_stages,
)

CFG = {"vocab_size": 101, "context_length": 32, "emb_dim": 48, "n_heads": 4, "n_layers": 3, "drop_rate": 0.0}
SMALL = AdaLoRA(init_rank=4, target_rank=2, initial_steps=2, final_steps=4, every=3)


def make_model():
    torch.manual_seed(0)
    return GPTModel(CFG | {"qkv_bias": True})


def adapted(settings=SMALL):
    return apply(make_model(), settings, generator=torch.Generator().manual_seed(1))


def rows(count, seed=2):
    """Return texts in which every second token follows from the one before."""
    ids = torch.randint(0, 101, (count, 17), generator=torch.Generator().manual_seed(seed))
    ids[:, 1::2] = (ids[:, :-1:2] * 7 + 3) % 101
    return ids[:, :-1], ids[:, 1:]


IDS = rows(4)[0]


def learn(model, steps, *, hooks=None, begin=0, optimizer=None, settings=SMALL, total=20, parts=1):
    """Take some steps in a loop of our own, and return the hook."""
    [hook] = settings.hooks(model, total) if hooks is None else hooks
    optimizer = AdamW(trainable_parameters(model), lr=1e-2) if optimizer is None else optimizer
    model.train()
    for step in range(begin + 1, begin + steps + 1):
        optimizer.zero_grad()
        inputs, targets = rows(4, seed=step)
        for part in range(parts):
            total_loss, _ = next_token_loss(model, inputs[part::parts], targets[part::parts])
            (total_loss / targets.numel()).backward()
        penalty = hook.loss_terms(model)
        if isinstance(penalty, torch.Tensor):
            penalty.backward()
        optimizer.step()
        hook.after_step(model, step)
    return hook


def branches(model):
    return adapter_modules(model, "default")


def outputs(model):
    with torch.no_grad():
        return model.eval()(IDS)


# --- the oracle


def peft_copy(model, settings, total):
    with warnings.catch_warnings():  # peft imports parts of transformers and torch that warn of their own future
        warnings.simplefilter("ignore")
        from peft import AdaLoraConfig, get_peft_model
    config = AdaLoraConfig(
        init_r=settings.init_rank,
        target_r=settings.target_rank,
        lora_alpha=settings.alpha,
        target_modules=list(settings.targets),
        tinit=settings.initial_steps,
        tfinal=settings.final_steps,
        deltaT=settings.every,
        beta1=settings.beta1,
        beta2=settings.beta2,
        orth_reg_weight=settings.orthogonality,
        total_step=total,
    )
    return get_peft_model(copy.deepcopy(model), config)


def peft_layers(theirs, places):
    return {place: theirs.base_model.model.get_submodule(place) for place in places}


def peft_penalty(layers, weight):
    """The term that peft adds only where a model returns its own loss."""
    errors = []
    for layer in layers.values():
        A, B = layer.lora_A["default"], layer.lora_B["default"]
        errors += [torch.norm(gram - torch.eye(len(gram)), p="fro") for gram in (A @ A.T, B.T @ B)]
    return weight * sum(errors) / len(errors)


def test_sixty_steps_are_those_of_peft():
    """The step's loss, Lambda and P to 1e-5, every mask exactly; measured: 5e-7, 8e-8 and 4e-7."""
    settings = AdaLoRA(init_rank=4, target_rank=2, alpha=8, initial_steps=5, final_steps=20, every=5)
    base = make_model()
    theirs = peft_copy(base, settings, 60)
    ours = apply(base, settings, generator=torch.Generator().manual_seed(1))
    layers = peft_layers(theirs, branches(ours))
    with torch.no_grad():
        for place, branch in branches(ours).items():
            layers[place].lora_A["default"].copy_(branch.Q)
            layers[place].lora_B["default"].copy_(branch.P)
    [hook] = settings.hooks(ours, 60)
    optimizers = [AdamW(trainable_parameters(model), lr=1e-2) for model in (ours, theirs)]
    ours.train(), theirs.train()
    compared, averages = set(), {}
    for step in range(1, 61):
        inputs, targets = rows(4, seed=step)
        penalties = hook.loss_terms(ours), peft_penalty(layers, settings.orthogonality)
        losses = []
        for model, optimizer, penalty in zip((ours, theirs), optimizers, penalties):
            optimizer.zero_grad()
            logits = model(inputs)
            losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()) + penalty)
            losses[-1].backward()
            optimizer.step()
        hook.after_step(ours, step)
        theirs.base_model.update_and_allocate(step)
        assert abs(losses[0].item() - losses[1].item()) < 1e-5
        averages = dict(theirs.base_model.rankallocator.exp_avg_ipt) or averages  # none from the last choice on
        pattern = theirs.peft_config["default"].rank_pattern
        for place, branch in branches(ours).items():
            layer = layers[place]
            torch.testing.assert_close(branch.Lambda, layer.lora_E["default"].flatten(), atol=1e-5, rtol=0)
            torch.testing.assert_close(branch.P, layer.lora_B["default"], atol=1e-5, rtol=0)
            assert torch.equal(branch.Lambda != 0, layer.lora_E["default"].flatten() != 0)
            if pattern is not None:
                compared.add(step)
                assert branch.kept.tolist() == pattern[f"{place}.lora_E.default"]
    assert compared == set(range(10, 61))
    for key, mean in hook.state_dict()["sensitivity"].items():
        place, _, name = key.partition(":")
        name = {"P": "lora_B", "Lambda": "lora_E", "Q": "lora_A"}[name]
        torch.testing.assert_close(mean, averages[f"{place}.{name}.default"].view_as(mean), rtol=1e-3, atol=1e-8)
    ranks = hook.ranks[-1][1].values()
    assert sum(ranks) == 2 * len(branches(ours))
    assert len(set(ranks)) > 1  # so it did move ranks


# --- the schedule and the three importances


def test_the_budget_by_hand():
    """6 places: 24 triplets until step 2, then 12 + 12 (1 - (t - 2) / 14)^3, and 12 from step 16 of 20 on."""
    [hook] = SMALL.hooks(adapted(), 20)
    assert [hook.budget(step) for step in (1, 2, 3, 9, 15, 16, 17, 20)] == [24, 24, 21, 13, 12, 12, 12, 12]
    assert [step for step, _ in learn(adapted(), 20).ranks] == [0, 3, 6, 9, 12, 15, 16, 20]


def test_none_stands_for_shares_of_all_steps():
    hook = RankAllocation(AdaLoRA(), adapted(AdaLoRA()), 300)
    assert (hook.first, hook.last, hook.every) == (30, 200, 3)
    hook = learn(adapted(AdaLoRA()), 1, settings=AdaLoRA(), total=1)
    assert (hook.first, hook.last, hook.every) == (0, 1, 1)
    assert [(step, sum(ranks.values())) for step, ranks in hook.ranks] == [(0, 72), (1, 48)]


@pytest.mark.parametrize("importance", ["magnitude", "sensitivity", "smoothed"])
def test_each_importance_learns_and_ends_at_the_budget(importance):
    settings = AdaLoRA(
        init_rank=4, target_rank=2, importance=importance, targets=("W_query", "ff.layers.0", "out_head")
    )
    model = adapted(settings)
    data = DataLoader(TensorDataset(*(ids % 5 for ids in rows(160))), batch_size=4)
    [hook] = hooks = settings.hooks(model, len(data))
    history = train(model, data, optimizer=make_optimizer(model, 3e-2), hooks=hooks, validation=data, progress=False)
    assert history.validation[-1][1] < 0.5 * history.validation[0][1]
    assert {len(branch.as_low_rank()["A"]) for branch in branches(model).values()} != {2}
    assert sum(int((branch.Lambda != 0).sum()) for branch in branches(model).values()) == 2 * len(branches(model))
    assert [sum(ranks.values()) for _, ranks in hook.ranks] == [hook.budget(step) for step, _ in hook.ranks]


def test_the_importance_by_hand():
    """One place, two triplets, a gradient of 1 everywhere: I = |w|, and after one step Im = 0.1 I, U = 0.2 (I - Im)."""
    settings = {"init_rank": 2, "target_rank": 1, "targets": ("trf_blocks.0.att.W_query",), "initial_steps": 0}
    settings |= {"final_steps": 0, "beta1": 0.9, "beta2": 0.8, "every": 1}
    expected = {"magnitude": [3.0, 4.0], "sensitivity": [3 + 1 + 0.5, 4 + 2 + 0.25]}
    expected["smoothed"] = [0.018 * (9 + 1 + 0.25), 0.018 * (16 + 4 + 0.0625)]
    for importance, values in expected.items():
        model = adapted(AdaLoRA(importance=importance, **settings))
        [branch] = branches(model).values()
        with torch.no_grad():
            branch.P.copy_(torch.tensor([-1.0, 2.0]).expand_as(branch.P))
            branch.Lambda.copy_(torch.tensor([3.0, -4.0]))
            branch.Q.copy_(torch.tensor([[0.5], [0.25]]).expand_as(branch.Q))
        for parameter in branch.parameters():
            parameter.grad = torch.ones_like(parameter)
        [hook] = AdaLoRA(importance=importance, **settings).hooks(model, 10)
        hook.after_step(model, 1)
        with torch.no_grad():
            branch.Lambda.copy_(torch.tensor([3.0, -4.0]))
        torch.testing.assert_close(hook._importance("trf_blocks.0.att.W_query", branch), torch.tensor(values))
        assert branch.kept.tolist() == [False, True]


def test_the_penalty_of_the_text_is_the_sum_of_squares():
    model = adapted()
    layers = [gram for b in branches(model).values() for gram in (b.P.T @ b.P, b.Q @ b.Q.T)]
    squares = [(gram - torch.eye(4)).square().sum() for gram in layers]
    options = {"init_rank": 4, "target_rank": 2}
    for settings, expected in (
        (AdaLoRA(**options), 0.5 * sum(square.sqrt() for square in squares) / 12),
        (AdaLoRA(squared_penalty=True, orthogonality=0.1, **options), 0.1 * sum(squares)),
        (AdaLoRA(orthogonality=0.0, **options), torch.tensor(0.0)),
    ):
        [hook] = settings.hooks(model, 20)
        torch.testing.assert_close(torch.as_tensor(hook.loss_terms(model)), expected)


def test_a_target_above_the_beginning_prunes_nothing():
    settings = AdaLoRA(init_rank=4, target_rank=6, final_steps=4)
    hook = learn(model := adapted(settings), 20, settings=settings)
    assert {rank for _, ranks in hook.ranks for rank in ranks.values()} == {4}
    assert all(branch.Lambda.all() for branch in branches(model).values())


def test_stages_are_one_training():
    """The schedule goes on over the border."""
    examples = [Example(row, [True] * len(row)) for row in (rows(36)[0] % 5).tolist()]
    first, second = Mixture({"first": examples[:24]}), Mixture({"second": examples[24:]})
    stages = [Stage(mixture, learning_rate=3e-2, batch_size=3) for mixture in (first, second)]
    model = adapted()
    [hook] = hooks = SMALL.hooks(model, sum(stage.steps for stage in stages))
    train_stages(model, stages, hooks=hooks, progress=False)
    assert [step for step, _ in hook.ranks] == [0, 3, 6, 8, 12]
    assert [sum(ranks.values()) for _, ranks in hook.ranks] == [hook.budget(step) for step, _ in hook.ranks]
    assert sum(branch.rank for branch in branches(model).values()) == 12


def test_a_hook_goes_through_its_schedule_once():
    hook = learn(model := adapted(), 20)
    masks = {place: branch.kept.clone() for place, branch in branches(model).items()}
    with pytest.raises(ValueError, match="above 20, the last one that this hook saw, got 1: for another training"):
        learn(model, 1, hooks=[hook])
    assert all(torch.equal(branch.kept, masks[place]) for place, branch in branches(model).items())


def test_a_learning_rate_is_found_with_the_hook_which_then_begins_anew():
    model, data = adapted(), DataLoader(TensorDataset(*rows(80)), batch_size=4)
    with pytest.raises(RuntimeError, match="without its hook"):
        find_learning_rate(model, data, steps=20, progress=False)
    hooks = SMALL.hooks(model, 20)
    find_learning_rate(model, data, steps=20, hooks=hooks, progress=False)
    twin = adapted()
    learn(model, 20, hooks=hooks)
    learn(twin, 20)
    for (name, tensor), other in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name


def test_a_search_does_not_hide_that_the_hook_is_missing():
    model, data = adapted(), DataLoader(TensorDataset(*rows(80)), batch_size=4)
    find_learning_rate(model, data, steps=20, hooks=SMALL.hooks(model, 20), progress=False)
    with pytest.raises(RuntimeError, match="without its hook"):
        train_without(model, 2)


def test_what_ties_with_the_best_pruned_triplet_is_pruned_too():
    settings = AdaLoRA(init_rank=4, target_rank=2, importance="magnitude", initial_steps=0, final_steps=0, every=1)
    [hook] = settings.hooks(model := adapted(settings), 1)
    for number, branch in enumerate(branches(model).values()):
        branch.Lambda.data = torch.tensor([3.0, 2.0, 2.0, 1.0]) if number else torch.full((4,), 2.0)
    hook.after_step(model, 1)
    assert list(hook.ranks[-1][1].values()) == [0, 1, 1, 1, 1, 1]


def test_parts_of_a_batch_are_one_step():
    whole, parted = adapted(), adapted()
    hooks = [learn(model, 8, parts=parts) for model, parts in ((whole, 1), (parted, 4))]
    assert hooks[0].ranks == hooks[1].ranks
    for key, mean in hooks[0].state_dict()["sensitivity"].items():
        torch.testing.assert_close(hooks[1].state_dict()["sensitivity"][key], mean, rtol=1e-3, atol=1e-7)


def test_a_step_that_overflowed_teaches_nothing():
    model = adapted()
    hook = learn(model, 1)
    before = hook.state_dict()["sensitivity"]
    next(iter(branches(model).values())).P.grad[0, 0] = torch.inf
    hook.after_step(model, 2)
    assert all(torch.equal(mean, before[key]) for key, mean in hook.state_dict()["sensitivity"].items())


# --- in the middle of a run, and going on


def test_between_two_choices_only_training_sees_what_grew_again():
    model = adapted()
    learn(model, 11)  # chosen after step 9
    kept = sum(branch.rank for branch in branches(model).values())
    assert kept == 13
    assert sum(int((branch.Lambda != 0).sum()) for branch in branches(model).values()) == 24
    with torch.no_grad():
        training = model.train()(IDS)
    answers = outputs(model)
    assert not torch.allclose(training, answers, atol=1e-4)
    torch.testing.assert_close(outputs(merge(model)), answers, atol=1e-5, rtol=1e-5)
    for branch in branches(unmerge(model)).values():
        branch.Lambda.data *= branch.kept
    torch.testing.assert_close(outputs(model), answers)


class StopAfter(Hook):
    def __init__(self, step):
        self.step = step

    def after_step(self, model, step):
        if step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("importance", ["sensitivity", "smoothed"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, importance):
    settings = AdaLoRA(init_rank=4, target_rank=2, importance=importance, dropout=0.1, every=3)

    def run(directory, *, stop=0, resume=False):
        model = adapted(settings)
        data = DataLoader(TensorDataset(*rows(48)), batch_size=2, shuffle=True)
        hooks = [*settings.hooks(model, len(data)), StopAfter(stop)]
        checkpoints = TrainingCheckpoints(directory, every=10, resume=resume)  # in between two choices
        torch.manual_seed(5)
        options = {"optimizer": make_optimizer(model, 1e-2), "progress": False, "checkpoints": checkpoints}
        train(model, data, hooks=hooks, **options)
        return model, hooks[0]

    whole, hook = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop=12)
    resumed, again = run(tmp_path / "parts", resume=True)
    assert again.ranks == hook.ranks
    assert [step for step, _ in hook.ranks] == [0, 3, 6, 9, 12, 15, 16, 24]
    for (name, tensor), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name
    for key in ("sensitivity", "variation"):
        first, second = hook.state_dict()[key], again.state_dict()[key]
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_state_of_other_places_is_refused():
    [hook] = SMALL.hooks(adapted(), 20)
    other = AdaLoRA(targets=("W_key",))
    with pytest.raises(ValueError, match="W_key"):
        hook.load_state_dict(other.hooks(adapted(other), 20)[0].state_dict())


def test_the_hook_works_on_a_copy_of_the_model():
    model = adapted()
    hooks = SMALL.hooks(model, 20)
    twin = copy.deepcopy(model)
    learn(twin, 20, hooks=hooks)
    assert sum(branch.rank for branch in branches(twin).values()) == 12
    assert sum(branch.rank for branch in branches(model).values()) == 24


# --- without the hook


def train_without(model, steps):
    data = DataLoader(TensorDataset(*rows(4 * steps)), batch_size=4)
    train(model, data, optimizer=make_optimizer(model, 1e-2), progress=False)


def test_training_without_the_hook_stops_at_the_second_step():
    model = adapted()
    train_without(model, 1)
    with pytest.raises(RuntimeError, match="without its hook"):
        train_without(model, 1)


def test_making_the_hook_is_not_enough():
    model = adapted()
    SMALL.hooks(model, 20)
    with pytest.raises(RuntimeError, match="without its hook"):
        train_without(model, 2)


@pytest.mark.parametrize(
    "use",
    [lambda model, _: merge(model), save_adapter, lambda m, folder: save_adapter(m, folder, for_inference=True)],
    ids=["merge", "save", "for inference"],
)
def test_what_was_trained_without_the_hook_is_neither_merged_nor_saved(use, tmp_path):
    model = adapted()
    train_without(model, 1)
    with pytest.raises(RuntimeError, match="without its hook"):
        use(model, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_hook_needs_the_gradients_of_the_step():
    model = adapted()
    [hook] = SMALL.hooks(model, 20)
    with pytest.raises(RuntimeError, match="before optimizer.zero_grad"):
        hook.after_step(model, 1)


# --- through the functions that all methods share


def trained():
    model = adapted()
    learn(model, 20)
    return model


def test_the_beginning_is_exact_and_drawn_by_the_generator():
    base = make_model()
    before = outputs(base)
    model = adapted()
    assert torch.equal(outputs(model), before)
    assert {p.shape for p in trainable_parameters(model)} == {(48, 4), (4,), (4, 48)}
    values = torch.cat([torch.cat([b.P.flatten(), b.Q.flatten()]) for b in branches(adapted(AdaLoRA())).values()])
    assert abs(values.std().item() - 0.02) < 5e-4
    assert abs(values.mean().item()) < 5e-4
    again = branches(adapted())
    assert all(torch.equal(branch.P, again[place].P) for place, branch in branches(model).items())


def test_switched_off_merged_and_taken_off_again():
    base = outputs(make_model())
    model = trained()
    answers = outputs(model)
    assert not torch.allclose(answers, base, atol=1e-3)
    with disable(model):
        assert torch.equal(outputs(model), base)
    torch.testing.assert_close(outputs(merge(model)), answers, atol=1e-5, rtol=1e-5)
    assert torch.equal(outputs(unmerge(model)), answers)
    assert torch.equal(outputs(remove(model)), base)


@pytest.mark.parametrize("steps", [11, 20])
def test_saved_and_loaded_it_answers_the_same(tmp_path, steps):
    model = adapted()
    learn(model, steps)
    answers = outputs(model)
    save_adapter(model, tmp_path / "full")
    loaded = load_adapter(make_model(), tmp_path / "full")
    assert torch.equal(outputs(loaded), answers)
    with torch.no_grad():
        assert torch.equal(loaded.train()(IDS), answers)  # it does not learn, so nothing grows again
    save_adapter(model, tmp_path / "small", for_inference=True)
    plain = load_adapter(make_model(), tmp_path / "small")
    torch.testing.assert_close(outputs(plain), answers, atol=1e-5, rtol=1e-5)
    ranks = {place: branch.rank for place, branch in branches(model).items() if branch.rank}
    assert {place: len(branch.A) for place, branch in branches(plain).items()} == ranks
    assert {branch.scale for branch in branches(plain).values()} == {1.0}
    settings = json.loads((tmp_path / "small" / "adapter.json").read_text(encoding="utf-8"))["method"]
    assert (settings["method"], settings["rank_pattern"]) == ("lora", ranks)


@pytest.mark.parametrize("load", [True, False], ids=["loaded", "still there"])
def test_a_trained_adapter_goes_on_with_its_ranks_or_with_a_new_hook(tmp_path, load):
    model = trained()
    if load:
        save_adapter(model, tmp_path / "a")
        model = load_adapter(make_model(), tmp_path / "a", trainable=True)
    masks = {place: branch.kept.clone() for place, branch in branches(model).items()}
    train_without(model, 3)
    for place, branch in branches(model).items():
        assert torch.equal(branch.Lambda != 0, masks[place])
    hook = learn(model, 2)
    assert {branch.rank for branch in branches(model).values()} == {4}
    learn(model, 18, hooks=[hook], begin=2)
    assert sum(branch.rank for branch in branches(model).values()) == 12


def test_places_without_a_rank_are_left_out(tmp_path):
    model = trained()
    first, *others = branches(model).values()
    first.Lambda.data.zero_()
    answers = outputs(model)
    settings, tensors = SMALL.for_inference(model, branches(model))
    assert isinstance(settings, LoRA)
    assert list(settings.targets) == list(tensors) == list(branches(model))[1:]
    save_adapter(model, tmp_path / "a", for_inference=True)
    torch.testing.assert_close(outputs(load_adapter(make_model(), tmp_path / "a")), answers, atol=1e-5, rtol=1e-5)
    for branch in others:
        branch.Lambda.data.zero_()
    with pytest.raises(ValueError, match="no place has a rank above 0"):
        SMALL.for_inference(model, branches(model))


# --- doors


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *[("init_rank", 0), ("target_rank", 0), ("target_rank", 1.5), ("alpha", -1), ("dropout", 1.0)],
        *[
            ("importance", "size"),
            ("beta1", 1.0),
            ("beta2", -0.1),
            ("orthogonality", -1.0),
            ("orthogonality", float("inf")),
        ],
        *[("initial_steps", -1), ("final_steps", -2), ("every", 0)],
        *[("target_rank", True), ("initial_steps", "3"), ("every", 1.5)],
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ValueError, match=f"{setting.removeprefix('init_')}.*{value}"):
        AdaLoRA(**{setting: value})


def test_phases_that_leave_no_choice_are_refused():
    with pytest.raises(ValueError, match="got 2 and 4 of 6"):
        SMALL.hooks(adapted(), 6)


def test_places_that_do_not_fit_are_refused():
    model = make_model()
    with pytest.raises(ValueError, match="at most 48.*got 49"):
        apply(model, AdaLoRA(init_rank=49))
    with pytest.raises(ValueError, match="linear layers"):
        apply(model, AdaLoRA(targets=("norm1",)))
    tied = GPTModel(CFG | {"qkv_bias": True, "tie_weights": True})
    with pytest.raises(ValueError, match="shares its weight"):
        apply(tied, AdaLoRA(targets=("out_head",)))


def test_another_adapter_is_refused():
    [hook] = SMALL.hooks(model := adapted(), 20)
    apply(model, LoRA(rank=2), name="other")
    with pytest.raises(ValueError, match="'other'"):
        hook.after_step(model, 1)
    with pytest.raises(ValueError, match="'other'"):
        SMALL.hooks(model, 20)
