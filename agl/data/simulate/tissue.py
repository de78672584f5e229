"""The tissue behind a simulated slide: where its spots lie, and the smooth programmes that run through them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agl.data.simulate.settings import SimulationSettings

FloatArray = NDArray[np.float64]
N_WAVES = 200


def lattice(n_spots: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Row and column `[spot, 2]` of `n_spots` neighbouring lattice points inside an irregular, blob-shaped outline.

    >>> places = lattice(30, np.random.default_rng(0))
    >>> places.shape, len(np.unique(places, axis=0)), places.min()
    ((30, 2), 30, np.int64(1))
    """
    half = int(np.ceil(np.sqrt(n_spots))) + 2
    rows, columns = np.meshgrid(np.arange(-half, half + 1), np.arange(-half, half + 1), indexing="ij")
    points = np.stack([rows.ravel(), columns.ravel()], axis=1)
    angle = np.arctan2(points[:, 0], points[:, 1])
    waves = np.arange(1, 5)
    bumps = (rng.normal(0.0, 0.12, 4) * np.cos(waves * angle[:, None] + rng.uniform(0, 2 * np.pi, 4))).sum(axis=1)
    distance = np.hypot(points[:, 0], points[:, 1]) * np.exp(bumps)
    nearest = np.sort(np.argsort(distance, kind="stable")[:n_spots])
    chosen = points[nearest]
    return chosen - chosen.min(axis=0) + 1


def programmes(places: NDArray[np.int64], settings: SimulationSettings, rng: np.random.Generator) -> FloatArray:
    """Activity `[spot, programme]` of smooth random fields: mean 0 and variance 1 over tissue.

    A sum of random plane waves with Gaussian frequencies is a Gaussian process with a squared-exponential kernel
    (Rahimi and Recht, NIPS 2007). Each slide's own fields are standardised, so that every programme varies in every
    slide, and then shifted by the slide's mean activity.
    """
    n = settings.target_programmes + settings.other_programmes + settings.hidden_programmes
    frequency = rng.normal(0.0, 1.0 / settings.length_scale, (n, 2, N_WAVES))
    phase = rng.uniform(0.0, 2 * np.pi, (n, 1, N_WAVES))
    fields = np.cos(places.astype(float) @ frequency + phase).sum(axis=2).T
    fields = (fields - fields.mean(axis=0)) / np.maximum(fields.std(axis=0), 1e-9)
    local = rng.normal(0.0, 1.0, fields.shape)
    fields = np.sqrt(1.0 - settings.local_share) * fields + np.sqrt(settings.local_share) * local
    return fields + rng.normal(0.0, settings.slide_shift, n)


def bent(activity: FloatArray, settings: SimulationSettings, share: float) -> FloatArray:
    """Activity `[spot, programme]` as genes read it where they do not follow linearly what a picture shows.

    z_j becomes sqrt(1 - share) z_j + sqrt(share) z_j z_k, with k the next programme of the same group (target, other
    visible, hidden): about the same mean and variance, of which `share` no linear function of the z can tell.

    >>> from agl.data.simulate.settings import SimulationSettings
    >>> few = SimulationSettings(target_programmes=2, other_programmes=1, hidden_programmes=0)
    >>> bent(np.array([[2.0, 3.0, 5.0]]), few, 1.0)
    array([[ 6.,  6., 25.]])
    """
    groups = np.cumsum([settings.target_programmes, settings.other_programmes])
    partners = np.concatenate([np.roll(part, -1, axis=1) for part in np.split(activity, groups, axis=1)], axis=1)
    return np.sqrt(1.0 - share) * activity + np.sqrt(share) * activity * partners


def latent_features(
    visible: FloatArray, settings: SimulationSettings, mixing: np.random.Generator, noise: np.random.Generator
) -> NDArray[np.float32]:
    """Features `[spot, feature]` that stand for an image encoder's: a fixed nonlinear mixture of what is visible.

    `tanh(visible A + b) B`, with `A`, `b`, `B` drawn from `mixing` (the same for all slides) and white noise of
    standard deviation `settings.latent_noise` from `noise` (another one for every slide).
    """
    n_visible, n_hidden = visible.shape[1], 4 * visible.shape[1]
    first = mixing.normal(0.0, settings.latent_bend / np.sqrt(n_visible), (n_visible, n_hidden))
    offset = mixing.normal(0.0, 1.0, n_hidden)
    second = mixing.normal(0.0, 1.5 / np.sqrt(n_hidden), (n_hidden, settings.latent_features))
    clean = np.tanh(visible @ first + offset) @ second
    return (clean + noise.normal(0.0, settings.latent_noise, clean.shape)).astype(np.float32)
