"""What an estimator is fitted on, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from agl.config import Component, Outer

Report = Callable[[dict[str, Any]], None]
Trains = Callable[["Sample", Component, np.ndarray, int], Callable[[np.ndarray], Tensor]]


def _unheard(record: dict[str, Any]) -> None:
    return None


@dataclass(frozen=True, eq=False)
class Sample:
    """Training spots, the panel they are fitted to, and what the config says of both. No other spot is in here.

    Attributes:
        features: `[spot, feature]`.
        counts: raw counts `[spot, gene]`, primary genes first.
        library_size: totals over all genes `[spot]`.
        slides, patients: integer codes `[spot]`; where patients are not known each slide has its own.
        views: columns of `features` by what they show of a spot: "own", or "context": its own and its surroundings';
            with several encoders, each of both ("builtin own", ...).
        n_primary: how many genes are scored.
        weights: of the auxiliary genes `[aux]`.
        strength: what an auxiliary gene of weight 1 counts beside a primary one.
        selector: a module that is to learn the weights; None where they are given.
        outer: how it is tuned.
        loss: the loss of the config.
        score: "scc" or "pcc", by which choices inside the training spots are made.
        seed: of every random draw.
        device: where to solve.
        report: hears of every step: a penalty solved, a step of a selector.
        spots, genes: positions in the dataset, of the spots and of the panel's genes, where there is one.
        places: of the spots on their slides `[spot, 2]`, where they are known.
        trains: trains a network on a sample of it: (sample, model, columns of the features, seed) -> its scores of
            features; None where nobody does.
    """

    features: np.ndarray
    counts: np.ndarray
    library_size: np.ndarray
    slides: np.ndarray
    patients: np.ndarray
    n_primary: int
    loss: Component
    views: Mapping[str, np.ndarray] = field(default_factory=dict)
    weights: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    strength: float = 1.0
    selector: nn.Module | None = None
    outer: Outer = field(default_factory=Outer)
    score: str = "scc"
    seed: int = 0
    device: str = "cpu"
    report: Report = _unheard
    spots: np.ndarray | None = None
    genes: np.ndarray | None = None
    places: np.ndarray | None = None
    trains: Trains | None = None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def heard(self) -> bool:
        """Whether anybody listens to `report`."""
        return self.report is not _unheard

    @property
    def primary(self) -> np.ndarray:
        """Counts of the primary genes `[spot, primary]`."""
        return self.counts[:, : self.n_primary]

    @property
    def slide_codes(self) -> Tensor:
        """int64 `[spot]` from 0, slides in the order of their codes."""
        return torch.from_numpy(np.unique(self.slides, return_inverse=True)[1])

    def at(self, spots: np.ndarray) -> Sample:
        """Some of the spots."""
        return replace(
            self,
            **{
                name: getattr(self, name)[spots]
                for name in ("features", "counts", "library_size", "slides", "patients", "spots", "places")
                if getattr(self, name) is not None
            },
        )

    def seen(self, columns: np.ndarray) -> Sample:
        """The spots by some of their features."""
        return replace(self, features=self.features[:, columns])

    def with_genes(self, genes: np.ndarray, weights: np.ndarray) -> Sample:
        """The panel cut to the primary genes and some auxiliary ones, `genes` being positions among these."""
        columns = np.concatenate([np.arange(self.n_primary), self.n_primary + genes])
        known = None if self.genes is None else self.genes[columns]
        return replace(self, counts=self.counts[:, columns], weights=weights, selector=None, genes=known)

    def undecided(self) -> Sample:
        """The panel with auxiliary genes that do not count, and no selector."""
        return replace(self, weights=np.zeros_like(self.weights), selector=None)


class FittedEstimator(Protocol):
    """What `fit` returns."""

    details: dict[str, Any]  # plain values for the record: what was chosen, and what to know

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 scores `[spot, primary gene]` of features `[spot, feature]`.

        One that needs to know which spots share a slide takes their codes as `slides=` beside.
        """


class Estimator(Protocol):
    """Made with its options, then fitted once. A plainer form is understood as well, see `agl.testing`:

    `fit(features, counts, library_size, slides, *, seed)` with the counts of the primary genes alone.
    """

    def fit(self, sample: Sample) -> FittedEstimator: ...
