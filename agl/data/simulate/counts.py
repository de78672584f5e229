"""Genes with a known role, and the counts they give.

With z the programmes of a spot, g a gene, k a slide:

    log-rate      eta_sg = log(m_g) + sign_kg signal_g (w_g . z_s)
    scale         a_kg = exp(batch_g u_k + slide_scale e_kg),      u_k, e_kg standard normal
    offset        b_kg = ambient m_g exp(e'_kg / 2),               e'_kg standard normal
    mean          mu_sg = depth_s (a_kg exp(eta_sg) + b_kg)
    count         negative binomial, variance mu + alpha_g mu^2

a and b are constant inside a slide and positive: they move and stretch counts without changing the order of the
spots, which is what a ranking loss is to see through. `depth_s` is log-normal and scales all genes of a spot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agl.data.simulate.settings import CLASSES, SimulationSettings
from agl.data.simulate.tissue import FloatArray


@dataclass(frozen=True)
class PlantedGenes:
    """The planted truth of every gene. `loadings [gene, programme]` are in log-rate units (signal included)."""

    names: tuple[str, ...]
    classes: NDArray[np.str_]
    loadings: FloatArray
    mean_count: FloatArray
    dispersion: FloatArray
    batch: FloatArray
    conflict: FloatArray

    def table(self) -> pd.DataFrame:
        """One row per gene: what `truth.csv` holds."""
        table = pd.DataFrame({"gene": self.names, "class": self.classes})
        table["primary"] = self.classes == "primary"
        table["useful"] = self.classes == "useful"
        table["mean_count"], table["dispersion"] = self.mean_count, self.dispersion
        table["batch"], table["conflict"] = self.batch, self.conflict
        for programme in range(self.loadings.shape[1]):
            table[f"programme_{programme}"] = self.loadings[:, programme]
        return table


def plant_genes(settings: SimulationSettings, n_genes: int, n_primary: int, rng: np.random.Generator) -> PlantedGenes:
    """Draw the genes of all classes, in an order that says nothing about their class.

    Primary and useful genes follow the target programmes, independent genes the other visible ones; noise genes
    follow none. Harmful genes follow the hidden programmes, which no picture shows, so a trunk can only memorise
    them; and the other visible ones with a sign that some slides reverse. Each gene has one main programme and
    small shares of the others of its group.
    """
    target, other = settings.target_programmes, settings.other_programmes
    n_programmes = target + other + settings.hidden_programmes
    groups = {
        "primary": np.arange(target),
        "useful": np.arange(target),
        "independent": np.arange(target, target + other),
        "noise": np.arange(0),
        "harmful": np.arange(target + other, n_programmes),
    }
    numbers = _numbers(settings, n_genes - n_primary) | {"primary": n_primary}
    classes = rng.permutation(np.repeat(np.array(CLASSES), [numbers[name] for name in CLASSES]))
    loadings = np.zeros((n_genes, n_programmes))
    columns = {name: np.zeros(n_genes) for name in ("mean_count", "dispersion", "batch", "conflict")}
    for name in CLASSES:
        genes, kind = np.flatnonzero(classes == name), settings.classes[name]
        weights = _weights(len(genes), len(groups[name]), rng)
        if name == "harmful":
            # What a trunk can see of them (other programmes) holds in some slides and is reversed in the rest.
            seen = groups["independent"]
            loadings[np.ix_(genes, seen)] = 0.5 * kind.signal * _weights(len(genes), other, rng)
        loadings[np.ix_(genes, groups[name])] = kind.signal * weights
        columns["mean_count"][genes] = kind.mean_count * np.exp(rng.normal(0.0, 0.6, len(genes)))
        columns["dispersion"][genes] = kind.dispersion * np.exp(rng.normal(0.0, 0.2, len(genes)))
        columns["batch"][genes] = kind.batch * rng.choice([-1.0, 1.0], len(genes))
        columns["conflict"][genes] = kind.conflict
    width = len(str(n_genes - 1))
    names = tuple(f"GENE{index:0{width}d}" for index in range(n_genes))
    return PlantedGenes(names, classes, loadings, **columns)


def _numbers(settings: SimulationSettings, n_auxiliary: int) -> dict[str, int]:
    """Whole numbers of genes with the given shares, summing to `n_auxiliary`."""
    names = [name for name in CLASSES if name != "primary"]
    shares = np.array([settings.classes[name].share for name in names])
    edges = np.round(np.cumsum(shares) / shares.sum() * n_auxiliary).astype(int)
    return dict(zip(names, np.diff(edges, prepend=0).tolist(), strict=True))


def _weights(n_genes: int, n_programmes: int, rng: np.random.Generator) -> FloatArray:
    """Unit rows `[gene, programme]`: one main programme, taken in turn, and small shares of the others."""
    if n_programmes == 0:
        return np.zeros((n_genes, 0))
    weights = rng.normal(0.0, 0.15, (n_genes, n_programmes))
    weights[np.arange(n_genes), rng.permutation(n_genes) % n_programmes] += 1.0
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def log_rates(genes: PlantedGenes, activity: FloatArray, signs: FloatArray) -> FloatArray:
    """The noise-free log-rate `[spot, gene]` of a slide: `log m_g + sign_kg (z_s . loadings_g)`."""
    return np.log(genes.mean_count) + (activity @ genes.loadings.T) * signs


def draw_counts(
    genes: PlantedGenes, activity: FloatArray, settings: SimulationSettings, rng: np.random.Generator
) -> tuple[NDArray[np.int32], FloatArray, dict[str, FloatArray]]:
    """Counts `[spot, gene]` of one slide, its log-rates, and its own draws (scale, offset, sign, depth)."""
    n_spots, n_genes = len(activity), len(genes.names)
    signs = np.where(rng.random(n_genes) < genes.conflict, -1.0, 1.0)
    rates = log_rates(genes, activity, signs)
    scale = np.exp(genes.batch * rng.normal() + settings.slide_scale * rng.normal(size=n_genes))
    offset = settings.ambient * genes.mean_count * np.exp(0.5 * rng.normal(size=n_genes))
    depth = np.exp(settings.depth_spread * rng.normal(size=n_spots))
    mean = depth[:, None] * (scale * np.exp(rates) + offset)
    # Gamma-Poisson mixture: a gamma of shape 1 / alpha and mean mu, then Poisson, is NB with dispersion alpha.
    counts = rng.poisson(rng.gamma(1.0 / genes.dispersion, genes.dispersion * mean))
    draws = {"scale": scale, "offset": offset, "sign": signs, "depth": depth}
    return counts.astype(np.int32), rates, draws
