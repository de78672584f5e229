"""The package `higher` 0.2.1 (Grefenstette et al., arXiv 1910.01727), as reference and for the released behaviour.

Its own Adam adds eps before the bias correction and it has no AdamW. torch's formulas are registered through its own
hook, for two private optimiser classes, so that nobody else's use of the package changes; `adam_higher` is its stock
Adam.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from agl.bilevel.hypergradient import Dependence, HyperGradient
from agl.bilevel.lookahead import Lookahead, looking_ahead
from agl.bilevel.problem import BatchLike, Problem
from agl.bilevel.scoped import modes, torch_seeded
from agl.bilevel.settings import InnerSettings
from agl.errors import UserError


class _Adam(torch.optim.Adam):
    """torch's Adam under a name of its own."""


class _AdamW(torch.optim.AdamW):
    """torch's AdamW under a name of its own."""


def higher(
    problem: Problem,
    inner_batches: Sequence[BatchLike],
    outer_batch: BatchLike,
    settings: InnerSettings,
) -> HyperGradient:
    """The exact hypergradient for phi and every weight; keeps the graph of all inner steps in memory.

    Args:
        inner_batches: one batch for each inner step.
        outer_batch: held-out spots.
        settings: of the inner problem.
    """
    from higher import innerloop_ctx
    from higher.patch import buffer_sync

    _register()
    with looking_ahead(problem, inner_batches, settings) as (lookahead, at):
        before = float(lookahead.outer_loss(outer_batch))
        predictor = _Open(problem.trunk, problem.head)
        if lookahead.dtype != problem.head.weight.dtype:
            predictor = copy.deepcopy(predictor).to(lookahead.dtype)
        twin = _optimizer_like(lookahead, dict(predictor.named_parameters()))
        with innerloop_ctx(predictor, twin, copy_initial_weights=True) as (functional, differentiable_optimizer):
            for done, batch in enumerate(inner_batches):
                _step(problem, functional, differentiable_optimizer, at, lookahead.cast(batch), lookahead.seed + done)
                buffer_sync(predictor, functional)  # every step starts from the live model's running statistics
            loss = _outer(problem, functional, lookahead.cast(outer_batch), lookahead.seed)
        gradients = torch.autograd.grad(loss, [at.weights, *at.phi.values()], allow_unused=True, materialize_grads=True)
        for_phi = dict(zip(at.phi, gradients[1:], strict=True))
        return HyperGradient(for_phi, gradients[0], before, float(loss.detach()))


def _step(problem: Problem, functional: Any, optimizer: Any, at: Dependence, batch: BatchLike, seed: int) -> None:
    running = problem.statistics == "frozen"
    with torch_seeded(seed, batch.inputs.device), modes(functional.trunk, evaluating=False, running_statistics=running):
        hidden, scores = functional(batch.inputs)
    losses = problem.losses(scores, batch, seed=seed)
    if problem.gate == "loss":
        optimizer.step(at.in_trunk @ losses)
        return

    def gated(_: Any) -> list[Tensor | None]:
        """What training follows is no loss's gradient: the trunk's part has other coefficients than the heads'."""
        slope = torch.autograd.grad(losses.sum(), scores, create_graph=True)[0]
        for_hidden = (at.in_trunk * slope) @ functional.head.weight
        params = functional.fast_params[: len(list(problem.trunk.parameters()))]
        targets = [p if p.requires_grad else torch.zeros(0, requires_grad=True) for p in params]
        for_trunk = torch.autograd.grad(hidden, targets, for_hidden, create_graph=True, allow_unused=True)
        slope = at.in_head * slope
        return [*for_trunk, slope.T @ hidden] + ([] if problem.head.bias is None else [slope.sum(0)])

    optimizer.step(at.in_head @ losses, grad_callback=gated)


def _outer(problem: Problem, functional: Any, batch: BatchLike, seed: int) -> Tensor:
    running = problem.statistics != "batch"
    with torch_seeded(seed, batch.inputs.device), modes(functional.trunk, evaluating=True, running_statistics=running):
        _, scores = functional(batch.inputs)
    primary = slice(0, problem.n_primary)
    return problem.losses(scores[:, primary], batch, primary, seed=seed).mean()


class _Open(nn.Module):
    """The predictor, showing its hidden features."""

    def __init__(self, trunk: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.trunk(inputs)
        return hidden, self.head(hidden)


def _optimizer_like(lookahead: Lookahead, parameters: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    """A torch optimiser on these parameters with the look-ahead's rules and state."""
    kinds = {rule.kind for rule in lookahead.rules.values()}
    if len(kinds) > 1:
        raise UserError(
            f"Expected one kind of optimiser for the engine 'higher', received {' and '.join(sorted(kinds))}."
        )
    (kind,) = kinds
    groups: list[dict[str, Any]] = []
    for name, rule in lookahead.rules.items():
        group = {"params": [parameters[name]], "lr": rule.lr, "weight_decay": rule.weight_decay}
        if kind == "sgd":
            group |= {"momentum": rule.momentum, "dampening": rule.dampening, "nesterov": rule.nesterov}
        else:
            group |= {"betas": rule.betas, "eps": rule.eps}
        groups.append(group)
    classes: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": _Adam, "adamw": _AdamW, "adam_higher": torch.optim.Adam}
    twin: torch.optim.Optimizer = classes[kind](groups, lr=0.0)
    for name in lookahead.rules:
        if lookahead.counts[name]:
            slots = (slot.clone() for slot in lookahead.slots[name])
            keys = ("momentum_buffer",) if kind == "sgd" else ("exp_avg", "exp_avg_sq")
            state: dict[str, Any] = dict(zip(keys, slots, strict=False))
            if kind != "sgd":
                state["step"] = lookahead.counts[name]
            twin.state[parameters[name]] = state
    return twin


@functools.cache
def _register() -> None:
    """Teach the package torch's Adam and AdamW."""
    from higher.optim import DifferentiableOptimizer, register_optim

    class DifferentiableTorchAdam(DifferentiableOptimizer):
        """eps after the bias correction, as in torch; v = 0 counts as constant."""

        def _update(self, grouped_grads: list[list[Tensor | None]], **_: Any) -> None:
            for i, (group, gradients) in enumerate(zip(self.param_groups, grouped_grads, strict=True)):
                for j, gradient in enumerate(gradients):
                    if gradient is not None:
                        group["params"][j] = self._moved(group, self.state[i][j], group["params"][j], gradient)

        def _moved(self, group: dict[str, Any], state: dict[str, Any], parameter: Tensor, gradient: Tensor) -> Tensor:
            (beta1, beta2), decay, lr = group["betas"], group["weight_decay"], group["lr"]
            if not state:
                state |= {"step": 0, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
            if self.decoupled:
                parameter = parameter * (1 - lr * decay)
            elif decay:
                gradient = gradient + decay * parameter
            state["step"] += 1
            state["exp_avg"] = first = state["exp_avg"] * beta1 + (1 - beta1) * gradient
            state["exp_avg_sq"] = second = state["exp_avg_sq"] * beta2 + (1 - beta2) * gradient * gradient
            positive = second > 0
            root = torch.where(positive, torch.where(positive, second, 1.0).sqrt(), 0.0)
            denominator = root / (1 - beta2 ** state["step"]) ** 0.5 + group["eps"]
            return parameter - lr / (1 - beta1 ** state["step"]) * first / denominator

        decoupled = False

    class DifferentiableTorchAdamW(DifferentiableTorchAdam):
        """Weight decay apart from the gradient."""

        decoupled = True

    register_optim(_Adam, DifferentiableTorchAdam)
    register_optim(_AdamW, DifferentiableTorchAdamW)
