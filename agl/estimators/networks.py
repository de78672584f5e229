"""A network among a committee's members: trained by whoever knows how, then scores like any other's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agl import registry
from agl.config import Component
from agl.errors import ModelError

BLOCK = 256  # spots scored at once


@dataclass(frozen=True, eq=False)
class NetworkScores:
    """A trained network's scores of raw features, in evaluation mode.

    Attributes:
        component: what builds it.
        model: on the CPU.
        columns: of the feature table that it sees.
        n_genes: of its heads, primary genes first.
        n_primary: how many of them are asked for.
    """

    component: Component
    model: Any
    columns: np.ndarray
    n_genes: int
    n_primary: int

    def __call__(self, features: np.ndarray) -> Tensor:
        """float64 `[spot, primary gene]` of features `[spot, feature]`."""
        self.model.eval()
        x = torch.from_numpy(np.ascontiguousarray(np.asarray(features)[:, self.columns], dtype=np.float32))
        with torch.no_grad():
            parts = [self.model(x[start : start + BLOCK]) for start in range(0, len(x), BLOCK)]
        empty = torch.zeros(0, self.n_primary, dtype=torch.float64)
        return torch.cat([empty, *(part[:, : self.n_primary].double() for part in parts)])

    def about(self) -> dict[str, Any]:
        """What rebuilds it, beside its tensors, as plain values."""
        found = {"component": self.component.model_dump(mode="json"), "columns": self.columns.tolist()}
        return found | {"n_genes": self.n_genes, "n_primary": self.n_primary}

    @classmethod
    def rebuilt(cls, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> NetworkScores:
        """What `about` and the state of `model` say."""
        component = Component.model_validate(about["component"])
        columns = np.asarray(about["columns"], dtype=np.int64)
        model = network(component, tensors, len(columns), int(about["n_genes"]))
        return cls(component, model, columns, int(about["n_genes"]), int(about["n_primary"]))


def network(component: Component, tensors: Mapping[str, Any], n_features: int | None, n_genes: int) -> Any:
    """A network with its weights. The initial ones are drawn and thrown away.

    Raises:
        ModelError: weights of another network.
    """
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
