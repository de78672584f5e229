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
from agl.bilevel.heads import Block
from agl.bilevel.hypergradient import Dependence, HyperGradient
from agl.bilevel.inner import Slots
from agl.bilevel.inner_derivatives import step_adjoint
from agl.bilevel.lookahead import Lookahead, start, with_ones
from agl.bilevel.problem import Problem, Spots
from agl.bilevel.rollout import Step, roll_out
from agl.bilevel.scoped import differentiable


def reverse(
    problem: Problem,
    inner_batches: Sequence[Spots],
    outer_batch: Spots,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    warm: bool = True,
    inner_optimizer: str | None = None,
    inner_lr: float | None = None,
    seed: int = 0,
    precision: torch.dtype | None = None,
) -> HyperGradient:
    """The exact hypergradient for phi and for every weight, whatever their number.

    Args:
        inner_batches: one batch for each inner step.
        outer_batch: held-out spots.
        optimizer, warm, inner_optimizer, inner_lr, seed, precision: see `agl.bilevel.lookahead.start`.
    """
    with differentiable(problem.head.weight.device):
        look = start(
            problem,
            inner_batches,
            optimizer,
            warm=warm,
            inner_optimizer=inner_optimizer,
            inner_lr=inner_lr,
            seed=seed,
            precision=precision,
        )
        at = Dependence.at(problem, look.dtype)
        before = float(look.outer_loss(outer_batch))
        blocks = head_blocks.blocks(look, at.in_trunk.detach(), at.in_head.detach())
        records, trunk = roll_out(look, blocks, [look.cast(batch) for batch in inner_batches])
        back = _Adjoints(look, blocks, trunk, look.cast(outer_batch))
        while records:
            back.through(records.pop())
        for_phi, for_weights = at.pulled_back(back.for_coefficients)
        return HyperGradient(for_phi, for_weights, before, back.outer_loss)


class _Adjoints:
    """Derivatives of the outer loss for everything after some inner step; None for heads it does not depend on."""

    def __init__(self, look: Lookahead, blocks: list[Block], trunk: dict[str, Tensor], batch: Spots) -> None:
        self.look, self.blocks = look, blocks
        tables = [block.table(look) for block in blocks if block.primary]
        loss, self.trunk, for_head = look.outer_gradient(trunk, torch.cat(tables), batch)
        self.outer_loss = float(loss)
        self.slots = {name: _zeros(look.slots[f"trunk.{name}"]) for name in trunk}
        self.heads: list[Tensor | None] = [None] * len(blocks)
        self.heads[: len(tables)] = for_head.split([len(table) for table in tables])
        self.head_slots: list[Slots] = [_zeros(block.slots) for block in blocks]
        self.for_coefficients = torch.zeros(look.problem.n_genes, dtype=look.dtype, device=for_head.device)
        for block in blocks:  # the state after the last step has served
            block.weight, block.slots = None, ()

    def through(self, record: Step) -> None:
        """Walk back one step."""
        along = {name: self._through_trunk(record, name) for name in record.gradient}

        def heads(hidden: Tensor, tangents: Tensor | None) -> tuple[Tensor, Tensor]:
            assert tangents is not None
            pulled, moved = torch.zeros_like(hidden), torch.zeros_like(hidden)
            for i in range(len(self.blocks)):
                self._through_head(record, i, hidden, tangents[0], pulled, moved)
            return pulled, moved[None]

        # A step's second derivatives are symmetric: along the adjoint they give what flows back.
        _, (moved,) = trunk_passes.gradient_along(self.look, record.trunk, [along], record.batch, record.done, heads)
        for name, change in moved.items():
            self.trunk[name] = self.trunk[name] + change

    def _through_trunk(self, record: Step, name: str) -> Tensor:
        """Back through the optimiser's step: the adjoint of the trunk's gradient."""
        self.trunk[name], along, self.slots[name] = step_adjoint(
            self.look.rules[f"trunk.{name}"],
            record.trunk[name],
            record.gradient[name],
            record.slots[name],
            self.look.counts[f"trunk.{name}"] + record.done + 1,
            self.trunk[name],
            self.slots[name],
        )
        return along

    def _through_head(
        self, record: Step, i: int, hidden: Tensor, tangent: Tensor, pulled: Tensor, moved: Tensor
    ) -> None:
        """Back through one block, with c the coefficients, a the adjoint of its gradient, dh the hidden's tangent:

        psi = sum g (c_trunk dh W' + c_head h a'), whose derivatives for W, h and c are what flows back.
        """
        look, block = self.look, self.blocks[i]
        (weight, slots), n_hidden = record.head(look, self.blocks, i), hidden.shape[1]
        h = with_ones(hidden, weight)
        g, bend = head_blocks.slope_and_bend(
            look.problem, h @ weight.T, record.batch, block.genes, look.seed + record.done
        )
        by_trunk = tangent @ weight[:, :n_hidden].T
        direction, reach = block.in_trunk * by_trunk, (g * by_trunk).sum(0)
        adjoint, along = self.heads[i], None
        if adjoint is not None:
            gradient = (block.in_head * g).T @ h
            adjoint, along, self.head_slots[i] = _through_update(
                look, weight, gradient, slots, record.done, adjoint, self.head_slots[i] or _zeros(slots)
            )
            by_head = h @ along.T
            direction = direction.addcmul_(block.in_head, by_head)
            if look.problem.gate == "loss":
                reach += (g * by_head).sum(0)
        self.for_coefficients[block.genes] += reach
        (bent,) = bend([direction])
        to_trunk = block.in_trunk * g
        pulled.addmm_(to_trunk, weight[:, :n_hidden])
        moved.addmm_(bent, weight[:, :n_hidden])
        if along is not None:
            moved.addmm_(block.in_head * g, along[:, :n_hidden])
        if record.done > 0:
            flown = bent.T @ h
            flown[:, :n_hidden].addmm_(to_trunk.T, tangent)
            self.heads[i] = flown if adjoint is None else adjoint.add_(flown)


def _through_update(
    look: Lookahead, weight: Tensor, gradient: Tensor, slots: Slots, done: int, adjoint: Tensor, slot_adjoints: Slots
) -> tuple[Tensor, Tensor, Slots]:
    """`step_adjoint` for a block of heads, weight and bias each by its own rule."""
    parts = [
        step_adjoint(
            rule,
            weight[:, columns],
            gradient[:, columns],
            tuple(slot[:, columns] for slot in slots),
            count + done + 1,
            adjoint[:, columns],
            tuple(slot[:, columns] for slot in slot_adjoints),
        )
        for rule, count, columns in head_blocks.columns_of(look)
    ]
    if len(parts) == 1:
        return parts[0]
    before, along, slots_before = zip(*parts, strict=True)
    joined = tuple(torch.cat(pair, 1) for pair in zip(*slots_before, strict=True))
    return torch.cat(before, 1), torch.cat(along, 1), joined


def _zeros(slots: Slots) -> Slots:
    return tuple(torch.zeros_like(slot) for slot in slots)
