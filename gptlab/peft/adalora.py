"""AdaLoRA: LoRA that moves its rank to where it is needed, by pruning the least important directions of all places.

    h = W x + s P diag(Lambda) Q dropout(x),   P (out, r), Lambda (r), Q (r, in),   s = alpha / (r + 1e-5)

A triplet is a column of P, a number of Lambda and a row of Q. P and Q are drawn from N(0, 0.02) and kept nearly
orthogonal by a penalty; Lambda is zero at first, so the model computes at first what it did before. While it learns,
the triplets of all places compete: those with the highest importance S stay within a budget b, and of the others Lambda
is set to zero. Their vectors stay: between two choices what was pruned grows again, and it may come back.

    S_i = s(Lambda_i) + mean_j s(P_ji) + mean_j s(Q_ij)
    sensitivity    I = |w dL/dw|
    smoothed       Im = b1 Im + (1 - b1) I,   U = b2 U + (1 - b2) |I - Im|,   s = Im U
    budget         b(t) = b_T + (b_0 - b_T) (1 - (t - t_i) / (T - t_f - t_i))^3   from t_i on to T - t_f

Source: Zhang et al. 2023, arXiv 2303.10512, sections 3.1 to 3.3. Where the authors' code and peft's, which agree, are
not as the text, this follows the code: the budget has t - t_i (in the text t - t_i - t_f, which begins above b_0); w is
the weight after the step, dL/dw the gradient before it; the penalty is the mean of the norms over all P and Q (in the
text the sum of their squares: `squared_penalty`). As in both, what ties with the best pruned triplet is pruned too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptlab.model import GPTModel
from gptlab.peft.adapted import Branch, device_of
from gptlab.peft.lora import LoRA, check_head, check_low_rank, check_low_rank_place, merged_linear
from gptlab.peft.manage import active_adapter
from gptlab.peft.method import OnModules, check_count
from gptlab.training import Hook

Importance = Literal["magnitude", "sensitivity", "smoothed"]
_IMPORTANCES = ("magnitude", "sensitivity", "smoothed")


@dataclass(frozen=True)
class AdaLoRA(OnModules):
    """Settings of AdaLoRA. It needs its hook: `train(..., hooks=settings.hooks(model, total_steps))`.

    A hook goes through its schedule once; to train again, make a new one, and the ranks are chosen anew. `train_stages`
    is one training: total_steps is then sum(stage.steps for stage in stages).

    Attributes:
        init_rank: triplets at each place in the beginning.
        target_rank: how many remain in the end, on average over the places; at least init_rank prunes nothing.
        alpha: the strength; the difference is scaled by alpha / init_rank throughout. peft's default is 8.
        dropout: the share of the input that the branch, and only the branch, does not see in training.
        targets: the linear layers that get a branch; see `OnModules`.
        importance: by what triplets compete: "magnitude", |Lambda|; "sensitivity", of the last step; "smoothed",
            averages of the sensitivity and of how much it varies.
        beta1: how much of the averaged sensitivity stays from step to step.
        beta2: the same for its variation.
        orthogonality: the weight of the penalty that holds P and Q near orthogonal.
        squared_penalty: whether it is the sum of the squared norms, and not the mean of the norms.
        initial_steps: before anything is pruned; None is a tenth of all steps.
        final_steps: after the last choice, with ranks that stay; None is a third of all steps.
        every: steps from one choice to the next; None is a hundredth of all steps.
    """

    init_rank: int = 12
    target_rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: Sequence[str] = ("W_query", "W_value")
    importance: Importance = "smoothed"
    beta1: float = 0.85
    beta2: float = 0.85
    orthogonality: float = 0.5
    squared_penalty: bool = False
    initial_steps: int | None = None
    final_steps: int | None = None
    every: int | None = None

    method: ClassVar[str] = "adalora"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_low_rank(self.init_rank, self.alpha, self.dropout)
        check_count("target_rank", self.target_rank)
        if self.importance not in _IMPORTANCES:
            raise ValueError(f"importance must be one of {', '.join(_IMPORTANCES)}, got {self.importance!r}")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ValueError(f"beta1 and beta2 must be in [0, 1), got {self.beta1} and {self.beta2}")
        if not 0 <= self.orthogonality < math.inf:
            raise ValueError(f"orthogonality must be >= 0, got {self.orthogonality}")
        for name, least in (("initial_steps", 0), ("final_steps", 0), ("every", 1)):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), least)

    def branch(self, name: str, module: nn.Module, generator: torch.Generator | None) -> Triplets:
        check_low_rank_place(name, module, self.init_rank)
        return Triplets(module, self.init_rank, self.alpha / (self.init_rank + 1e-5), self.dropout, generator)

    def build(self, model: GPTModel, **options: Any) -> dict[str, nn.Module]:
        made = super().build(model, **options)
        check_head(model, made)
        return made

    def hooks(self, model: GPTModel, total_steps: int) -> list[Hook]:
        return [RankAllocation(self, model, total_steps)]

    def check_trained(self, modules: dict[str, nn.Module]) -> None:
        for branch in modules.values():
            branch.check_looked_after()

    def for_inference(
        self, model: GPTModel, modules: dict[str, nn.Module]
    ) -> tuple[LoRA, dict[str, dict[str, Tensor]]]:
        """Return a LoRA of the triplets that are left, each place with a rank of its own, and its A and B.

        Raises:
            ValueError: none is left anywhere.
        """
        tensors = {place: pair for place, branch in modules.items() if len((pair := branch.as_low_rank())["A"])}
        if not tensors:
            raise ValueError("no place has a rank above 0: the adapter does nothing")
        ranks = {place: len(pair["A"]) for place, pair in tensors.items()}
        most = max(ranks.values())  # of alpha / rank nothing is left but 1: B holds the scale
        patterns = {"rank_pattern": ranks, "alpha_pattern": {place: float(rank) for place, rank in ranks.items()}}
        return LoRA(rank=most, alpha=most, dropout=self.dropout, targets=tuple(tensors), **patterns), tensors


class Triplets(Branch):
    """s P diag(Lambda) Q: the difference that AdaLoRA learns at one linear layer.

    Only training sees what grew again after the latest mask. Whoever evaluates, merges or exports gets what it kept, so
    what is saved in the middle of a run answers with the ranks of that moment.

    Attributes:
        kept: (r,), the latest mask.
        step: the last one after which `RankAllocation` ran; 0 if it never did.
        growing: whether one is at work, so that what is pruned may grow again in training. Without one, an adapter that
            had one is tuned on with the ranks that it has.
    """

    kept: Tensor
    step: Tensor

    def __init__(
        self, linear: nn.Module, rank: int, scale: float, dropout: float, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.scale, self.dropout = scale, nn.Dropout(dropout)
        self.growing, self._looked_after = False, False
        device = device_of(linear)
        P = torch.empty(linear.out_features, rank).normal_(std=0.02, generator=generator)
        Q = torch.empty(rank, linear.in_features).normal_(std=0.02, generator=generator)
        self.P, self.Q = nn.Parameter(P.to(device)), nn.Parameter(Q.to(device))
        self.Lambda = nn.Parameter(torch.zeros(rank, device=device))
        self.register_buffer("kept", torch.ones(rank, dtype=torch.bool, device=device))
        self.register_buffer("step", torch.tensor(0, device=device))

    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        if self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self.check_looked_after()  # compiled, it is noticed when it is saved
        y = base(x)  # (..., out)
        Lambda = self.Lambda if self.training and self.growing else self.masked
        small = F.linear(self.dropout(x).to(self.Q.dtype), Lambda[:, None] * self.Q)  # (..., r)
        return y + (F.linear(small, self.P) * self.scale).to(y.dtype)

    @property
    def masked(self) -> Tensor:
        """Lambda without what grew again since the latest mask."""
        return self.Lambda * self.kept

    @property
    def rank(self) -> int:
        """How many triplets the latest mask kept."""
        return int(self.kept.sum())

    def merged(self, base: nn.Module) -> nn.Linear:
        return merged_linear(base, self.scale * (self.P * self.masked) @ self.Q)

    def as_low_rank(self) -> dict[str, Tensor]:
        """Return A (rank, in) and B (out, rank), whose product is the difference, without triplets that are zero."""
        left = self.masked != 0
        return {"A": self.Q[left], "B": self.scale * (self.P * self.masked)[:, left]}

    def check_looked_after(self) -> None:
        """Raise RuntimeError if this was trained without `RankAllocation`: Lambda moved, and that never ran.

        As soon as it has run, this asks the device nothing any more.
        """
        if self._looked_after:
            return
        self._looked_after = bool(self.step > 0)
        if not self._looked_after and bool(self.Lambda.any()):
            raise RuntimeError(
                "AdaLoRA was trained without its hook, so its ranks were never chosen: "
                "train(..., hooks=settings.hooks(model, total_steps)), or call the hook's after_step after every "
                "optimizer step in a loop of your own"
            )

    @torch.no_grad()
    def look_after(self, step: int, *, prune: bool) -> None:
        """Note that `RankAllocation` ran after this step, and set to zero what is not kept."""
        if prune:
            self.Lambda.masked_fill_(~self.kept, 0.0)
        self.step.fill_(step)
        self._looked_after = True

    def extra_repr(self) -> str:
        return f"rank={self.rank} of {len(self.kept)}, scale={self.scale:g}"


class RankAllocation(Hook):
    """AdaLoRA's part in training: the penalty, the importance of every triplet, and the choice of those that stay.

    It works on the active adapter of the model that it is called with. `after_step` has to run once after every
    optimizer step, before the gradients are cleared; the masks are part of the model, the rest of `state_dict`.

    Args:
        settings: the adapter's.
        model: has the adapter, active; what is pruned may grow again from now on.
        total_steps: of the optimizer.

    Attributes:
        ranks: (step, place -> rank) for the beginning, every choice, and the end.
        last: the step of the last choice.

    Raises:
        ValueError: the settings leave no step for choosing; or the active adapter is not AdaLoRA.
    """

    def __init__(self, settings: AdaLoRA, model: GPTModel, total_steps: int) -> None:
        share = total_steps // 10, total_steps // 3, max(1, total_steps // 100)
        given = settings.initial_steps, settings.final_steps, settings.every
        self.first, final, self.every = (s if g is None else g for s, g in zip(share, given))
        self.settings, self.total_steps, self.last = settings, total_steps, total_steps - final
        if self.first >= self.last:
            raise ValueError(
                f"initial_steps and final_steps must leave steps to choose in, got {self.first} and {final} of "
                f"{total_steps}"
            )
        self._places = list(active_adapter(model)[2])
        branches = self._branches(model)
        for branch in branches.values():
            branch.growing = True
        self.ranks = [(0, {place: len(branch.kept) for place, branch in branches.items()})]
        self._step, self._final = 0, False  # the last one seen; whether the last choice is made
        self._sensitivity: dict[str, Tensor] = {}  # place:parameter -> Im, or I if it is not smoothed
        self._variation: dict[str, Tensor] = {}  # place:parameter -> U

    def budget(self, step: int) -> int:
        """Return how many triplets may stay after this step, in all places together."""
        begin = sum(self.ranks[0][1].values())
        end = min(begin, self.settings.target_rank * len(self._places))
        if step <= self.first:
            return begin
        if step > self.last:
            return end
        left = 1 - (step - self.first) / (self.last - self.first)
        return int((begin - end) * left**3 + end)

    def loss_terms(self, model: nn.Module) -> Tensor | float:
        """Return how far P and Q are from orthogonal."""
        if not self.settings.orthogonality:
            return 0.0
        products = [product for b in self._branches(model).values() for product in (b.P.T @ b.P, b.Q @ b.Q.T)]
        errors = [product - torch.eye(len(product), device=product.device) for product in products]  # (r, r) each
        if self.settings.squared_penalty:
            return self.settings.orthogonality * torch.stack([error.square().sum() for error in errors]).sum()
        return self.settings.orthogonality * torch.stack([torch.linalg.vector_norm(error) for error in errors]).mean()

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        """Judge all triplets by the step's gradients and, when it is time, prune.

        Raises:
            RuntimeError: the gradients are gone.
            ValueError: another adapter is active, or the step was seen before.
        """
        branches = self._branches(model)
        if step <= self._step:
            raise ValueError(
                f"step must be above {self._step}, the last one that this hook saw, got {step}: for another training, "
                "make another hook, settings.hooks(model, total_steps)"
            )
        if self._step == 0:
            for branch in branches.values():
                branch.kept.fill_(True)  # an adapter that is tuned on competes anew
        if self.settings.importance != "magnitude" and (step < self.last or not self._sensitivity):
            self._judge(branches)
        choose = not self._final and (step >= self.last or (step > self.first and step % self.every == 0))
        if choose:
            self._final = step >= self.last
            self._choose(branches, self.budget(step))
        for branch in branches.values():
            branch.look_after(step, prune=choose or self._final)
            branch.growing = step < self.total_steps
        self._step = step
        if choose or step == self.total_steps:
            self.ranks.append((step, {place: branch.rank for place, branch in branches.items()}))

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self._step,
            "final": self._final,
            "sensitivity": dict(self._sensitivity),
            "variation": dict(self._variation),
            "places": self._places,
            "ranks_at": [step for step, _ in self.ranks],
            "ranks": torch.tensor([list(ranks.values()) for _, ranks in self.ranks], dtype=torch.int32),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            ValueError: it is of an adapter at other places.
        """
        if state["places"] != self._places:
            raise ValueError(f"the state is of an adapter at {state['places']}, this one is at {self._places}")
        self._step, self._final = state["step"], state["final"]
        self._sensitivity, self._variation = dict(state["sensitivity"]), dict(state["variation"])
        rows = state["ranks"].tolist()
        self.ranks = [(step, dict(zip(self._places, row))) for step, row in zip(state["ranks_at"], rows, strict=True)]

    def _branches(self, model: GPTModel) -> dict[str, Triplets]:
        name, method, branches = active_adapter(model)
        if not isinstance(method, AdaLoRA) or list(branches) != self._places:
            raise ValueError(
                f"the ranks of another AdaLoRA adapter are looked after here than {name!r}, the active one"
            )
        return branches

    def _judge(self, branches: dict[str, Triplets]) -> None:
        """Take the sensitivities of this step into the averages."""
        parameters = {f"{place}:{key}": p for place, b in branches.items() for key, p in b.named_parameters()}
        if any(parameter.grad is None for parameter in parameters.values()):
            raise RuntimeError("after_step needs the gradients of the step: call it before optimizer.zero_grad()")
        if not torch.stack([parameter.grad.sum() for parameter in parameters.values()]).sum().isfinite():
            return  # float16 overflowed, so the step was not taken
        smoothed = self.settings.importance == "smoothed"
        beta1, beta2 = (self.settings.beta1, self.settings.beta2) if smoothed else (0.0, 0.0)
        for key, parameter in parameters.items():
            now, nothing = (parameter * parameter.grad).abs(), torch.zeros(())
            mean = beta1 * self._sensitivity.get(key, nothing).to(now.device) + (1 - beta1) * now
            self._sensitivity[key] = mean
            if smoothed:
                before = self._variation.get(key, nothing).to(now.device)
                self._variation[key] = beta2 * before + (1 - beta2) * (now - mean).abs()

    def _choose(self, branches: dict[str, Triplets], budget: int) -> None:
        """Let every place keep its triplets among the `budget` most important ones of all places."""
        importance = {place: self._importance(place, branch) for place, branch in branches.items()}
        ascending = torch.cat(list(importance.values())).sort().values
        pruned = len(ascending) - budget
        for place, branch in branches.items():
            branch.kept.copy_(importance[place] > (ascending[pruned - 1] if pruned else -math.inf))

    def _importance(self, place: str, branch: Triplets) -> Tensor:
        """Return S, (r,)."""
        if self.settings.importance == "magnitude":
            return branch.Lambda.abs()
        s = {key: self._sensitivity[f"{place}:{key}"] for key in ("P", "Lambda", "Q")}
        if self.settings.importance == "smoothed":
            s = {key: mean * self._variation[f"{place}:{key}"] for key, mean in s.items()}
        return s["Lambda"] + (s["P"].mean(dim=0) + s["Q"].mean(dim=1))
