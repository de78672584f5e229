"""The panel of a run: primary genes first, then the auxiliary genes it learns beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from torch import Tensor

from agl import registry
from agl.config import Auxiliary, Component
from agl.errors import UserError
from agl.genes.signal import Signal

if TYPE_CHECKING:
    from agl.genes.candidates import Candidates
    from agl.genes.training import TrainingSpots


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
    given = np.asarray(registry.build("primary", rule, seen, seed=seed))
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise UserError(
            f"Expected whole numbers, positions in training.genes, from the rule of primary genes {rule.name!r}, "
            f"received {given.dtype} of shape {given.shape}. Return np.array([...], dtype=np.int64)."
        )
    chosen = given.astype(np.int64)
    if len(chosen) and not (chosen.min() >= 0 and chosen.max() < seen.n_genes):
        raise UserError(
            f"Expected gene positions from 0 to {seen.n_genes - 1} from the rule of primary genes {rule.name!r}, "
            "received others. Return positions in training.genes."
        )
    if len(chosen) == 0:
        raise UserError(
            f"Expected primary genes, the rule {rule.name!r} chose none. Lower its min_detection or raise k."
        )
    return chosen


def choose_panel(training: TrainingSpots, primary: np.ndarray, auxiliary: Auxiliary, *, seed: int) -> Panel:
    """Candidates by detection, auxiliary genes by a gene set or a selector. Sees training spots only."""
    from agl.genes.candidates import Candidates

    candidates = Candidates.detected(training, primary, auxiliary.min_detection)
    name = auxiliary.genes.name
    if registry.which(("gene_set", "selector"), name) == "selector":
        selector = registry.build("selector", auxiliary.genes, candidates, seed=seed)
        value = selector() if callable(selector) else None
        if not isinstance(value, Tensor) or value.shape != candidates.auxiliary.shape:
            raise UserError(
                f"Expected a module whose value is one weight for each of the {len(candidates)} candidate genes from "
                f"the selector {name!r}, received something else. `agl.testing.check_selector` tests one of your own."
            )
        check_learns(name, selector)
        weights = value.detach().numpy().astype(np.float32)
        return Panel(primary, candidates.auxiliary, weights, selector, candidates)
    given = np.asarray(registry.build("gene_set", auxiliary.genes, candidates, seed=seed))
    weights = given.astype(np.float32) if given.dtype.kind in "biuf" else np.zeros(0, dtype=np.float32)
    if (
        weights.shape != candidates.auxiliary.shape
        or not np.isfinite(weights).all()
        or (weights < 0).any()
        or (weights > 1).any()
    ):
        raise UserError(
            f"Expected one weight in [0, 1] for each of the {len(candidates.auxiliary)} candidate genes, "
            f"received {given.dtype} of shape {given.shape} from the gene set {name!r}. "
            "Return a vector over candidates.auxiliary."
        )
    kept = weights > 0
    return Panel(primary, candidates.auxiliary[kept], weights[kept], None, candidates)


def check_learns(name: str, selector: Any) -> None:
    """Refuse a selector that says not what it learns from, or lacks what the training asks of it.

    Raises:
        UserError: names what is missing.
    """
    signal = getattr(selector, "signal", None)
    if signal not in get_args(Signal):
        raise UserError(
            f"Expected signal as one of {', '.join(get_args(Signal))} in the selector {name!r}, which says what it "
            f"learns from, received {signal!r}. Inherit from agl.genes.selectors.base.Selector and set it in the class."
        )
    wanted = ["k", "chosen", "drawn_from", "on_epoch", "project" if signal == "hypergradient" else "observe"]
    missing = [word for word in wanted if not hasattr(selector, word)]
    if missing:
        raise UserError(
            f"Expected the selector {name!r} to have {', '.join(wanted)}, found no {', '.join(missing)}. "
            "Inherit from agl.genes.selectors.base.Selector, which has them."
        )
    if signal == "hypergradient" and not any(parameter.requires_grad for parameter in selector.parameters()):
        raise UserError(
            f"Expected the selector {name!r} to have parameters that its signal, the hypergradient, could move, found "
            "none. Give it some, or another signal."
        )
