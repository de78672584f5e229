"""What members of a committee count, by training slides that are left out: a network's share, or every weight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from agl.data.expression import expression
from agl.estimators.committee_scores import CommitteeScores, rows_of, standardised
from agl.estimators.inside import Inside, folds_inside, score_by_slide, simplest_of_the_best
from agl.estimators.sample import Sample

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the committee that a network may have
FEWEST = 200  # training spots, from which on a network is asked for


def choose_share(
    sample: Sample,
    inside: Inside,
    committee: Callable[[Sample], CommitteeScores],
    networks: Callable[[Sample], CommitteeScores],
) -> tuple[float, dict[str, float]]:
    """The networks' share of the committee and every share's score on what is left out.

    None where the best share is not better than none by more than one standard error, paired by slide; else the best.
    """
    found = []
    for kept, held in inside:
        rest, left = sample.at(kept), sample.at(held)
        without, alone = (torch.from_numpy(f(rest).predict(left.features, left.slides)) for f in (committee, networks))
        scores = torch.stack([(1 - share) * without + share * alone for share in SHARES])
        found.append(score_by_slide(scores, left))
    by_slide = np.concatenate(found, axis=1)
    means = np.nanmean(by_slide, axis=1)
    best = int(np.argmax(means))
    adds = simplest_of_the_best(by_slide[[0, best]]) == 1
    return SHARES[best] if adds else 0.0, {f"{share:g}": float(mean) for share, mean in zip(SHARES, means, strict=True)}


def stacked_shares(sample: Sample, fit: Callable[[Sample], CommitteeScores], members: int) -> Tensor | None:
    """Weights `[member]` above or at 0, in all 1: least squares of standardised log expression on left-out slides.

    One weight a member for all genes; every slide and gene counts alike. None (equal weights) where nothing can be left
    out or no member has anything to say.
    """
    inside = folds_inside(sample)
    if len(inside) < 2:
        return None
    gram, cross = np.zeros((members, members)), np.zeros(members)
    for kept, held in inside:
        left = sample.at(held)
        left = left.at(np.flatnonzero(left.library_size > 0))
        rows = rows_of(left.slides)
        target = standardised(expression(torch.from_numpy(left.primary), left.library_size).double(), rows)
        scores = torch.stack(list(fit(sample.at(kept)).members(left.features, left.slides)))
        for spots in rows:
            part = scores[:, spots].flatten(1).numpy()
            gram += part @ part.T / len(spots)
            cross += part @ target[spots].flatten().numpy() / len(spots)
    values, vectors = np.linalg.eigh(gram)
    root = np.sqrt(values.clip(min=1e-9 * values.max()))
    weights, _ = optimize.nnls((vectors * root).T, (vectors / root).T @ cross)
    return torch.from_numpy(weights / weights.sum()) if weights.sum() > 0 else None
