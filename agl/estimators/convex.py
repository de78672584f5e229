"""One linear head per gene on frozen features, its loss solved to the optimum instead of trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agl.convex.heads import Heads, solve_path
from agl.convex.losses import default_penalties, read_loss
from agl.convex.spots import Basis
from agl.errors import UserError
from agl.estimators.inside import folds_inside, score_by_slide, simplest_of_the_best
from agl.estimators.sample import Sample
from agl.estimators.tables import check_finite, check_width


class Convex:
    r"""Every gene's own linear head, the exact optimum of the config's loss with an L2 penalty.

    .. math:: \min_{b_g, a_g} \; \frac{1}{m_g} L_g(X b_g + a_g) + \lambda |b_g|^2

    (`agl.convex.heads.solve_path` has the scaling m_g). The loss is any that is convex in the scores: listwise,
    pairwise over all pairs of a slide, poisson, negative_binomial with a fixed dispersion, mse, mse centred, pearson
    as its quadratic form; others are refused with the reason. The penalty is chosen inside the training spots, by
    leaving patients or slides out, by the score that is reported; among penalties within one standard error of the
    best the strongest is taken. Genes are apart from each other: auxiliary genes cannot change the primary ones.

    Args:
        penalty: a fixed lambda instead of choosing one.
        penalties: the ones to choose from; None: those worth trying with the loss.
        tolerance: of the largest entry of the gradient; None: 1e-6.
    """

    def __init__(
        self,
        *,
        penalty: float | None = None,
        penalties: Sequence[float] | None = None,
        tolerance: float | None = None,
    ) -> None:
        self.penalties = (penalty,) if penalty is not None else None if penalties is None else tuple(penalties)
        self.tolerance = tolerance

    def fit(self, sample: Sample) -> LinearScores:
        """Choose the penalty inside, then solve on all spots."""
        path = sorted(penalties_of(sample, self.penalties), reverse=True)
        chosen = 0
        details: dict[str, Any] = {}
        if len(path) > 1:
            chosen, details = choose_penalty(sample, path, self.tolerance)
        heads = solve(sample, path[: chosen + 1], sample.primary, tolerance=self.tolerance, told=True, evaluate=True)
        details |= {"penalty": path[chosen], "penalty_at_edge": len(path) > 1 and chosen in (0, len(path) - 1)}
        details |= {"gradient": float(heads.gradient_norm[-1].max()), "loss": float(heads.loss[-1].mean())}
        return LinearScores(heads.weights[-1], heads.intercept[-1], details)

    def all_genes(self, sample: Sample) -> LinearScores:
        """The same for every gene of the panel, with the penalty that suits the primary ones."""
        path = sorted(penalties_of(sample, self.penalties), reverse=True)
        chosen, details = choose_penalty(sample, path, self.tolerance) if len(path) > 1 else (0, {})
        heads = solve(sample, [path[chosen]], sample.counts, tolerance=self.tolerance)
        return LinearScores(heads.weights[0], heads.intercept[0], details | {"penalty": path[chosen]})


@dataclass(frozen=True, eq=False)
class LinearScores:
    """Scores that are linear in raw features."""

    weights: Tensor  # [feature, gene]
    intercept: Tensor  # [gene]
    details: dict[str, Any]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 `[spot, gene]`."""
        check_width(features, len(self.weights))
        check_finite(features)
        x = torch.from_numpy(np.asarray(features, dtype=np.float64))
        return (x @ self.weights.double() + self.intercept.double()).numpy()


def penalties_of(sample: Sample, given: Sequence[float] | None) -> tuple[float, ...]:
    """Those given, or those worth trying with the sample's loss."""
    read_loss(sample.loss.name, sample.loss.args)  # refuses what is not convex, before anything is read
    found = default_penalties(sample.loss.name) if given is None else tuple(given)
    if not found or not all(np.isfinite(value) and value > 0 for value in found):
        raise UserError(f"Expected penalties above 0, received {list(found) or 'none'}; give numbers such as 0.1.")
    return tuple(found)


def solve(
    sample: Sample,
    penalties: Sequence[float],
    counts: np.ndarray,
    *,
    loss: str | None = None,
    tolerance: float | None = None,
    told: bool = False,
    evaluate: bool = False,
) -> Heads:
    """The heads of these genes on the sample's spots, for a path of penalties.

    `told` reports every one of them to whoever listens to the sample; `evaluate` has the losses even if nobody does.
    """

    def heard(position: int, record: dict[str, Any]) -> None:
        sample.report({key: value for key, value in record.items() if isinstance(value, (int, float))})

    own = loss is None or loss == sample.loss.name
    heads = solve_path(
        sample.features,
        counts,
        sample.library_size,
        sample.slides,
        loss=sample.loss.name if loss is None else loss,
        options=sample.loss.args if own else None,
        penalties=penalties,
        tolerance=tolerance,
        device=sample.device,
        report=heard if told and sample.heard else None,
        evaluate=evaluate or (told and sample.heard),
    )
    return _on_cpu(heads)


def _on_cpu(heads: Heads) -> Heads:
    """Wherever heads are solved, what follows is small: directions, choices and scores are worked out on the CPU."""
    basis = Basis(heads.basis.mean.cpu(), heads.basis.scale.cpu(), heads.basis.rotation.cpu())
    solved = ("coefficients", "level", "loss", "gradient_norm", "iterations")
    return replace(heads, basis=basis, **{name: getattr(heads, name).cpu() for name in solved})


def choose_penalty(sample: Sample, path: Sequence[float], tolerance: float | None) -> tuple[int, dict[str, Any]]:
    """Position of the penalty to take, path from the strongest on, and the curve it was chosen from."""
    inside = folds_inside(sample)
    if len(inside) < 2:
        return len(path) // 2, {"cv": "too few spots to leave any out: the middle of the path"}
    found = []
    for kept, held in inside:
        rest, left = sample.at(kept), sample.at(held)
        heads = solve(rest, path, rest.primary, tolerance=tolerance)
        found.append(score_by_slide(heads.predict(left.features), left))
    by_slide = np.concatenate(found, axis=1)
    chosen = simplest_of_the_best(by_slide)
    curve = {f"{penalty:g}": float(score) for penalty, score in zip(path, np.nanmean(by_slide, axis=1), strict=True)}
    return chosen, {"cv": inside.words, f"cv_{sample.score}": curve}
