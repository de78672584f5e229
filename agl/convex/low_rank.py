"""The shared trunk in closed form: a few directions of the features that all weighted genes vote on.

Features X = Q R with orthonormal Q, heads B `[feature, gene]`: a gene's fitted values are Q v_g, v_g = R b_g, and with
every v_g brought to length 1 (fitted values divided by the root of their sum of squares) or to that of the gene's vote

    M(w) = sum_g w_g v_g v_g'        U_r(w): its r leading eigenvectors        B_r = R^-1 U_r U_r' R B

M is as small as the number of features, whatever the number of spots and genes, and Q is never needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agl.convex.projector import MIN_GAP, Spectrum
from agl.errors import UserError

TOLERANCE = 1e-9  # of the largest singular value: below, a direction of the features does not exist


@dataclass(frozen=True, eq=False)
class Coordinates:
    """R and its pseudo-inverse: from features to coordinates in which the training spots are uncorrelated.

    Args:
        into: R `[q, feature]`, with q the rank of the features.
        back: its pseudo-inverse `[feature, q]`; rows `x @ back` are coordinates of spots.
    """

    into: Tensor
    back: Tensor

    @classmethod
    def of(cls, features: Tensor, slides: Tensor | None = None, *, tolerance: float = TOLERANCE) -> Coordinates:
        """From training features `[spot, feature]`, by singular values X = Q S W', R = S W'.

        Args:
            features: centred over all training spots, as standardised ones are, or centred here.
            slides: integer codes `[spot]`; given, features are centred inside each slide first. Then the sharing of
                genes is judged by how they vary within slides, which is what a ranking within slides is about, and
                a difference between slides (staining, depth) that all genes follow takes no direction. Heads are cut
                in the same way as without; what they say by features that only differ between slides is dropped.
            tolerance: smallest singular value kept, in largest ones.
        """
        if features.ndim != 2 or not len(features):
            raise UserError(f"Expected features [spot, feature] of some spots, received {tuple(features.shape)}.")
        x = centred(features.to(torch.float64), slides)
        if not x.isfinite().all():
            raise UserError("Expected finite features, received NaN or infinite ones; leave those spots out.")
        _, values, turns = torch.linalg.svd(x, full_matrices=False)
        kept = values > tolerance * values[0]
        if not kept.any():
            raise UserError("Expected features that vary over the training spots, received constant ones.")
        values, turns = values[kept], turns[kept]
        return cls(values[:, None] * turns, turns.T / values)

    def __len__(self) -> int:
        """Rank of the features."""
        return len(self.into)


class Trunk:
    """What all genes' heads have in common, for any weights of the genes.

    Args:
        coordinates: of the training spots.
        heads: B `[feature, gene]`, any linear heads: ridge, list loss, ...
        votes: what a gene of weight 1 counts in M `[gene]`; None: 1 for every gene. At length 1 the fitted values of a
            gene that no feature predicts are an arbitrary direction with a full vote; the share of its variance that
            they explain (`explained`) takes that vote away, and noise among the weighted genes then costs little.

    >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> trunk = Trunk(Coordinates.of(x), torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]]))
    >>> spectrum = trunk.spectrum(torch.ones(3))
    >>> spectrum.values  # two genes vote for the first feature, one for the second
    tensor([2., 1.], dtype=torch.float64)
    >>> trunk.cut(spectrum, [1])[0].abs().round()
    tensor([[2., 1., 0.],
            [0., 0., 0.]], dtype=torch.float64)
    """

    def __init__(self, coordinates: Coordinates, heads: Tensor, votes: Tensor | None = None) -> None:
        if heads.ndim != 2 or heads.shape[0] != coordinates.into.shape[1]:
            raise UserError(
                f"Expected heads [feature, gene] of {coordinates.into.shape[1]} features, "
                f"received {tuple(heads.shape)}."
            )
        self.coordinates = coordinates
        self.vectors = coordinates.into @ heads.to(coordinates.into)  # [q, gene]: R B
        self.units = unit(self.vectors)  # [q, gene], of squared length `votes`
        if votes is not None:
            if votes.shape != (heads.shape[1],) or not (votes >= 0).all():
                raise UserError(f"Expected one vote of at least 0 for each of {heads.shape[1]} genes, received others.")
            self.units = self.units * votes.to(self.units).sqrt()

    def moment(self, weights: Tensor) -> Tensor:
        """M(w) `[q, q]` of weights `[gene]`, differentiable; its trace is the sum of weights x votes."""
        return moment(self.units, weights)

    def spectrum(self, weights: Tensor) -> Spectrum:
        """Directions of a weighted vote, most wanted first; `gaps` says how clearly each rank is defined."""
        return Spectrum.of(self.moment(weights))

    def cut(self, spectrum: Spectrum, ranks: Sequence[int], genes: slice | Tensor = slice(None)) -> Tensor:
        """Heads B_r `[rank, feature, gene]` of some genes, one decomposition for all ranks; r = q gives B itself."""
        within = spectrum.vectors.T @ self.vectors[:, genes]
        back = self.coordinates.back @ spectrum.vectors
        return torch.stack([back[:, :rank] @ within[:rank] for rank in ranks])

    def coordinates_of(self, spectrum: Spectrum, rank: int) -> Tensor:
        """R^-1 U_r `[feature, r]`: `x @ it` are the coordinates z in which heads may be refitted, by any loss.

        Over the training spots z'z = 1: the directions are uncorrelated and of equal length.
        """
        return self.coordinates.back @ spectrum.vectors[:, :rank]

    def clear_rank(self, spectrum: Spectrum, rank: int, min_gap: float = MIN_GAP) -> int:
        """`rank`, or the next one that the spectrum defines."""
        return spectrum.clear_rank(rank, min_gap)


def refit_squares(features: Tensor, targets: Tensor, within: Tensor, penalty: float) -> Tensor:
    """Heads `[feature, gene]` refitted inside a trunk: min |Y - X b|^2 + penalty |b|^2 over b = within a.

    (Z'Z + penalty within'within) a = Z'Y with Z = X within. The penalty means what it means for the full heads: with
    all directions this is ridge regression on the features.

    Args:
        features: X `[spot, feature]`, centred as the targets are (over all spots, or inside slides).
        targets: Y `[spot, gene]`, centred.
        within: `Trunk.coordinates_of(...)` `[feature, r]`.
    """
    x, y = features.to(within), targets.to(within)
    if len(x) != len(y):
        raise UserError(f"Expected features and targets of the same spots, received {len(x)} and {len(y)}.")
    if penalty < 0:
        raise UserError(f"Expected a penalty of at least 0, received {penalty}.")
    z = x @ within
    return within @ torch.linalg.solve(z.T @ z + penalty * within.T @ within, z.T @ y)


def explained(features: Tensor, heads: Tensor, targets: Tensor, slides: Tensor | None = None) -> Tensor:
    """Share of every target's variance that its fitted values have `[gene]`, at most 1: votes for heads of squares.

    sum (X b_g)^2 / sum y_g^2, both centred over all spots or inside slides. With a penalty, pure noise has far less of
    it than a gene that the features predict.
    """
    fitted = centred(features.to(torch.float64) @ heads.to(torch.float64), slides).square().sum(0)
    total = centred(targets.to(torch.float64), slides).square().sum(0)
    return torch.where(total > 0, fitted / torch.where(total > 0, total, 1.0), 0.0).clamp_max(1.0)


def moment(units: Tensor, weights: Tensor) -> Tensor:
    """sum_g w_g v_g v_g' `[q, q]` of vectors `[q, gene]`; genes of weight 0 cost nothing."""
    weights = weights.to(units)
    if not weights.requires_grad:
        used = weights.nonzero().squeeze(1)
        if len(used) < len(weights):
            units, weights = units[:, used], weights[used]
    return (units * weights) @ units.T


def unit(vectors: Tensor) -> Tensor:
    """Columns of length 1; a gene whose fitted values do not vary has no vote and stays 0."""
    length = vectors.norm(dim=0)
    nothing = length <= 1e-12 * length.amax() if len(length) else length > 0
    return torch.where(nothing, 0.0, vectors / torch.where(nothing, 1.0, length))


def centred(features: Tensor, slides: Tensor | None) -> Tensor:
    """Columns of mean 0, over all spots or inside each slide."""
    if slides is None:
        return features - features.mean(0)
    _, codes, sizes = slides.unique(return_inverse=True, return_counts=True)
    sums = features.new_zeros(len(sizes), features.shape[1]).index_add_(0, codes, features)
    return features - (sums / sizes[:, None])[codes]
