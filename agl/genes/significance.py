"""Which genes go with the primary genes by more than chance, when neighbouring spots are not independent.

Two unrelated but smooth maps correlate by accident: a slide of 3,000 spots may hold no more than a dozen independent
ones. So the variance of a correlation under "unrelated" is taken from the maps' own smoothness, as in the modified
t-test of Clifford, Richardson and Hemon (1989) and Dutilleul (1993): Var(r) = trace(S_gene S_primary), S being the
covariances of the two unit-length maps. Here S_primary is a sum of Gaussian kernels of several lengths and white noise,
fitted by non-negative least squares, and traces are averages over random waves; so it costs one pass over the counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import nnls
from scipy.spatial import cKDTree

from agl.errors import UserError, did_you_mean
from agl.genes.coexpression import (
    Extra,
    SlideCorrelation,
    slide_correlations,
    top_mean,
    without_self,
)
from agl.genes.training import TrainingSpots

Null = Literal["spatial", "spots"]
LENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)  # kernel lengths, in distances between neighbouring spots
WAVES = 24  # random waves per length; each gives a sine and a cosine


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
        seed: of the random waves and draws; the result is a function of it.
    """
    if null not in ("spatial", "spots"):
        raise UserError(
            f"Expected null='spatial' or 'spots', received {null!r}.{did_you_mean(str(null), ['spatial', 'spots'])}"
        )
    if top < 1:
        raise UserError(f"Expected top of at least 1 primary gene, received {top}.")
    rng = np.random.default_rng(seed)
    waves = _waves(training, rng) if null == "spatial" else None
    r, variance = np.zeros((2, training.n_genes, len(primary)))
    varies, spots = np.zeros(training.n_genes, dtype=bool), 0
    for slide in slide_correlations(training, primary, depth=depth, extra=waves):  # one at a time in memory
        r += slide.n_spots * slide.correlation
        variance += slide.n_spots**2 * _null_variance(slide, primary)
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


def _waves(training: TrainingSpots, rng: np.random.Generator) -> Extra:
    """Maps whose average outer product is a Gaussian kernel: sine and cosine of random plane waves."""
    directions = rng.standard_normal((len(LENGTHS), WAVES, 2))

    def maps(rows: np.ndarray) -> np.ndarray:
        coords = training.places(rows)
        apart = cKDTree(coords).query(coords, k=2)[0][:, 1]
        step = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
        phase = np.concatenate(
            [coords @ (d / (length * step)).T for d, length in zip(directions, LENGTHS, strict=True)], axis=1
        )
        phase = phase.reshape(len(rows), len(LENGTHS), WAVES)
        return np.concatenate([np.cos(phase), np.sin(phase)], axis=2).reshape(len(rows), -1)

    return maps


def _null_variance(slide: SlideCorrelation, primary: np.ndarray) -> np.ndarray:
    """Var(r) `[gene, primary]` in one slide if gene and primary gene were unrelated maps of their own smoothness."""
    white = np.full((len(slide.varies), 1), 1.0)
    uneven = np.where(slide.varies, slide.unevenness, 0.0)[:, None]
    if slide.maps.shape[1] == 0:
        return uneven * np.full((1, len(primary)), 1 / slide.degrees)
    n_lengths = len(LENGTHS)
    # Quadratic forms of every gene in every kernel; the first kernel is white noise.
    forms = np.square(slide.extra).reshape(-1, n_lengths, 2 * WAVES).mean(axis=2)
    forms = np.where(slide.varies[:, None], np.concatenate([white, forms], axis=1), 0.0)
    gram = _kernel_products(slide.maps, slide.degrees)
    size = np.diag(gram)
    scale = np.sqrt(np.where(size > 1e-9 * slide.degrees, size, np.inf))  # inf: all spots at one place, no such kernel
    weights = np.zeros((n_lengths + 1, len(primary)))
    for j, form in enumerate(forms[primary]):
        fitted = nnls(gram / np.outer(scale, scale), form / scale)[0] / scale
        trace = fitted @ gram[0]  # of the fitted covariance; a unit-length map has 1
        weights[:, j] = fitted / trace if trace > 0 else 0.0
    return uneven * (forms @ weights)


def _kernel_products(maps: np.ndarray, degrees: int) -> np.ndarray:
    """trace(K_a K_b) of the kernels `[kernel, kernel]`, without the bias of a wave met by itself."""
    n_lengths, per = len(LENGTHS), 2 * WAVES
    inner = np.square(maps.T @ maps)
    wave = np.tile(np.arange(per) % WAVES, n_lengths)
    length = np.repeat(np.arange(n_lengths), per)
    same = (wave[:, None] == wave[None, :]) & (length[:, None] == length[None, :])
    inner[same] = np.nan
    blocks = inner.reshape(n_lengths, per, n_lengths, per)
    gram = np.empty((n_lengths + 1, n_lengths + 1))
    gram[1:, 1:] = np.nanmean(blocks, axis=(1, 3))
    gram[0, 0] = degrees
    gram[0, 1:] = gram[1:, 0] = np.square(maps).reshape(-1, n_lengths, per).sum(axis=0).mean(axis=1)
    return gram
