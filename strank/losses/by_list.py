"""The fast path of losses that see their spots list by list (a list: the spots of one slide, or some of them)."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from strank.groups import Block, blocks
from strank.losses.analytic import Kernel, Outcome, columns
from strank.losses.inputs import wide


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
    def fused(self, scores: Tensor, counts: Tensor, block: Block, out: Tensor) -> tuple[Tensor, Tensor | float]:
        """The same for speed, with the gradient written to `out` (0 for padding);
        scores and counts may be views of the caller's."""

    def scale(self, weight: Tensor) -> Tensor:
        """What the sum over blocks is multiplied by, `[gene]`, given the sum of the weights: 1 / number of spots."""
        return torch.full_like(weight, 1 / max(1, len(self.counts)))

    def lists(self, n_genes: int) -> list[Block]:
        return blocks(self.groups, len(self.counts), n_genes, keep=self.keep, device=self.counts.device)

    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> Outcome:
        n_genes, dtype = scores.shape[1], wide(scores.dtype)
        lists = self.lists(n_genes)
        value = torch.zeros(n_genes, dtype=dtype, device=scores.device)
        weight = torch.zeros_like(value)
        make = torch.empty if lists else torch.zeros
        table = make(scores.shape, dtype=dtype, device=scores.device) if gradient else None
        place = None if all(isinstance(block.rows, slice) for block in lists) else places(lists, len(scores))
        for genes in columns(max((block.n_lists * block.length for block in lists), default=1), n_genes):
            slopes = []
            for block in lists:
                part = block.take(scores[:, genes]).to(dtype)
                counts = block.take(self.counts[:, genes]).to(dtype)
                if table is not None and place is None:
                    room = block.take(table[:, genes])  # a view: the gradient is made where it stays
                else:
                    room = torch.empty_like(part) if isinstance(block.rows, slice) else part
                found, found_weight = self.fused(part, counts, block, room)
                value[genes] += found
                weight[genes] += found_weight
                slopes.append(room)
            if table is not None and place is not None:
                restore(slopes, place, table[:, genes], complete=self.keep is None)
        scale = self.scale(weight)
        return Outcome(value * scale, scale, table)

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
    first, found, rows = 0, [], []
    for block in lists:
        at = torch.arange(first, first + block.n_lists * block.length, device=block.lengths.device)
        mask = slice(None) if block.real is None else block.real.flatten()
        found.append(at[mask])
        rows.append((at - first + block.rows.start if isinstance(block.rows, slice) else block.rows)[mask])
        first += len(at)
    at, row = torch.cat(found), torch.cat(rows)
    return torch.full((n_spots,), first, device=at.device).index_copy_(0, row, at)


def restore(slopes: list[Tensor], place: Tensor, out: Tensor, *, complete: bool) -> None:
    """Blocks `[list, spot, gene]` back into the order of the batch; 0 for a spot in no list (none if `complete`)."""
    flat = [slope.flatten(0, 1) for slope in slopes]
    if not complete:
        flat.append(out.new_zeros(1, out.shape[1]))
    torch.index_select(flat[0] if len(flat) == 1 else torch.cat(flat), 0, place, out=out)
