"""The panel of a run: primary genes first, then the auxiliary genes it learns beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agl import registry
from agl.config import Auxiliary, Component
from agl.errors import UserError

if TYPE_CHECKING:
    from agl.genes.training import Candidates, TrainingSpots


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

    @property
    def genes(self) -> np.ndarray:
        """Positions of the whole panel, in the order of the model's heads."""
        return np.concatenate([self.primary, self.auxiliary])


def choose_panel(training: TrainingSpots, primary: Component, auxiliary: Auxiliary, *, seed: int) -> Panel:
    """Primary genes by their rule, candidates by detection, auxiliary genes by a gene set or a selector.

    Sees training spots only.
    """
    from agl.genes.training import Candidates

    chosen = np.asarray(registry.build("primary", primary, training), dtype=np.int64)
    if len(chosen) == 0:
        raise UserError(
            f"Expected primary genes, the rule {primary.name!r} chose none. Lower its min_detection or raise k."
        )
    candidates = Candidates.detected(training, chosen, auxiliary.min_detection)
    name = auxiliary.genes.name
    if registry.is_a("selector", name):
        selector = registry.build("selector", auxiliary.genes, candidates, seed=seed)
        weights = selector().detach().numpy().astype(np.float32)
        return Panel(chosen, candidates.auxiliary, weights, selector, candidates)
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
    return Panel(chosen, candidates.auxiliary[kept], weights[kept], None, candidates)
