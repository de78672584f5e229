"""The pair loss over all pairs of spots of a slide: the mean of `pairwise_nll` over every draw of partners."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from strank.groups import Block
from strank.losses import native
from strank.losses.analytic import Outcome, Scratch
from strank.losses.by_list import ListKernel
from strank.losses.inputs import Library, list_weight
from strank.losses.listwise import shifted


class AllPairs(ListKernel):
    r"""Every spot has all others of its list as partners.

    .. math:: \sum_k \frac1{n_k - 1} \sum_{i \ne j \in k} m_{ij}^{\gamma - 1} c_i \log(1 + e^{t_j - t_i})
    """

    ignores_shifts = True

    def __init__(self, counts: Tensor, groups: Tensor | None, library: Library, count_power: float) -> None:
        super().__init__(counts, groups, library.keep)
        self.offset = library.log
        self.count_power = count_power

    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> Outcome:
        if gradient and native.serves(scores, self.counts, self.groups, self.offset):
            return native.all_pairs(scores, self.counts, self.groups, self.keep, self.offset, self.count_power)
        return super().run(scores, parameter, gradient=gradient)

    def terms(self, scores: Tensor, counts: Tensor, block: Block) -> tuple[Tensor, None]:
        t = shifted(scores, block, self.offset)
        value = 0.0 * scores.sum((0, 1))
        for spot in range(block.length):
            loss = F.softplus(t - t[:, spot : spot + 1], threshold=40) * self._factor(counts, block, spot)
            value = value + loss.sum((0, 1))
        return value, None

    def fused(self, scores: Tensor, counts: Tensor, block: Block, out: Tensor, scratch: Scratch) -> tuple[Tensor, None]:
        t = shifted(scores, block, self.offset).clone()
        value = 0.0 * scores.sum((0, 1))
        out.zero_()
        for spot in range(block.length):
            gap, factor = t - t[:, spot : spot + 1], self._factor(counts, block, spot)
            value += F.softplus(gap, threshold=40).mul_(factor).sum((0, 1))
            lost = gap.sigmoid_().mul_(factor)
            out += lost
            out[:, spot] -= lost.sum(1)
        return value, None

    def _factor(self, counts: Tensor, block: Block, spot: int) -> Tensor:
        """`[list, spot, gene]`: what each pair of this spot is multiplied by, 0 for itself and for padding."""
        mine = counts[:, spot : spot + 1]
        there = (torch.arange(block.length, device=counts.device) != spot).view(1, -1, 1)
        if block.real is not None:
            there = there & block.real & block.real[:, spot : spot + 1]
        factor = there * (mine / (block.lengths - 1).clamp(min=1))
        return factor if self.count_power == 1 else factor * list_weight((counts + mine) / 2, self.count_power)
