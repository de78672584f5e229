"""One linear head per gene on frozen features, solved for a path of penalties."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agl.convex.losses import default_penalties, read_loss
from agl.convex.path import Closed, Newton, gene_batches, loss_of
from agl.convex.spots import Basis, prepare
from agl.errors import UserError

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}  # what both reach from any start on real sections

Report = Callable[[int, dict[str, Any]], None]


@dataclass(frozen=True, eq=False)
class Heads:
    """Solved heads; penalties in the order they were given.

    Attributes:
        coefficients: `[penalty, component, gene]`, in the coordinates of `basis`: |b|^2 is what was penalised.
        level: `[penalty, gene]`, the score of a spot with average features; 0 where the loss does not see it.
        loss: `[penalty, gene]`, strank's loss on the training spots, without the penalty.
        gradient_norm: `[penalty, gene]`, largest entry of the gradient.
        iterations: `[penalty, gene]`, Newton steps; 1 for a closed form.
    """

    penalties: tuple[float, ...]
    tolerance: float
    basis: Basis
    coefficients: Tensor
    level: Tensor
    loss: Tensor
    gradient_norm: Tensor
    iterations: Tensor

    @property
    def weights(self) -> Tensor:
        """`[penalty, feature, gene]` for raw features; exactly 0 for a constant one."""
        return self.basis.weights(self.coefficients)

    @property
    def intercept(self) -> Tensor:
        """`[penalty, gene]` for raw features."""
        return self.level - (self.basis.mean[:, None] * self.weights).sum(1)

    @property
    def converged(self) -> Tensor:
        """bool `[penalty, gene]`: the gradient is below the tolerance."""
        return self.gradient_norm <= self.tolerance

    def predict(self, x: Any, penalty: int | None = None) -> Tensor:
        """Scores `[penalty, spot, gene]` of raw features `[spot, feature]`, or `[spot, gene]` of the penalty at one
        position."""
        which = slice(None) if penalty is None else penalty
        return self.basis(x) @ self.coefficients[which] + self.level[which].unsqueeze(-2)


def solve_path(
    x: Any,
    counts: Any,
    library_size: Any | None = None,
    slides: Any | None = None,
    *,
    loss: str = "listwise",
    options: Mapping[str, Any] | None = None,
    penalties: Sequence[float] | None = None,
    tolerance: float | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    report: Report | None = None,
    evaluate: bool = True,
) -> Heads:
    r"""The exact optimum of every gene's own linear head, for every penalty.

    .. math:: \min_{b_g, a_g} \; \frac{1}{m_g} L_g(X b_g + a_g) + \lambda |b_g|^2

    L_g is strank's loss of gene g, X the features in units of their spread over the training spots. m_g makes one
    penalty mean the same for all genes: the mean count for likelihoods (with `count_power` its power; for a negative
    binomial the information at it), the share of usable spots for squares. The intercept a_g is not penalised, and
    absent where the loss does not see the level of a slide. `pearson` is not convex; its quadratic form is solved:
    squared distance to targets that are centred and standardised inside each slide.

    Squares have a closed form, one eigendecomposition for all penalties; the others take Newton's method, from the
    strongest penalty to the weakest, each from the optimum before. A gene without counts has weights 0.

    Args:
        x: features `[spot, feature]`, array or tensor; more features than spots are no difficulty.
        counts: raw counts `[spot, gene]`.
        library_size: `[spot]`, totals over all genes; None for no correction. Spots with 0 take no part.
        slides: integer codes `[spot]`, in any order; None for one slide.
        loss: listwise, pairwise (all pairs of a slide), poisson, negative_binomial (known dispersion), mse, pearson.
        options: of the loss, see `agl.convex.losses.read_loss`.
        penalties: lambda > 0; None for those worth trying with this loss.
        tolerance: of the largest entry of the gradient; None for 1e-6, in float32 1e-4.
        dtype: float64, or float32.
        device: where to solve.
        report: called as `report(position of the penalty, record)` when all genes are solved for it.
        evaluate: also the loss at the optimum, which for many genes of a closed form takes longer than the optimum;
            without, `Heads.loss` is NaN.

    Raises:
        UserError: shapes or numbers that do not fit, a loss that is not convex.

    >>> from agl.seeds import seeded
    >>> x = seeded(0, "x").normal(size=(40, 3))
    >>> heads = solve_path(x, seeded(0, "counts").poisson(np.exp(x[:, :1])), penalties=[0.1, 1e6])
    >>> heads.weights.shape, bool(heads.converged.all()), heads.weights[0, :, 0].argmax().item()
    (torch.Size([2, 3, 1]), True, 0)
    >>> bool(heads.weights[1].abs().max() < 1e-5)
    True
    """
    choice = read_loss(loss, options)
    path = read_penalties(default_penalties(loss) if penalties is None else penalties)
    if dtype not in TOLERANCE:
        raise UserError(f"Expected dtype float64 or float32, received {dtype}.")
    goal = TOLERANCE[dtype] if tolerance is None else float(tolerance)
    if not 0 < goal < float("inf"):
        raise UserError(f"Expected a tolerance above 0, received {tolerance!r}.")
    spots = prepare(
        x, library_size, None if choice.pooled else slides, within=choice.within, dtype=dtype, device=device
    )
    check_counts(counts, spots.n_given)
    _check_dispersion(options, counts.shape[1])
    batches = gene_batches(choice, spots, counts.shape[1])
    solver = Closed(choice, spots, counts, batches) if choice.curved is None else Newton(choice, spots, counts, goal)
    n, d, n_genes = len(path), spots.x.shape[1], counts.shape[1]
    coefficients = spots.x.new_zeros(n, d, n_genes)
    level, values, norms = (spots.x.new_zeros(n, n_genes) for _ in range(3))
    steps = torch.zeros(n, n_genes, dtype=torch.long, device=spots.x.device)
    before: int | None = None
    for at in sorted(range(n), key=lambda position: -path[position]):
        for genes in batches:
            start = None if before is None else (coefficients[before, :, genes].T, level[before, genes])
            (b, norms[at, genes], steps[at, genes]), level[at, genes] = solver.solve(genes, path[at], start)
            coefficients[at, :, genes] = b.T
            values[at, genes] = loss_of(choice, spots, counts, genes, b, level[at, genes]) if evaluate else torch.nan
        before = at
        if report is not None:
            report(at, _record(path[at], values[at], norms[at], steps[at], goal))
    return Heads(path, goal, spots.basis, coefficients, level, values, norms, steps)


def read_penalties(penalties: Sequence[float]) -> tuple[float, ...]:
    """Positive finite numbers."""
    path = tuple(float(one) for one in np.atleast_1d(np.asarray(penalties, dtype=float)))
    if not path or not all(0 < one < float("inf") for one in path):
        raise UserError(
            f"Expected penalties above 0 and finite, received {list(path)}; without one a head may not exist."
        )
    return path


def check_counts(counts: Any, n_spots: int) -> None:
    """A table of finite numbers of 0 or more."""
    shape = tuple(getattr(counts, "shape", ()))
    if len(shape) != 2 or shape[0] != n_spots or not shape[1]:
        raise UserError(f"Expected counts [spot, gene] with {n_spots} spots, received shape {list(shape)}.")
    low, high = (float(value) for value in (counts.min(), counts.max()))
    if not 0 <= low <= high < float("inf"):
        raise UserError("Expected raw counts of 0 or more, received a negative or not finite one.")


def _check_dispersion(options: Mapping[str, Any] | None, n_genes: int) -> None:
    shape = tuple(getattr((options or {}).get("dispersion"), "shape", ()))
    if shape not in ((), (n_genes,)):
        raise UserError(f"Expected dispersion as a number or [gene] = [{n_genes}], received shape {list(shape)}.")


def _record(penalty: float, values: Tensor, norms: Tensor, steps: Tensor, tolerance: float) -> dict[str, Any]:
    return {
        "penalty": penalty,
        "loss": float(values.mean()),
        "gradient_norm": float(norms.max()),
        "iterations": int(steps.max()),
        "converged": float((norms <= tolerance).double().mean()),
    }
