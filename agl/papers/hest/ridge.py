"""HEST-bench's probe and its score, number for number.

Jaume et al., "HEST-1k", NeurIPS 2024; the details that the paper leaves open were taken from the benchmark's behaviour.
What differs from `Ridge`: targets are log(1 + raw counts), without library size and not centred, there is no intercept,
and the penalty is a formula that is nearly no penalty at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import strank
from agl.data.expression import dense
from agl.errors import UserError
from agl.estimators.tables import check_finite, check_rows, check_width
from agl.papers.hest.inputs import check_components, reduced, through_float32
from agl.papers.hest.penalty import Penalty, chosen, formula


class HestRidge:
    """`hest-pca256`: standardise, 256 principal components, rounded to float32, ridge without intercept in float64.

    W = argmin |log(1 + counts) - Z W|^2 + alpha |W|^2 by LSQR, alpha = 100 / (components * genes).

    The order of the spots is part of the number: LSQR stops at a tolerance of 1e-4, and with fewer spots than features
    the PCA may be a randomised one. It moves a fold's mean by some 1e-3. HEST-bench stacks the slides as its fold's
    CSV lists them, and spots as the file of their embeddings does; runs hand them over so (`as_in_files`).

    Args:
        components: number of principal components; `largest` takes as many as the data have, up to 256, which is
            then no longer HEST-bench's number (`details["components"]` says so).
        penalty: `formula` is the benchmark's alpha, `chosen` the one that predicts left-out training slides best, see
            `agl.papers.hest.penalty`.
        random_state: HEST-bench's seed, 1. The run's seed plays no part.

    >>> rng = np.random.default_rng(0)
    >>> x, counts = rng.normal(size=(40, 5)), rng.poisson(3.0, size=(40, 2))
    >>> fitted = HestRidge(components="largest").fit(x, counts, counts.sum(1), np.zeros(40))
    >>> fitted.predict(x).shape, fitted.details["alpha"]
    ((40, 2), 10.0)
    """

    as_in_files = True

    def __init__(self, *, components: int | str = 256, penalty: Penalty = "formula", random_state: int = 1) -> None:
        self.components, self.penalty, self.random_state = check_components(components), penalty, random_state

    def fit(
        self, features: np.ndarray, counts: Any, library_size: np.ndarray, slides: np.ndarray, *, seed: int = 0
    ) -> HestFitted:
        """Fit all spots given. `library_size` and `seed` play no part, `slides` in choosing a penalty alone.

        Args:
            features: `[spot, feature]` in the dtype they are stored in: the scaler works in it.
            counts: raw `[spot, gene]`.

        Raises:
            UserError: fewer training spots or features than components, features that are not finite.
        """
        check_rows(features, counts=counts)
        check_finite(features)
        pipe, inputs, details = reduced(features, self.components, self.random_state)
        ridge, own = _lsqr(inputs, np.log1p(dense(counts)), slides, self.penalty, self.random_state)
        return HestFitted(pipe, ridge, features.shape[1], own | details | _version())


class HestRawRidge:
    """`hest-raw`: the same ridge on the features as they are stored, neither scaled nor reduced.

    alpha = 100 / (features * genes). float32 features are regressed in float32, as HEST-bench does.

    Args:
        penalty: as `HestRidge`'s.
        random_state: HEST-bench's seed, 1.
    """

    as_in_files = True

    def __init__(self, *, penalty: Penalty = "formula", random_state: int = 1) -> None:
        self.penalty, self.random_state = penalty, random_state

    def fit(
        self, features: np.ndarray, counts: Any, library_size: np.ndarray, slides: np.ndarray, *, seed: int = 0
    ) -> HestFitted:
        """As `HestRidge.fit`, without components."""
        check_rows(features, counts=counts)
        check_finite(features)
        ridge, own = _lsqr(np.asarray(features), np.log1p(dense(counts)), slides, self.penalty, self.random_state)
        return HestFitted(None, ridge, features.shape[1], own | _version())


@dataclass(frozen=True)
class HestFitted:
    """A fitted probe: scores are log(1 + counts), up to a constant for each gene."""

    pipe: Any  # scaler and PCA, or None
    ridge: Any  # or trees: what has `predict`
    width: int
    details: dict[str, Any]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 `[spot, gene]`."""
        check_width(features, self.width)
        if len(features) == 0:
            return self.predict(np.zeros((1, self.width), dtype=np.asarray(features).dtype))[:0]
        inputs = np.asarray(features) if self.pipe is None else through_float32(self.pipe.transform(features))
        return np.asarray(self.ridge.predict(inputs), dtype=np.float64).reshape(len(features), -1)


@dataclass(frozen=True)
class HestScore:
    """HEST-bench's numbers for one task.

    Attributes:
        per_gene: Pearson correlation `[fold, gene]`, over the pooled test spots of the fold.
        mean, sd: over folds of the plain mean over genes; sd with divisor n. NaN when a gene is undefined, as there.
        mean_defined: the mean with undefined genes left out.
        undefined: number of (fold, gene) pairs without a correlation.
    """

    per_gene: np.ndarray
    mean: float
    sd: float
    mean_defined: float
    undefined: int


def hest_score(folds: Iterable[tuple[np.ndarray, Any]]) -> HestScore:
    """Score folds of `(scores [spot, gene], raw counts [spot, gene])`, each of all its test slides together.

    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> score = hest_score([(x, np.expm1(x)), (-x, np.expm1(x))])
    >>> score.mean, score.sd
    (0.0, 1.0)
    """
    rows = []
    for scores, counts in folds:
        truth = torch.from_numpy(np.log1p(dense(counts)))
        rows.append(strank.pearson(torch.from_numpy(np.asarray(scores, dtype=np.float64)), truth).numpy())
    if not rows:
        raise UserError("Expected at least one fold to score, received none.")
    per_gene = np.stack(rows)
    by_fold = per_gene.mean(1)
    defined = [row[~np.isnan(row)].mean() for row in per_gene if not np.isnan(row).all()]
    return HestScore(
        per_gene=per_gene,
        mean=float(by_fold.mean()),
        sd=float(by_fold.std()),
        mean_defined=float(np.mean(defined)) if defined else float("nan"),
        undefined=int(np.isnan(per_gene).sum()),
    )


def _lsqr(
    inputs: np.ndarray, target: np.ndarray, slides: np.ndarray, penalty: Penalty, random_state: int
) -> tuple[Any, dict[str, Any]]:
    from sklearn.linear_model import Ridge

    alpha: float = formula(inputs, target)
    details: dict[str, Any] = {}
    if penalty == "chosen":
        alpha, details = chosen(inputs, target, slides, random_state)
    ridge = Ridge(solver="lsqr", alpha=alpha, fit_intercept=False, max_iter=1000, random_state=random_state)
    return ridge.fit(inputs, target), {"alpha": alpha} | details


def _version() -> dict[str, str]:
    import sklearn

    return {"sklearn": sklearn.__version__}
