"""The list loss and its gradient on a GPU: two kernels that read scores and counts once each and write the gradient.

The first sums up every chunk of a list (largest score, mass, depth, count-weighted score), the second puts a list's
chunks together and writes slopes. Imported only where scores lie on a GPU and Triton is there (it comes with torch for
CUDA); everything else, and the reference, is `by_list`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from strank.losses.analytic import Outcome
from strank.losses.lineup import LineUp
from strank.losses.triton_tables import KernelTables, clear_left_out, read, spots_at

SPOTS, GENES, WARPS = 16, 64, 2  # of a step, and threads / 32 that take it: best of eight on an H100


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _sums(  # type: ignore[no-untyped-def]
    scores, counts, found, order, chunks, offset, n_genes, scores_step, counts_step,
    has_order: tl.constexpr, has_offset: tl.constexpr, S: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0)
    genes = tl.program_id(1) * G + tl.arange(0, G)
    begin, n = tl.load(chunks + 5 * at), tl.load(chunks + 5 * at + 1)
    top = tl.full((G,), -1e30, tl.float32)
    mass = tl.zeros((G,), tl.float32)
    depth = tl.zeros((G,), tl.float32)
    dot = tl.zeros((G,), tl.float32)
    for first in range(0, n, S):
        steps = first + tl.arange(0, S)
        spots = spots_at(order, begin, steps, n, has_order)
        there = (steps < n)[:, None] & (genes < n_genes)[None, :]
        s = read(scores, spots, genes, there, scores_step)
        c = read(counts, spots, genes, there, counts_step)
        if has_offset:
            s += tl.load(offset + spots, mask=steps < n, other=0.0)[:, None]
        s = tl.where(there, s, -1e30)
        higher = tl.maximum(top, tl.max(s, 0))
        x = s - higher[None, :]
        dot += depth * (top - higher) + tl.sum(tl.where(there, c * x, 0.0), 0)
        mass = mass * tl.exp(top - higher) + tl.sum(tl.where(there, tl.exp(x), 0.0), 0)
        depth += tl.sum(c, 0)
        top = higher
    goal = found + at * 4 * n_genes + genes
    tl.store(goal, top, mask=genes < n_genes)
    tl.store(goal + n_genes, mass, mask=genes < n_genes)
    tl.store(goal + 2 * n_genes, depth, mask=genes < n_genes)
    tl.store(goal + 3 * n_genes, dot, mask=genes < n_genes)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _slopes(  # type: ignore[no-untyped-def]
    scores, counts, out, found, order, chunks, lengths, offset, value,
    power, n_genes, scores_step, counts_step, out_step,
    has_order: tl.constexpr, has_offset: tl.constexpr, weighted: tl.constexpr, wanted: tl.constexpr,
    S: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0)
    genes = tl.program_id(1) * G + tl.arange(0, G)
    begin, n = tl.load(chunks + 5 * at), tl.load(chunks + 5 * at + 1)
    of_list, first_chunk, n_chunks = (
        tl.load(chunks + 5 * at + 2), tl.load(chunks + 5 * at + 3), tl.load(chunks + 5 * at + 4),
    )  # fmt: skip
    top = tl.full((G,), -1e30, tl.float32)
    mass = tl.zeros((G,), tl.float32)
    depth = tl.zeros((G,), tl.float32)
    dot = tl.zeros((G,), tl.float32)
    for nth in range(0, n_chunks):
        part = found + (first_chunk + nth) * 4 * n_genes + genes
        its_top = tl.load(part, mask=genes < n_genes, other=-1e30)
        its_mass = tl.load(part + n_genes, mask=genes < n_genes, other=1.0)
        its_depth = tl.load(part + 2 * n_genes, mask=genes < n_genes, other=0.0)
        its_dot = tl.load(part + 3 * n_genes, mask=genes < n_genes, other=0.0)
        higher = tl.maximum(top, its_top)
        dot += depth * (top - higher) + its_dot + its_depth * (its_top - higher)
        mass = mass * tl.exp(top - higher) + its_mass * tl.exp(its_top - higher)
        depth += its_depth
        top = higher
    weight = tl.full((G,), 1.0, tl.float32)
    if weighted:
        mean = depth / tl.load(lengths + of_list).to(tl.float32)
        weight = tl.where(mean > 0, tl.exp((power - 1) * tl.log(tl.where(mean > 0, mean, 1.0))), 0.0)
    if at == first_chunk:
        loss = weight * (depth * tl.log(mass) - dot)
        tl.store(value + of_list * n_genes + genes, loss, mask=genes < n_genes)
    if wanted:
        for first in range(0, n, S):
            steps = first + tl.arange(0, S)
            spots = spots_at(order, begin, steps, n, has_order)
            there = (steps < n)[:, None] & (genes < n_genes)[None, :]
            s = read(scores, spots, genes, there, scores_step)
            c = read(counts, spots, genes, there, counts_step)
            if has_offset:
                s += tl.load(offset + spots, mask=steps < n, other=0.0)[:, None]
            slope = weight[None, :] * (tl.exp(s - top[None, :]) * (depth / mass)[None, :] - c)
            tl.store(out + spots[:, None] * out_step + genes[None, :], slope, mask=there)


def multinomial(
    scores: Tensor,
    counts: Tensor,
    lined: LineUp,
    offset: Tensor | None,
    count_power: float,
    *,
    gradient: bool = True,
    out: Tensor | None = None,
) -> Outcome:
    """As `native.multinomial`, of scores in float32 or less, accumulated in float32.

    Args:
        scores, counts: `[spot, gene]`.
        lined: the lists.
        offset: `[spot]`, added to the scores.
        count_power: as in `strank.listwise_nll`.
        gradient: whether it is wanted.
        out: where it is written, the scores themselves perhaps; by default a new table in float32.
    """
    n_spots, n_genes = scores.shape
    scores, counts, out = KernelTables.of(scores, counts, out, gradient=gradient)
    order, chunks, lengths = lined.chunks(n_spots, scores.device)
    values = torch.zeros((len(lengths), n_genes), dtype=torch.float32, device=scores.device)
    if len(chunks):
        found = torch.empty((len(chunks), 4, n_genes), dtype=torch.float32, device=scores.device)
        grid = (len(chunks), triton.cdiv(n_genes, GENES))
        steps = (n_genes, scores.stride(0), counts.stride(0))
        has = (order is not None, offset is not None)
        order, offset = (lengths if order is None else order), (found if offset is None else offset)
        with torch.cuda.device_of(scores):
            _sums[grid](scores, counts, found, order, chunks, offset, *steps, *has, SPOTS, GENES, num_warps=WARPS)
            _slopes[grid](
                scores, counts, out, found, order, chunks, lengths, offset, values, float(count_power), *steps,
                out.stride(0), *has, count_power != 1, gradient, SPOTS, GENES, num_warps=WARPS,
            )  # fmt: skip
    if gradient:
        clear_left_out(out, lined.keep)
    scale = 1 / max(1, n_spots)
    return Outcome(values.sum(0) * scale, scale, out if gradient else None)
