"""A hypergradient as MixFlow-MG computes it, in torch.func: what `agl.bilevel` is timed beside.

The inner steps are taken once, keeping the state of each. On the way back a step is computed again, and the derivative
of its gradient, a symmetric matrix times the adjoint, is taken forward over reverse, so that no graph of a gradient is
ever stored: H v = d/de grad L(theta + e v), and the same for the derivative by the genes' coefficients.

Source: Kemaev et al., Scalable Meta-Learning via Mixed-Mode Differentiation, arXiv 2505.00793 (2025), sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, jvp, vjp

from agl.bilevel import Problem
from agl.bilevel.hypergradient import HyperGradient
from agl.bilevel.lookahead import looking_ahead
from agl.bilevel.problem import BatchLike
from agl.bilevel.settings import InnerSettings

Tree = dict[str, Tensor]
State = tuple[Tree, Tree, Tree]  # parameters, first and second moments


def mixflow(
    problem: Problem, inner_batches: Sequence[BatchLike], outer_batch: BatchLike, settings: InnerSettings
) -> HyperGradient:
    """The exact hypergradient through Adam's steps, of the genes' coefficients and by them of weights and phi."""
    with looking_ahead(problem, inner_batches, settings) as (ahead, dependence):
        batches, outer = [ahead.cast(batch) for batch in inner_batches], ahead.cast(outer_batch)
        genes = dependence.in_trunk.detach()
        state: State = (
            {name: ahead.params[name] for name in ahead.rules},
            {name: ahead.slots[name][0] for name in ahead.rules},
            {name: ahead.slots[name][1] for name in ahead.rules},
        )

        def inner(params: Tree, genes: Tensor, t: int) -> Tensor:
            return problem.weighted_loss({**ahead.params, **params}, (genes, genes), batches[t], seed=ahead.seed + t)

        def update(state: State, gradient: Tree, t: int) -> State:
            """Adam as arithmetic, out of place."""
            params, first, second = ({}, {}, {})
            for name, rule in ahead.rules.items():
                count, (a, b) = ahead.counts[name] + t + 1, rule.betas
                first[name] = a * state[1][name] + (1 - a) * gradient[name]
                second[name] = b * state[2][name] + (1 - b) * gradient[name] ** 2
                moved = second[name] > 0  # a root has no slope at 0, where nothing ever came
                root = torch.where(moved, torch.where(moved, second[name], 1.0).sqrt(), 0.0)
                root = root / (1 - b**count) ** 0.5 + rule.eps
                params[name] = state[0][name] - rule.lr / (1 - a**count) * first[name] / root
            return params, first, second

        before = float(ahead.outer_loss(outer_batch))
        kept = []
        for t in range(len(batches)):
            kept.append(state)
            state = update(state, grad(inner)(state[0], genes, t), t)

        def judged(params: Tree) -> Tensor:
            return problem.outer({**ahead.params, **params}, outer, seed=ahead.seed)

        of_params, after = grad_and_value(judged)(state[0])
        adjoint: State = (of_params, _zeros(of_params), _zeros(of_params))
        of_genes = torch.zeros_like(genes)
        for t in reversed(range(len(batches))):
            at = kept.pop()
            gradient = grad(inner)(at[0], genes, t)
            _, back = vjp(lambda state, gradient, t=t: update(state, gradient, t), at, gradient)
            direct, along = back(adjoint)

            def both(params: Tree, t: int = t) -> tuple[Tree, Tensor]:
                return grad(inner, argnums=(0, 1))(params, genes, t)

            _, (bent, mixed) = jvp(both, (at[0],), (along,))
            adjoint = ({name: direct[0][name] + bent[name] for name in bent}, direct[1], direct[2])
            of_genes = of_genes + mixed
        return HyperGradient(*dependence.pulled_back(of_genes.detach()), before, float(after))


def _zeros(tree: Tree) -> Tree:
    return {name: torch.zeros_like(value) for name, value in tree.items()}
