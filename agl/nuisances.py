"""What a score may come from without anybody having looked at the tissue: depth, position, stain density.

Each is a predictor of its own, scored as a model is. Depth is a spot's log library size, which no picture shows: where
it alone ranks a normalised gene, the normalisation has left depth in. Position (x, y, distance to the edge) and mean
optical density are fitted to the training spots by least squares, and know nothing of a test spot's counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agl.data.expression import log_expression
from agl.data.geometry import edge_distance
from agl.data.views import OWN, feature_views

if TYPE_CHECKING:
    from agl.data.slides import Dataset

DEPTH, POSITION, STAIN = "depth", "position", "stain"
NUISANCES = (DEPTH, POSITION, STAIN)
_PATCHES_AT_ONCE = 256


def nuisance_scores(
    dataset: Dataset, train: np.ndarray, test: np.ndarray, genes: np.ndarray, encoders: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Scores `[test spot, gene]` of each nuisance; stain only where built-in features or patches are at hand.

    Args:
        train, test: positions of spots; slides may be on both sides.
        genes: positions of the genes that are scored.
        encoders: names of the features, in their order.
    """
    library = np.asarray(dataset.library_size, dtype=float)
    seen = train[library[train] > 0]
    target = log_expression(dataset.dense_counts(seen, genes), library[seen])
    slides = np.asarray(dataset.slide_codes)[seen]
    spots, rows = np.unique(np.concatenate([seen, test]), return_inverse=True)
    known = {POSITION: position_table(dataset, spots)}
    density = stain_density(dataset, spots, encoders)
    if density is not None:
        known[STAIN] = density[:, None]
    totals = library if dataset.depth is None else np.asarray(dataset.depth, dtype=float)
    depth = np.log(np.maximum(totals[test], 0.5))[:, None]
    found = {DEPTH: np.repeat(depth, len(genes), axis=1)}
    before, after = rows[: len(seen)], rows[len(seen) :]
    return found | {name: fitted(table[before], target, slides, table[after]) for name, table in known.items()}


def position_table(dataset: Dataset, spots: np.ndarray) -> np.ndarray:
    """`[spot, 6]`: x, y and the distance to the tissue's edge, in spreads of the slide; x^2, y^2, x y.

    The frame is that of the whole slide, so it depends on no split.
    """
    xy = dataset.spots[["x", "y"]].to_numpy(float)
    slides = np.asarray(dataset.slide_codes)
    table = np.zeros((len(dataset), 6))
    for code in np.unique(slides[spots]):
        here = slides == code
        table[here] = places(xy[here])
    return table[spots]


def places(xy: np.ndarray) -> np.ndarray:
    """The columns of `position_table` for all spots of one slide, `[spot, 6]`."""
    own = np.column_stack([xy, edge_distance(xy)])
    x, y, edge = ((own - own.mean(0)) / np.maximum(own.std(0), 1e-12)).T
    return np.column_stack([x, y, edge, x * x, y * y, x * y])


def stain_density(dataset: Dataset, spots: np.ndarray, encoders: tuple[str, ...]) -> np.ndarray | None:
    """`[spot]` mean optical density of each spot's patch; None where neither built-in features nor patches tell it."""
    if dataset.features is not None:
        if "builtin" not in encoders:
            return None
        from agl.data.images.builtin import FEATURE_NAMES

        views = feature_views(dataset.report.get("features"), dataset.features.shape[1])
        own = views[f"builtin {OWN}" if len(encoders) > 1 else OWN]
        return np.asarray(dataset.features[spots, own[FEATURE_NAMES.index("density_fine_mean")]], dtype=float)
    if dataset.patches is None:
        return None
    import torch

    from agl.data.images.stain import optical_density

    parts = [spots[start : start + _PATCHES_AT_ONCE] for start in range(0, len(spots), _PATCHES_AT_ONCE)]
    images = (torch.from_numpy(np.array(dataset.patches.read(part))).permute(0, 3, 1, 2).float() for part in parts)
    return np.concatenate([optical_density(batch).mean((1, 2, 3)).numpy() for batch in images]).astype(float)


def fitted(train: np.ndarray, target: np.ndarray, slides: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Least squares inside slides: `[test spot, gene]`, up to a constant of each slide, which no rank inside it minds.

    Args:
        train, test: `[spot, column]`.
        target: log expression `[training spot, gene]`.
        slides: `[training spot]` codes; both sides are centred inside each.
    """
    x, y = train.copy(), target.copy()
    for code in np.unique(slides):
        here = slides == code
        x[here] -= x[here].mean(0)
        y[here] -= y[here].mean(0)
    weights, *_ = np.linalg.lstsq(x, y, rcond=None)
    return np.asarray(test @ weights)
