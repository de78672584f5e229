"""The fast path of losses that see their spots list by list (a list: the spots of one slide, or some of them)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from strank.groups import Block, blocks
from strank.losses.analytic import Kernel, Outcome, Scratch, columns
from strank.losses.inputs import wide

Found = Iterator[tuple[slice, Tensor, Tensor | float]]  # genes, value, weight


class ListKernel(Kernel):
    """Walks over blocks of lists and of genes; subclasses say what one block contributes.

    Args:
        counts: `[spot, gene]`, any numeric dtype; converted block by block.
        groups: codes `[spot]` of the lists, None for one list.
        keep: bool `[spot]` if some spots take no part; those get gradient 0.
    """

    def __init__(self, counts: Tensor, groups: Tensor | None, keep: Tensor | None = None) -> None:
        self.counts = counts
        self.groups = groups
        self.keep = keep

    @abstractmethod
    def terms(self, scores: Tensor, counts: Tensor, block: Block) -> tuple[Tensor, Tensor | float]:
        """Value and weight `[gene]` of a block `[list, spot, gene]`, in differentiable operations."""

    @abstractmethod
    def fused(
        self, scores: Tensor, counts: Tensor, block: Block, out: Tensor, scratch: Scratch
    ) -> tuple[Tensor, Tensor | float]:
        """The same for speed, with the gradient written to `out` (0 for padding);
        of a gathered block (one with padding is) `scores` is `out` and both are ours, else they are the caller's."""

    def scale(self, weight: Tensor) -> Tensor:
        """What the sum over blocks is multiplied by, `[gene]`, given the sum of the weights: 1 / number of spots."""
        return torch.full_like(weight, 1 / max(1, len(self.counts)))

    def lists(self, n_genes: int) -> list[Block]:
        return blocks(self.groups, len(self.counts), n_genes, keep=self.keep, device=self.counts.device)

    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> Outcome:
        n_genes, dtype = scores.shape[1], wide(scores.dtype)
        lists, scratch = self.lists(n_genes), Scratch(dtype, scores.device)
        value = torch.zeros(n_genes, dtype=dtype, device=scores.device)
        weight = torch.zeros_like(value)
        table = torch.empty(scores.shape, dtype=dtype, device=scores.device) if gradient else None
        walk = self._slices if lists and all(isinstance(block.rows, slice) for block in lists) else self._gathered
        for genes, found, found_weight in walk(scores, lists, table, scratch):
            value[genes] += found
            weight[genes] += found_weight
        scale = self.scale(weight)
        return Outcome(value * scale, scale, table)

    def _slices(self, scores: Tensor, lists: list[Block], table: Tensor | None, scratch: Scratch) -> Found:
        """Sorted slides: lists are views, and the gradient is made where it stays."""
        dtype = scratch.nothing.dtype
        for genes in columns(max(block.n_lists * block.length for block in lists), scores.shape[1]):
            for block in lists:
                part, counts = (block.take(t[:, genes]).to(dtype) for t in (scores, self.counts))
                room = scratch.get("room", *part.shape) if table is None else block.take(table[:, genes])
                yield genes, *self.fused(part, counts, block, room, scratch)

    def _gathered(self, scores: Tensor, lists: list[Block], table: Tensor | None, scratch: Scratch) -> Found:
        """Blocks are gathered end to end, worked on in place, and the gradient is gathered back."""
        n_rows = sum(block.n_lists * block.length for block in lists)
        place = None if table is None else places(lists, len(scores))
        for genes in columns(n_rows, scores.shape[1]):
            width, first = genes.stop - genes.start, 0
            gathered = scratch.get("scores", n_rows + 1, width)
            for block in lists:
                size = block.n_lists * block.length
                rows = block.row_numbers()
                part = scratch.gather(scores[:, genes], rows, gathered[first : first + size])
                counts = scratch.gather(self.counts[:, genes], rows, scratch.get("counts", size, width))
                part, counts = (t.view(block.n_lists, block.length, width) for t in (part, counts))
                yield genes, *self.fused(part, counts, block, part, scratch)
                first += size
            if table is not None and place is not None:
                gathered[-1] = 0  # of spots in no list
                torch.index_select(gathered, 0, place, out=table[:, genes])

    def value(self, scores: Tensor, parameter: Tensor | None) -> Tensor:
        dtype = wide(scores.dtype)
        value, weight = scores[:0].to(dtype).sum(0), scores.new_zeros(scores.shape[1], dtype=dtype)
        for block in self.lists(1):  # one gene's worth of padding: few blocks, whose backward fills whole tables
            part, counts = block.take(scores).to(dtype), block.take(self.counts).to(dtype)
            found, found_weight = self.terms(part, counts, block)
            value, weight = value + found, weight + found_weight
        return value * self.scale(weight)


def places(lists: list[Block], n_spots: int) -> Tensor:
    """`[spot]`: where each spot stands when the blocks are laid end to end; behind the end if it is in no list."""
    if not lists:
        return torch.zeros(n_spots, dtype=torch.long)
    rows = torch.cat([block.row_numbers() for block in lists])
    at = torch.arange(len(rows), device=rows.device)
    if any(block.real is not None for block in lists):
        ones = torch.ones((), dtype=torch.bool, device=rows.device)
        real = [ones.expand(b.n_lists * b.length) if b.real is None else b.real.flatten() for b in lists]
        at = torch.cat(real).nonzero().squeeze(1)
        rows = rows.index_select(0, at)
    return torch.full((n_spots,), sum(b.n_lists * b.length for b in lists), device=at.device).index_copy_(0, rows, at)
