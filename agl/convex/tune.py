"""Selectors tuned on the closed-form outer problem: no inner steps, the exact gradient, every step on record."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from agl.convex.outer import OuterProblem
from agl.errors import UserError
from agl.seeds import seeded


@dataclass(frozen=True)
class TuningStep:
    """Where tuning stood before its step `step` was taken."""

    step: int
    loss: float
    k: float  # sum of the weights
    strength: float
    widened: bool  # whether some fold's rank had to grow for want of a gap


def tune(
    selector: nn.Module,
    problem: OuterProblem,
    *,
    steps: int = 40,
    lr: float = 0.05,
    learn_strength: bool = False,
    share: float = 0.5,
    seed: int = 0,
    callback: Callable[[TuningStep], None] | None = None,
) -> list[TuningStep]:
    """Lower the outer loss by a selector's parameters; it is left at the step where the loss was lowest.

    A selector whose `signal` is "hypergradient" is stepped by Adam through `selector() -> weights -> outer`, then
    `project`ed. One whose signal is "influence" is given d outer / d weight by `observe`, once a step and fold, each
    time on another random share of the left-out spots; it keeps its last state, as its state is a running mean.

    Args:
        selector: a module; calling it gives the weights `[aux]`. See `agl.genes.selectors.base`.
        steps: outer steps.
        lr: Adam's step size; also of the log of the strength.
        learn_strength: tune the strength too, from `problem.strength`; the last record has what came of it.
        share: of every slide's left-out spots that an influence is measured on.
        seed: of these draws; the result is a function of it.
        callback: called with every record.

    Returns:
        One record per step, and a last one for the state that the selector is left in.
    """
    signal = getattr(selector, "signal", "hypergradient")
    if signal not in ("hypergradient", "influence"):
        raise UserError(
            f"Expected a selector that learns by the hypergradient or by influences, received one that wants "
            f"{signal!r}; the closed form has no training steps to take it from."
        )
    if learn_strength and not problem.strength > 0:
        raise UserError("Expected a strength above 0 to learn it from, received 0; start from 1.")
    log_strength = torch.tensor(problem.strength, dtype=torch.float64).clamp_min(1e-300).log()
    log_strength.requires_grad_(learn_strength)
    records: list[TuningStep] = []

    def note(step: int, loss: float, weights: Tensor, ranks_used: Sequence[tuple[int, ...]]) -> None:
        widened = any(
            used != tuple(min(rank, len(fold.heads)) for rank in problem.ranks)
            for used, fold in zip(ranks_used, problem.folds, strict=True)
        )
        strength = float(log_strength.detach().exp()) if problem.strength > 0 else 0.0
        records.append(TuningStep(step, loss, float(weights.sum()), strength, widened))
        if callback is not None:
            callback(records[-1])

    if signal == "influence":
        if learn_strength:
            raise UserError("Expected learn_strength only with a selector that learns by the hypergradient.")
        observe: Callable[[Tensor], None] = getattr(selector, "observe")  # noqa: B009  # of a module, not a parameter
        for step in range(steps):
            with torch.no_grad():
                weights = selector()
            rows = [_some(fold.slides, share, seed, step, i) for i, fold in enumerate(problem.folds)]
            influence = problem.gradient(weights, rows=rows)
            note(step, float(influence.loss.mean()), weights, influence.ranks_used)
            for one in influence.by_fold:
                observe(one)
        with torch.no_grad():
            weights = selector()
            losses, used = problem.losses_and_ranks(weights)
            note(steps, float(losses.mean()), weights, used)
        return records

    parameters: list[Tensor] = [p for p in selector.parameters() if p.requires_grad]
    tuned: list[Tensor] = [*parameters, *([log_strength] if learn_strength else [])]
    if not tuned:
        raise UserError("Expected a selector with parameters, received one without; nothing is there to tune.")
    optimiser = torch.optim.Adam(tuned, lr=lr)
    best: tuple[float, dict[str, Any], Tensor, list[tuple[int, ...]]] | None = None
    for step in range(steps + 1):
        weights = selector()
        losses, used = problem.losses_and_ranks(weights, log_strength.exp() if problem.strength > 0 else 0.0)
        loss = losses.mean()
        note(step, float(loss.detach()), weights.detach(), used)
        if best is None or float(loss.detach()) < best[0]:
            best = float(loss.detach()), copy.deepcopy(selector.state_dict()), log_strength.detach().clone(), used
        if step == steps:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        project = getattr(selector, "project", None)
        if project is not None:
            project()
    assert best is not None
    selector.load_state_dict(best[1])
    with torch.no_grad():
        log_strength.copy_(best[2])
        note(steps + 1, best[0], selector(), best[3])
    return records


def _some(slides: Tensor, share: float, seed: int, step: int, fold: int) -> Tensor:
    """Positions of a random share of every slide's spots, at least three of each that has them."""
    rng = seeded(seed, "influence", step, fold)
    drawn = []
    for code in slides.unique():
        rows = (slides == code).nonzero().squeeze(1)
        n = min(len(rows), max(3, round(share * len(rows))))
        drawn.append(rows[torch.from_numpy(rng.permutation(len(rows))[:n])])
    return torch.cat(drawn).sort().values
