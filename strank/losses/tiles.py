"""The counts of a batch, some genes at a time: a view of a dense table, or the entries of a sparse one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from strank.losses import native, on_gpu

Genes = slice | Tensor  # neighbours, or positions in ascending order


class Sparse(NamedTuple):
    """Compressed rows: spot i has `values[start[i] : start[i + 1]]` at the genes `indices[...]`, in ascending order."""

    start: Tensor  # int64 [spot + 1]
    indices: Tensor  # int32 or int64 [entry]
    values: Tensor  # [entry]
    shape: tuple[int, int]


def read_counts(counts: Any) -> Tensor | Sparse:
    """A dense tensor as it is; compressed rows of torch or SciPy without a copy.

    Raises:
        TypeError: another kind of table.

    >>> read_counts(torch.tensor([[0, 2], [1, 0]]).to_sparse_csr()).values.tolist()
    [2, 1]
    """
    if isinstance(counts, Tensor):
        if counts.layout == torch.sparse_csr:
            return Sparse(counts.crow_indices().long(), counts.col_indices(), counts.values(), _pair(counts.shape))
        if counts.layout == torch.strided:
            return counts
    elif getattr(counts, "format", None) == "csr":
        rows = counts if counts.has_sorted_indices else counts.sorted_indices()
        start, indices, values = (torch.from_numpy(part) for part in (rows.indptr, rows.indices, rows.data))
        return Sparse(start.long(), indices, values, _pair(counts.shape))
    kind = counts.layout if isinstance(counts, Tensor) else type(counts).__name__
    raise TypeError(
        f"Expected counts as a dense tensor or as compressed sparse rows, received {kind}; use counts.to_sparse_csr() "
        "or scipy.sparse.csr_matrix."
    )


def tiles(counts: Tensor | Sparse, parts: Sequence[Genes], dtype: torch.dtype) -> Iterator[Tensor]:
    """Counts `[spot, gene]` of each part; of a sparse table in one piece of memory that is used again."""
    if isinstance(counts, Tensor):
        for part in parts:
            yield counts[:, part] if isinstance(part, slice) else counts.index_select(1, part)
        return
    edges = torch.tensor([_ends(part) for part in parts], dtype=torch.long).to(counts.start.device).flatten()
    bounds = native.bounds(counts.indices, counts.start, edges)
    bounds = _bounds(counts, edges) if bounds is None else bounds
    widths = [part.stop - part.start if isinstance(part, slice) else len(part) for part in parts]
    room = torch.empty(counts.shape[0] * max(widths, default=0), dtype=dtype, device=counts.start.device)
    place = torch.empty(max(1, counts.shape[1]), dtype=torch.int32, device=room.device)
    for at, (part, width) in enumerate(zip(parts, widths, strict=True)):
        out = room[: counts.shape[0] * width].view(counts.shape[0], width).zero_()
        first, last = _ends(part)
        place[first:last] = -1
        place[part] = torch.arange(width, dtype=torch.int32, device=room.device)
        begin, end = bounds[2 * at], bounds[2 * at + 1]
        if on_gpu.serves(out, counts.values):
            from strank.losses.triton_fill import fill

            fill(counts.indices, counts.values, begin, end, place, out)
        elif not native.fill(counts.indices, counts.values, begin, end, place, out):
            _fill(counts, begin, end, place, out)
        yield out


def _pair(shape: Sequence[int]) -> tuple[int, int]:
    return int(shape[0]), int(shape[1])


def _ends(part: Genes) -> tuple[int, int]:
    if isinstance(part, slice):
        return part.start, part.stop
    return int(part[0]), int(part[-1]) + 1


def _bounds(counts: Sparse, edges: Tensor) -> Tensor:
    """As `native.bounds`, all found at once by halving."""
    goal = edges.unsqueeze(1)
    low = counts.start[:-1].expand(len(goal), -1).contiguous()
    high = counts.start[1:].expand(len(goal), -1).contiguous()
    longest = int((counts.start[1:] - counts.start[:-1]).max()) if counts.shape[0] else 0
    for _ in range(longest.bit_length()):
        middle = (low + high) // 2
        open_ = low < high
        right = open_ & (counts.indices[torch.where(open_, middle, 0)] < goal)
        low = torch.where(right, middle + 1, low)
        high = torch.where(right, high, torch.where(open_, middle, high))
    return low


def _fill(counts: Sparse, begin: Tensor, end: Tensor, place: Tensor, out: Tensor) -> None:
    """Adds the entries from `begin` to `end` `[spot]` to `out`; the reference of the compiled one."""
    lengths = end - begin
    spots = torch.repeat_interleave(torch.arange(len(lengths), device=out.device), lengths)
    steps = torch.arange(len(spots), device=out.device) - (lengths.cumsum(0) - lengths)[spots]
    entries = begin[spots] + steps
    columns = place[counts.indices[entries].long()].long()
    wanted = columns >= 0
    goal = (spots * out.shape[1] + columns)[wanted]
    out.view(-1).index_add_(0, goal, counts.values[entries][wanted].to(out.dtype))
