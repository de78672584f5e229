"""Whatever was fitted, behind one call: inputs of spots in, scores of the primary genes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Read = Callable[[np.ndarray], np.ndarray]  # positions of spots -> their inputs [spot, ...]


class Scorer(Protocol):
    """A fitted predictor of whatever kind."""

    def __call__(self, read: Read, slides: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores `[spot, primary gene]`, and a committee's spread, of as many spots as `slides` has codes."""
        ...


@dataclass(frozen=True)
class Solved:
    """A fitted estimator: all spots at once, for some standardise inside slides."""

    fitted: Any

    def __call__(self, read: Read, slides: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Scorer`."""
        from agl import registry

        features = np.asarray(read(np.arange(len(slides))))
        if hasattr(self.fitted, "mean_and_spread"):
            mean, spread = self.fitted.mean_and_spread(features, slides)
            return np.asarray(mean), np.asarray(spread)
        return np.asarray(registry.taking(self.fitted.predict, "slides")(features, slides=slides)), None


@dataclass(frozen=True)
class Network:
    """A network in evaluation mode, a part of the spots after the other.

    Attributes:
        model: on the CPU.
        n_primary: how many of its heads are asked for.
    """

    model: Any
    n_primary: int

    def __call__(self, read: Read, slides: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Scorer`."""
        import torch

        self.model.eval()
        reduce = getattr(self.model, "reduce", None)
        scores = np.empty((len(slides), self.n_primary), dtype=np.float32)
        with torch.no_grad():
            for rows in self._parts(slides):
                inputs = read(rows)
                if inputs.ndim > 2 and reduce is not None:
                    inputs = reduce(inputs)
                values = torch.from_numpy(np.ascontiguousarray(inputs))
                if inputs.ndim == 2:
                    values = values.float()
                scores[rows] = self.model(values).float()[:, : self.n_primary].numpy()
        return scores, None

    def _parts(self, slides: np.ndarray) -> list[np.ndarray]:
        """Spots that are scored at once: 256, or a slide where the model looks at it as a whole."""
        if getattr(self.model, "whole_slides", False):
            return [np.flatnonzero(slides == code) for code in np.unique(slides)]
        return np.split(np.arange(len(slides)), np.arange(256, len(slides), 256))
