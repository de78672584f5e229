"""How alike every gene's gradient and the primary genes' are, on the features all genes share."""

from __future__ import annotations

import torch
from torch import Tensor

from agl.bilevel.problem import BatchLike, Problem


def gradient_similarity(problem: Problem, batch: BatchLike, *, seed: int = 0) -> Tensor:
    """Cosine `[auxiliary gene]` between a gene's and the primary genes' mean gradient for the hidden features.

    With scores s = h W' and g = dL/ds, gene j's gradient for the hidden features h is the outer product of its column
    g_j and its head W_j, so the inner product with P = sum_p g_p W_p' / n is g_j . (P W_j), and its norm |g_j| |W_j|;
    no [spot, hidden] table per gene is made. NaN where a gene's gradient is zero. Dropout and random losses draw from
    `seed`; the live model's running statistics stay as they are.
    """
    n = problem.n_primary
    with torch.no_grad():
        trunk, buffers = dict(problem.trunk.named_parameters()), dict(problem.trunk.named_buffers())
        hidden = problem.hidden(trunk, batch.inputs, buffers, seed=seed)
    with torch.enable_grad():
        scores = problem.head(hidden).detach().requires_grad_()
        slopes = torch.autograd.grad(problem.losses(scores, batch, seed=seed).sum(), scores)[0]
    weight = problem.head.weight.detach()
    primary = slopes[:, :n] @ weight[:n] / n
    inner = (slopes[:, n:] * (primary @ weight[n:].T)).sum(0)
    norms = slopes[:, n:].norm(dim=0) * weight[n:].norm(dim=1) * primary.norm()
    return torch.where(norms > 0, inner / norms.clamp_min(torch.finfo(norms.dtype).tiny), torch.nan)
