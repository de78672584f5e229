"""Reverse mode: the inner steps are taken once, then walked back one at a time; exact for every gene at once.

Only parameters and optimiser state are kept for each step, 3 numbers a parameter with Adam; the graph of a step is
built again when its turn comes, so that no more than one step's graph is ever alive.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agl.bilevel import heads as head_blocks
from agl.bilevel import trunk as trunk_passes
from agl.bilevel.heads import HeadBlock
from agl.bilevel.hypergradient import HyperGradient
from agl.bilevel.inner import Slots
from agl.bilevel.inner_derivatives import step_adjoint
from agl.bilevel.lookahead import Lookahead, looking_ahead, with_ones
from agl.bilevel.problem import BatchLike, Problem
from agl.bilevel.rollout import Step, roll_out
from agl.bilevel.settings import InnerSettings


def reverse(
    problem: Problem,
    inner_batches: Sequence[BatchLike],
    outer_batch: BatchLike,
    settings: InnerSettings,
) -> HyperGradient:
    """The exact hypergradient for phi and for every weight, whatever their number.

    Args:
        inner_batches: one batch for each inner step.
        outer_batch: held-out spots.
        settings: of the inner problem.
    """
    with looking_ahead(problem, inner_batches, settings) as (lookahead, at):
        before = float(lookahead.outer_loss(outer_batch))
        blocks = head_blocks.blocks(lookahead, at.in_trunk.detach(), at.in_head.detach())
        records, trunk = roll_out(lookahead, blocks, [lookahead.cast(batch) for batch in inner_batches])
        back = _Adjoints(lookahead, blocks, trunk, lookahead.cast(outer_batch))
        while records:
            back.through(records.pop())
        for_phi, for_weights = at.pulled_back(back.for_coefficients)
        return HyperGradient(for_phi, for_weights, before, back.outer_loss)


class _Adjoints:
    """Derivatives of the outer loss for everything after some inner step; None for heads it does not depend on."""

    def __init__(
        self, lookahead: Lookahead, blocks: list[HeadBlock], trunk: dict[str, Tensor], batch: BatchLike
    ) -> None:
        self.lookahead, self.blocks = lookahead, blocks
        tables = [block.table(lookahead) for block in blocks if block.primary]
        loss, self.trunk, for_head = lookahead.outer_gradient(trunk, torch.cat(tables), batch)
        self.outer_loss = float(loss)
        self.slots = {name: _zeros(lookahead.slots[f"trunk.{name}"]) for name in trunk}
        self.heads: list[Tensor | None] = [None] * len(blocks)
        self.heads[: len(tables)] = for_head.split([len(table) for table in tables])
        self.head_slots: list[Slots] = [_zeros(block.slots) for block in blocks]
        self.for_coefficients = torch.zeros(lookahead.problem.n_genes, dtype=lookahead.dtype, device=for_head.device)
        for block in blocks:  # the state after the last step has served
            block.weight, block.slots = None, ()

    def through(self, record: Step) -> None:
        """Walk back one step. What came before the first one is given, so that there only the coefficients count."""
        along = {name: self._through_trunk(record, name) for name in record.gradient}
        if record.done == 0:
            hidden, tangent = trunk_passes.hidden_along(self.lookahead, record.trunk, along, record.batch, record.done)
            for i in range(len(self.blocks)):
                self._to_coefficients(record, i, hidden, tangent)
            return

        def heads(hidden: Tensor, tangents: Tensor | None) -> tuple[Tensor, Tensor]:
            assert tangents is not None
            moved = torch.zeros_like(hidden)
            for i in range(len(self.blocks)):
                self._through_head(record, i, hidden, tangents[0], moved)
            return record.pulled, moved[None]

        # A step's second derivatives are symmetric: along the adjoint they give what flows back.
        _, (moved,) = trunk_passes.gradient_along(
            self.lookahead, record.trunk, [along], record.batch, record.done, heads
        )
        for name, change in moved.items():
            self.trunk[name] = self.trunk[name] + change

    def _through_trunk(self, record: Step, name: str) -> Tensor:
        """Back through the optimiser's step: the adjoint of the trunk's gradient."""
        self.trunk[name], along, self.slots[name] = step_adjoint(
            self.lookahead.rules[f"trunk.{name}"],
            record.trunk[name],
            record.gradient[name],
            record.slots[name],
            self.lookahead.counts[f"trunk.{name}"] + record.done + 1,
            self.trunk[name],
            self.slots[name],
        )
        return along

    def _through_head(self, record: Step, i: int, hidden: Tensor, tangent: Tensor, moved: Tensor) -> None:
        """Back through one block, with c the coefficients, a the adjoint of its gradient, dh the hidden's tangent:

        psi = sum g (c_trunk dh W' + c_head h a'), whose derivatives for W, h and c are what flows back.
        """
        lookahead, block = self.lookahead, self.blocks[i]
        (weight, _), n_hidden = record.heads[i], hidden.shape[1]
        h = with_ones(hidden, weight)
        g, bend = head_blocks.slope_and_bend(
            lookahead.problem, record.tables[i], record.batch, block.genes, lookahead.seed + record.done
        )
        by_trunk = tangent @ weight[:, :n_hidden].T
        direction, derivative = block.in_trunk * by_trunk, (g * by_trunk).sum(0)
        along = self._through_update(record, i, h, g)
        if along is not None:
            by_head = h @ along.T
            direction = direction.addcmul_(block.in_head, by_head)
            if lookahead.problem.gate == "loss":
                derivative += (g * by_head).sum(0)
        self.for_coefficients[block.genes] += derivative
        (bent,) = bend([direction])
        moved.addmm_(bent, weight[:, :n_hidden])
        if along is not None:
            moved.addmm_(block.in_head * g, along[:, :n_hidden])
        flown = bent.T @ h
        flown[:, :n_hidden].addmm_((block.in_trunk * g).T, tangent)
        adjoint = self.heads[i]
        self.heads[i] = flown if adjoint is None else adjoint.add_(flown)

    def _to_coefficients(self, record: Step, i: int, hidden: Tensor, tangent: Tensor) -> None:
        """The same where nothing flows further back: psi's derivative for c alone."""
        lookahead, block, g, (weight, _) = self.lookahead, self.blocks[i], record.tables[i], record.heads[i]
        derivative = tangent @ weight[:, : hidden.shape[1]].T
        if lookahead.problem.gate == "loss":
            h = with_ones(hidden, weight)
            along = self._through_update(record, i, h, g)
            if along is not None:
                derivative.addmm_(h, along.T)
        self.for_coefficients[block.genes] += derivative.mul_(g).sum(0)

    def _through_update(self, record: Step, i: int, h: Tensor, g: Tensor) -> Tensor | None:
        """Back through the optimiser's step of a block's heads: the adjoint of their gradient, None where it is 0."""
        lookahead, adjoint, (weight, slots) = self.lookahead, self.heads[i], record.heads[i]
        if adjoint is None:
            return None
        slot_adjoints = self.head_slots[i] = self.head_slots[i] or _zeros(slots)
        gradient = (self.blocks[i].in_head * g).T @ h
        for here, rule, count in head_blocks.chunks(lookahead, weight):
            before, along, slots_before = step_adjoint(
                rule,
                weight[here],
                gradient[here],
                tuple(slot[here] for slot in slots),
                count + record.done + 1,
                adjoint[here],
                tuple(slot[here] for slot in slot_adjoints),
            )
            gradient[here] = along
            adjoint[here] = before
            for slot, value in zip(slot_adjoints, slots_before, strict=True):
                slot[here] = value
        return gradient


def _zeros(slots: Slots) -> Slots:
    return tuple(torch.zeros_like(slot) for slot in slots)
