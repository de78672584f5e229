"""The genes that may be learnt beside the primary ones, and what is known of each: its priors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agl import registry
from agl.config import Component
from agl.errors import UserError
from agl.genes.training import TrainingSpots
from agl.slots import Prior


@dataclass(frozen=True, eq=False)
class Candidates:
    """The genes that may be learnt beside the primary ones, with their priors computed once.

    Args:
        training: the training spots.
        primary: positions of the primary genes in `training.genes`, best first.
        auxiliary: positions of the candidate genes; the order of every weight vector.
    """

    training: TrainingSpots
    primary: np.ndarray
    auxiliary: np.ndarray
    _priors: dict[str, tuple[str, np.ndarray]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("primary", "auxiliary"):
            positions = np.asarray(getattr(self, name), dtype=np.int64)
            object.__setattr__(self, name, positions)
            if positions.ndim != 1 or len(np.unique(positions)) != len(positions):
                raise UserError(f"Expected {name} as a list of distinct gene positions, received repeated ones.")
            if len(positions) and not (positions.min() >= 0 and positions.max() < self.training.n_genes):
                raise UserError(
                    f"Expected {name} gene positions from 0 to {self.training.n_genes - 1}, received others."
                )
        if np.intersect1d(self.primary, self.auxiliary).size:
            raise UserError("Expected auxiliary genes apart from the primary ones, received genes that are in both.")

    @classmethod
    def detected(cls, training: TrainingSpots, primary: np.ndarray, min_detection: float = 0.0) -> Candidates:
        """Every gene that is not primary and is seen in at least this share of the training spots."""
        enough = (training.detection >= min_detection) & (training.detection > 0)
        enough[primary] = False
        return cls(training, np.asarray(primary), np.flatnonzero(enough))

    def __len__(self) -> int:
        return len(self.auxiliary)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the candidate genes `[aux]`."""
        return tuple(self.training.genes[i] for i in self.auxiliary)

    def prior(self, prior: Prior, **options: Any) -> np.ndarray:
        """A prior of the candidate genes `[aux]`, computed at the first call.

        Args:
            prior: its name, or `{name: ..., option: ...}`.
            options: arguments of the prior, beside those in the mapping.
        """
        component = registry.as_component(prior, "prior")
        component = Component.model_validate({"name": component.name, **component.args, **options})
        key = component.model_dump_json()
        if key not in self._priors:
            self._priors[key] = (component.name, prior_of_all(component, self.training, self.primary))
        return self._priors[key][1][self.auxiliary]

    def known_priors(self) -> dict[str, np.ndarray]:
        """The priors computed so far, of all genes `[gene]`, by name; the first one of a name."""
        found: dict[str, np.ndarray] = {}
        for name, values in self._priors.values():
            found.setdefault(name, values)
        return found


def prior_of_all(component: Component, training: TrainingSpots, primary: np.ndarray | None = None) -> np.ndarray:
    """A prior of every gene, float64 `[gene]`, its arguments and its result checked; infinite values become NaN."""
    values = np.asarray(registry.build("prior", component, training, primary=primary), dtype=np.float64)
    if values.shape != (training.n_genes,):
        raise UserError(
            f"Expected the prior {component.name!r} to give one number per gene, shape ({training.n_genes},), "
            f"received shape {values.shape}. `agl.testing.check_prior` tests one of your own."
        )
    return np.where(np.isfinite(values), values, np.nan)
