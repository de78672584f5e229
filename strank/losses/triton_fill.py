"""Lays sparse counts of some genes out as a table, on a GPU, without asking how many there are."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ENTRIES = 128  # of a step


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _fill(indices, values, begin, end, place, out, width, E: tl.constexpr):  # type: ignore[no-untyped-def]
    spot = tl.program_id(0).to(tl.int64)
    first, last = tl.load(begin + spot), tl.load(end + spot)
    for start in range(first, last, E):
        at = start + tl.arange(0, E)
        real = at < last
        gene = tl.load(indices + at, mask=real, other=0)
        column = tl.load(place + gene, mask=real, other=-1)
        value = tl.load(values + at, mask=real, other=0).to(tl.float32)
        tl.atomic_add(out + spot * width + column, value, mask=real & (column >= 0))  # entries may repeat


def fill(indices: Tensor, values: Tensor, begin: Tensor, end: Tensor, place: Tensor, out: Tensor) -> None:
    """As `native.fill`, into a table in float32."""
    with torch.cuda.device_of(out):
        _fill[(len(out),)](indices, values, begin, end, place, out, out.shape[1], ENTRIES)
