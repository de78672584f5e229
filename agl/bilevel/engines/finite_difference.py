"""Finite differences: the whole look-ahead run again for slightly other hyper-parameters. Slow, simple, a witness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from agl.bilevel.hypergradient import Dependence, HyperGradient
from agl.bilevel.inner import step
from agl.bilevel.lookahead import Lookahead, looking_ahead
from agl.bilevel.problem import BatchLike, Problem
from agl.bilevel.settings import InnerSettings
from agl.errors import UserError

MOST_NUMBERS = 1000


def finite_difference(
    problem: Problem,
    inner_batches: Sequence[BatchLike],
    outer_batch: BatchLike,
    settings: InnerSettings,
    *,
    by: float = 1e-4,
) -> HyperGradient:
    """Central differences of fourth order in every number of phi; four look-aheads each.

    The normaliser of the weights stays where it is, as its derivative is no part of the hypergradient.

    Args:
        settings: of the inner problem; float64 where no precision is given, as float32 leaves a difference few digits.
        by: the change of every number.

    Raises:
        UserError: no or too many hyper-parameters, or whatever `agl.bilevel.lookahead.start` refuses.
    """
    settings = replace(settings, precision=settings.precision or torch.float64)
    with looking_ahead(problem, inner_batches, settings) as (lookahead, at):
        if not 0 < at.n_hyperparameters <= MOST_NUMBERS:
            raise UserError(
                f"Expected 1 to {MOST_NUMBERS} hyper-parameters for the engine 'finite_difference', "
                f"received {at.n_hyperparameters}; use engine=forward or engine=jvp."
            )

        def outer_at(phi: dict[str, Tensor] | None) -> float:
            in_trunk, in_head = _coefficients(lookahead.problem, lookahead, at, phi)
            params = _rolled_out(lookahead, inner_batches, in_trunk, in_head)
            with torch.no_grad():
                return float(lookahead.problem.outer(params, lookahead.cast(outer_batch), seed=lookahead.seed))

        slopes = {name: torch.zeros_like(value).detach() for name, value in at.phi.items()}
        for name, slope in slopes.items():
            for i in range(slope.numel()):
                plus, minus, plus2, minus2 = (outer_at(_moved(at, name, i, k * by)) for k in (1, -1, 2, -2))
                slope.view(-1)[i] = (8 * (plus - minus) - (plus2 - minus2)) / (12 * by)
        return HyperGradient(slopes, None, float(lookahead.outer_loss(outer_batch)), outer_at(None))


def _moved(at: Dependence, name: str, position: int, by: float) -> dict[str, Tensor]:
    moved = {key: value.detach().clone() for key, value in at.phi.items()}
    moved[name].view(-1)[position] += by
    return moved


def _coefficients(
    problem: Problem, lookahead: Lookahead, at: Dependence, phi: dict[str, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Coefficients at another phi, with the normaliser of the original one."""
    if phi is None:
        return at.in_trunk.detach(), at.in_head.detach()
    change = (Dependence.at(problem, lookahead.dtype, phi).weights - at.weights).detach()
    pull = torch.zeros_like(at.in_trunk, requires_grad=True)
    onto_weights = torch.autograd.grad(at.in_trunk, at.weights, pull, create_graph=True, retain_graph=True)[0]
    moved = torch.autograd.grad(onto_weights, pull, change)[0]
    in_trunk = (at.in_trunk + moved).detach()
    return in_trunk, in_trunk if problem.gate == "loss" else at.in_head.detach()


def _rolled_out(
    lookahead: Lookahead, inner_batches: Sequence[BatchLike], in_trunk: Tensor, in_head: Tensor
) -> dict[str, Tensor]:
    """The parameters after the inner steps."""
    params, slots = dict(lookahead.params), dict(lookahead.slots)
    for done, batch in enumerate(inner_batches):
        leaves = {name: params[name].detach().requires_grad_() for name in lookahead.rules}
        loss = lookahead.problem.weighted_loss(
            {**params, **leaves}, (in_trunk, in_head), lookahead.cast(batch), seed=lookahead.seed + done
        )
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
        for (name, rule), gradient in zip(lookahead.rules.items(), gradients, strict=True):
            params[name], slots[name] = step(
                rule, params[name], gradient, slots[name], lookahead.counts[name] + done + 1
            )
    return params
