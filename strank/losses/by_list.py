"""The fast path of losses that see their spots list by list (a list: the spots of one slide, or some of them)."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from strank.groups import Block
from strank.losses import on_gpu
from strank.losses.analytic import Kernel, Outcome, Scratch, block_for, columns
from strank.losses.inputs import wide
from strank.losses.lineup import LineUp


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
        self.lined = LineUp(groups, keep)  # shared by the copies that know other genes' counts

    @abstractmethod
    def terms(self, scores: Tensor, counts: Tensor, block: Block) -> tuple[Tensor, Tensor | None]:
        """Value and weight (None if unused) `[gene]` of a block, in differentiable operations."""

    @abstractmethod
    def fused(
        self, scores: Tensor, counts: Tensor, block: Block, out: Tensor, scratch: Scratch
    ) -> tuple[Tensor, Tensor | None]:
        """The same for speed, with the gradient written to `out` (0 for padding);
        of a gathered block (one with padding is) `scores` is `out` and both are ours, else they are the caller's."""

    def scale(self, weight: Tensor) -> Tensor:
        """What the sum over blocks is multiplied by, `[gene]`, given the sum of the weights: 1 / number of spots."""
        return torch.full_like(weight, 1 / max(1, len(self.counts)))

    def lists(self, n_genes: int) -> list[Block]:
        return self.lined.blocks(len(self.counts), n_genes, self.counts.device)

    def on_gpu(self, scores: Tensor, *, gradient: bool, out: Tensor | None) -> Outcome | None:
        """What a kernel for a GPU finds, the gradient in `out` if given; None where there is no such kernel."""
        return None

    def run_over(self, scores: Tensor) -> Outcome:
        found = self.on_gpu(scores, gradient=True, out=scores) if on_gpu.serves(scores, self.counts) else None
        return super().run_over(scores) if found is None else found

    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> Outcome:
        found = self.on_gpu(scores, gradient=gradient, out=None) if on_gpu.serves(scores, self.counts) else None
        return self.by_blocks(scores, gradient=gradient) if found is None else found

    def by_blocks(self, scores: Tensor, *, gradient: bool) -> Outcome:
        """In torch operations, block after block."""
        (n_spots, n_genes), dtype = scores.shape, wide(scores.dtype)
        scratch = Scratch(dtype, scores.device)
        value = torch.zeros(n_genes, dtype=dtype, device=scores.device)
        weight = torch.zeros_like(value)
        make = torch.empty if self.keep is None else torch.zeros
        table = make((n_spots + 1, n_genes), dtype=dtype, device=scores.device) if gradient else None  # + 1 for padding
        lists = self.lists(n_genes)
        for block in lists:
            goal = None if table is None or isinstance(block.rows, slice) else block.goal(n_spots)
            everyone = len(lists) == 1 and self.keep is None
            if goal is not None and everyone:  # then the way back is a gather too, and that is faster
                steps = torch.arange(len(goal), device=goal.device)
                place = torch.empty(n_spots + 1, dtype=torch.long, device=goal.device).index_copy_(0, goal, steps)
            for genes in columns(block.n_lists * block.length, n_genes, block_for(scores.device)):
                part, counts = self._read(scores, block, genes, scratch)
                room = part
                if isinstance(block.rows, slice):
                    room = scratch.get("room", *part.shape) if table is None else block.take(table[:, genes])
                found, found_weight = self.fused(part, counts, block, room, scratch)
                value[genes] += found
                if found_weight is not None:
                    weight[genes] += found_weight
                if table is None or goal is None:
                    continue
                if everyone:
                    torch.index_select(room.flatten(0, 1), 0, place[:n_spots], out=table[:n_spots, genes])
                else:
                    table[:, genes].index_copy_(0, goal, room.flatten(0, 1))
        scale = self.scale(weight)
        return Outcome(value * scale, scale, None if table is None else table[:n_spots])

    def _read(self, scores: Tensor, block: Block, genes: slice, scratch: Scratch) -> tuple[Tensor, Tensor]:
        """Scores and counts of a block: views of the caller's where spots are neighbours, else gathered."""
        if isinstance(block.rows, slice):
            dtype = scratch.nothing.dtype
            return block.take(scores[:, genes]).to(dtype), block.take(self.counts[:, genes]).to(dtype)
        shape = (block.n_lists, block.length, genes.stop - genes.start)
        part, counts = scratch.get("scores", *shape), scratch.get("counts", *shape)
        scratch.gather(scores[:, genes], block.rows, part.view(-1, shape[2]))
        scratch.gather(self.counts[:, genes], block.rows, counts.view(-1, shape[2]))
        return part, counts

    def value(self, scores: Tensor, parameter: Tensor | None) -> Tensor:
        dtype = wide(scores.dtype)
        value: Tensor | None = None
        weight = scores.new_zeros(scores.shape[1], dtype=dtype)
        for block in self.lists(1):  # one gene's worth of padding: few blocks, whose backward fills whole tables
            part, counts = block.take(scores).to(dtype), block.take(self.counts).to(dtype)
            found, found_weight = self.terms(part, counts, block)
            value = found if value is None else value + found
            weight = weight if found_weight is None else weight + found_weight
        if value is None:
            value = scores[:0].to(dtype).sum(0)
        return value * self.scale(weight)
