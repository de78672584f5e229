"""One inner step, its second derivative from two passes without a gradient (DARTS, arXiv 1806.09055, eq. 7 and 8).

d outer / d c_g = (L_g(theta + eps a) - L_g(theta - eps a)) / (2 eps),   a: what the outer loss owes the gradient
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agl.bilevel.engines.jvp import Reading, respond
from agl.bilevel.hypergradient import HyperGradient
from agl.bilevel.lookahead import Lookahead, looking_ahead, with_ones
from agl.bilevel.problem import BatchLike, Problem
from agl.bilevel.settings import InnerSettings


def one_step(
    problem: Problem,
    inner_batches: Sequence[BatchLike],
    outer_batch: BatchLike,
    settings: InnerSettings,
    *,
    exact: bool = False,
    by: float = 0.01,
) -> HyperGradient:
    """Scores of all genes from the first inner batch alone.

    Args:
        inner_batches: only the first is used.
        outer_batch: held-out spots.
        settings: of the inner problem.
        exact: the derivative itself, as the engine `jvp` takes it, in place of the difference.
        by: length of the step to either side, eps |a|; DARTS takes 0.01.
    """
    with looking_ahead(problem, inner_batches, settings) as (lookahead, at):
        before = float(lookahead.outer_loss(outer_batch))
        response = respond(lookahead, at, inner_batches[:1], outer_batch)
        (reading,) = response.readings
        scores = reading.scores(lookahead, response.blocks) if exact else _difference(lookahead, reading, by)
        for_phi, for_weights = at.pulled_back(scores)
        return HyperGradient(for_phi, for_weights, before, response.outer_loss)


def _difference(lookahead: Lookahead, reading: Reading, by: float) -> Tensor:
    directions = [*reading.trunk_direction.values()]
    if lookahead.problem.gate == "loss":
        directions.append(reading.head_direction)
    length = float(torch.stack([direction.square().sum() for direction in directions]).sum().sqrt())
    if length == 0:
        return torch.zeros(lookahead.problem.n_genes, dtype=lookahead.dtype, device=reading.head.device)
    with torch.no_grad():
        plus, minus = (_losses(lookahead, reading, sign * by / length) for sign in (1, -1))
    return (plus - minus) / (2 * by / length)


def _losses(lookahead: Lookahead, reading: Reading, eps: float) -> Tensor:
    """Every gene's loss `[gene]` with trunk and primary heads moved by eps along the direction."""
    trunk = {name: value.add(reading.trunk_direction[name], alpha=eps) for name, value in lookahead.trunk.items()}
    hidden = lookahead.hidden(trunk, reading.batch, reading.done)
    everything = slice(None)
    scores = torch.nn.functional.linear(hidden, lookahead.head_weight(everything), lookahead.head_bias(everything))
    if lookahead.problem.gate == "loss":
        h = with_ones(hidden, reading.head_direction)
        scores[:, : lookahead.problem.n_primary].addmm_(h, reading.head_direction.T, alpha=eps)
    return lookahead.problem.losses(scores, reading.batch, seed=lookahead.seed + reading.done)
