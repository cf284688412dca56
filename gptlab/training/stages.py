"""Training in stages: each with its own mixture and learning rate, and a watch on what the earlier ones taught.

What a stage does not show, the model forgets. Against that stands replay, a share of the examples taken from the sets
of earlier stages; pretraining text is such a set too (`text_examples`). The validation loss on pretraining text,
measured through all stages, is the forgetting curve. Penalties on the weights that keep them near where they were, such
as elastic weight consolidation, are left out.

Source: Ibrahim et al. 2024, arXiv 2403.08763 (warming up anew, and replay); Ouyang et al. 2022, arXiv 2203.02155,
appendix C (pretraining text mixed into tuning).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from gptlab.data import Mixture, make_loader
from gptlab.model import GPTModel
from gptlab.training.checkpoint import TrainingCheckpoints
from gptlab.training.history import History
from gptlab.training.hooks import Hook
from gptlab.training.loop import train
from gptlab.training.optimizer import make_optimizer
from gptlab.training.processes import process_count, process_number
from gptlab.training.random_states import own_random_numbers
from gptlab.training.schedule import choose_schedule


@dataclass(frozen=True)
class Stage:
    """What is trained on, for how long, and how fast.

    Attributes:
        mixture: its own sets.
        learning_rate: the peak.
        epochs: of the mixture.
        name: what reports and pictures call it; "" becomes its number.
        replay: the share of the examples, in [0, 1), that comes from the sets of earlier stages, in proportion to what
            those stages drew from them. It is added: the stage's own examples come as often as without it.
        optimizer: "fresh" begins with no memory of earlier gradients, "kept" with the moments of the stage before.
        batch_size: examples in a step.
        group_by_length: whether a batch holds examples of about the same length. In a mixture those are often of one
            set; then each set counts by its steps, and otherwise by its trained tokens.

    Raises:
        ValueError: a setting is out of range.
    """

    mixture: Mixture
    _: KW_ONLY
    learning_rate: float
    epochs: int = 1
    name: str = ""
    replay: float = 0.0
    optimizer: Literal["fresh", "kept"] = "fresh"
    batch_size: int = 8
    group_by_length: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.mixture, Mixture):
            raise ValueError(f"a stage needs a Mixture, got a {type(self.mixture).__name__}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate}")
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"epochs and batch_size must be >= 1, got {self.epochs} and {self.batch_size}")
        if not 0 <= self.replay < 1:
            raise ValueError(f"replay must be in [0, 1), got {self.replay}")
        if self.optimizer not in ("fresh", "kept"):
            raise ValueError(f"optimizer must be 'fresh' or 'kept', got {self.optimizer!r}")

    @property
    def replayed(self) -> int:
        """How many examples of earlier stages come with each epoch."""
        if not self.replay:
            return 0
        return max(1, round(self.mixture.per_epoch * self.replay / (1 - self.replay)))

    @property
    def steps(self) -> int:
        """How many optimizer steps the stage takes."""
        return self.epochs * math.ceil((self.mixture.per_epoch + self.replayed) / self.batch_size)


@dataclass
class StagesHistory:
    """What happened in each stage, and over all of them.

    Attributes:
        names: of the stages.
        histories: one for each; their steps count from the stage's beginning.
    """

    names: list[str] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)

    @property
    def losses(self) -> list[float]:
        """The mean loss per target of every step, in nats."""
        return [loss for history in self.histories for loss in history.losses]

    @property
    def borders(self) -> list[int]:
        """For each stage, how many steps were done when it began."""
        return [sum(history.steps for history in self.histories[:number]) for number in range(len(self.histories))]

    @property
    def forgetting(self) -> list[tuple[int, float]]:
        """(steps done, mean loss per target on the validation text) pairs, in nats; where stages meet, once."""
        measured: dict[int, float] = {}
        for border, history in zip(self.borders, self.histories):
            measured |= {border + step: loss for step, loss in history.validation}
        return sorted(measured.items())


def train_stages(
    model: GPTModel,
    stages: Sequence[Stage],
    *,
    validation: DataLoader | None = None,
    validate_every: int | None = None,
    pad_id: int = 0,
    schedule: Literal["cosine", "constant"] = "cosine",
    micro_batches: int = 1,
    precision: str = "float32",
    hooks: Sequence[Hook] = (),
    directory: str | Path | None = None,
    save_every: int = 100,
    resume: bool = False,
    tell: Callable[[str], None] | None = None,
    progress: bool = True,
    seed: int = 0,
) -> StagesHistory:
    """Train `model` in place, stage after stage, and return what happened.

    Each stage has a schedule of its own, with a warm-up of a twentieth of its steps.

    Args:
        model: stays on its device. To resume, give it as it was before the first stage.
        stages: at least one, with different names.
        validation: what the forgetting curve is measured on, such as a loader over pretraining text: before and after
            every epoch.
        validate_every: optimizer steps from one measurement to the next, besides.
        pad_id: what fills inputs up; any id will do.
        schedule: what the rate does after the warm-up: "cosine" falls to a tenth, "constant" stays.
        micro_batches: in how many parts a step is computed, to save memory; see `train`.
        precision: of the matrix products; see `train`.
        hooks: see `train`; for them, steps count on from stage to stage, up to sum(stage.steps for stage in stages).
        directory: gets a folder stage-1, stage-2 ... for each stage's states; None saves nothing.
        save_every: optimizer steps from one saved state to the next.
        resume: whether to go on from the last saved state, with the same result to the bit. Finished stages are read,
            and stages added at the end are trained.
        tell: takes, before training, what each stage is made of; then a line when one is over.
        progress: whether to show bars.
        seed: of the batches' order and dropout; what a mixture draws follows from its own.

    Raises:
        ValueError: there is no stage, two have one name, the first has nothing to replay or keep, a setting is out of
            range, or the directory holds states and `resume` is not given or finds other settings or data.
        FloatingPointError: training diverged.
    """
    names = [stage.name or f"stage {number}" for number, stage in enumerate(stages, start=1)]
    _check_order(stages, names)
    choose = choose_schedule(schedule)
    tell = tell if tell is not None and process_number() == 0 else (lambda line: None)
    mixtures = [with_replay(stages[: number + 1], names) for number in range(len(stages))]
    shared = {"schedule": schedule, "precision": precision, "seed": seed, "model": model.cfg.to_dict()}
    settings = [_settings(stage, mixture) | shared for stage, mixture in zip(stages, mixtures)]
    checkpoints = _checkpoints(directory, settings, save_every, resume, tell)
    for stage, name, mixture in zip(stages, names, mixtures):
        tell(_describe(stage, name, mixture))

    done, optimizer = StagesHistory(), None
    device = next(model.parameters()).device
    with own_random_numbers(device):
        for number, (stage, mixture) in enumerate(zip(stages, mixtures)):
            torch.manual_seed(seed + number * process_count() + process_number())  # of dropout
            batches = make_loader(
                mixture, stage.batch_size, group_by_length=stage.group_by_length, pad_id=pad_id, seed=seed + number
            )
            optimizer = _optimizer_of(stage, model, optimizer)
            steps = stage.epochs * len(batches)
            history = train(
                model,
                batches,
                optimizer=optimizer,
                schedule=choose(optimizer, steps, round(0.05 * steps)),
                epochs=stage.epochs,
                micro_batches=micro_batches,
                precision=precision,
                validation=validation,
                validate_every=validate_every,
                hooks=[_CountingOn(hook, after=sum(one.steps for one in done.histories)) for hook in hooks],
                checkpoints=checkpoints[number],
                progress=progress,
                title=names[number],
            )
            done.names.append(names[number])
            done.histories.append(history)
            tell(_result(names[number], history))
    return done


def with_replay(stages: Sequence[Stage], names: Sequence[str]) -> Mixture:
    """Return the mixture of the last of these stages with what it replays of the others; without replay, its own.

    Raises:
        ValueError: a set of its own is called like one that is replayed.
    """
    *earlier, stage = stages
    own = stage.mixture
    if not stage.replay:
        return own
    again: dict[str, Sequence] = {}
    drawn: dict[str, float] = {}
    for before, name in zip(earlier, names):
        for set_name, examples in before.mixture.sets.items():
            again[f"{name}: {set_name}"] = examples
            drawn[f"{name}: {set_name}"] = before.epochs * before.mixture.per_epoch * before.mixture.shares[set_name]
    twice = sorted(set(again) & set(own.sets))
    if twice:
        raise ValueError(f"the set {twice[0]!r} has the name of one that is replayed: call it otherwise")
    weights = {name: own.per_epoch * share for name, share in own.shares.items()}
    weights |= {name: stage.replayed * count / sum(drawn.values()) for name, count in drawn.items()}
    return Mixture({**own.sets, **again}, weights=weights, examples=own.per_epoch + stage.replayed, seed=own.seed)


class _CountingOn(Hook):
    """A hook in a stage: it is told of the steps after those of the earlier stages."""

    def __init__(self, hook: Hook, after: int) -> None:
        self.hook, self.after = hook, after

    def loss_terms(self, model: nn.Module) -> Tensor | float:
        return self.hook.loss_terms(model)

    def after_step(self, model: nn.Module, step: int) -> None:
        self.hook.after_step(model, self.after + step)

    def state_dict(self) -> dict[str, Any]:
        return self.hook.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.hook.load_state_dict(state)


def _optimizer_of(stage: Stage, model: GPTModel, before: Optimizer | None) -> Optimizer:
    if stage.optimizer == "fresh" or before is None:
        return make_optimizer(model, stage.learning_rate)
    for group in before.param_groups:
        group["lr"] = group["initial_lr"] = stage.learning_rate  # a schedule reads the second, if it is there
    return before


def _checkpoints(
    directory: str | Path | None,
    settings: Sequence[dict[str, Any]],
    save_every: int,
    resume: bool,
    tell: Callable[[str], None],
) -> list[TrainingCheckpoints | None]:
    if directory is None:
        if resume:
            raise ValueError("resume needs the directory that the states were saved in, got None")
        return [None] * len(settings)
    made = []
    for number, of_stage in enumerate(settings, start=1):
        folder = Path(directory) / f"stage-{number}"
        made.append(TrainingCheckpoints(folder, every=save_every, resume=resume, settings=of_stage, tell=tell))
        if made[-1].found() and not resume:  # found now, and not when the stages before it are over
            raise ValueError(f"{folder} holds states of another run: resume it, or remove them")
    return made


def _check_order(stages: Sequence[Stage], names: Sequence[str]) -> None:
    if not stages:
        raise ValueError("there must be at least one stage, got none")
    if stages[0].replay or stages[0].optimizer == "kept":
        raise ValueError(
            f"the first stage has nothing before it to replay or keep, got replay {stages[0].replay} and optimizer "
            f"{stages[0].optimizer!r}"
        )
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise ValueError(f"stages need different names, two are called {twice[0]!r}")


def _settings(stage: Stage, mixture: Mixture) -> dict[str, Any]:
    """Return what the stage's result depends on."""
    examples = hashlib.sha256(json.dumps([list(example) for example in mixture.examples]).encode())
    settings = ("learning_rate", "epochs", "replay", "optimizer", "batch_size", "group_by_length")
    return {name: getattr(stage, name) for name in settings} | {
        "shares": mixture.shares,
        "per_epoch": mixture.per_epoch,
        "mixture_seed": mixture.seed,
        "dataset": examples.hexdigest()[:16],
    }


def _describe(stage: Stage, name: str, mixture: Mixture) -> str:
    return (
        f"{name}: {stage.steps} steps, {stage.epochs} epochs of {mixture.per_epoch} examples, learning rate "
        f"{stage.learning_rate:g}, {stage.optimizer} optimizer\n{mixture.report(stage.epochs)}"
    )


def _result(name: str, history: History) -> str:
    if not history.validation:
        return f"{name} is over after {history.steps} steps"
    before, now = history.validation[0][1], history.validation[-1][1]
    return f"{name} is over after {history.steps} steps: validation loss {now:.3f} nats per token ({before:.3f} before)"
