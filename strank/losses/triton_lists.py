"""The list loss with its gradient in one Triton kernel, for scores on a GPU; in two passes over a list.

Imported only where scores lie on a GPU and Triton is there (it comes with torch for CUDA); everything else, and the
reference, is `by_list`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from strank.groups import line_up
from strank.losses.analytic import Outcome

SPOTS, GENES = 32, 64  # of a step


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _lists(  # type: ignore[no-untyped-def]
    scores, counts, out, order, starts, lengths, offset, value,
    power, n_genes, scores_step, counts_step, out_step,
    has_order: tl.constexpr, has_offset: tl.constexpr, weighted: tl.constexpr, S: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0)
    genes = tl.program_id(1) * G + tl.arange(0, G)
    begin, n = tl.load(starts + at), tl.load(lengths + at)
    top = tl.full((G,), float("-inf"), tl.float32)
    mass = tl.zeros((G,), tl.float32)
    depth = tl.zeros((G,), tl.float32)
    for first in range(0, n, S):
        steps = first + tl.arange(0, S)
        spots = begin + steps
        if has_order:
            spots = tl.load(order + spots, mask=steps < n, other=0)
        there = (steps < n)[:, None] & (genes < n_genes)[None, :]
        s = tl.load(scores + spots[:, None] * scores_step + genes[None, :], mask=there, other=0.0).to(tl.float32)
        if has_offset:
            s += tl.load(offset + spots, mask=steps < n, other=0.0)[:, None]
        s = tl.where(there, s, -1e30)
        c = tl.load(counts + spots[:, None] * counts_step + genes[None, :], mask=there, other=0).to(tl.float32)
        higher = tl.maximum(top, tl.max(s, 0))
        mass = mass * tl.exp(top - higher) + tl.sum(tl.exp(s - higher[None, :]), 0)
        depth += tl.sum(c, 0)
        top = higher
    weight = tl.full((G,), 1.0, tl.float32)
    if weighted:
        mean = depth / n
        weight = tl.where(mean > 0, tl.exp((power - 1) * tl.log(tl.where(mean > 0, mean, 1.0))), 0.0)
    dot = tl.zeros((G,), tl.float32)
    for first in range(0, n, S):
        steps = first + tl.arange(0, S)
        spots = begin + steps
        if has_order:
            spots = tl.load(order + spots, mask=steps < n, other=0)
        there = (steps < n)[:, None] & (genes < n_genes)[None, :]
        s = tl.load(scores + spots[:, None] * scores_step + genes[None, :], mask=there, other=0.0).to(tl.float32)
        if has_offset:
            s += tl.load(offset + spots, mask=steps < n, other=0.0)[:, None]
        c = tl.load(counts + spots[:, None] * counts_step + genes[None, :], mask=there, other=0).to(tl.float32)
        x = tl.where(there, s - top[None, :], -1e30)
        dot += tl.sum(c * x, 0)
        slope = weight[None, :] * (tl.exp(x) * (depth / mass)[None, :] - c)
        tl.store(out + spots[:, None] * out_step + genes[None, :], slope, mask=there)
    tl.store(value + at * n_genes + genes, weight * (depth * tl.log(mass) - dot), mask=genes < n_genes)


def multinomial(
    scores: Tensor,
    counts: Tensor,
    groups: Tensor | None,
    keep: Tensor | None,
    offset: Tensor | None,
    count_power: float,
) -> Outcome:
    """As `native.multinomial`, of scores in any floating-point type, accumulated in float32."""
    n_spots, n_genes = scores.shape
    scores = scores if scores.stride(1) == 1 else scores.contiguous()
    counts = counts if counts.stride(1) == 1 else counts.contiguous()
    order, lengths = line_up(groups, n_spots, keep)
    lengths = lengths.to(scores.device)
    starts = lengths.cumsum(0) - lengths
    make = torch.empty if keep is None else torch.zeros
    gradient = make((n_spots, n_genes), dtype=torch.float32, device=scores.device)
    values = torch.zeros((len(lengths), n_genes), dtype=torch.float32, device=scores.device)
    if len(lengths):
        grid = (len(lengths), triton.cdiv(n_genes, GENES))
        _lists[grid](
            scores, counts, gradient, order if order is not None else lengths, starts, lengths,
            offset if offset is not None else scores, values,
            float(count_power), n_genes, scores.stride(0), counts.stride(0), gradient.stride(0),
            order is not None, offset is not None, count_power != 1, SPOTS, GENES,
        )  # fmt: skip
    scale = 1 / max(1, n_spots)
    return Outcome(values.sum(0) * scale, scale, gradient)
