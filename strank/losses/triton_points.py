"""Squared error and Poisson on a GPU: value and gradient in one reading of scores and counts.

Imported only where scores lie on a GPU and Triton is there; everything else, and the reference, is `pointwise`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from strank.losses.analytic import Outcome
from strank.losses.special import HIGHEST_LOG_RATE
from strank.losses.triton_tables import KernelTables, log_one_more, read

SPOTS, GENES, WARPS = 32, 128, 8  # of a step, and threads / 32 that take it: best of eight on an H100
ROWS = 256  # spots of a program, whose sums are added up afterwards: in the same order every time


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _points(  # type: ignore[no-untyped-def]
    scores, counts, out, per_spot, keep, value, n_spots, n_genes, scores_step, counts_step, out_step,
    poisson: tl.constexpr, highest: tl.constexpr, has_spot: tl.constexpr, has_keep: tl.constexpr,
    wanted: tl.constexpr, R: tl.constexpr, S: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0)
    genes = tl.program_id(1) * G + tl.arange(0, G)
    total = tl.zeros((G,), tl.float32)
    for first in range(0, R, S):
        spots = at * R + first + tl.arange(0, S)
        inside = spots < n_spots
        spots = spots.to(tl.int64)
        there = inside[:, None] & (genes < n_genes)[None, :]
        s = read(scores, spots, genes, there, scores_step)
        c = read(counts, spots, genes, there, counts_step)
        live = there
        if has_keep:
            live = there & (tl.load(keep + spots, mask=inside, other=0) != 0)[:, None]
        if poisson:
            if has_spot:
                s += tl.load(per_spot + spots, mask=inside, other=0.0)[:, None]
            beyond = tl.where(s > highest, s - highest, 0.0)
            power = tl.exp(tl.where(s > highest, highest, s))
            loss = power + power * beyond - c * s
            slope = power - c
        else:
            if has_spot:
                c *= tl.load(per_spot + spots, mask=inside, other=0.0)[:, None]
            rest = s - log_one_more(c)
            loss = rest * rest
            slope = 2.0 * rest
        total += tl.sum(tl.where(live, loss, 0.0), 0)
        if wanted:
            tl.store(out + spots[:, None] * out_step + genes[None, :], tl.where(live, slope, 0.0), mask=there)
    tl.store(value + at * n_genes + genes, total, mask=genes < n_genes)


def points(
    scores: Tensor,
    counts: Tensor,
    keep: Tensor | None,
    per_spot: Tensor | None,
    *,
    poisson: bool,
    gradient: bool = True,
    out: Tensor | None = None,
) -> Outcome:
    """Of scores in float32 or less, accumulated in float32.

    Args:
        scores, counts: `[spot, gene]`.
        keep: bool `[spot]` if some spots take no part.
        per_spot: `[spot]`: added to log rates, or what counts are multiplied by before their logarithm.
        poisson: rather than squares.
        gradient: whether it is wanted.
        out: where it is written, the scores themselves perhaps; by default a new table in float32.
    """
    n_spots, n_genes = scores.shape
    scores, counts, out = KernelTables.of(scores, counts, out, gradient=gradient)
    grid = (triton.cdiv(n_spots, ROWS), triton.cdiv(n_genes, GENES))
    value = torch.empty((grid[0], n_genes), dtype=torch.float32, device=scores.device)
    with torch.cuda.device_of(scores):
        _points[grid](
            scores, counts, out,
            value if per_spot is None else per_spot.float(), value if keep is None else keep.view(torch.uint8), value,
            n_spots, n_genes, scores.stride(0), counts.stride(0), out.stride(0),
            poisson, HIGHEST_LOG_RATE, per_spot is not None, keep is not None, gradient, ROWS, SPOTS, GENES,
            num_warps=WARPS,
        )  # fmt: skip
    scale = 1 / max(1, n_spots)
    return Outcome(value.sum(0) * scale, scale, out if gradient else None)
