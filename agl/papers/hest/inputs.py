"""What HEST-bench's regressors see: features standardised and reduced to principal components, through float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from agl.errors import UserError

LARGEST = "largest"


def check_components(components: int | str) -> int | str:
    """A number of components above 0, or `largest`."""
    whole = isinstance(components, int) and not isinstance(components, bool) and components > 0
    if not whole and components != LARGEST:
        raise UserError(f"Expected a number of components or 'largest', received {components!r}.")
    return components


def reduced(features: np.ndarray, components: int | str, random_state: int) -> tuple[Any, np.ndarray, dict[str, Any]]:
    """The fitted scaler and PCA, their output `[spot, component]`, and what to record.

    Raises:
        UserError: fewer training spots or features than components.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pca = PCA(n_components=_count(components, *features.shape), random_state=random_state)
    pipe = make_pipeline(StandardScaler(), pca)
    inputs = through_float32(pipe.fit_transform(features))
    return pipe, inputs, {"components": int(pca.n_components_), "pca_solver": str(pca._fit_svd_solver)}


def through_float32(values: np.ndarray) -> np.ndarray:
    """float64 holding float32 values: the rounding and the precision that HEST-bench's tensors go through."""
    return np.asarray(values, dtype=np.float32).astype(np.float64)


def _count(components: int | str, n_spots: int, n_features: int) -> int:
    most = min(n_spots, n_features)
    if components == LARGEST:
        return min(256, most)
    if most < int(components):
        raise UserError(
            f"Expected at least {components} training spots and {components} features for HEST-bench's "
            f"PCA, received {n_spots} spots with {n_features} features. Set model.components=largest for as many "
            "as there are (no longer HEST-bench's number), or use model=ridge."
        )
    return int(components)
