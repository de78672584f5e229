"""The training spots as the solvers see them: slide after slide, features standardised and turned to their main axes.

With X the standardised features (centred inside each slide where the loss does not see a slide's level) and V the
eigenvectors of X'X, heads are solved for X V. That changes neither scores nor |b|, leaves at most as many coordinates
as spots, and makes the curvature of every loss nearly diagonal: the solver's preconditioner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agl.errors import UserError


@dataclass(frozen=True, eq=False)
class Basis:
    """From raw features to the coordinates the heads are solved in: `((x - mean) / scale) @ rotation`."""

    mean: Tensor  # [feature]
    scale: Tensor  # [feature], infinite for a constant feature, which becomes 0
    rotation: Tensor  # [feature, component], orthonormal columns

    def __call__(self, x: Any) -> Tensor:
        """`[spot, feature]` to `[spot, component]`."""
        features = as_features(x).to(self.mean)
        if features.shape[1] != len(self.mean):
            raise UserError(
                f"Expected {len(self.mean)} features as in training, received {features.shape[1]}; "
                "use the same encoder and context."
            )
        return ((features - self.mean) / self.scale) @ self.rotation

    def weights(self, coefficients: Tensor) -> Tensor:
        """`[..., component, gene]` to weights of the raw features `[..., feature, gene]`."""
        return (self.rotation @ coefficients) / self.scale[:, None]


@dataclass(frozen=True, eq=False)
class FittedSpots:
    """Training spots that take part, sorted by slide."""

    rows: Tensor  # [spot] their positions in the caller's tables
    slices: list[slice]  # each slide's spots
    codes: Tensor  # [spot] number of the slide
    library_size: Tensor | None  # [spot]
    n_given: int  # spots of the caller, those without library included: what strank's means divide by
    basis: Basis
    x: Tensor  # [spot, component]
    spread: Tensor  # [component] mean square of x

    def __len__(self) -> int:
        return len(self.rows)

    def gene_major(self, counts: Any, genes: slice) -> Tensor:
        """Some genes' counts of these spots, `[gene, spot]`."""
        part = counts[:, genes]
        part = part if isinstance(part, Tensor) else torch.as_tensor(np.asarray(part, dtype=np.float64))
        return part.to(self.x.device).index_select(0, self.rows).T.to(self.x.dtype).contiguous()

    def centred(self, values: Tensor) -> Tensor:
        """`[gene, spot]` minus the mean of every slide."""
        return torch.cat([part - part.mean(1, keepdim=True) for part in self.by_slide(values)], 1)

    def by_slide(self, values: Tensor) -> Iterator[Tensor]:
        """Views `[gene, spot]` of each slide's spots."""
        for part in self.slices:
            yield values[:, part]


def prepare(
    x: Any,
    library_size: Any | None,
    slides: Any | None,
    *,
    within: bool,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> FittedSpots:
    """Sort, standardise, turn. Spots with library size 0 are left out: no loss sees them.

    Args:
        x: `[spot, feature]`, array or tensor.
        library_size: `[spot]` or None.
        slides: integer codes `[spot]` in any order, or None for one slide.
        within: the loss does not see the level of a slide, so features are centred inside slides.

    Raises:
        UserError: shapes do not fit, or a feature is not finite.

    >>> spots = prepare(np.array([[0.0, 5.0], [2.0, 5.0], [1.0, 5.0]]), None, np.array([1, 0, 1]), within=False)
    >>> spots.rows.tolist(), spots.slices, [round(v, 6) for v in spots.spread.tolist()]
    ([1, 0, 2], [slice(0, 1, None), slice(1, 3, None)], [1.0, 0.0])
    """
    features = as_features(x).to(device=device, dtype=torch.float64)
    n_given = len(features)
    codes = torch.zeros(n_given, dtype=torch.long) if slides is None else _per_spot("slides", slides, n_given)
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise UserError(f"Expected integer slide codes, received {codes.dtype}; number the slides.")
    rows, library = torch.arange(n_given), None
    if library_size is not None:
        library = _per_spot("library_size", library_size, n_given).to(torch.float64)
        if not bool((torch.isfinite(library) & (library >= 0)).all()):
            raise UserError("Expected library sizes of 0 or more, received a negative or not finite one.")
        rows = (library > 0).nonzero().squeeze(1)
    if not len(rows):
        raise UserError(f"Expected training spots with counts, received none of {n_given}; check the split.")
    rows = rows[torch.argsort(codes[rows].long(), stable=True)]
    lengths = codes[rows].unique_consecutive(return_counts=True)[1]
    ends = lengths.cumsum(0).tolist()
    slices = [slice(end - length, end) for end, length in zip(ends, lengths.tolist(), strict=True)]
    rows, number = rows.to(device), torch.repeat_interleave(torch.arange(len(slices)), lengths).to(device)

    features = features.index_select(0, rows)
    if not bool(torch.isfinite(features).all()):
        raise UserError("Expected finite features, received NaN or infinity; check the encoder's output.")
    mean, scale = features.mean(0), features.std(0, correction=0)
    scale[scale <= 10 * torch.finfo(torch.float64).eps * mean.abs()] = torch.inf
    features = (features - mean) / scale
    if within:
        for part in slices:
            features[part] -= features[part].mean(0)
    rotation = main_axes(features)
    turned = features @ rotation
    return FittedSpots(
        rows,
        slices,
        number,
        None if library is None else library.to(device)[rows].to(dtype),
        n_given,
        Basis(mean.to(dtype), scale.to(dtype), rotation.to(dtype)),
        turned.to(dtype),
        turned.square().mean(0).to(dtype),
    )


def main_axes(x: Tensor) -> Tensor:
    """Orthonormal eigenvectors of x'x, largest first, `[feature, component]`; where there are more features than spots,
    of the spots' span only: a penalised head lies in it."""
    n_spots, n_features = x.shape
    if n_features < max(2, n_spots):
        return torch.linalg.eigh(x.T @ x)[1].flip(1)
    left = torch.linalg.eigh(x @ x.T)[1].flip(1)[:, : max(1, n_spots - 1)]
    return torch.linalg.qr(x.T @ left)[0]


def as_features(x: Any) -> Tensor:
    """A floating-point table `[spot, feature]`."""
    table = x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    if table.ndim != 2 or not table.shape[1]:
        raise UserError(f"Expected features [spot, feature], received shape {list(table.shape)}.")
    return table if table.is_floating_point() else table.to(torch.float64)


def _per_spot(name: str, values: Any, n_spots: int) -> Tensor:
    column = values.detach().cpu() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    if column.shape != (n_spots,):
        raise UserError(
            f"Expected {name} [spot] = [{n_spots}], received {list(column.shape)}; give one value per spot."
        )
    return column
