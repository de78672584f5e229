"""What a run needs of its data before anything is trained: the panel of genes, and what reads its spots.

Each part depends on the dataset and on what is named here, so that runs of one process may have it in common.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from agl import registry
from agl.data.batches import SpotLoader
from agl.genes.panel import Panel, choose_panel, choose_primary
from agl.training.sharing import Sharing, marks

if TYPE_CHECKING:
    from agl.config import Component, Config
    from agl.data.dataset import Dataset
    from agl.data.splitting.splits import Split
    from agl.genes.training import TrainingSpots


def panel_of(config: Config, dataset: Dataset, split: Split, sharing: Sharing, *, on_all: bool) -> Panel:
    """Genes: primary ones by all spots but the test's, so that seeds share them; all else by what is fitted on.

    Args:
        on_all: whether validation spots are fitted on, too.
    """
    seen = np.union1d(split.train, split.validation)
    primary = _primary(config.primary, config.seed, dataset, seen, sharing)
    fitted_on = seen if on_all else split.train

    def choose() -> Panel:
        return choose_panel(_spots(dataset, fitted_on, sharing), primary, config.auxiliary, seed=config.seed)

    if registry.which(("gene_set", "selector"), config.auxiliary.genes.name) == "selector":
        return choose()  # learning changes it
    key = (config.auxiliary.model_dump_json(), config.seed, marks(fitted_on, primary))
    return sharing.get("panel", dataset, key, choose)


def loader_of(
    dataset: Dataset, genes: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray] | None, sharing: Sharing
) -> SpotLoader:
    """What reads a panel's counts and the inputs; not shared where those are patches, of which it may keep some."""
    make = partial(SpotLoader, dataset, genes, reduce=reduce)
    return make() if dataset.features is None else sharing.get("loader", dataset, marks(genes), make)


def _primary(rule: Component, seed: int, dataset: Dataset, seen: np.ndarray, sharing: Sharing) -> np.ndarray:
    draws = "seed" in registry.parameters(registry.find("primary", rule.name))
    key = (rule.model_dump_json(), seed if draws else None, marks(seen))

    def choose() -> np.ndarray:
        return choose_primary(_spots(dataset, seen, sharing), rule, seed=seed)

    return sharing.get("primary", dataset, key, choose)


def _spots(dataset: Dataset, spots: np.ndarray, sharing: Sharing) -> Any:
    """What gene rules may see of some spots."""
    from agl.genes.training import TrainingSpots

    make: Callable[[], TrainingSpots] = partial(TrainingSpots.of, dataset, spots)
    return sharing.get("spots", dataset, marks(spots), make)
