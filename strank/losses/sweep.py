"""The list loss in two sweeps over the batch as it lies: no sorting, no padding, no gathered copy of a table.

The first sweep writes exponentials and adds them up by list, the second turns them into the gradient. Nothing is
subtracted before the exponential, so it serves scores of ordinary size only, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from strank.losses.analytic import Outcome, Scratch, columns
from strank.losses.inputs import list_weight, wide
from strank.losses.special import LOG2_E

_SAFE = (2.0**-40, 2.0**60)  # sums of exponentials between these have lost no probability above 1e-25
_BLOCK = 1 << 22  # elements between the two sweeps
_STEP = 1 << 18  # elements of a step: those at work stay in the nearest cache


class Lists:
    """Which list every spot belongs to, for sums over lists; `lengths` `[list, 1]` as float."""

    def __init__(self, groups: Tensor | None, n_spots: int, device: torch.device) -> None:
        self.codes, self._lengths = None, [n_spots]
        if groups is not None:
            _, codes, lengths = groups.unique(return_inverse=True, return_counts=True)
            self.codes, self._lengths = codes if len(lengths) > 1 else None, lengths.tolist()
        self._device = device
        self.any_lonely = 1 in self._lengths

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def lengths(self) -> Tensor:
        return torch.tensor(self._lengths, dtype=torch.float32, device=self._device).unsqueeze(1)

    def add(self, total: Tensor, values: Tensor, rows: slice) -> None:
        """Adds the `values` of some spots to `total` `[list, gene]`."""
        if self.codes is None:
            total += values.sum(0)
        elif 8 * len(total) < len(values):  # long lists: sums of sums round less than one long sum
            total += torch.zeros_like(total).index_add_(0, self.codes[rows], values)
        else:
            total.index_add_(0, self.codes[rows], values)

    def spread(self, per_list: Tensor, rows: slice, out: Tensor) -> Tensor:
        """`[list, gene]` -> `[spot, gene]` for some spots, in `out` unless one row does for all."""
        return per_list if self.codes is None else torch.index_select(per_list, 0, self.codes[rows], out=out)


def multinomial(
    scores: Tensor, counts: Tensor, groups: Tensor | None, offset: Tensor | None, count_power: float, *, gradient: bool
) -> Outcome | None:
    """`strank.listwise_nll` `[gene]` and its gradient, or None where scores are too far from 0 (or not finite).

    Args:
        scores, counts: `[spot, gene]`, not empty.
        groups: codes `[spot]` of the lists, None for one list.
        offset: `[spot]`, added to the scores.
        count_power: as in `listwise_nll`.
        gradient: whether it is wanted.
    """
    (n_spots, n_genes), dtype = scores.shape, wide(scores.dtype)
    scratch, lists = Scratch(dtype, scores.device), Lists(groups, n_spots, scores.device)
    if offset is not None:  # in powers of two; the same shift for all changes no softmax
        offset = (offset.to(dtype) - offset.mean(dtype=dtype)).mul_(LOG2_E).unsqueeze(1)
    value = torch.empty(n_genes, dtype=dtype, device=scores.device)
    table = torch.empty((n_spots, n_genes), dtype=dtype, device=scores.device) if gradient else None
    for genes in columns(n_spots, n_genes, _BLOCK):
        width = genes.stop - genes.start
        power = scratch.get("all", n_spots, width) if table is None else table[:, genes]
        mass, depth, dot = (value.new_zeros(len(lists), width) for _ in range(3))
        for rows in _steps(n_spots, width):
            s, c = scores[rows, genes].to(dtype), _contiguous(counts[rows, genes], scratch)
            p = power[rows] if power.is_contiguous() else scratch.get("power", *c.shape)
            if offset is None:
                torch.mul(s, LOG2_E, out=p)
            else:
                torch.add(offset[rows], s, alpha=LOG2_E, out=p)
            lists.add(dot, torch.mul(c, p, out=scratch.get("step", *c.shape)), rows)
            lists.add(mass, p.exp2_(), rows)  # three times as fast as exp here
            lists.add(depth, c, rows)
            if not power.is_contiguous():
                power[rows] = p
        low, high = mass.aminmax()
        if not (_SAFE[0] < low.item() and high.item() < _SAFE[1]):
            return None
        found, weight = torch.sub(depth * mass.log(), dot, alpha=1 / LOG2_E), None
        if count_power != 1 or lists.any_lonely:  # a list of one spot contributes 0, without rounding error
            weight = list_weight(depth / lists.lengths, count_power) * (lists.lengths > 1)
            found *= weight
        torch.sum(found, 0, out=value[genes])
        if table is not None:
            _to_gradient(power, counts[:, genes], depth / mass, weight, lists, scratch)
    scale = torch.full_like(value, 1 / n_spots)
    return Outcome(value * scale, scale, table)


def _contiguous(part: Tensor, scratch: Scratch) -> Tensor:
    """In the dtype of the scratch; sums over lists are ten times slower without."""
    if part.dtype == scratch.nothing.dtype and part.is_contiguous():
        return part
    return scratch.get("counts", *part.shape).copy_(part)


def _to_gradient(
    power: Tensor, counts: Tensor, ratio: Tensor, weight: Tensor | None, lists: Lists, scratch: Scratch
) -> None:
    """Exponentials -> weight x (depth x softmax - counts), in place."""
    for rows in _steps(*power.shape):
        p = power[rows]
        room = scratch.get("step", *p.shape)
        p.mul_(lists.spread(ratio, rows, room)).sub_(counts[rows])
        if weight is not None:
            p.mul_(lists.spread(weight, rows, room))


def _steps(n_spots: int, n_genes: int) -> Iterator[slice]:
    """Slices of spots such that a step stays in the cache."""
    step = max(16, _STEP // n_genes)
    for start in range(0, n_spots, step):
        yield slice(start, min(start + step, n_spots))
