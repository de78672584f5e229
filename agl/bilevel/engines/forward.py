"""Forward mode: tangents of parameters and optimiser state go with the inner steps, one for each number of phi.

Exact, with memory that does not grow with the number of inner steps. An auxiliary gene's head matters through the
trunk only, so that after the last step it need not move at all.
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
from agl.bilevel.inner_derivatives import step_with_tangents_
from agl.bilevel.lookahead import Lookahead, looking_ahead, with_ones
from agl.bilevel.problem import BatchLike, Problem
from agl.bilevel.settings import InnerSettings
from agl.errors import UserError

MOST_TANGENTS = 64


def forward(
    problem: Problem,
    inner_batches: Sequence[BatchLike],
    outer_batch: BatchLike,
    settings: InnerSettings,
    *,
    prune: float = 1e-9,
) -> HyperGradient:
    """The exact hypergradient of a handful of hyper-parameters, at about the cost of the inner steps for each.

    Args:
        inner_batches: one batch for each inner step.
        outer_batch: held-out spots.
        settings: of the inner problem.
        prune: auxiliary genes whose weight, and its derivative relative to the largest, lie below are left out;
            the weight of genes with such a derivative alone counts as constant.

    Raises:
        UserError: no or too many hyper-parameters, or whatever `agl.bilevel.lookahead.start` refuses.
    """
    with looking_ahead(problem, inner_batches, settings) as (lookahead, at):
        if not 0 < at.n_hyperparameters <= MOST_TANGENTS:
            raise UserError(
                f"Expected 1 to {MOST_TANGENTS} hyper-parameters for the engine 'forward', "
                f"received {at.n_hyperparameters}; use engine=jvp or engine=reverse, which score every gene at once."
            )
        weight_tangents, in_trunk_tangents = at.tangents()
        before = float(lookahead.outer_loss(outer_batch))
        if not in_trunk_tangents.any():
            zero = {name: torch.zeros_like(value) for name, value in at.phi.items()}
            return HyperGradient(zero, None, before, before, "no weight changes with any hyper-parameter")
        groups = _groups(lookahead.problem, at.weights.detach(), weight_tangents, prune)
        unrolled = _Unrolled(lookahead, _blocks(lookahead, at, in_trunk_tangents, *groups), at.n_hyperparameters)
        for done, batch in enumerate(inner_batches):
            unrolled.step(lookahead.cast(batch), done, last=done == len(inner_batches) - 1)
        after, slopes = unrolled.outer(lookahead.cast(outer_batch))
        return HyperGradient(at.shaped(slopes), None, before, after)


@dataclass
class _Unrolled:
    """Values and tangents after some inner steps."""

    lookahead: Lookahead
    blocks: list[HeadBlock]
    n_tangents: int

    def __post_init__(self) -> None:
        self.trunk = {name: value.clone() for name, value in self.lookahead.trunk.items()}
        self.slots = {name: tuple(s.clone() for s in self.lookahead.slots[f"trunk.{name}"]) for name in self.trunk}
        self.trunk_tangents: dict[str, Tensor] = {}
        self.slot_tangents: dict[str, tuple[Tensor, ...]] = {}

    def step(self, batch: BatchLike, done: int, *, last: bool) -> None:
        """One inner step of everything that can still reach the outer loss."""

        def heads(hidden: Tensor, tangents: Tensor | None) -> tuple[Tensor, Tensor]:
            pulled = torch.zeros_like(hidden)
            pulled_tangents = hidden.new_zeros(self.n_tangents, *hidden.shape)
            for block in self.blocks:
                moves = block.primary or not last
                _pass(self.lookahead, block, hidden, tangents, batch, done, moves, pulled, pulled_tangents)
            return pulled, pulled_tangents

        if not self.trunk_tangents:
            gradients, moved = trunk_passes.gradient_from_rest(self.lookahead, self.trunk, batch, done, heads)
        else:
            directions = [{n: t[i] for n, t in self.trunk_tangents.items()} for i in range(self.n_tangents)]
            gradients, moved = trunk_passes.gradient_along(self.lookahead, self.trunk, directions, batch, done, heads)
        self._update_trunk(gradients, moved, done)

    def outer(self, batch: BatchLike) -> tuple[float, Tensor]:
        """The outer loss and its slope along every tangent."""
        primary = [block for block in self.blocks if block.primary]
        head = torch.cat([block.table(self.lookahead) for block in primary])
        loss, for_trunk, for_head = self.lookahead.outer_gradient(self.trunk, head, batch)
        slopes = torch.zeros(self.n_tangents, dtype=head.dtype, device=head.device)
        for name, gradient in for_trunk.items():
            slopes += (self.trunk_tangents[name] * gradient).flatten(1).sum(1)
        for block, gradient in zip(primary, for_head.split([len(block.in_trunk) for block in primary]), strict=True):
            if block.weight_tangents is not None:
                slopes += (block.weight_tangents * gradient).flatten(1).sum(1)
        return float(loss), slopes

    def _update_trunk(self, gradients: dict[str, Tensor], moved: list[dict[str, Tensor]], done: int) -> None:
        for name in list(gradients):  # each is let go of as soon as it has served
            gradient, each = gradients.pop(name), [tangents.pop(name) for tangents in moved]
            tangents = each[0][None] if len(each) == 1 else torch.stack(each)
            if name not in self.trunk_tangents:
                self.trunk_tangents[name] = torch.zeros_like(tangents)
                self.slot_tangents[name] = tuple(torch.zeros_like(tangents) for _ in self.slots[name])
            step_with_tangents_(
                self.lookahead.rules[f"trunk.{name}"],
                self.trunk[name],
                gradient,
                self.slots[name],
                self.lookahead.counts[f"trunk.{name}"] + done + 1,
                self.trunk_tangents[name],
                tangents,
                self.slot_tangents[name],
            )


def _pass(
    lookahead: Lookahead,
    block: HeadBlock,
    hidden: Tensor,
    tangents: Tensor | None,
    batch: BatchLike,
    done: int,
    moves: bool,
    pulled: Tensor,
    pulled_tangents: Tensor,
) -> None:
    """One block in one inner step: adds to the hidden features' gradient and its tangents, and moves the heads."""
    weight = block.table(lookahead)
    h, n_hidden = with_ones(hidden, weight), hidden.shape[1]
    dh = None if tangents is None else torch.nn.functional.pad(tangents, (0, weight.shape[1] - n_hidden))
    g, bent = _slopes(lookahead, block, weight, h, dh, batch, done)

    value = block.in_trunk * g
    pulled.addmm_(value, weight[:, :n_hidden])
    for i, pulled_tangent in enumerate(pulled_tangents):
        change = _change(block.in_trunk_tangents, block.in_trunk, g, bent, i)
        if change is not None:
            pulled_tangent.addmm_(change, weight[:, :n_hidden])
        if block.weight_tangents is not None:
            pulled_tangent.addmm_(value, block.weight_tangents[i][:, :n_hidden])
    if moves:
        _move(lookahead, block, h, dh, g, bent, done)


def _move(
    lookahead: Lookahead,
    block: HeadBlock,
    h: Tensor,
    dh: Tensor | None,
    g: Tensor,
    bent: list[Tensor] | None,
    done: int,
) -> None:
    """Take a block's heads one step on, and their tangents where there are any."""
    gradient, tangents = block.scratch[0], block.scratch[1:]
    if dh is None or bent is None:  # from rest: only the coefficients have tangents, and they scale whole heads
        torch.mm(g.T, h, out=gradient)
        if block.in_head_tangents is None:
            head_blocks.update_(lookahead, block, gradient.mul_(block.in_head[:, None]), done)
            return
        torch.mul(gradient, block.in_head_tangents[:, :, None], out=tangents)
        head_blocks.update_with_tangents_(lookahead, block, gradient.mul_(block.in_head[:, None]), tangents, done)
        return
    value = block.in_head * g
    torch.mm(value.T, h, out=gradient)
    for i, (along, out) in enumerate(zip(dh, tangents, strict=True)):
        change = _change(block.in_head_tangents, block.in_head, g, bent, i)
        assert change is not None
        torch.mm(torch.cat([change, value]).T, torch.cat([h, along]), out=out)
    head_blocks.update_with_tangents_(lookahead, block, gradient, tangents, done)


def _slopes(
    lookahead: Lookahead, block: HeadBlock, weight: Tensor, h: Tensor, dh: Tensor | None, batch: BatchLike, done: int
) -> tuple[Tensor, list[Tensor] | None]:
    """g, and its change with every tangent of the scores; None while only the coefficients have tangents."""
    seed = lookahead.seed + done
    if dh is None:
        return head_blocks.slope(lookahead.problem, h @ weight.T, batch, block.genes, seed), None
    scores, *moved = (torch.cat([h, *dh]) @ weight.T).split(len(h))
    if block.weight_tangents is not None:
        moved = [ds.addmm_(h, dw.T) for ds, dw in zip(moved, block.weight_tangents, strict=True)]
    g, bend = head_blocks.slope_and_bend(lookahead.problem, scores, batch, block.genes, seed)
    return g, bend(moved)


def _change(moved: Tensor | None, coefficient: Tensor, g: Tensor, bent: list[Tensor] | None, i: int) -> Tensor | None:
    """Tangent i of coefficient * g: (tangent of the coefficient) * g + coefficient * (change of g); None where zero."""
    if moved is None:
        return None if bent is None else coefficient * bent[i]
    by_coefficient = moved[i] * g
    return by_coefficient if bent is None else by_coefficient.addcmul_(coefficient, bent[i])


def _groups(problem: Problem, weights: Tensor, tangents: Tensor, prune: float) -> tuple[Tensor, Tensor]:
    """Positions in the panel of the auxiliary genes that count: those whose weight moves, those whose weight stands."""
    relative = tangents.abs() / tangents.abs().amax(1, keepdim=True).clamp_min(torch.finfo(tangents.dtype).tiny)
    moves = (relative > 10 * prune).any(0)
    stands = (weights > prune) & ~moves
    return problem.n_primary + moves.nonzero().flatten(), problem.n_primary + stands.nonzero().flatten()


def _blocks(
    lookahead: Lookahead, at: Dependence, in_trunk_tangents: Tensor, moving: Tensor, standing: Tensor
) -> list[HeadBlock]:
    found = head_blocks.blocks(lookahead, at.in_trunk.detach(), at.in_head.detach(), [standing, moving])
    moves = torch.zeros(lookahead.problem.n_genes, dtype=torch.bool, device=moving.device).index_fill_(0, moving, True)
    for block in found:
        if moves[block.genes].any():
            block.in_trunk_tangents = in_trunk_tangents[:, block.genes]
            if lookahead.problem.gate == "loss":
                block.in_head_tangents = block.in_trunk_tangents
    head_blocks.make_room(lookahead, found, len(in_trunk_tangents))
    return found
