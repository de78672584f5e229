"""Patches that look like H&E: programmes set the tissue's make-up, Beer and Lambert's law sets the colours.

Ten properties of a spot (how many nuclei, how large, how dark, how pink the matrix, how fibrous, how much fat, ...)
are fixed random mixtures of the visible programmes, so all of them can be read from the pictures, but none directly.
A patch is then drawn as two maps, the densities of hematoxylin and eosin, and rendered with the slide's own stain
vectors, stain strengths and background: that is how slides differ. The vectors scatter around those that a
Macenko-type estimate gives for real sections of breast (hematoxylin .74 .60 .31, eosin .42 .80 .43).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from agl.data.images.stain import EPSILON, I0, render, stain_matrix
from agl.data.simulate.tissue import FloatArray

HEMATOXYLIN = np.array([0.74, 0.60, 0.31])
EOSIN = np.array([0.40, 0.81, 0.43])
PROPERTIES = (
    "nuclei",
    "nucleus_size",
    "nucleus_darkness",
    "nucleus_elongation",
    "cytoplasm_hematoxylin",
    "eosin",
    "fibres",
    "clear_space",
    "clustering",
    "chromatin",
)
MARGIN = 8  # px around a patch in which nuclei may lie that reach into it
WINDOW = 10  # half side, px, of the square in which one nucleus is drawn
TILE = 512


@dataclass(frozen=True)
class Staining:
    """One slide's colours: stain vectors, multipliers of the two densities, grey level of empty glass."""

    matrix: torch.Tensor
    strength: tuple[float, float]
    background: FloatArray
    blur: float


def draw_staining(variation: float, rng: np.random.Generator) -> Staining:
    """A slide's stain and scanner, `variation` times the usual scatter between slides."""
    hematoxylin = HEMATOXYLIN + variation * rng.normal(0.0, 0.03, 3)
    eosin = EOSIN + variation * rng.normal(0.0, 0.03, 3)
    strength = np.exp(variation * rng.normal(0.0, 0.12, 2))
    background = np.array([240.0, 228.0, 240.0]) + variation * rng.normal(0.0, 4.0, 3)
    return Staining(
        stain_matrix(tuple(hematoxylin), tuple(eosin), dtype=torch.float64),
        (float(strength[0]), float(strength[1])),
        np.minimum(background, 250.0),
        0.45 + 0.25 * variation * float(rng.random()),
    )


def properties(visible: FloatArray, mixing: np.random.Generator) -> dict[str, FloatArray]:
    """The ten properties `[spot]`, each about standard normal: orthogonal-ish mixtures of the visible programmes."""
    n_visible = visible.shape[1]
    wide = max(n_visible, len(PROPERTIES))
    rotation = np.linalg.qr(mixing.normal(size=(wide, wide)))[0][:n_visible, : len(PROPERTIES)]
    rotation = rotation / np.linalg.norm(rotation, axis=0)
    return dict(zip(PROPERTIES, (visible @ rotation).T, strict=True))


def draw_patches(
    make_up: dict[str, FloatArray], staining: Staining, side: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """RGB patches `[spot, side, side, 3]` at 1 um per px."""
    n = len(make_up["nuclei"])
    textures = _Textures(n, side, rng)

    def level(name: str, low: float, high: float) -> FloatArray:
        # A smooth step keeps every property inside what tissue can look like.
        return (low + (high - low) / (1.0 + np.exp(-1.2 * make_up[name])))[:, None, None]

    clear = _smooth_step(textures.blobs + level("clear_space", -2.6, -0.3), 6.0)
    fibres = level("fibres", 0.05, 0.9)
    matrix = 1.0 + fibres * 0.55 * textures.fibres + 0.12 * textures.grain + 0.25 * textures.clouds
    eosin = level("eosin", 0.08, 0.36) * np.maximum(matrix, 0.1) * (1.0 - clear)
    cytoplasm = level("cytoplasm_hematoxylin", 0.02, 0.18)
    hematoxylin = cytoplasm * np.maximum(1.0 + 0.4 * textures.clouds + 0.15 * textures.grain, 0.1) * (1.0 - clear)

    nuclei = _draw_nuclei(make_up, clear, side, rng)
    chromatin = 1.0 + level("chromatin", 0.05, 0.45) * textures.grain
    hematoxylin = hematoxylin + level("nucleus_darkness", 0.55, 1.25) * nuclei * np.maximum(chromatin, 0.2)
    eosin = eosin * (1.0 - 0.6 * nuclei)
    return _develop(hematoxylin, eosin, staining, rng)


def _smooth_step(field: FloatArray, sharpness: float) -> FloatArray:
    return 1.0 / (1.0 + np.exp(-sharpness * np.clip(field, -4.0, 4.0)))


class _Textures:
    """Random textures `[patch, y, x]`, each cut at a random place from a periodic tile of filtered noise."""

    def __init__(self, n: int, side: int, rng: np.random.Generator) -> None:
        def cut(tile: FloatArray) -> FloatArray:
            y, x = rng.integers(0, TILE, (2, n))
            span = np.arange(side)
            return tile[((y[:, None] + span) % TILE)[:, :, None], ((x[:, None] + span) % TILE)[:, None, :]]

        self.grain = cut(_filtered_noise(rng, (0.9, 0.9)))
        self.clouds = cut(_filtered_noise(rng, (8.0, 8.0)))
        self.blobs = cut(_filtered_noise(rng, (9.0, 9.0)))
        flat = _filtered_noise(rng, (1.4, 12.0))
        tilted = ndimage.rotate(np.tile(flat, (2, 2)), 35.0, reshape=False, order=1, mode="wrap")[:TILE, :TILE]
        # Wavy bands: fibres of a patch run in one of four directions.
        bank = [flat, flat.T, tilted, tilted.T]
        stacked = np.stack([cut(tile) for tile in bank])
        self.fibres = stacked[rng.integers(0, 4, n), np.arange(n)]


def _filtered_noise(rng: np.random.Generator, widths: tuple[float, float]) -> FloatArray:
    """A periodic Gaussian texture of mean 0 and variance 1, smooth over `widths` px down and across."""
    noise = ndimage.gaussian_filter(rng.normal(size=(TILE, TILE)), widths, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def _draw_nuclei(make_up: dict[str, FloatArray], clear: FloatArray, side: int, rng: np.random.Generator) -> FloatArray:
    """How much of each pixel is nucleus, `[spot, y, x]` in 0..1 and a little more where nuclei overlap."""
    n = len(make_up["nuclei"])
    wide = side + 2 * MARGIN
    density = 2.2e-3 * np.exp(0.75 * np.clip(make_up["nuclei"], -2.5, 2.0))  # per square um
    counts = rng.poisson(density * wide**2)
    spot = np.repeat(np.arange(n), counts)
    total = len(spot)
    centre = rng.uniform(-MARGIN, side + MARGIN, (total, 2))
    # Clustering draws nuclei towards one of three places in the patch.
    places = rng.uniform(0, side, (n, 3, 2))
    pull = 0.75 / (1.0 + np.exp(-1.2 * make_up["clustering"][spot]))
    centre += pull[:, None] * rng.random((total, 1)) * (places[spot, rng.integers(0, 3, total)] - centre)
    at = np.clip(centre.astype(int), 0, side - 1)
    kept = clear[spot, at[:, 0], at[:, 1]] < 0.3 + 0.2 * rng.random(total)
    spot, centre = spot[kept], centre[kept]
    total = len(spot)

    radius = 3.3 * np.exp(0.22 * np.clip(make_up["nucleus_size"][spot], -2.5, 2.5) + rng.normal(0, 0.12, total))
    stretch = 1.0 + np.exp(np.clip(0.9 * make_up["nucleus_elongation"][spot] - 0.9, -3.0, 0.7))
    direction = np.where(stretch > 1.5, rng.normal(0.0, 0.4, total), rng.uniform(0, np.pi, total))
    direction = direction + rng.uniform(0, np.pi, n)[spot]
    long, short = radius * np.sqrt(stretch), radius / np.sqrt(stretch)

    offset = np.arange(-WINDOW, WINDOW + 1)
    corner = np.floor(centre).astype(int)
    y = (corner[:, 0, None] + offset)[:, :, None]
    x = (corner[:, 1, None] + offset)[:, None, :]
    dy, dx = y - centre[:, 0, None, None], x - centre[:, 1, None, None]
    cosine, sine = np.cos(direction)[:, None, None], np.sin(direction)[:, None, None]
    along, beside = dx * cosine + dy * sine, dy * cosine - dx * sine
    distance = np.sqrt((along / long[:, None, None]) ** 2 + (beside / short[:, None, None]) ** 2)
    ink = _smooth_step(1.0 - distance, 5.0) * (0.85 + 0.3 * rng.random((total, 1, 1)))
    inside = (y >= 0) & (y < side) & (x >= 0) & (x < side)
    place = (spot[:, None, None] * side + np.clip(y, 0, side - 1)) * side + np.clip(x, 0, side - 1)
    amount = np.bincount(place[inside], weights=ink[inside], minlength=n * side * side)
    drawn = amount.reshape(n, side, side)
    return np.where(drawn > 1.0, 1.0 + 0.35 * (1.0 - np.exp(1.0 - drawn)), drawn)


def _develop(
    hematoxylin: FloatArray, eosin: FloatArray, staining: Staining, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Densities to 8-bit RGB: stain strength, Beer and Lambert, blur of the optics, noise of the camera."""
    density = np.stack(
        [hematoxylin * staining.strength[0], eosin * staining.strength[1], np.zeros_like(eosin)], axis=-1
    )
    grey = render(torch.from_numpy(density), staining.matrix).numpy()
    grey = (grey + EPSILON) / (I0 + EPSILON) * staining.background
    grey = ndimage.gaussian_filter(grey, (0.0, staining.blur, staining.blur, 0.0), truncate=3.0)
    grey += rng.normal(0.0, 2.0, grey.shape)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
