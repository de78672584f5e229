"""The linear heads in closed form, block by block of genes, so that nothing of size [gene, hidden] is held twice.

A gene's loss depends on its own column of scores, so that its gradient is one column too, and a derivative along any
direction of the scores acts within the column. With h the hidden features, s = h W' the scores, g = dL/ds, and c the
coefficients in the trunk's and in the heads' gradient:

    for the hidden features: u = (c_trunk g) W             for a head: W_g = (c_head g)' h
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from agl.bilevel.inner import Rule, Slots, step_
from agl.bilevel.inner_derivatives import step_with_tangents_
from agl.bilevel.lookahead import Lookahead
from agl.bilevel.problem import BatchLike, Genes, Problem

BLOCK = 1 << 19  # numbers in a block of heads [gene, hidden]: some thousand genes, whose scores stay in the cache
CHUNK = 1 << 17  # numbers in a chunk of an optimiser step; small enough to stay in the processor's cache
GPU_BLOCK = 1 << 24  # of both on a GPU, where starting an operation costs more than the arithmetic of a small one


@dataclass
class HeadBlock:
    """Some genes' heads: weight with bias, optimiser state, and the tangents of both (None: still zero)."""

    genes: Genes
    primary: bool
    in_trunk: Tensor  # [gene]
    in_head: Tensor  # [gene]
    weight: Tensor | None = None  # [gene, hidden (+ 1)]; None: not yet taken out of the live model
    slots: Slots = ()
    in_trunk_tangents: Tensor | None = None  # [tangent, gene]
    in_head_tangents: Tensor | None = None
    weight_tangents: Tensor | None = None  # [tangent, gene, hidden (+ 1)]
    slot_tangents: Slots = ()
    room: tuple[Tensor, Tensor] | None = None  # where weight and slots, and their tangents, are to be kept
    scratch: Tensor = field(default_factory=lambda: torch.empty(0))  # [1 + tangent, gene, hidden (+ 1)], for gradients

    def table(self, lookahead: Lookahead) -> Tensor:
        """The block's weight, read from the live model while it has not moved."""
        return lookahead.head_table(self.genes) if self.weight is None else self.weight

    def own(self, lookahead: Lookahead) -> Tensor:
        """The block's weight and state as its own copies, which may be changed in place."""
        if self.weight is None:
            place = None if self.room is None else self.room[0]
            self.slots = lookahead.head_slots(self.genes, None if place is None else place[1:])
            self.weight = lookahead.head_table(self.genes, None if place is None else place[0])
        return self.weight

    def start_tangents(self, like: Tensor) -> Tensor:
        """Tangents of weight and slots, `[tangent, gene, hidden (+ 1)]` and zero to begin with."""
        if self.weight_tangents is None:
            count = 1 + len(self.slots)
            places = [torch.empty_like(like) for _ in range(count)] if self.room is None else self.room[1]
            self.weight_tangents, *slots = (place.zero_() for place in places)
            self.slot_tangents = tuple(slots)
        return self.weight_tangents


def blocks(
    lookahead: Lookahead, in_trunk: Tensor, in_head: Tensor, groups: Sequence[Tensor] | None = None
) -> list[HeadBlock]:
    """All primary genes, then all auxiliary ones or some groups of them (positions in the panel); no block straddles
    two of these."""
    problem = lookahead.problem
    weight = lookahead.params["head.weight"]
    size = max(32, (GPU_BLOCK if weight.is_cuda else BLOCK) // (weight.shape[1] + 1))
    found: list[Genes] = list(_slices(0, problem.n_primary, size))
    if groups is None:
        found += _slices(problem.n_primary, problem.n_genes, size)
    else:
        found += [part for group in groups if len(group) for part in group.split(size)]
    return [
        HeadBlock(genes, isinstance(genes, slice) and genes.stop <= problem.n_primary, in_trunk[genes], in_head[genes])
        for genes in found
    ]


def make_room(lookahead: Lookahead, blocks: list[HeadBlock], n_tangents: int) -> None:
    """One piece of memory for all blocks' state, given back as a whole: many small ones would leave it in pieces."""
    sizes = [len(block.in_trunk) for block in blocks]
    width, kinds = lookahead.head_table(slice(0, 1)).shape[1], 1 + lookahead.rules["head.weight"].n_slots
    empty = partial(torch.empty, dtype=lookahead.dtype, device=lookahead.params["head.weight"].device)
    values = empty(kinds, sum(sizes), width).split(sizes, 1)
    tangents = empty(kinds, n_tangents, sum(sizes), width).split(sizes, 2)
    scratch = empty(1 + n_tangents, max(sizes), width)
    for block, place, tangent_place, size in zip(blocks, values, tangents, sizes, strict=True):
        block.room, block.scratch = (place, tangent_place), scratch[:, :size]


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    return (slice(at, min(at + size, stop)) for at in range(start, stop, size))


def slope(problem: Problem, scores: Tensor, batch: BatchLike, genes: Genes, seed: int) -> Tensor:
    """g = dL/ds `[spot, gene]`, every gene's loss by its own scores."""
    scores = scores.detach().requires_grad_()
    loss = problem.losses(scores, batch, genes, seed=seed).sum()
    return torch.autograd.grad(loss, scores, allow_unused=True, materialize_grads=True)[0]


def slope_and_bend(
    problem: Problem, scores: Tensor, batch: BatchLike, genes: Genes, seed: int
) -> tuple[Tensor, Callable[[Sequence[Tensor]], list[Tensor]]]:
    """g, and a function that gives its derivative along each of some directions `[spot, gene]` of the scores, once."""
    scores = scores.detach().requires_grad_()
    loss = problem.losses(scores, batch, genes, seed=seed).sum()
    first = torch.autograd.grad(loss, scores, create_graph=True, allow_unused=True, materialize_grads=True)[0]

    def bend(directions: Sequence[Tensor]) -> list[Tensor]:
        if not first.requires_grad:  # a loss that is piecewise linear
            return [torch.zeros_like(direction) for direction in directions]
        graphs_kept = [True] * (len(directions) - 1) + [False]
        return [
            torch.autograd.grad(first, scores, along, retain_graph=keep, allow_unused=True, materialize_grads=True)[0]
            for along, keep in zip(directions, graphs_kept, strict=True)
        ]

    return first.detach(), bend


def update_(lookahead: Lookahead, block: HeadBlock, gradient: Tensor, done: int) -> None:
    """Take the inner step after `done` steps on a block's heads, in place."""
    weight = block.own(lookahead)
    for here, rule, count in chunks(lookahead, weight):
        step_(rule, weight[here], gradient[here], tuple(s[here] for s in block.slots), count + done + 1)


def update_with_tangents_(
    lookahead: Lookahead, block: HeadBlock, gradient: Tensor, tangents: Tensor, done: int
) -> None:
    """The same with the tangents `[tangent, gene, hidden (+ 1)]`; gradient and tangents serve as scratch space."""
    weight, weight_tangents = block.own(lookahead), block.start_tangents(tangents)
    for here, rule, count in chunks(lookahead, weight):
        there = (slice(None), *here)
        step_with_tangents_(
            rule,
            weight[here],
            gradient[here],
            tuple(s[here] for s in block.slots),
            count + done + 1,
            weight_tangents[there],
            tangents[there],
            tuple(s[there] for s in block.slot_tangents),
        )


def chunks(lookahead: Lookahead, weight: Tensor) -> Iterator[tuple[tuple[slice, slice], Rule, int]]:
    """A block of heads in pieces that stay in the cache: where each lies, its rule and its step count."""
    size = max(1, (GPU_BLOCK if weight.is_cuda else CHUNK) // weight.shape[1])
    for rule, count, columns in columns_of(lookahead):
        for rows in _slices(0, len(weight), size):
            yield (rows, columns), rule, count


def columns_of(lookahead: Lookahead) -> list[tuple[Rule, int, slice]]:
    """Rule, step count and columns of weight and bias: one stretch where the two agree, else two."""
    weight = (lookahead.rules["head.weight"], lookahead.counts["head.weight"])
    if "head.bias" not in lookahead.rules:
        return [(*weight, slice(None))]
    bias = (lookahead.rules["head.bias"], lookahead.counts["head.bias"])
    if weight == bias:
        return [(*weight, slice(None))]
    n_hidden = lookahead.params["head.weight"].shape[1]
    return [(*weight, slice(0, n_hidden)), (*bias, slice(n_hidden, None))]
