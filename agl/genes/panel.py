"""The panel of a run: primary genes first, then the auxiliary genes it learns beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from agl import registry
from agl.config import Auxiliary, Component
from agl.errors import UserError

if TYPE_CHECKING:
    from agl.genes.training import Candidates, TrainingSpots


LEAST_WEIGHT = 1e-3  # below, a gene's gradient is nothing beside the others'


@dataclass(frozen=True)
class Panel:
    """Gene positions in the dataset, primary genes first.

    Exactly one of `weights` (a gene set: fixed) and `selector` (learned) speaks for the auxiliary genes. A gene set's
    genes of weight 0 are left out of the panel; a selector keeps all its candidates.
    """

    primary: np.ndarray  # int64 [primary gene]
    auxiliary: np.ndarray  # int64 [auxiliary gene]
    weights: np.ndarray  # float32 [auxiliary gene], the initial ones of a selector
    selector: Any | None  # nn.Module, see agl.genes.selectors
    candidates: Candidates

    def settled(self, weights: np.ndarray) -> Panel:
        """The panel with a selector's weights held fixed; genes of next to no weight are left out."""
        kept = weights >= LEAST_WEIGHT
        return replace(self, auxiliary=self.auxiliary[kept], weights=weights[kept].astype(np.float32), selector=None)

    @property
    def genes(self) -> np.ndarray:
        """Positions of the whole panel, in the order of the model's heads."""
        return np.concatenate([self.primary, self.auxiliary])


def choose_primary(seen: TrainingSpots, rule: Component, *, seed: int) -> np.ndarray:
    """Positions of the primary genes, best first, by a rule that sees training and validation spots only."""
    chosen = np.asarray(registry.build("primary", rule, seen, seed=seed), dtype=np.int64)
    if len(chosen) == 0:
        raise UserError(
            f"Expected primary genes, the rule {rule.name!r} chose none. Lower its min_detection or raise k."
        )
    return chosen


def choose_panel(training: TrainingSpots, primary: np.ndarray, auxiliary: Auxiliary, *, seed: int) -> Panel:
    """Candidates by detection, auxiliary genes by a gene set or a selector. Sees training spots only."""
    from agl.genes.training import Candidates

    candidates = Candidates.detected(training, primary, auxiliary.min_detection)
    name = auxiliary.genes.name
    if registry.is_a("selector", name):
        selector = registry.build("selector", auxiliary.genes, candidates, seed=seed)
        weights = selector().detach().numpy().astype(np.float32)
        return Panel(primary, candidates.auxiliary, weights, selector, candidates)
    weights = np.asarray(registry.build("gene_set", auxiliary.genes, candidates, seed=seed), dtype=np.float32)
    if (
        weights.shape != candidates.auxiliary.shape
        or not np.isfinite(weights).all()
        or (weights < 0).any()
        or (weights > 1).any()
    ):
        raise UserError(
            f"Expected one weight in [0, 1] for each of the {len(candidates.auxiliary)} candidate genes, "
            f"received shape {weights.shape} from the gene set {name!r}. Return a vector over candidates.auxiliary."
        )
    kept = weights > 0
    return Panel(primary, candidates.auxiliary[kept], weights[kept], None, candidates)
