"""Gene sets: fixed choices of auxiliary genes.

Each has the form `(candidates, **options) -> float32 [aux]`, 1 for a chosen gene and 0 for the others.
"""

from __future__ import annotations

import numpy as np

from agl.errors import UserError
from agl.genes import lists
from agl.genes.candidates import Candidates
from agl.genes.significance import Null, coexpression_evidence, discoveries
from agl.slots import Prior


def none(candidates: Candidates) -> np.ndarray:
    """No auxiliary gene: primary genes only."""
    return np.zeros(len(candidates), dtype=np.float32)


def all_genes(candidates: Candidates) -> np.ndarray:
    """Every candidate."""
    return np.ones(len(candidates), dtype=np.float32)


def random(candidates: Candidates, *, k: int = 500, seed: int = 0) -> np.ndarray:
    """k candidates drawn without replacement (all, where there are fewer): the control for any choice of k genes."""
    _check_k(k)
    drawn = np.random.default_rng(seed).permutation(len(candidates))[:k]
    return _weights(candidates, drawn)


def top(
    candidates: Candidates,
    *,
    prior: Prior = "dispersion",
    k: int | None = None,
    fraction: float = 0.5,
) -> np.ndarray:
    """The k best candidates by a prior, or the best `fraction` where k is not given; undefined genes are never chosen.

    With `prior="mean"` this is BrST-Net's rule (Rahaman et al. 2023), with `prior="dispersion"` a fixed cut-off on the
    ranking of Shiku et al. 2026.
    """
    return _weights(candidates, _best(candidates.prior(prior), _count(candidates, k, fraction)))


def coexpressed(
    candidates: Candidates,
    *,
    k: int | None = None,
    fdr: float = 0.05,
    top: int = 5,
    depth: bool = True,
    null: Null = "spatial",
    seed: int = 0,
) -> np.ndarray:
    """Candidates that go with the primary genes by more than chance; how many, the data say.

    Without `k`: every gene whose co-expression is significant, at most a share `fdr` of them by chance (Benjamini and
    Hochberg 1995; the p-values are those of `agl.genes.significance`). None may be: then this is primary-only.
    With `k`: the k largest values of the prior `coexpression`.
    """
    if k is not None:
        return _weights(
            candidates,
            _best(candidates.prior("coexpression", top=top, depth=depth), _count(candidates, k, 1.0)),
        )
    return _significant(candidates, np.ones(len(candidates), dtype=bool), fdr, top, depth, null, seed)


def low_variance_coexpressed(
    candidates: Candidates,
    *,
    k: int | None = None,
    quantile: float = 0.5,
    fdr: float = 0.05,
    top: int = 5,
    depth: bool = True,
    null: Null = "spatial",
    normalise: str = "none",
    seed: int = 0,
) -> np.ndarray:
    """Of the co-expressed genes those that a ranking by variability would miss: the share `quantile` least dispersed.

    Co-expressed are, without `k`, the genes that `coexpressed` finds at `fdr`; with `k`, the k / quantile best by
    co-expression, so that k remain. The cut on dispersion is made among these: cut among all genes it would leave
    nearly none, for co-expressed genes are mostly dispersed ones. A gene of undefined dispersion is not chosen.
    """
    if not 0 < quantile <= 1:
        raise UserError(f"Expected quantile above 0 and up to 1, received {quantile}.")
    if len(candidates) == 0:
        return none(candidates)
    if k is None:
        everywhere = np.ones(len(candidates), dtype=bool)
        together = _significant(candidates, everywhere, fdr, top, depth, null, seed) > 0
    else:
        score = candidates.prior("coexpression", top=top, depth=depth)
        together = _weights(candidates, _best(score, round(_count(candidates, k, 1.0) / quantile))) > 0
    spread = np.where(together, candidates.prior("dispersion", normalise=normalise), np.nan)
    known = ~np.isnan(spread)
    if not known.any():
        return none(candidates)
    if k is not None:
        return _weights(candidates, _best(-spread, k))
    return _weights(candidates, np.flatnonzero(known & (spread <= np.quantile(spread[known], quantile))))


def file(candidates: Candidates, *, path: str, ignore_missing: bool = False, root: str | None = None) -> np.ndarray:
    """The candidates named in a file: JSON `{"genes": [...]}` or text with one name per line.

    A relative path is looked for from the working directory, then in the folder of the data, `root`.
    A name that is not in the data is an error, unless `ignore_missing`; a primary gene, or one that is too rarely
    detected to be a candidate, is passed over.
    """
    names = lists.read_names(path, root)
    listed = lists.positions(names, candidates.training.genes, source=str(path), ignore_missing=ignore_missing)
    return np.isin(candidates.auxiliary, listed).astype(np.float32)


def _significant(
    candidates: Candidates, eligible: np.ndarray, fdr: float, top: int, depth: bool, null: Null, seed: int
) -> np.ndarray:
    if not eligible.any():
        discoveries(np.empty(0), fdr)  # a wrong fdr is an error here too
        return none(candidates)
    evidence = coexpression_evidence(
        candidates.training, candidates.primary, top=top, depth=depth, null=null, seed=seed
    )
    p_value = np.where(eligible, evidence.p_value[candidates.auxiliary], np.nan)
    return discoveries(p_value, fdr).astype(np.float32)


def _best(score: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k highest scores; NaN is never among them."""
    order = np.argsort(-np.where(np.isnan(score), -np.inf, score), kind="stable")
    return order[: min(k, int((~np.isnan(score)).sum()))]


def _count(candidates: Candidates, k: int | None, fraction: float) -> int:
    if k is not None:
        _check_k(k)
        return k
    if not 0 <= fraction <= 1:
        raise UserError(f"Expected fraction as a share of the candidates from 0 to 1, received {fraction}.")
    return round(fraction * len(candidates))


def _check_k(k: int) -> None:
    if isinstance(k, bool) or int(k) != k or k < 0:
        raise UserError(f"Expected k as a number of genes, 0 or more, received {k!r}.")


def _weights(candidates: Candidates, chosen: np.ndarray) -> np.ndarray:
    weights = np.zeros(len(candidates), dtype=np.float32)
    weights[chosen] = 1.0
    return weights
