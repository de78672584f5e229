"""HEST-bench's other regressors, random forest and gradient boosting, through scikit-learn.

The benchmark fits a forest of 70 trees a gene on a GPU (cuML) and 100 boosted trees of depth 3 (XGBoost); neither
library is needed here. Kept: its inputs, its target log(1 + counts), the numbers of trees, their depth, the rate of
learning. Different: one forest predicts all genes, a split looks at a third of the columns (Breiman's figure for
regression; cuML looks at all), boosting is scikit-learn's on histograms, which samples columns a split and no rows.
Their scores are hence of the kind, not of the digit.

Sources: L. Breiman, Machine Learning 45 (2001) 5; G. Ke et al., LightGBM, NeurIPS 2017.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np

from agl.data.expression import dense
from agl.errors import UserError
from agl.estimators.tables import check_finite, check_rows
from agl.papers.hest.inputs import check_components, reduced
from agl.papers.hest.ridge import HestFitted


class HestForest:
    """`hest-forest`: one random forest for all genes, on the inputs of `HestRidge` or on the features as they are.

    Args:
        components: as `HestRidge`'s; None takes the features as they are stored.
        trees: how many.
        depth: the most splits from a tree's root to a leaf.
        columns: the share of columns that a split looks at.
        random_state: seed of the PCA and of the trees; the run's seed plays no part, as in the benchmark.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 4))
    >>> counts = rng.poisson(np.exp(x[:, :2] + 1))
    >>> fitted = HestForest(components=None).fit(x, counts, counts.sum(1), np.zeros(300))
    >>> bool(np.corrcoef(fitted.predict(x)[:, 0], x[:, 0])[0, 1] > 0.8)
    True
    """

    def __init__(
        self,
        *,
        components: int | str | None = 256,
        trees: int = 70,
        depth: int = 16,
        columns: float = 1 / 3,
        random_state: int = 1,
    ) -> None:
        self.components = _checked(components, trees=trees, depth=depth, columns=columns)
        self.trees, self.depth, self.columns, self.random_state = trees, depth, columns, random_state

    def fit(
        self, features: np.ndarray, counts: Any, library_size: np.ndarray, slides: np.ndarray, *, seed: int = 0
    ) -> HestFitted:
        """Fit all spots given; their order does not matter, as they are sorted first.

        Raises:
            UserError: fewer training spots or features than components, features that are not finite.
        """
        from sklearn.ensemble import RandomForestRegressor

        pipe, inputs, target, details = _prepared(features, counts, self.components, self.random_state)
        forest = RandomForestRegressor(
            n_estimators=self.trees,
            max_depth=self.depth,
            max_features=self.columns,
            n_jobs=-1,
            random_state=self.random_state,
        )
        forest.fit(inputs, target).set_params(n_jobs=1)  # threads would add the trees up in any order
        return HestFitted(pipe, forest, features.shape[1], details | {"trees": self.trees})


class HestBoosting:
    """`hest-boosting`: gradient boosting on histograms, a model a gene, on the same inputs.

    Args:
        components: as `HestForest`'s.
        trees, depth: trees a gene, and splits from a root to a leaf.
        rate: how much of its residual a tree takes away.
        columns: the share of columns that a split looks at.
        random_state: seed of the PCA and of the trees.
    """

    def __init__(
        self,
        *,
        components: int | str | None = 256,
        trees: int = 100,
        depth: int = 3,
        rate: float = 0.1,
        columns: float = 0.8,
        random_state: int = 1,
    ) -> None:
        self.components = _checked(components, trees=trees, depth=depth, columns=columns, rate=rate)
        self.trees, self.depth, self.rate, self.columns = trees, depth, rate, columns
        self.random_state = random_state

    def fit(
        self, features: np.ndarray, counts: Any, library_size: np.ndarray, slides: np.ndarray, *, seed: int = 0
    ) -> HestFitted:
        """As `HestForest.fit`."""
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.multioutput import MultiOutputRegressor

        pipe, inputs, target, details = _prepared(features, counts, self.components, self.random_state)
        one = HistGradientBoostingRegressor(
            max_iter=self.trees,
            max_depth=self.depth,
            learning_rate=self.rate,
            max_features=self.columns,
            early_stopping=False,
            random_state=self.random_state,
        )
        fitted = MultiOutputRegressor(one).fit(inputs, target)
        return HestFitted(pipe, fitted, features.shape[1], details | {"trees": self.trees})


def _checked(components: int | str | None, **numbers: float) -> int | str | None:
    for name, value in numbers.items():
        whole = name in ("trees", "depth")
        if not value > 0 or (whole and value != int(value)) or (not whole and value > 1):
            kind = "a whole number above 0" if whole else "a share above 0, up to 1"
            raise UserError(f"Expected {kind} for {name}, received {value}.")
    return None if components is None else check_components(components)


def _prepared(
    features: np.ndarray, counts: Any, components: int | str | None, random_state: int
) -> tuple[Any, np.ndarray, np.ndarray, dict[str, Any]]:
    """Pipe, inputs, target and record of the spots in an order of their own: what is drawn does not hang on theirs."""
    import sklearn

    check_rows(features, counts=counts)
    check_finite(features)
    target = np.log1p(dense(counts)).astype(np.float64)
    rows = zip(np.ascontiguousarray(features), target, strict=True)
    order = np.argsort([blake2b(x.tobytes() + y.tobytes(), digest_size=8).hexdigest() for x, y in rows], kind="stable")
    pipe, inputs, details = None, np.asarray(features)[order], {"components": None, "pca_solver": None}
    if components is not None:
        pipe, inputs, details = reduced(inputs, components, random_state)
    return pipe, inputs, target[order], details | {"sklearn": sklearn.__version__}
