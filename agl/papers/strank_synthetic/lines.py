"""The networks' forward and backward pass in PyTorch, exact and without a matrix product.

A layer of ReLU units followed by an affine one is a broken line in x: between two neighbouring knots -b_h / w_h the
same units are active, so with the knots in order

    z_k(x) = A_jk x + B_jk,      A_jk = sum_{h active in interval j} w_h W_hk,      B_jk = c_k + sum_{...} b_h W_hk,

and A and B are running sums over the knots. A batch of n spots costs H K + n K operations where the usual forward pass
costs n H K. The backward pass is the same in reverse: a unit needs only sum_i g_ik and sum_i g_ik x_i over the spots on
its active side, running sums over the intervals again. Nothing is approximated; only the order of summation differs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from agl.papers.strank_synthetic.points import Points, sort_rows


class Lines:
    """Some networks: `parameters` are w and b `[run, unit]`, W `[run, unit, line]`, c `[run, line]`, and with a second
    layer of ReLU units v `[run, line]` and d `[run, 1]`; `gradients` alike are written by `backward`.
    """

    def __init__(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        self.w, self.b, self.W, self.c = parameters[:4]
        self.w_, self.b_, self.W_, self.c_ = gradients[:4]
        self.second, self.second_ = parameters[4:], gradients[4:]
        self._tables: dict[str, Tensor] = {}

    def forward(self, points: Points) -> Tensor:
        """Scores `[run, spot]`, in the spots' own order; what `backward` needs is kept until the next call."""
        lines = self._z = self._heights(points.rising)
        if not self.second:
            scores = lines[:, :, 0]
        else:
            v, d = self.second
            lines.relu_()
            product = torch.mul(lines, v.unsqueeze(1), out=self._table("product", *lines.shape))
            scores = product.sum(2) + d
        return torch.empty_like(scores).scatter_(1, points.order, scores)

    def backward(self, points: Points, gradient: Tensor) -> None:
        """Write every parameter's gradient; `gradient [run, spot]` is that of the loss by the last scores."""
        gradient, lines = gradient.gather(1, points.order), self._z
        if not self.second:
            by_line = gradient.unsqueeze(2)
        else:
            (v, _), (v_, d_) = self.second, self.second_
            runs, spots, _ = lines.shape
            all_spots = torch.arange(runs * spots, device=lines.device)
            v_.copy_(_sums(lines, all_spots, all_spots[::spots].contiguous(), gradient))
            torch.sum(gradient, 1, keepdim=True, out=d_)
            by_line = torch.mul(gradient.unsqueeze(2), v.unsqueeze(1), out=self._table("product", *lines.shape))
            torch.ops.aten.threshold_backward.grad_input(by_line, lines, 0, grad_input=by_line)
        self._backward_lines(points.rising, by_line)

    def _heights(self, rising: Tensor) -> Tensor:
        """z `[run, spot, line]` at numbers in rising order."""
        runs, units, lines = self.W.shape
        self._knots, self._by = sort_rows(torch.nan_to_num(-self.b / self.w, nan=0.0))
        self._from_left = ((self.w < 0) | ((self.w == 0) & (self.b > 0))).to(self.w.dtype)  # active left of every knot
        run = torch.arange(runs, device=self.w.device).unsqueeze(1)
        ordered = self._table("units", runs * units, lines)
        torch.index_select(self.W.view(-1, lines), 0, (self._by + units * run).view(-1), out=ordered)
        left = torch.stack([self.w, self.b]) * self._from_left  # what is added up for an interval: its slope, intercept
        step = torch.stack([self.w.abs(), self.b * self.w.sign()]).gather(2, self._by.expand(2, runs, units))
        table = self._table("intervals", 2, runs, units + 1, lines)
        torch.mul(ordered.view(1, runs, units, lines), step.unsqueeze(3), out=table[:, :, 1:])
        all_units = torch.arange(runs * units, device=self.w.device).repeat(2)
        starts = torch.arange(0, 2 * runs * units, units, device=self.w.device)
        table[:, :, 0] = _sums(self.W, all_units, starts, left).view(2, runs, lines)
        table[1, :, 0] += self.c
        running_sums(table.view(2 * runs, units + 1, lines))
        interval = torch.searchsorted(self._knots, rising, right=True) + (units + 1) * run
        pairs = torch.stack([interval, interval + runs * (units + 1)], 2)
        weights = torch.stack([rising, torch.ones_like(rising)], 2)
        lines_ = _sums(table, pairs.view(-1), torch.arange(0, pairs.numel(), 2, device=run.device), weights)
        return lines_.view(runs, rising.shape[1], lines)

    def _backward_lines(self, rising: Tensor, gradient: Tensor) -> None:
        runs, units, lines = self.W.shape
        spots = gradient.shape[1]
        run = torch.arange(runs, device=self.w.device).unsqueeze(1)
        before = torch.searchsorted(rising, self._knots)  # [run, knot]: spots left of a knot
        starts = (torch.cat([torch.zeros_like(run), before], 1) + spots * run).view(-1)
        weights = torch.stack([rising, torch.ones_like(rising)])
        spot = torch.arange(runs * spots, device=run.device)
        by_interval = _sums(gradient, spot.repeat(2), torch.cat([starts, starts + runs * spots]), weights)
        sums = running_sums(by_interval.view(2 * runs, units + 1, lines))  # of gradient times x, and of gradient
        rank = torch.empty_like(self._by).scatter_(1, self._by, torch.arange(units, device=run.device).expand(runs, -1))
        # A unit that no spot reaches has a gradient of exactly 0: Adam would turn rounding into steps.
        before = before.gather(1, rank)
        up, down = self.w > 0, self.w < 0
        reached = torch.where(up, before < spots, torch.where(down, before > 0, self._from_left > 0))
        left = (down.to(self.w.dtype) - up.to(self.w.dtype)) * reached
        whole = (~down & reached).to(self.w.dtype)
        last = (units + 1) * run
        pairs = torch.stack([rank + last, (last + units).expand(runs, units)], 2)
        pairs = torch.stack([pairs, pairs + runs * (units + 1)]).view(-1)
        active = _sums(
            sums,
            pairs,
            torch.arange(0, len(pairs), 2, device=run.device),
            torch.stack([left, whole], 2).expand(2, runs, units, 2),
        ).view(2, runs, units, lines)
        times_x, plain = active[0], active[1]
        slopes = torch.mul(active, self.W, out=self._table("intervals", 2, runs, units, lines)).sum(3)
        self.w_.copy_(slopes[0])
        self.b_.copy_(slopes[1])
        self.c_.copy_(sums[runs:, -1])
        torch.mul(times_x, self.w.unsqueeze(2), out=self.W_).addcmul_(plain, self.b.unsqueeze(2))

    def _table(self, name: str, *shape: int) -> Tensor:
        """Memory that is used again: fresh pages cost more than the arithmetic."""
        found = self._tables.get(name)
        if found is None or found.numel() < math.prod(shape):
            found = self._tables[name] = self.w.new_empty(math.prod(shape))
        return found[: math.prod(shape)].view(shape)


def running_sums(table: Tensor, width: int = 16) -> Tensor:
    """`table.cumsum(1)` of a table `[run, row, line]`, in its place: blocks of rows at once, then the blocks.

    >>> running_sums(torch.ones(1, 5, 1), width=2).flatten().tolist()
    [1.0, 2.0, 3.0, 4.0, 5.0]
    """
    rows = table.shape[1]
    if table.shape[2] == 1:
        return torch.cumsum(table, 1, out=table)
    blocks = table[:, : rows // width * width].unflatten(1, (-1, width))
    for row in range(1, width):
        blocks[:, :, row] += blocks[:, :, row - 1]
    for block in range(1, blocks.shape[1]):
        blocks[:, block] += blocks[:, block - 1, -1:]
    for row in range(max(1, rows // width * width), rows):
        table[:, row] += table[:, row - 1]
    return table


def _sums(table: Tensor, rows: Tensor, starts: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted sums `[bag, line]` of rows of a table `[run, row, line]`; a bag ends where the next one starts."""
    weights = None if weights is None else weights.reshape(-1)
    return torch.embedding_bag(table.view(-1, table.shape[-1]), rows, starts, False, 0, False, weights)[0]
