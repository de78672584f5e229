"""The auxiliary genes of a low-rank trunk: what they count, and a selector tuned on the outer problem in closed form.

The outer problem leaves training patients or slides out, several folds averaged: heads of all candidates are fitted on
the rest (ridge: one decomposition for all genes), and the primary genes' correlation on what was left out is a
differentiable function of the genes' weights. No inner steps are taken.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

import strank
from agl.convex.curve import curve
from agl.convex.low_rank import Coordinates
from agl.convex.outer import Fold, OuterProblem
from agl.convex.tune import TuningStep, tune
from agl.data.expression import DEPTH
from agl.errors import UserError
from agl.estimators.convex import solve
from agl.estimators.inside import folds_inside
from agl.estimators.planted import Turn, can_plant, turned, verdict
from agl.estimators.sample import Sample

PENALTY = 1.0  # of the ridge heads on which genes are compared
STEPS = 40
LEAST_WEIGHT = 1e-3  # below, a gene is left out


def counted(sample: Sample, bound: float | None) -> Tensor:
    """What every gene counts in the vote for directions `[gene]`: 1 for primary genes, `strength` x weight for others.

    Where the auxiliary genes together exceed `bound` times the primary ones, all of them shrink.
    """
    weights = torch.from_numpy(np.asarray(sample.weights, dtype=np.float64)) * sample.strength
    if bound is not None and len(weights):
        weights = weights * min(1.0, bound * sample.n_primary / max(float(weights.sum()), 1e-12))
    return torch.cat([torch.ones(sample.n_primary, dtype=torch.float64), weights])


def settled(sample: Sample, *, rank: int, bound: float | None) -> tuple[Sample, dict[str, Any]]:
    """The sample with its selector's weights found and held fixed; as it is where none is to be learnt.

    Returns:
        the sample, its panel cut to the genes that count, and for the record: k, the weights `[aux]`, the score of
        every k of the learned ranking on the left-out slides, and, where spots have places, whether any candidate's
        influence is more than that of planted genes without any (`agl.estimators.planted`).
    """
    if sample.selector is None:
        return sample, {"k": int((np.asarray(sample.weights) >= 0.5).sum())}
    selector = copy.deepcopy(sample.selector)  # the caller's stays as it was: fitting again starts where this did
    if selector.signal not in ("hypergradient", "influence"):
        raise UserError(
            f"Expected a selector that learns by the hypergradient or by influences, received "
            f"{type(selector).__name__}, which reads training losses or gradients; a model that is solved has "
            "none. Train a network with it: model=mlp."
        )
    planted = turned(sample) if can_plant(sample) else []
    beside = outer_problem(sample, rank=rank, bound=bound, planted=planted)
    problem = beside.of_first(len(sample.weights))

    def heard(step: TuningStep) -> None:
        sample.report({f"outer_{key}": value for key, value in asdict(step).items()})

    tune(selector, problem, steps=STEPS, lr=sample.outer.learning_rate, seed=sample.seed, callback=heard)
    with torch.no_grad():
        weights = selector().double()
    found = curve(problem, torch.argsort(-weights, stable=True))
    flat = found.flat
    details = {
        "k": int((weights >= 0.5).sum()),
        "candidates": len(weights),
        "weights": weights.tolist(),
        "best_k": found.best,
        "as_good_from": flat[0],
        "as_good_to": flat[1],
        "curve": {
            "k": list(found.ks),
            "scc": found.mean.tolist(),
            "standard_error": found.standard_error.nan_to_num(0.0).tolist(),
        },
    }
    if planted:
        details |= verdict(beside, beside.n_auxiliary - problem.n_auxiliary)
    used = np.flatnonzero(weights.numpy() >= LEAST_WEIGHT)
    return sample.with_genes(used, weights.numpy()[used].astype(np.float32)), details


def outer_problem(sample: Sample, *, rank: int, bound: float | None, planted: Sequence[Turn] = ()) -> OuterProblem:
    """How well the primary genes fare on left-out training spots, as a function of the candidates' weights.

    Args:
        planted: further candidates, the last ones, that are known to have no influence.
    """
    inside = folds_inside(sample)
    if len(inside) < 2:
        raise UserError("Expected training spots to leave out for the outer problem, received too few; add slides.")
    folds = [_fold(sample, kept, held, planted) for kept, held in inside]
    return OuterProblem(folds, strank.pearson_loss, ranks=(rank,), strength=sample.strength, bound=bound)


def _fold(sample: Sample, kept_spots: np.ndarray, held_spots: np.ndarray, planted: Sequence[Turn]) -> Fold:
    kept, held = (sample.at(spots) for spots in (kept_spots, held_spots))
    kept, held = (part.at(np.flatnonzero(part.library_size > 0)) for part in (kept, held))
    heads = solve(kept, [PENALTY], kept.counts, loss="mse")
    turned_parts = (turn.within(sample, kept_spots) for turn in planted)
    others = [solve(part, [PENALTY], part.counts, loss="mse").coefficients[0].double() for part in turned_parts]
    x, new = (heads.basis(torch.from_numpy(part.features.astype(np.float64))) for part in (kept, held))
    rates = held.primary * DEPTH / held.library_size[:, None]
    return Fold.of(
        Coordinates.of(x, kept.slide_codes),
        torch.cat([heads.coefficients[0].double(), *others], dim=1),
        kept.n_primary,
        held_features=new,
        counts=torch.from_numpy(rates),  # of equal depth, for `curve` ranks them as they are
        slides=held.slide_codes,
        library_size=torch.full((len(held),), DEPTH, dtype=torch.float64),
    )
