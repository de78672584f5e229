"""Whether an influence is more than chance: beside genes that are known to have none.

Planted genes are candidates whose counts were moved to other places of their slides, so that nothing ties them to the
features or to the primary genes. Their heads come from the same solver on the same folds, and they stand in the outer
problem as further candidates of weight 0: one gradient scores candidates and planted genes alike. A candidate whose
influence is an ordinary one among the planted genes' is not told from chance, however steady it is from batch to batch;
a t-test of repeated measurements on the same spots asks another question, and pure noise passes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from agl.convex.outer import OuterProblem
from agl.errors import UserError
from agl.seeds import seeded


@dataclass(frozen=True, eq=False)
class PlantedCalibration:
    """What the planted genes say about the candidates.

    Args:
        statistic: influence per vote, mean over folds `[aux]`; negative helps.
        p_helps: chance of a planted gene helping as much `[aux]`; NaN for a gene without a head.
        p_harms: chance of a planted gene harming as much `[aux]`.
        helps: discoveries among `p_helps` at the false discovery rate asked for, bool `[aux]`.
        harms: among `p_harms`.
    """

    statistic: Tensor
    p_helps: Tensor
    p_harms: Tensor
    helps: Tensor
    harms: Tensor

    @property
    def clear(self) -> bool:
        """Whether any gene's influence is told from chance; where none is real, true in at most 2 x `fdr` of cases."""
        return bool(self.helps.any() | self.harms.any())

    @property
    def share(self) -> float:
        """Estimated share of candidates with an influence that helps: those with p below 1/2 beyond chance's half."""
        known = self.p_helps[~self.p_helps.isnan()]
        return max(0.0, 2 * float((known < 0.5).double().mean()) - 1) if len(known) else 0.0

    @property
    def verdict(self) -> str:
        """One sentence."""
        helps, harms, n = int(self.helps.sum()), int(self.harms.sum()), len(self.helps)
        if not self.clear:
            return f"No influence is told from chance: none of {n} genes stands out from planted genes without any."
        return f"{helps} of {n} genes help and {harms} harm more than planted genes without any influence do."


def calibrate(
    problem: OuterProblem, weights: Tensor, n_planted: int, *, fdr: float = 0.05, strength: float | None = None
) -> PlantedCalibration:
    """Compare the candidates' influences with those of planted genes, the last `n_planted` candidates of `problem`.

    The statistic is d outer / d weight over the gene's vote |v|^2, averaged over folds: an influence's size without the
    vote is a matter of direction alone, and candidates and planted genes are alike in all else.
    p = (1 + planted genes at least as extreme) / (1 + planted genes); discoveries by Benjamini and Hochberg, which
    holds for such p-values although they share their planted genes.

    Args:
        weights: `[aux]` without the planted genes, where the influence is measured; zeros: at primary genes alone.
        n_planted: 1,000 can tell 1 % of genes at fdr 0.05 apart; fewer planted genes make it blind, not wrong.

    Source: Bates et al., Ann. Statist. 51 (2023) 149: such p-values are positively dependent, and the rule holds.
    """
    n = problem.n_auxiliary - n_planted
    if not 0 < n_planted < problem.n_auxiliary:
        raise UserError(
            f"Expected 1 to {problem.n_auxiliary - 1} planted genes among the candidates, received {n_planted}."
        )
    if weights.shape != (n,):
        raise UserError(f"Expected weights of the {n} candidates, received shape {tuple(weights.shape)}.")
    if not 0 < fdr < 1:
        raise UserError(f"Expected fdr between 0 and 1, received {fdr}.")
    full = torch.cat([weights.to(torch.float64), torch.zeros(n_planted, dtype=torch.float64)])
    influence = problem.gradient(full, strength).by_fold
    votes = torch.stack([fold.auxiliary.square().sum(0) for fold in problem.folds])
    per_vote = torch.where(votes > 0, influence / torch.where(votes > 0, votes, 1.0), torch.nan).mean(0)
    ours, chance = per_vote[:n], per_vote[n:]
    chance = chance[~chance.isnan()].sort().values
    as_low = torch.searchsorted(chance, ours, right=True)
    as_high = len(chance) - torch.searchsorted(chance, ours)
    missing = ours.isnan() | (len(chance) == 0)
    p_helps, p_harms = (
        torch.where(missing, torch.nan, (1 + count).double() / (1 + len(chance))) for count in (as_low, as_high)
    )
    return PlantedCalibration(ours, p_helps, p_harms, _discoveries(p_helps, fdr), _discoveries(p_harms, fdr))


def moved_spots(coords: Tensor, slides: Tensor, *, seed: int, draw: int) -> Tensor:
    """Where every spot takes its counts from `[spot]`: its slide turned and perhaps mirrored about its centre.

    `counts[moved_spots(...)]` keeps a gene's total roughly and how it varies from neighbour to neighbour, and takes
    away what it has to do with anything else in these places. Every spot takes the counts of the spot nearest to its
    turned place, library size included. Turns are by 45 to 315 degrees.

    Args:
        coords: spot centres `[spot, 2]`.
        slides: integer codes `[spot]`.
        seed, draw: the result is a function of them.
    """
    source = torch.empty(len(coords), dtype=torch.long)
    rng = seeded(seed, "moved spots", draw)
    for code in slides.unique():
        rows = (slides == code).nonzero().squeeze(1)
        places = coords[rows].to(torch.float64)
        places = places - places.mean(0)
        angle = torch.tensor(rng.uniform(torch.pi / 4, 7 * torch.pi / 4), dtype=torch.float64)
        turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
        turn[1] = turn[1] * (1 if rng.random() < 0.5 else -1)
        nearest = cKDTree(places.numpy()).query((places @ turn.T).numpy())[1]
        source[rows] = rows[torch.from_numpy(nearest)]
    return source


def _discoveries(p: Tensor, fdr: float) -> Tensor:
    known = (~p.isnan()).nonzero().squeeze(1)
    ordered = p[known].sort().values
    passed = (ordered <= fdr * torch.arange(1, len(known) + 1) / max(len(known), 1)).nonzero()
    return (p <= ordered[passed[-1]]) if len(passed) else torch.zeros_like(p, dtype=torch.bool)
