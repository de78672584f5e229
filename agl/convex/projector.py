"""The projector on a symmetric matrix's leading eigenvectors, and its exact derivative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from agl.errors import UserError

MIN_GAP = 1e-8  # of the largest eigenvalue; float64 rounding turns eigenvectors by about 1e-16 / gap


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues `[q]`, largest first, and eigenvectors as columns `[q, q]`; a batch of them in front if need be."""

    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, moment: Tensor) -> Spectrum:
        """The spectrum of symmetric `moment` `[..., q, q]`; the lower triangle is read."""
        values, vectors = torch.linalg.eigh(moment.detach())
        return cls(values.flip(-1), vectors.flip(-1))

    @property
    def gaps(self) -> Tensor:
        """(lambda_r - lambda_(r+1)) / lambda_1 for r = 1 ... q - 1, `[..., q - 1]`; 0 for a matrix of zeros."""
        largest = self.values[..., :1].clamp_min(torch.finfo(self.values.dtype).tiny)
        return -self.values.diff() / largest

    def clear_rank(self, rank: int, min_gap: float = MIN_GAP) -> int:
        """`rank`, or the next larger one with a gap of at least `min_gap` behind it; all q directions have one.

        >>> Spectrum.of(torch.diag(torch.tensor([4.0, 2.0, 2.0, 1.0]))).clear_rank(2)
        3
        """
        q = self.values.shape[-1]
        if rank >= q:
            return q
        clear = (self.gaps[rank - 1 :] >= min_gap).nonzero()
        return rank + int(clear[0]) if len(clear) else q


@dataclass(frozen=True, eq=False)
class Projection:
    """A mean of projectors, and the ranks it was asked for and has."""

    matrix: Tensor  # [q, q]
    ranks: tuple[int, ...]
    ranks_used: tuple[int, ...]

    @property
    def widened(self) -> bool:
        """Whether a rank had to grow because no gap followed it."""
        return any(used > min(asked, len(self.matrix)) for asked, used in zip(self.ranks, self.ranks_used, strict=True))


def projector(
    moment: Tensor, ranks: int | Sequence[int], *, min_gap: float = MIN_GAP, widen: bool = True
) -> Projection:
    r"""P = U_r U_r' of the r leading eigenvectors of `moment` `[q, q]`, differentiable; several ranks: their mean.

    .. math:: dP = \sum_{i \le r < j} \frac{u_i' \, dM \, u_j}{\lambda_i - \lambda_j} (u_i u_j' + u_j u_i')

    Only gaps between kept and left-out eigenvalues appear: equal eigenvalues within the kept ones, or within the
    others, do no harm, where the derivative of the eigenvectors themselves does not exist. A mean of ranks has the
    share of ranks that keep it, f_i, for every direction, and (f_i - f_j) / (lambda_i - lambda_j) in the formula.

    Args:
        moment: symmetric `[q, q]`, float64 for derivatives that are to be trusted. Ranks beyond q are q.
        min_gap: smallest gap behind a rank, in largest eigenvalues.
        widen: take the next rank with such a gap (`Projection.ranks_used`); otherwise its lack is an error.

    Raises:
        UserError: not a square matrix, no rank or one below 1, no gap where `widen` is False.

    Source: T. Kato, Perturbation Theory for Linear Operators (1966), II.2: first order of a total projection.

    >>> projector(torch.diag(torch.tensor([3.0, 2.0, 1.0])), 2).matrix.diagonal()
    tensor([1., 1., 0.])
    """
    asked = (ranks,) if isinstance(ranks, int) else tuple(ranks)
    if moment.ndim != 2 or moment.shape[0] != moment.shape[1]:
        raise UserError(f"Expected a square matrix [q, q], received shape {tuple(moment.shape)}.")
    if not asked or min(asked) < 1:
        raise UserError(f"Expected ranks of at least 1, one or more of them, received {list(asked)}.")
    spectrum = Spectrum.of(moment)
    used = tuple(spectrum.clear_rank(rank, min_gap) for rank in asked)
    if not widen:
        for rank, wider in zip(asked, used, strict=True):
            if wider > min(rank, len(moment)):
                raise UserError(
                    f"Expected a gap of {min_gap:g} behind eigenvalue {rank}, received none before rank {wider}; "
                    "choose that rank, or widen=True."
                )
    matrix = _Filter.apply(moment, spectrum.values, spectrum.vectors, kept_share(used, len(moment), moment))
    return Projection(matrix, asked, used)


def kept_share(ranks: Sequence[int], q: int, like: Tensor) -> Tensor:
    """Share of the ranks that keep each direction `[q]`.

    >>> kept_share([1, 3], 4, torch.zeros(1))
    tensor([1.0000, 0.5000, 0.5000, 0.0000])
    """
    place = torch.arange(q, device=like.device)
    return torch.stack([(place < rank).to(like.dtype) for rank in ranks]).mean(0)


class _Filter(torch.autograd.Function):
    """U diag(f) U' as a function of the matrix whose eigenvectors are U, for f that jumps only at gaps."""

    @staticmethod
    def forward(ctx: Any, moment: Tensor, values: Tensor, vectors: Tensor, share: Tensor) -> Tensor:
        ctx.save_for_backward(values, vectors, share)
        return (vectors * share) @ vectors.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        values, vectors, share = ctx.saved_tensors
        turned = vectors.T @ ((gradient + gradient.T) / 2) @ vectors
        jump = share[:, None] - share
        slope = torch.where(jump == 0, 0.0, jump / torch.where(jump == 0, 1.0, values[:, None] - values))
        return vectors @ (slope * turned) @ vectors.T, None, None, None
