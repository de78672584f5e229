"""The outer problem in closed form: how well do the primary genes fare in the trunk that these weights give?

    outer(w) = mean over folds and primary genes of L_g(H_k P_r(M_k(w)) C_k)

with, for every fold k that leaves spots out: the heads of all genes fitted on the rest, H_k the left-out spots in the
trunk's coordinates, C_k the primary genes' heads there. No inner steps are taken: for any weights of any number of
candidates M is a small matrix, P_r its leading eigenprojector, and both have exact derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from agl.convex.low_rank import Coordinates, Trunk, moment
from agl.convex.projector import MIN_GAP, Projection, projector
from agl.errors import UserError


@dataclass(frozen=True, eq=False)
class Fold:
    """One way to leave spots out, in coordinates of the spots that were kept.

    Args:
        primary: the primary genes' vectors in M `[q, primary]`.
        auxiliary: the candidate genes' `[q, aux]`.
        heads: the primary genes' own heads C `[q, primary]`.
        held: left-out spots H `[spot, q]`.
        counts: of the primary genes there `[spot, primary]`.
        slides: integer codes `[spot]`.
        library_size: `[spot]`.
        intercept: added to the primary genes' scores `[primary]`.
    """

    primary: Tensor
    auxiliary: Tensor
    heads: Tensor
    held: Tensor
    counts: Tensor
    slides: Tensor
    library_size: Tensor
    intercept: Tensor | None = None

    @classmethod
    def of(
        cls,
        coordinates: Coordinates,
        heads: Tensor,
        n_primary: int,
        *,
        held_features: Tensor,
        counts: Tensor,
        slides: Tensor,
        library_size: Tensor,
        intercept: Tensor | None = None,
        votes: Tensor | None = None,
    ) -> Fold:
        """From the training spots' coordinates and the heads `[feature, gene]`, primary genes first.

        With fewer genes than features all that happens takes place in the space that the genes' vectors span; it is
        then turned into the coordinates, once, and matrices are as small as the number of genes. `votes` as in `Trunk`;
        they are brought to a mean of 1 over the primary genes, so that strength and bound keep their meaning.
        """
        if votes is not None:
            votes = votes / votes[:n_primary].mean().clamp_min(1e-12)
        trunk = Trunk(coordinates, heads, votes)
        if not 0 < n_primary <= heads.shape[1]:
            raise UserError(f"Expected 1 to {heads.shape[1]} primary genes, received {n_primary}.")
        n_spots, genes = len(held_features), (len(held_features), n_primary)
        for name, value, shape in (
            ("held_features", held_features, (n_spots, heads.shape[0])),
            ("counts", counts, genes),
            ("slides", slides, (n_spots,)),
            ("library_size", library_size, (n_spots,)),
        ):
            if tuple(value.shape) != shape:
                raise UserError(f"Expected {name} of shape {shape}, received {tuple(value.shape)}.")
        units, vectors = trunk.units, trunk.vectors[:, :n_primary]
        held = held_features.to(units) @ coordinates.back
        if heads.shape[1] < len(coordinates):
            span, _ = torch.linalg.qr(trunk.vectors)
            units, vectors, held = span.T @ units, span.T @ vectors, held @ span
        return cls(
            units[:, :n_primary].contiguous(),
            units[:, n_primary:].contiguous(),
            vectors,
            held,
            counts,
            slides,
            library_size,
            None if intercept is None else intercept.to(units),
        )

    def scores(self, projection: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Scores `[..., spot, primary]` of left-out spots, for one projector or a batch `[..., q, q]`."""
        scores = self.held[rows] @ (projection @ self.heads)
        return scores if self.intercept is None else scores + self.intercept


@dataclass(frozen=True, eq=False)
class Influence:
    """d outer / d weight of every candidate gene, by fold `[fold, aux]`: negative helps. `strength` alike `[fold]`.

    `ranks_used` as `OuterProblem.ranks_used`.
    """

    by_fold: Tensor
    strength: Tensor
    loss: Tensor
    ranks_used: Sequence[tuple[int, ...]] = ()

    @property
    def mean(self) -> Tensor:
        """`[aux]`: the gradient of the outer loss."""
        return self.by_fold.mean(0)


@dataclass(frozen=True, eq=False)
class OuterProblem:
    """What any choice of auxiliary genes is worth to the primary ones, on spots that no head has seen.

    Args:
        folds: several, each with its own heads; primary and candidate genes in one order.
        gene_loss: `(scores, counts, *, slides, library_size) -> [gene]`, differentiable. Scores are the heads' own:
            a list loss wants heads of a list loss, heads of any scale want a loss that does not see it (Pearson).
        ranks: directions of the trunk; several: the mean of their scores is judged.
        strength: factor of the auxiliary genes' weights.
        bound: largest total weight of the auxiliary genes, in total weights of the primary ones (1 each); where it is
            exceeded all of them shrink. None: no bound.
        min_gap: see `agl.convex.projector`; where a rank has no gap behind it the next one is taken.
    """

    folds: Sequence[Fold]
    gene_loss: Callable[..., Tensor]
    ranks: tuple[int, ...] = (5,)
    strength: float = 1.0
    bound: float | None = None
    min_gap: float = MIN_GAP

    def __post_init__(self) -> None:
        if not self.folds:
            raise UserError("Expected at least one outer fold, received none.")
        sizes = {(fold.primary.shape[1], fold.auxiliary.shape[1]) for fold in self.folds}
        if len(sizes) > 1:
            raise UserError(f"Expected the same genes in every fold, received (primary, auxiliary) of {sorted(sizes)}.")
        for name, value in (("strength", self.strength), ("bound", self.bound)):
            if value is not None and not value >= 0:
                raise UserError(f"Expected {name} of at least 0, received {value}.")
        ranks = (self.ranks,) if isinstance(self.ranks, int) else tuple(self.ranks)
        object.__setattr__(self, "ranks", ranks)

    @property
    def n_primary(self) -> int:
        """Primary genes."""
        return self.folds[0].primary.shape[1]

    @property
    def n_auxiliary(self) -> int:
        """Candidate genes."""
        return self.folds[0].auxiliary.shape[1]

    def of_first(self, n: int) -> OuterProblem:
        """The same problem with the first n candidates alone."""
        if n == self.n_auxiliary:
            return self
        return replace(self, folds=[replace(f, auxiliary=f.auxiliary[:, :n].contiguous()) for f in self.folds])

    def coefficients(self, weights: Tensor, strength: Tensor | float | None = None) -> Tensor:
        """What every candidate counts in M `[aux]`: strength x weight, all of them shrunk to keep the bound."""
        if weights.shape[-1] != self.n_auxiliary:
            raise UserError(f"Expected {self.n_auxiliary} weights, received shape {tuple(weights.shape)}.")
        values = weights.to(torch.float64) * (self.strength if strength is None else strength)
        return values * self.shrinkage(values.sum(-1, keepdim=True))

    def shrinkage(self, total: Tensor) -> Tensor:
        """The factor that brings a total weight down to the bound; 1 below it."""
        if self.bound is None:
            return torch.ones_like(total)
        most = self.bound * self.n_primary
        return torch.where(total > most, most / torch.where(total > most, total, 1.0), 1.0)

    def projection(self, fold: Fold, coefficients: Tensor) -> Projection:
        """The trunk of one fold; `ranks_used` and `widened` say where a gap was missing."""
        matrix = fold.primary @ fold.primary.T + moment(fold.auxiliary, coefficients)
        return projector(matrix, self.ranks, min_gap=self.min_gap)

    def ranks_used(self, weights: Tensor) -> list[tuple[int, ...]]:
        """Ranks of every fold's trunk at these weights: those asked for, or wider where no gap follows them."""
        coefficients = self.coefficients(weights.detach())
        return [self.projection(fold, coefficients).ranks_used for fold in self.folds]

    def fold_losses(self, fold: Fold, coefficients: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Losses of the primary genes `[primary]` on a fold's left-out spots, or on some of them."""
        return self._judged(fold, coefficients, rows)[0]

    def _judged(
        self, fold: Fold, coefficients: Tensor, rows: Tensor | slice = slice(None)
    ) -> tuple[Tensor, tuple[int, ...]]:
        found = self.projection(fold, coefficients)
        scores = fold.scores(found.matrix, rows)
        given = {"slides": fold.slides[rows], "library_size": fold.library_size[rows]}
        return self.gene_loss(scores, fold.counts[rows], **given), found.ranks_used

    def losses(self, weights: Tensor, strength: Tensor | float | None = None) -> Tensor:
        """Losses `[fold, primary]` at weights `[aux]`, differentiable in weights and strength."""
        return self.losses_and_ranks(weights, strength)[0]

    def losses_and_ranks(
        self, weights: Tensor, strength: Tensor | float | None = None
    ) -> tuple[Tensor, list[tuple[int, ...]]]:
        """`losses` and `ranks_used` at once, for every M costs as much as a step does."""
        coefficients = self.coefficients(weights, strength)
        found = [self._judged(fold, coefficients) for fold in self.folds]
        return torch.stack([losses for losses, _ in found]), [ranks for _, ranks in found]

    def loss(self, weights: Tensor, strength: Tensor | float | None = None) -> Tensor:
        """The outer loss: the mean of `losses`."""
        return self.losses(weights, strength).mean()

    def gradient(
        self,
        weights: Tensor,
        strength: float | None = None,
        rows: Sequence[Tensor | slice] | None = None,
    ) -> Influence:
        """d outer / d weight of all candidates at once, fold by fold.

        Args:
            rows: which left-out spots to judge by, for every fold; None: all of them.
        """
        chosen = [slice(None)] * len(self.folds) if rows is None else rows
        w = weights.detach().to(torch.float64).requires_grad_()
        s = torch.tensor(self.strength if strength is None else float(strength), dtype=torch.float64).requires_grad_()
        values, by_fold, by_strength, used = [], [], [], []
        for fold, some in zip(self.folds, chosen, strict=True):
            losses, ranks = self._judged(fold, self.coefficients(w, s), some)
            value = losses.mean()
            used.append(ranks)
            of_weights, of_strength = torch.autograd.grad(value, (w, s))
            values.append(value.detach())
            by_fold.append(of_weights)
            by_strength.append(of_strength)
        return Influence(torch.stack(by_fold), torch.stack(by_strength), torch.stack(values), used)
