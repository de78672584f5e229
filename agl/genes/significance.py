"""Which genes go with the primary genes by more than chance, when neighbouring spots are not independent.

Two unrelated but smooth maps correlate by accident: a slide of 3,000 spots may hold no more than a dozen independent
ones. So the variance of a correlation under "unrelated" is taken from the maps' own smoothness, as in the modified
t-test of Clifford, Richardson and Hemon (1989) and Dutilleul (1993): Var(r) = trace(S_gene S_primary), S being the
covariances of the two unit-length maps. S_primary is a sum of Gaussian kernels of several lengths and white noise,
fitted by non-negative least squares to the primary gene's own quadratic forms. On simulated unrelated maps of 484 spots
a slide, 5 % of p-values are below 0.05 for white noise, 4 % for a length of 1 neighbour distance, 2 % for 3, and fewer
than 1 % for 8, where a slide holds too few independent spots for anything to be said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import nnls

from agl.errors import UserError, did_you_mean
from agl.genes.coexpression import (
    SlideCorrelation,
    slide_correlations,
    top_mean,
    without_self,
)
from agl.genes.smoothness import LENGTHS, Kernels
from agl.genes.training import TrainingSpots

Null = Literal["spatial", "spots"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What says that a gene is co-expressed with the primary genes."""

    statistic: np.ndarray  # [gene] mean of the top squared z-scores
    p_value: np.ndarray  # [gene], NaN where a gene is constant
    effective_spots: np.ndarray  # [gene] median over primary genes


def coexpression_evidence(
    training: TrainingSpots,
    primary: np.ndarray,
    *,
    top: int = 5,
    depth: bool = True,
    null: Null = "spatial",
    draws: int = 20_000,
    seed: int = 0,
) -> Evidence:
    """p-value of every gene for "unrelated to all primary genes".

    z = arctanh(r) sqrt(n_eff - 3), n_eff = 1 + 1 / Var(r); the statistic is the mean of the `top` largest z^2. Its
    distribution under the null comes from `draws` of z ~ N(0, correlation of the primary genes); beyond the 200
    largest draws an exponential tail continues it.

    Args:
        null: "spatial": Var(r) from the maps' smoothness. "spots": spots are exchangeable inside slides.
        seed: of the random draws; the result is a function of it.
    """
    if null not in ("spatial", "spots"):
        raise UserError(
            f"Expected null='spatial' or 'spots', received {null!r}.{did_you_mean(str(null), ['spatial', 'spots'])}"
        )
    if top < 1:
        raise UserError(f"Expected top of at least 1 primary gene, received {top}.")
    rng = np.random.default_rng(seed)
    r, variance = np.zeros((2, training.n_genes, len(primary)))
    varies, spots = np.zeros(training.n_genes, dtype=bool), 0
    for slide in slide_correlations(training, primary, depth=depth):  # one at a time in memory
        r += slide.n_spots * slide.correlation
        variance += slide.n_spots**2 * _null_variance(training, slide, primary, null)
        varies |= slide.varies
        spots += slide.n_spots
    r, variance = r / spots, variance / spots**2
    effective = 1 + 1 / np.maximum(variance, 1e-12)
    z = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)) * np.sqrt(np.maximum(effective - 3, 0.0))
    statistic = top_mean(without_self(z**2, primary), top)
    chance = _chance(r[primary], top, draws, rng)
    p_value = np.where(varies, tail_probability(statistic, chance), np.nan)
    return Evidence(statistic, p_value, np.median(effective, axis=1))


def discoveries(p_value: np.ndarray, fdr: float) -> np.ndarray:
    """The rule of Benjamini and Hochberg (1995): bool, on average at most a share `fdr` of the true ones is false.

    NaN is never a discovery.

    >>> discoveries(np.array([0.01, 0.02, 0.04, 0.9]), fdr=0.05)
    array([ True,  True, False, False])
    """
    if not 0 < fdr < 1:
        raise UserError(f"Expected fdr between 0 and 1, for example 0.05, received {fdr}.")
    known = np.flatnonzero(~np.isnan(p_value))
    order = known[np.argsort(p_value[known], kind="stable")]
    passed = np.flatnonzero(p_value[order] <= fdr * np.arange(1, len(order) + 1) / max(len(order), 1))
    chosen = np.zeros(len(p_value), dtype=bool)
    if len(passed):
        chosen[p_value <= p_value[order[passed[-1]]]] = True  # ties fall on the same side
    return chosen


def tail_probability(statistic: np.ndarray, chance: np.ndarray, tail: int = 200) -> np.ndarray:
    """Share of `chance` at or above each statistic; an exponential tail goes on where draws run out."""
    ordered = np.sort(chance)
    n = len(ordered)
    tail = min(tail, n // 2)
    share = (n - np.searchsorted(ordered, statistic, side="left") + 1) / (n + 1)
    start = ordered[-tail]
    scale = max(float((ordered[-tail:] - start).mean()), 1e-300)
    beyond = (tail + 1) / (n + 1) * np.exp(-np.maximum(statistic - start, 0.0) / scale)
    return np.where(statistic > start, beyond, share)


def _chance(correlation: np.ndarray, top: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of the statistic when all correlations are chance: primary genes keep their own correlation."""
    symmetric = (correlation + correlation.T) / 2
    np.fill_diagonal(symmetric, 1.0)
    values, vectors = np.linalg.eigh(symmetric)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    root /= np.sqrt(np.maximum(np.square(root).sum(axis=1, keepdims=True), 1e-12))
    z = rng.standard_normal((draws, len(correlation))) @ root.T
    return top_mean(z**2, top)


def _null_variance(training: TrainingSpots, slide: SlideCorrelation, primary: np.ndarray, null: Null) -> np.ndarray:
    """Var(r) `[gene, primary]` in one slide if gene and primary gene were unrelated maps of their own smoothness."""
    uneven = np.where(slide.varies, slide.unevenness, 0.0)[:, None]
    if null == "spots":
        return uneven * np.full((1, len(primary)), 1 / slide.degrees)
    kernels = Kernels(training.places(slide.rows))
    forms = np.zeros((training.n_genes, 1 + len(LENGTHS)))
    for genes, maps in slide.residual_maps(training, np.flatnonzero(slide.varies)):
        forms[genes] = kernels.forms(maps)
    return uneven * (forms @ _fitted(forms[primary], kernels.products(slide.basis)))


def _fitted(forms: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Weights >= 0 `[kernel, map]` of the mixture of kernels closest to x x' in Frobenius norm, of trace 1.

    |x x' - sum_k w_k K_k|^2 = const - 2 w' forms + w' products w, written as |A w - b|^2 with A' A = products.
    """
    values, vectors = np.linalg.eigh(products)
    kept = values > 1e-9 * values[-1]  # fewer where all spots are at one place
    root = np.sqrt(values[kept])
    factor = root[:, None] * vectors[:, kept].T
    weights = np.stack([nnls(factor, b)[0] for b in forms @ vectors[:, kept] / root], axis=1)
    trace = products[0] @ weights
    return np.divide(weights, trace, out=np.zeros_like(weights), where=trace > 0)
