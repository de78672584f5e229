"""Pearson's loss and its gradient on a GPU: two kernels that read scores and counts once each and write the gradient.

The first finds means, squares and products of every chunk of a list, the second puts a list's chunks together (Chan,
Golub and LeVeque, 1983: nothing large is subtracted from anything large) and writes slopes. Imported only where scores
lie on a GPU and Triton is there; everything else, and the reference, is `correlation`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from strank.groups import FEWEST_SPOTS, LAST_PLACES
from strank.losses.analytic import Outcome
from strank.losses.lineup import LineUp
from strank.losses.triton_tables import KernelTables, clear_left_out, log_one_more, read, spots_at

SPOTS, GENES, WARPS = 16, 64, 2  # of a step, and threads / 32 that take it: best of eight on an H100
_ROUNDING = LAST_PLACES * torch.finfo(torch.float32).eps


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _pairs(scores, counts, spots, inside, genes, there, factor, scores_step, counts_step, has_factor: tl.constexpr):  # type: ignore[no-untyped-def]
    """Scores, log counts and counts of some spots and genes."""
    x = read(scores, spots, genes, there, scores_step)
    c = read(counts, spots, genes, there, counts_step)
    scaled = c
    if has_factor:
        scaled = c * tl.load(factor + spots, mask=inside, other=0.0)[:, None]
    return x, log_one_more(scaled), c


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _moments(  # type: ignore[no-untyped-def]
    scores, counts, found, order, chunks, factor, n_genes, scores_step, counts_step,
    has_order: tl.constexpr, has_factor: tl.constexpr, S: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0)
    genes = tl.program_id(1) * G + tl.arange(0, G)
    begin, n = tl.load(chunks + 5 * at), tl.load(chunks + 5 * at + 1)
    x_mean = tl.zeros((G,), tl.float32)
    y_mean = tl.zeros((G,), tl.float32)
    xx = tl.zeros((G,), tl.float32)
    yy = tl.zeros((G,), tl.float32)
    xy = tl.zeros((G,), tl.float32)
    depth = tl.zeros((G,), tl.float32)
    x_low = tl.full((G,), float("inf"), tl.float32)
    y_low = tl.full((G,), float("inf"), tl.float32)
    x_high = tl.full((G,), float("-inf"), tl.float32)
    y_high = tl.full((G,), float("-inf"), tl.float32)
    for first in range(0, n, S):
        steps = first + tl.arange(0, S)
        inside = steps < n
        spots = spots_at(order, begin, steps, n, has_order)
        there = inside[:, None] & (genes < n_genes)[None, :]
        x, y, c = _pairs(scores, counts, spots, inside, genes, there, factor, scores_step, counts_step, has_factor)
        here = tl.minimum(n - first, S).to(tl.float32)
        x_here = tl.sum(tl.where(there, x, 0.0), 0) / here
        y_here = tl.sum(tl.where(there, y, 0.0), 0) / here
        dx = tl.where(there, x - x_here[None, :], 0.0)
        dy = tl.where(there, y - y_here[None, :], 0.0)
        share = here / (first + here)
        x_gap, y_gap = x_here - x_mean, y_here - y_mean
        xx += tl.sum(dx * dx, 0) + x_gap * x_gap * first * share
        yy += tl.sum(dy * dy, 0) + y_gap * y_gap * first * share
        xy += tl.sum(dx * dy, 0) + x_gap * y_gap * first * share
        x_mean += x_gap * share
        y_mean += y_gap * share
        depth += tl.sum(tl.where(there, c, 0.0), 0)
        x_low = tl.minimum(x_low, tl.min(tl.where(there, x, float("inf")), 0))
        y_low = tl.minimum(y_low, tl.min(tl.where(there, y, float("inf")), 0))
        x_high = tl.maximum(x_high, tl.max(tl.where(there, x, float("-inf")), 0))
        y_high = tl.maximum(y_high, tl.max(tl.where(there, y, float("-inf")), 0))
    goal = found + at * 10 * n_genes + genes
    real = genes < n_genes
    tl.store(goal, x_mean, mask=real)
    tl.store(goal + n_genes, y_mean, mask=real)
    tl.store(goal + 2 * n_genes, xx, mask=real)
    tl.store(goal + 3 * n_genes, yy, mask=real)
    tl.store(goal + 4 * n_genes, xy, mask=real)
    tl.store(goal + 5 * n_genes, depth, mask=real)
    tl.store(goal + 6 * n_genes, x_low, mask=real)
    tl.store(goal + 7 * n_genes, x_high, mask=real)
    tl.store(goal + 8 * n_genes, y_low, mask=real)
    tl.store(goal + 9 * n_genes, y_high, mask=real)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _varies(low, high, total, rounding: tl.constexpr):  # type: ignore[no-untyped-def]
    """As `strank.groups.varies`; a sum of NaN has seen what extremes may pass over."""
    largest = tl.maximum(tl.abs(low), tl.abs(high))
    still = (high - low <= rounding * largest) & (largest < float("inf")) & (total == total)
    return still == 0


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _slopes(  # type: ignore[no-untyped-def]
    scores, counts, out, found, order, chunks, lengths, factor, value, defined,
    power, n_genes, scores_step, counts_step, out_step, rounding: tl.constexpr, fewest: tl.constexpr,
    has_order: tl.constexpr, has_factor: tl.constexpr, weighted: tl.constexpr, wanted: tl.constexpr,
    S: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0)
    genes = tl.program_id(1) * G + tl.arange(0, G)
    real = genes < n_genes
    begin, n = tl.load(chunks + 5 * at), tl.load(chunks + 5 * at + 1)
    of_list, first_chunk, n_chunks = (
        tl.load(chunks + 5 * at + 2), tl.load(chunks + 5 * at + 3), tl.load(chunks + 5 * at + 4),
    )  # fmt: skip
    x_mean = tl.zeros((G,), tl.float32)
    y_mean = tl.zeros((G,), tl.float32)
    xx = tl.zeros((G,), tl.float32)
    yy = tl.zeros((G,), tl.float32)
    xy = tl.zeros((G,), tl.float32)
    depth = tl.zeros((G,), tl.float32)
    x_low = tl.full((G,), float("inf"), tl.float32)
    y_low = tl.full((G,), float("inf"), tl.float32)
    x_high = tl.full((G,), float("-inf"), tl.float32)
    y_high = tl.full((G,), float("-inf"), tl.float32)
    before = tl.zeros((G,), tl.float32)
    for nth in range(0, n_chunks):
        part = found + (first_chunk + nth) * 10 * n_genes + genes
        here = tl.load(chunks + 5 * (first_chunk + nth) + 1).to(tl.float32)
        share = here / (before + here)
        x_gap = tl.load(part, mask=real, other=0.0) - x_mean
        y_gap = tl.load(part + n_genes, mask=real, other=0.0) - y_mean
        xx += tl.load(part + 2 * n_genes, mask=real, other=0.0) + x_gap * x_gap * before * share
        yy += tl.load(part + 3 * n_genes, mask=real, other=0.0) + y_gap * y_gap * before * share
        xy += tl.load(part + 4 * n_genes, mask=real, other=0.0) + x_gap * y_gap * before * share
        x_mean += x_gap * share
        y_mean += y_gap * share
        depth += tl.load(part + 5 * n_genes, mask=real, other=0.0)
        x_low = tl.minimum(x_low, tl.load(part + 6 * n_genes, mask=real, other=0.0))
        x_high = tl.maximum(x_high, tl.load(part + 7 * n_genes, mask=real, other=0.0))
        y_low = tl.minimum(y_low, tl.load(part + 8 * n_genes, mask=real, other=0.0))
        y_high = tl.maximum(y_high, tl.load(part + 9 * n_genes, mask=real, other=0.0))
        before += here
    good = _varies(x_low, x_high, xx, rounding) & _varies(y_low, y_high, yy, rounding) & (before >= fewest)
    weight = tl.where(good, 1.0, 0.0)
    if weighted:
        mean = depth / before
        weight = tl.where(good & (mean > 0), tl.exp((power - 1) * tl.log(tl.where(mean > 0, mean, 1.0))), 0.0)
    x_scale = 1.0 / tl.sqrt(tl.where(good, xx, 1.0))
    y_scale = 1.0 / tl.sqrt(tl.where(good, yy, 1.0))
    r = xy * x_scale * y_scale
    if at == first_chunk:
        tl.store(value + of_list * n_genes + genes, (1.0 - r) * weight, mask=real)
        tl.store(defined + of_list * n_genes + genes, tl.where(good, 1.0, 0.0), mask=real)
    if wanted:
        of_x, of_y = weight * r * x_scale * x_scale, weight * x_scale * y_scale
        for first in range(0, n, S):
            steps = first + tl.arange(0, S)
            inside = steps < n
            spots = spots_at(order, begin, steps, n, has_order)
            there = inside[:, None] & real[None, :]
            x, y, _c = _pairs(scores, counts, spots, inside, genes, there, factor, scores_step, counts_step, has_factor)
            # d(1 - r)/dx = (r x / |x| - y / |y|) / |x|
            slope = (x - x_mean[None, :]) * of_x[None, :] - (y - y_mean[None, :]) * of_y[None, :]
            tl.store(out + spots[:, None] * out_step + genes[None, :], slope, mask=there)


def pearson(
    scores: Tensor,
    counts: Tensor,
    lined: LineUp,
    factor: Tensor | None,
    count_power: float,
    *,
    gradient: bool = True,
    out: Tensor | None = None,
) -> Outcome:
    """As `native.pearson`, of scores in float32 or less, accumulated in float32.

    Args:
        scores, counts: `[spot, gene]`.
        lined: the lists.
        factor: `[spot]`: what counts are multiplied by before their logarithm.
        count_power: as in `strank.pearson_loss`.
        gradient: whether it is wanted.
        out: where it is written, the scores themselves perhaps; by default a new table in float32.
    """
    n_spots, n_genes = scores.shape
    scores, counts, out = KernelTables.of(scores, counts, out, gradient=gradient)
    order, chunks, lengths = lined.chunks(n_spots, scores.device)
    value, defined = torch.zeros((2, len(lengths), n_genes), dtype=torch.float32, device=scores.device)
    if len(chunks):
        found = torch.empty((len(chunks), 10, n_genes), dtype=torch.float32, device=scores.device)
        grid = (len(chunks), triton.cdiv(n_genes, GENES))
        steps = (n_genes, scores.stride(0), counts.stride(0))
        has = (order is not None, factor is not None)
        order, factor = (lengths if order is None else order), (found if factor is None else factor.float())
        with torch.cuda.device_of(scores):
            _moments[grid](scores, counts, found, order, chunks, factor, *steps, *has, SPOTS, GENES, num_warps=WARPS)
            _slopes[grid](
                scores, counts, out, found, order, chunks, lengths, factor, value, defined, float(count_power), *steps,
                out.stride(0), _ROUNDING, FEWEST_SPOTS, *has, count_power != 1, gradient, SPOTS, GENES,
                num_warps=WARPS,
            )  # fmt: skip
    if gradient:
        clear_left_out(out, lined.keep)
    scale = 1 / defined.sum(0).clamp(min=1)
    return Outcome(value.sum(0) * scale, scale, out if gradient else None)
