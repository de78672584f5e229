"""Whatever was fitted, behind one call: inputs of spots in, scores of the primary genes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from agl.config import Component
from agl.errors import ModelError

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
            for start in range(0, len(slides), 256):
                rows = np.arange(start, min(start + 256, len(slides)))
                inputs = read(rows)
                if inputs.ndim > 2 and reduce is not None:
                    inputs = reduce(inputs)
                values = torch.from_numpy(np.ascontiguousarray(inputs))
                if inputs.ndim == 2:
                    values = values.float()
                scores[rows] = self.model(values).float()[:, : self.n_primary].numpy()
        return scores, None


def network(component: Component, tensors: Mapping[str, Any], n_features: int | None, n_genes: int) -> Any:
    """A network with its weights. The initial ones are drawn and thrown away.

    Raises:
        ModelError: weights of another network.
    """
    import torch

    from agl import registry

    given: dict[str, Any] = {"n_genes": n_genes} | ({} if n_features is None else {"n_features": n_features})
    state = torch.get_rng_state()
    try:
        model = registry.build("model", component, **given)
        model.load_state_dict(dict(tensors))
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"Expected the weights of {component.name!r} with {n_genes} genes, received others ({reason})."
        ) from None
    finally:
        torch.set_rng_state(state)
    return model
