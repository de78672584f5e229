"""Many small ReLU networks of one number, trained side by side, each step exact and without a matrix product.

A layer of ReLU units followed by an affine one is a broken line in x: between two neighbouring knots -b_h / w_h the
same units are active, so with the knots in order

    z_k(x) = A_jk x + B_jk,      A_jk = sum_{h active in interval j} w_h W_hk,      B_jk = c_k + sum_{...} b_h W_hk,

and A and B are running sums over the knots. A batch of n spots costs H K + n K operations where the usual forward pass
costs n H K. The backward pass is the same in reverse: a unit needs only sum_i g_ik and sum_i g_ik x_i over the spots on
its active side, running sums over the intervals again. Nothing is approximated; only the order of summation differs.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agl.errors import UserError


@dataclass(frozen=True)
class Points:
    """Each run's spots in rising order: the numbers `rising [run, spot]`, and the place `order` each one came from."""

    rising: Tensor
    order: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Points:
        """Sort each run's spots `[run, spot]`.

        >>> Points.of(torch.tensor([[0.5, 0.1], [0.2, 0.9]])).order.tolist()
        [[1, 0], [0, 1]]
        """
        return cls(*sort_rows(x))

    def runs(self, part: slice) -> Points:
        """Those of some runs."""
        return Points(self.rising[part], self.order[part])


class Networks:
    """R independent networks 1-H-1 or 1-H-K-1 with ReLU units, started as `torch.nn.Linear` starts.

    Args:
        hidden: (H,) or (H, K).
        seeds: one generator a network; its draws are that network's alone.
        dtype, device: of the parameters.

    Raises:
        UserError: other numbers of layers.

    `parameters` are tensors with a leading run dimension, for any optimiser of torch; `backward` writes their `.grad`.

    >>> networks = Networks((16,), [np.random.default_rng(seed) for seed in range(3)])
    >>> networks.forward(Points.of(torch.rand(3, 5))).shape
    torch.Size([3, 5])
    """

    def __init__(
        self,
        hidden: tuple[int, ...],
        seeds: list[np.random.Generator],
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        if len(hidden) not in (1, 2) or min(hidden) < 1:
            raise UserError(f"Expected one or two hidden layers, such as [16] or [128, 128], received {list(hidden)}.")
        self.hidden = hidden
        sizes = (1, *hidden, 1)
        drawn = [[_linear(before, after, rng) for before, after in itertools.pairwise(sizes)] for rng in seeds]

        def stacked(layer: int, part: int) -> Tensor:
            return torch.tensor(np.stack([run[layer][part] for run in drawn]), dtype=dtype, device=device)

        self.w, self.b = stacked(0, 0)[:, 0], stacked(0, 1)  # [run, unit]
        self.W, self.c = stacked(1, 0), stacked(1, 1)  # [run, unit, line], [run, line]
        self.parameters = [self.w, self.b, self.W, self.c]
        if len(hidden) == 2:
            self.v, self.d = stacked(2, 0)[:, :, 0], stacked(2, 1)  # [run, line], [run, 1]
            self.parameters += [self.v, self.d]
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._tables: dict[str, Tensor] = {}

    def forward(self, points: Points) -> Tensor:
        """Scores `[run, spot]`, in the spots' own order; what `backward` needs is kept until the next call."""
        lines = self._z = self._lines(points.rising)
        if len(self.hidden) == 1:
            scores = lines[:, :, 0]
        else:
            lines.relu_()
            product = torch.mul(lines, self.v.unsqueeze(1), out=self._table("product", *lines.shape))
            scores = product.sum(2) + self.d
        return torch.empty_like(scores).scatter_(1, points.order, scores)

    def backward(self, points: Points, gradient: Tensor) -> None:
        """Write `.grad` of every parameter; `gradient [run, spot]` is that of the loss by the last scores."""
        gradient, lines = gradient.gather(1, points.order), self._z
        if len(self.hidden) == 1:
            by_line = gradient.unsqueeze(2)
        else:
            runs, spots, _ = lines.shape
            all_spots = torch.arange(runs * spots, device=lines.device)
            _grad(self.v).copy_(_sums(lines, all_spots, all_spots[::spots].contiguous(), gradient))
            torch.sum(gradient, 1, keepdim=True, out=_grad(self.d))
            by_line = torch.mul(gradient.unsqueeze(2), self.v.unsqueeze(1), out=self._table("product", *lines.shape))
            torch.ops.aten.threshold_backward.grad_input(by_line, lines, 0, grad_input=by_line)
        self._backward_lines(points.rising, by_line)

    def _lines(self, rising: Tensor) -> Tensor:
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
        _grad(self.w).copy_(slopes[0])
        _grad(self.b).copy_(slopes[1])
        _grad(self.c).copy_(sums[runs:, -1])
        torch.mul(times_x, self.w.unsqueeze(2), out=_grad(self.W)).addcmul_(plain, self.b.unsqueeze(2))

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


def sort_rows(table: Tensor) -> tuple[Tensor, Tensor]:
    """`table.sort(1)`; on a CPU by NumPy, which is five times as fast here.

    >>> sort_rows(torch.tensor([[3.0, 1.0, 2.0]]))
    (tensor([[1., 2., 3.]]), tensor([[1, 2, 0]]))
    """
    if table.device.type != "cpu":
        rising, places = table.sort(1)
        return rising, places
    order = torch.from_numpy(np.argsort(table.numpy(), 1))
    return table.gather(1, order), order


def _sums(table: Tensor, rows: Tensor, starts: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted sums `[bag, line]` of rows of a table `[run, row, line]`; a bag ends where the next one starts."""
    weights = None if weights is None else weights.reshape(-1)
    return torch.embedding_bag(table.view(-1, table.shape[-1]), rows, starts, False, 0, False, weights)[0]


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _linear(before: int, after: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weights `[before, after]` and biases `[after]`, uniform within 1 / sqrt(before)."""
    bound = 1 / math.sqrt(before)
    return rng.uniform(-bound, bound, (before, after)), rng.uniform(-bound, bound, after)
