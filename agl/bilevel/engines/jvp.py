"""One JVP scores every gene: gradients are taken where training stands, and only the optimiser's answer is followed.

How the outer loss responds to a gradient is known for the trunk and the primary heads (an adjoint pass through the
optimiser's own arithmetic). The derivative of every gene's loss along that one direction is the gene's score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agl.bilevel import heads as head_blocks
from agl.bilevel import trunk as trunk_passes
from agl.bilevel.heads import HeadBlock
from agl.bilevel.hypergradient import Dependence, HyperGradient
from agl.bilevel.inner import Rule, Slots, step
from agl.bilevel.inner_derivatives import step_adjoint
from agl.bilevel.lookahead import Lookahead, looking_ahead, with_ones
from agl.bilevel.problem import BatchLike, Problem
from agl.bilevel.settings import InnerSettings
from agl.errors import UserError


def jvp(
    problem: Problem,
    inner_batches: Sequence[BatchLike],
    outer_batch: BatchLike,
    settings: InnerSettings,
    *,
    look_ahead: bool = True,
) -> HyperGradient:
    """Scores of all genes at about the cost of one plain step for each different inner batch.

    Exact for one inner step. For more of them the gradients stay those at the start, which with a warm Adam keeps the
    direction of the exact scores; with a fresh Adam it says next to nothing. A batch given several times is read once.

    Args:
        inner_batches: one batch for each inner step.
        outer_batch: held-out spots.
        settings: of the inner problem.
        look_ahead: False judges the outer loss where training stands and takes Adam's running mean for the gradient:
            no pass backward through the trunk for the inner batch, a third less time with an image encoder. The limit
            of a small learning rate for SGD, and its direction for an Adam that has taken some hundred steps;
            `outer_after` is then `outer_before`.
    """
    with looking_ahead(problem, inner_batches, settings) as (lookahead, at):
        response = (respond if look_ahead else respond_here)(lookahead, at, inner_batches, outer_batch)
        before = float(lookahead.outer_loss(outer_batch)) if look_ahead else response.outer_loss
        for_coefficients = torch.zeros_like(at.in_trunk.detach())
        for reading in response.readings:
            for_coefficients += reading.scores(lookahead, response.blocks)
        for_phi, for_weights = at.pulled_back(for_coefficients)
        return HyperGradient(for_phi, for_weights, before, response.outer_loss)


@dataclass
class Reading:
    """An inner batch, and the direction along which to ask its genes, made of what it says where training stands."""

    batch: BatchLike
    done: int  # the first inner step that uses it
    trunk: dict[str, Tensor]  # gradient
    head: Tensor  # gradient of the primary genes' head [primary, hidden (+ 1)]
    trunk_direction: dict[str, Tensor]
    head_direction: Tensor
    slopes: list[Tensor]  # g [spot, gene] of every block; empty: not yet known

    def scores(self, lookahead: Lookahead, blocks: list[HeadBlock]) -> Tensor:
        """The derivative `[gene]` of every gene's loss along the direction."""
        hidden, dh = trunk_passes.hidden_along(lookahead, lookahead.trunk, self.trunk_direction, self.batch, self.done)
        directions = _by_block(self.head_direction, blocks) if lookahead.problem.gate == "loss" else {}
        scores = torch.zeros(lookahead.problem.n_genes, dtype=lookahead.dtype, device=dh.device)
        for i, block in enumerate(blocks):
            g = self.slopes[i] if self.slopes else _slope(lookahead, block, hidden, self.batch, self.done)
            moved = dh @ lookahead.head_weight(block.genes).T
            if i in directions:
                moved.addmm_(with_ones(hidden, directions[i]), directions[i].T)
            scores[block.genes] = (g * moved).sum(0)
        return scores


@dataclass
class Response:
    """The outer loss after a look-ahead with the gradients held, and what it owes to every batch."""

    blocks: list[HeadBlock]
    readings: list[Reading]
    outer_loss: float


def respond(
    lookahead: Lookahead, at: Dependence, inner_batches: Sequence[BatchLike], outer_batch: BatchLike
) -> Response:
    """Follow the optimiser of the trunk and the primary heads, and ask the outer loss for its slope."""
    blocks = head_blocks.blocks(lookahead, at.in_trunk.detach(), at.in_head.detach())
    readings: dict[int, Reading] = {}
    for done, batch in enumerate(inner_batches):
        if id(batch) not in readings:
            readings[id(batch)] = _read(lookahead, blocks, lookahead.cast(batch), done)
    order = [readings[id(batch)] for batch in inner_batches]

    table, slots = _primary(lookahead)
    trunk = {
        name: _walk(
            lookahead.rules[f"trunk.{name}"],
            lookahead.counts[f"trunk.{name}"],
            value,
            lookahead.slots[f"trunk.{name}"],
            [reading.trunk[name] for reading in order],
        )
        for name, value in lookahead.trunk.items()
    }
    moved = [
        _walk(rule, count, table[:, c], _cut(slots, c), [reading.head[:, c] for reading in order])
        for rule, count, c in head_blocks.columns_of(lookahead)
    ]
    loss, for_trunk, for_head = lookahead.outer_gradient(trunk, torch.cat(moved, 1), lookahead.cast(outer_batch))
    _direct(lookahead, order, for_trunk, for_head)
    return Response(blocks, list(readings.values()), float(loss))


def respond_here(
    lookahead: Lookahead, at: Dependence, inner_batches: Sequence[BatchLike], outer_batch: BatchLike
) -> Response:
    """The same with no step taken, and the optimiser's running mean in place of every gradient."""
    if any(rule.kind != "sgd" and lookahead.counts[name] == 0 for name, rule in lookahead.rules.items()):
        raise UserError(
            "Expected an Adam that has taken steps for look_ahead=False, received a fresh one; "
            "train a little first with warm=true, or use look_ahead=true."
        )
    blocks = head_blocks.blocks(lookahead, at.in_trunk.detach(), at.in_head.detach())
    (table, slots), trunk = _primary(lookahead), lookahead.trunk
    head = slots[0] if slots else torch.zeros_like(table)
    means = {n: (lookahead.slots[f"trunk.{n}"] or (torch.zeros_like(value),))[0] for n, value in trunk.items()}
    readings = {
        id(batch): Reading(lookahead.cast(batch), done, means, head, {}, torch.zeros_like(head), [])
        for done, batch in reversed(list(enumerate(inner_batches)))
    }
    loss, for_trunk, for_head = lookahead.outer_gradient(trunk, table, lookahead.cast(outer_batch))
    _direct(lookahead, [readings[id(batch)] for batch in inner_batches], for_trunk, for_head)
    return Response(blocks, list(readings.values()), float(loss))


def _direct(lookahead: Lookahead, order: list[Reading], for_trunk: dict[str, Tensor], for_head: Tensor) -> None:
    """Send the outer loss's gradient back through the optimiser, to every reading's own direction."""
    for name, value in lookahead.trunk.items():
        full, gradients = f"trunk.{name}", [reading.trunk[name] for reading in order]
        along = _walk_back(
            lookahead.rules[full], lookahead.counts[full], value, lookahead.slots[full], gradients, for_trunk[name]
        )
        for reading, direction in zip(order, along, strict=True):
            reading.trunk_direction[name] = reading.trunk_direction.get(name, 0) + direction
    table, slots = _primary(lookahead)
    for rule, count, c in head_blocks.columns_of(lookahead):
        gradients = [reading.head[:, c] for reading in order]
        along = _walk_back(rule, count, table[:, c], _cut(slots, c), gradients, for_head[:, c])
        for reading, direction in zip(order, along, strict=True):
            reading.head_direction[:, c] += direction


def _read(lookahead: Lookahead, blocks: list[HeadBlock], batch: BatchLike, done: int) -> Reading:
    slopes: list[Tensor] = []
    head: list[Tensor] = []

    def heads(hidden: Tensor) -> Tensor:
        pulled = torch.zeros_like(hidden)
        for block in blocks:
            g = _slope(lookahead, block, hidden, batch, done)
            pulled.addmm_(block.in_trunk * g, lookahead.head_weight(block.genes))
            slopes.append(g)
            if block.primary:
                head.append((block.in_head * g).T @ with_ones(hidden, lookahead.head_table(block.genes)))
        return pulled

    trunk = trunk_passes.gradient(lookahead, lookahead.trunk, batch, done, heads)
    gradient = torch.cat(head)
    return Reading(batch, done, trunk, gradient, {}, torch.zeros_like(gradient), slopes)


def _slope(lookahead: Lookahead, block: HeadBlock, hidden: Tensor, batch: BatchLike, done: int) -> Tensor:
    scores = torch.nn.functional.linear(hidden, lookahead.head_weight(block.genes), lookahead.head_bias(block.genes))
    return head_blocks.slope(lookahead.problem, scores, batch, block.genes, lookahead.seed + done)


def _primary(lookahead: Lookahead) -> tuple[Tensor, Slots]:
    genes = slice(0, lookahead.problem.n_primary)
    return lookahead.head_table(genes), lookahead.head_slots(genes)


def _walk(rule: Rule, count: int, value: Tensor, slots: Slots, gradients: list[Tensor]) -> Tensor:
    """A parameter after steps with the given gradients."""
    for done, gradient in enumerate(gradients):
        value, slots = step(rule, value, gradient, slots, count + done + 1)
    return value


def _walk_back(
    rule: Rule, count: int, value: Tensor, slots: Slots, gradients: list[Tensor], adjoint: Tensor
) -> list[Tensor]:
    """The adjoint of every gradient, from the adjoint of the parameter after the steps."""
    states = [(value, slots)]
    for done, gradient in enumerate(gradients[:-1]):
        states.append(step(rule, *states[-1][:1], gradient, states[-1][1], count + done + 1))
    slot_adjoints = tuple(torch.zeros_like(slot) for slot in slots)
    found = []
    for done in reversed(range(len(gradients))):
        adjoint, along, slot_adjoints = step_adjoint(
            rule, states[done][0], gradients[done], states[done][1], count + done + 1, adjoint, slot_adjoints
        )
        found.append(along)
    return found[::-1]


def _cut(slots: Slots, columns: slice) -> Slots:
    return tuple(slot[:, columns] for slot in slots)


def _by_block(direction: Tensor, blocks: list[HeadBlock]) -> dict[int, Tensor]:
    return {i: direction[block.genes] for i, block in enumerate(blocks) if block.primary}
