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
        keep: bool `[spot]`; the others take no part and get gradient 0.
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
        value = torch.zeros(n_genes, dtype=dtype, device=scores.device)
        weight = torch.zeros_like(value)
        table = torch.zeros(scores.shape, dtype=dtype, device=scores.device) if gradient else None
        for block in self.lists(n_genes):
            for genes in columns(block.n_lists * block.length, n_genes):
                part = block.take(scores[:, genes]).to(dtype)
                counts = block.take(self.counts[:, genes]).to(dtype)
                in_place = table is not None and isinstance(block.rows, slice)
                room = block.take(table[:, genes]) if in_place and table is not None else torch.empty_like(part)
                found, found_weight = self.fused(part, counts, block, room)
                value[genes] += found
                weight[genes] += found_weight
                if table is not None and not in_place:
                    block.add_to(table[:, genes], room)
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
