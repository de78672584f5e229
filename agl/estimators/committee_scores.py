"""What a fitted committee says: the weighted mean of its members' scores, each standardised inside slides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agl.estimators.tables import check_finite, check_width

Scored = Callable[[np.ndarray], Tensor]  # features [spot, feature] -> float64 scores [spot, gene]


@dataclass(frozen=True, eq=False)
class CommitteeScores:
    """Linear members first, then any others, standardised inside slides and averaged.

    Attributes:
        weights: of the linear members `[member, feature, gene]`.
        details: for the record.
        others: members that are not linear.
        shares: what every member counts `[member]`, linear ones first; None: all alike.
    """

    weights: Tensor
    details: dict[str, Any]
    others: Sequence[Scored] = ()
    shares: Tensor | None = field(default=None)

    def __len__(self) -> int:
        return len(self.weights) + len(self.others)

    @property
    def counted(self) -> Tensor:
        """What every member counts `[member]`, in all 1."""
        shares = torch.ones(len(self), dtype=torch.float64) if self.shares is None else self.shares.double()
        return shares / shares.sum()

    def members(self, features: np.ndarray, slides: np.ndarray) -> Iterator[Tensor]:
        """Every member's standardised scores `[spot, gene]`: mean 0 and sd 1 inside each slide, 0 without variation."""
        check_width(features, self.weights.shape[1])
        check_finite(features)
        x = torch.from_numpy(np.asarray(features, dtype=np.float64))
        slides_of = rows_of(np.asarray(slides))
        for weights in self.weights:
            yield standardised(x @ weights.double(), slides_of)
        for other in self.others:
            yield standardised(other(features), slides_of)

    def total(self, features: np.ndarray, slides: np.ndarray) -> Tensor:
        """The sum of the members' scores `[spot, gene]`: sums of several committees make one of all their members."""
        return torch.stack(list(self.members(features, slides))).sum(0)

    def predict(self, features: np.ndarray, slides: np.ndarray) -> np.ndarray:
        """float64 `[spot, gene]`; `slides` are codes `[spot]`, inside which the scores rank."""
        return self.mean_and_spread(features, slides)[0]

    def mean_and_spread(self, features: np.ndarray, slides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The members' mean score, and their standard deviation: how little they agree on a spot; both `[spot, gene]`.

        Member by member, so that memory does not grow with the committee.
        """
        mean, spread = mean_and_spread(self.members(features, slides), self.counted.tolist())
        return mean.numpy(), spread.numpy()


def mean_and_spread(members: Iterable[Tensor], shares: Iterable[float]) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation of members' scores `[spot, gene]`, one at a time; shares are 1 in all."""
    mean = squares = torch.zeros((), dtype=torch.float64)
    so_far = 0.0
    for share, scores in zip(shares, members, strict=True):
        if share == 0:
            continue
        so_far += share  # West, Comm. ACM 22 (1979) 532
        off = scores - mean
        mean = mean + off * (share / so_far)
        squares = squares + share * off * (scores - mean)
    return mean, squares.clamp_min(0).sqrt()


def rows_of(slides: np.ndarray) -> list[Tensor]:
    """The positions of each slide's spots, from codes `[spot]`."""
    return [torch.from_numpy(np.flatnonzero(slides == slide)) for slide in np.unique(slides)]


def standardised(scores: Tensor, slides_of: Sequence[Tensor]) -> Tensor:
    """Scores `[spot, gene]` with mean 0 and sd 1 inside each slide, whose spots are given; 0 where they do not vary."""
    scores = scores.clone()
    for rows in slides_of:
        part = scores[rows] - scores[rows].mean(0)
        sd = part.square().mean(0).sqrt()
        scores[rows] = torch.where(sd > 1e-12, part / sd.clamp_min(1e-12), 0.0)
    return scores
