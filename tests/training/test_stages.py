"""Stages: one is plain training, replay has the share it should, and a run that was cut off ends with the same bits."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gptlab.data import Example, Mixture, make_loader
from gptlab.model import GPTModel
from gptlab.training import Hook, Stage, evaluate, make_optimizer, train, train_stages, warmup_cosine
from gptlab.training.stages import with_replay

CFG = {"vocab_size": 20, "context_length": 8, "emb_dim": 16, "n_heads": 2, "n_layers": 1, "qkv_bias": False}


def new_model(drop_rate=0.1):
    torch.manual_seed(0)
    return GPTModel(CFG | {"drop_rate": drop_rate})


def examples(count, seed, trained=True):
    rows = torch.randint(0, 20, (count, 9), generator=torch.Generator().manual_seed(seed)).tolist()
    return [Example(row, [trained] * 4 + [True] * 5) for row in rows]


def rows_to_validate():
    rows = torch.randint(0, 20, (6, 9), generator=torch.Generator().manual_seed(9))
    return DataLoader(TensorDataset(rows[:, :-1], rows[:, 1:]), 3)


TEXT, QUESTIONS, CHAT = examples(24, 1), examples(16, 2, trained=False), examples(12, 3, trained=False)


def three_stages(**changes):
    return [
        Stage(Mixture({"text": TEXT}), learning_rate=2e-3, name="prose", batch_size=4),
        Stage(Mixture({"questions": QUESTIONS}), learning_rate=1e-3, epochs=2, replay=0.25, batch_size=4, **changes),
        Stage(Mixture({"chat": CHAT}), learning_rate=5e-4, replay=0.5, optimizer="kept", batch_size=4),
    ]


def same_weights(model, other):
    return all(weight.equal(same) for weight, same in zip(model.parameters(), other.parameters(), strict=True))


def test_one_stage_is_plain_training():
    mixture = Mixture({"text": TEXT, "questions": QUESTIONS}, weights={"text": 1, "questions": 3})
    staged, plain = new_model(), new_model()
    stage = Stage(mixture, learning_rate=1e-3, epochs=2, batch_size=4)
    history = train_stages(staged, [stage], validation=rows_to_validate(), seed=5, progress=False)

    torch.manual_seed(5)
    batches, optimizer = make_loader(mixture, 4, seed=5), make_optimizer(plain, 1e-3)
    same = train(
        plain,
        batches,
        optimizer=optimizer,
        schedule=warmup_cosine(optimizer, 2 * len(batches), round(0.1 * len(batches))),
        epochs=2,
        validation=rows_to_validate(),
        progress=False,
    )
    assert same_weights(staged, plain)
    assert history.histories == [same]
    assert (history.names, history.losses, history.forgetting) == (["stage 1"], same.losses, same.validation)


def test_the_history_goes_on_over_the_borders():
    model, before = new_model(), evaluate(new_model(), rows_to_validate())
    history = train_stages(model, three_stages(), validation=rows_to_validate(), validate_every=4, progress=False)
    assert history.names == ["prose", "stage 2", "stage 3"]
    lengths = [one.steps for one in history.histories]
    assert lengths == [6, 2 * 6, 6]  # 24, 16 + 5 and 12 + 12 examples in batches of 4
    assert history.borders == [0, 6, 18]
    assert len(history.losses) == 24
    assert [step for step, _ in history.forgetting] == [0, 4, 6, 10, 12, 14, 18, 22, 24]
    assert history.forgetting[0][1] == before
    assert history.forgetting[-1][1] == evaluate(model, rows_to_validate())


@pytest.mark.parametrize("replay", [0.05, 0.3, 0.75])
def test_replay_is_added_in_the_proportions_of_the_earlier_stages(replay):
    """The first stage draws 2 x 24 examples and the second 36, of which a third are questions."""
    second = Mixture({"questions": QUESTIONS, "text": TEXT}, weights={"questions": 1, "text": 2}, examples=36)
    stages = [
        Stage(Mixture({"text": TEXT}), learning_rate=1e-3, epochs=2),
        Stage(second, learning_rate=1e-3),
        Stage(Mixture({"chat": CHAT * 10}), learning_rate=1e-3, replay=replay, epochs=4),
    ]
    mixture = with_replay(stages, ["first", "second", "third"])
    assert mixture.names == ["chat", "first: text", "second: questions", "second: text"]
    drawn = mixture.drawn(4)
    assert drawn["chat"] == 4 * 120  # as without replay
    again = 4 * mixture.per_epoch - drawn["chat"]
    assert again / (4 * mixture.per_epoch) == pytest.approx(replay, abs=0.5 / 120)
    for name, share in {"first: text": 48 / 84, "second: questions": 12 / 84, "second: text": 24 / 84}.items():
        assert abs(drawn[name] - share * again) < 1
    assert all(mixture.drawn(1)["chat"] == 120 for _ in range(2))
    assert with_replay([*stages[:2], Stage(second, learning_rate=1.0)], "abc") is second


def test_replay_keeps_what_was_learned():
    """Two stages that contradict each other: the same rows, and the same rows with other targets."""
    first = [Example([row, *[row] * 8], [True] * 9) for row in range(10)] * 4
    other = [Example([row, *[row + 10] * 8], [True] * 9) for row in range(10)] * 4
    rows = torch.arange(10).repeat(9, 1).T
    validation = DataLoader(TensorDataset(rows[:, :-1], rows[:, 1:]), 10)

    def forgotten(replay):
        stages = [
            Stage(Mixture({"same": first}), learning_rate=1e-2, epochs=4),
            Stage(Mixture({"other": other}), learning_rate=1e-2, epochs=4, replay=replay),
        ]
        history = train_stages(new_model(0.0), stages, validation=validation, progress=False)
        learned = dict(history.forgetting)[history.borders[1]]
        return history.forgetting[-1][1] - learned

    assert forgotten(0.0) > 0.5
    assert forgotten(0.4) < 0  # it even goes on learning


def test_the_optimizer_is_kept_or_fresh_as_chosen():

    def run(optimizer):
        model = new_model(0.0)
        return model, train_stages(model, three_stages(optimizer=optimizer), progress=False)

    (kept, of_kept), (fresh, of_fresh) = run("kept"), run("fresh")
    assert of_kept.histories[0] == of_fresh.histories[0]
    assert of_kept.histories[1].losses[0] == of_fresh.histories[1].losses[0]
    assert of_kept.histories[1].losses[1:] != of_fresh.histories[1].losses[1:]
    assert of_kept.histories[1].learning_rates == of_fresh.histories[1].learning_rates
    assert max(of_kept.histories[1].learning_rates) == pytest.approx(1e-3)
    assert not same_weights(kept, fresh)


def test_a_hook_is_told_of_all_stages_as_one_training(tmp_path):
    class Watch(Hook):
        """Its state is the steps that it was told of."""

        steps = ()

        def loss_terms(self, model):
            return model.tok_emb.weight.square().sum()

        def after_step(self, model, step):
            self.steps += (step,)

        def state_dict(self):
            return {"steps": list(self.steps)}

        def load_state_dict(self, state):
            self.steps = tuple(state["steps"])

    stages, hook = three_stages(), Watch()
    history = train_stages(new_model(), stages, hooks=[hook], directory=tmp_path, progress=False)
    assert [stage.steps for stage in stages] == [one.steps for one in history.histories] == [6, 12, 6]
    assert hook.steps == tuple(range(1, 25))
    alone = train_stages(new_model(), stages, progress=False)
    assert all(one.losses[1:] != other.losses[1:] for one, other in zip(history.histories, alone.histories))
    again = Watch()
    longer = [*stages, Stage(Mixture({"more": TEXT}), learning_rate=1e-3, replay=0.2, batch_size=5)]
    train_stages(new_model(), longer, hooks=[again], directory=tmp_path, resume=True, progress=False)
    assert again.steps == tuple(range(1, 25 + longer[-1].steps))


class StopAt(Hook):
    """Raises at a step, counted over all stages."""

    def __init__(self, step):
        self.left = step

    def after_step(self, model, step):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("optimizer", ["fresh", "kept"])
@pytest.mark.parametrize("stop", [3, 7, 13])  # in the first stage, at the second's begin and in its second epoch
def test_a_run_that_was_cut_off_ends_with_the_same_bits(tmp_path, optimizer, stop):
    def run(model, hooks, **options):
        stages = three_stages(optimizer=optimizer)
        settings = {"validation": rows_to_validate(), "validate_every": 5, "save_every": 2, "progress": False}
        return train_stages(model, stages, hooks=hooks, **settings, **options)

    whole, model = new_model(), new_model()
    expected = run(whole, [Hook()])
    with pytest.raises(KeyboardInterrupt):
        run(model, [StopAt(stop)], directory=tmp_path)
    torch.manual_seed(99)  # whatever random state the next process has
    told = []
    again = new_model()
    assert run(again, [Hook()], directory=tmp_path, resume=True, tell=told.append) == expected
    assert same_weights(again, whole)
    assert any("going on from" in line for line in told)
    once_more = new_model()
    assert run(once_more, [Hook()], directory=tmp_path, resume=True) == expected  # nothing is left to train
    assert same_weights(once_more, whole)


def test_a_stage_can_be_added_later(tmp_path):
    stages, settings = three_stages(), {"directory": tmp_path, "progress": False}
    train_stages(new_model(), stages[:2], **settings)
    longer, whole = new_model(), new_model()
    history = train_stages(longer, stages, resume=True, **settings)
    assert history == train_stages(whole, stages, progress=False)
    assert same_weights(longer, whole)


def test_what_is_told_before_and_after():
    told = []
    train_stages(new_model(), three_stages(), validation=rows_to_validate(), tell=told.append, progress=False)
    plans, results = told[:3], told[3:]
    assert plans[0].startswith("prose: 6 steps, 1 epochs of 24 examples, learning rate 0.002, fresh optimizer\nset ")
    assert plans[1].startswith("stage 2: 12 steps, 2 epochs of 21 examples, learning rate 0.001, fresh optimizer\nset ")
    assert "prose: text" in plans[1]
    assert "kept optimizer" in plans[2]
    assert all(" is over after " in line and "before)" in line for line in results)


def test_the_callers_random_state_stays():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    model = GPTModel(CFG | {"drop_rate": 0.1})
    torch.set_rng_state(before)
    train_stages(model, three_stages()[:1], progress=False)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixture": TEXT}, "a stage needs a Mixture, got a list"),
        ({"learning_rate": 0}, "positive and finite, got 0"),
        ({"epochs": 0}, "must be >= 1, got 0 and 8"),
        ({"batch_size": 0}, "must be >= 1, got 1 and 0"),
        ({"replay": 1.0}, r"in \[0, 1\), got 1.0"),
        ({"replay": -0.1}, "got -0.1"),
        ({"optimizer": "new"}, "'fresh' or 'kept', got 'new'"),
    ],
)
def test_wrong_stages(changes, message):
    settings = {"mixture": Mixture({"text": TEXT}), "learning_rate": 1e-3} | changes
    with pytest.raises(ValueError, match=message):
        Stage(settings.pop("mixture"), **settings)


def test_wrong_orders(tmp_path):
    text = Mixture({"text": TEXT})
    first, later = Stage(text, learning_rate=1e-3), Stage(text, learning_rate=1e-3, replay=0.5)
    for stages, message in [
        ([], "at least one stage, got none"),
        ([later], "nothing before it to replay or keep, got replay 0.5"),
        ([Stage(text, learning_rate=1e-3, optimizer="kept")], "optimizer 'kept'"),
        ([Stage(text, learning_rate=1e-3, name="stage 2"), first], "two are called 'stage 2'"),
        ([first, Stage(Mixture({"stage 1: text": TEXT}), learning_rate=1e-3, replay=0.1)], "set 'stage 1: text' has"),
    ]:
        with pytest.raises(ValueError, match=message):
            train_stages(new_model(), stages, progress=False)
    with pytest.raises(ValueError, match="one of .* got 'linear'"):
        train_stages(new_model(), [first], schedule="linear")
    with pytest.raises(ValueError, match="needs the directory"):
        train_stages(new_model(), [first], resume=True)


def test_states_of_another_run_are_not_taken_over(tmp_path):
    settings = {"directory": tmp_path, "progress": False}
    train_stages(new_model(), three_stages()[:2], **settings)
    with pytest.raises(ValueError, match="stage-1 holds states of another run"):
        train_stages(new_model(), three_stages(), **settings)
    with pytest.raises(ValueError, match="optimizer was 'fresh', is 'kept'"):
        train_stages(new_model(), three_stages(optimizer="kept"), resume=True, **settings)
    with pytest.raises(ValueError, match="seed was 0, is 1"):
        train_stages(new_model(), three_stages(), resume=True, seed=1, **settings)
