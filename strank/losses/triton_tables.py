"""What the kernels for a GPU share: how a step of spots is found and read, and the tables they work on."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def spots_at(order, begin, steps, n, has_order: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows of the table of some steps through a chunk of a list; int64, as a row's place in memory may need."""
    spots = (begin + steps).to(tl.int64)
    if has_order:
        spots = tl.load(order + spots, mask=steps < n, other=0)
    return spots


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def read(table, spots, genes, there, step):  # type: ignore[no-untyped-def]
    """`[spot, gene]` of a table in any type, 0 outside."""
    return tl.load(table + spots[:, None] * step + genes[None, :], mask=there, other=0).to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def log_one_more(x):  # type: ignore[no-untyped-def]
    """log(1 + x) without its rounding error: Goldberg, 1991, theorem 4."""
    one_more = 1.0 + x
    return tl.where(one_more == 1.0, x, tl.log(one_more) * (x / (one_more - 1.0)))


class KernelTables(NamedTuple):
    """Scores and counts with genes side by side, and where the gradient goes."""

    scores: Tensor
    counts: Tensor
    out: Tensor

    @classmethod
    def of(cls, scores: Tensor, counts: Tensor, out: Tensor | None, *, gradient: bool) -> KernelTables:
        """`out` is a new table in float32 where none is given, without rows where no gradient is wanted."""
        if out is None:
            shape = (len(scores) if gradient else 0, scores.shape[1])
            out = torch.empty(shape, dtype=torch.float32, device=scores.device)
        return cls(_side_by_side(scores), _side_by_side(counts), out)


def _side_by_side(table: Tensor) -> Tensor:
    return table if table.stride(1) == 1 else table.contiguous()


def clear_left_out(out: Tensor, keep: Tensor | None) -> None:
    """Gradient 0 for spots that take no part."""
    if keep is not None:
        out.masked_fill_(~keep.unsqueeze(1), 0.0)
