"""What baselines are fitted on, checked once: features, log expression, slides."""

from __future__ import annotations

from typing import Any

import numpy as np

from agl.data.expression import log_expression
from agl.errors import UserError

BLOCK = 4096  # spots looked at together


def training_table(
    features: np.ndarray, counts: Any, library_size: np.ndarray, slides: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, log expression and slides of the spots that have counts.

    Raises:
        UserError: shapes that differ, fewer than two spots with counts, features that are not finite.
    """
    check_rows(features, counts=counts, library_size=library_size, slides=slides)
    check_finite(features)
    usable = np.asarray(library_size) > 0
    if usable.sum() < 2:
        raise UserError(f"Expected at least two training spots with counts, received {int(usable.sum())}.")
    target, codes = log_expression(counts, library_size), np.asarray(slides)
    if usable.all():
        return features, target, codes
    return features[usable], target[usable], codes[usable]


def check_rows(features: np.ndarray, **others: Any) -> None:
    """Refuse anything but `[spot, feature]` with one row in `others` for each spot."""
    if features.ndim != 2 or features.shape[1] == 0:
        raise UserError(f"Expected features of shape [spot, feature], received {list(features.shape)}.")
    for name, value in others.items():
        if value.shape[0] != len(features):
            raise UserError(f"Expected one row of {name} a spot ({len(features)}), received {value.shape[0]}.")


def check_finite(features: np.ndarray) -> None:
    """Refuse NaN and infinite features, naming the first."""
    for start in range(0, len(features), BLOCK):
        bad = ~np.isfinite(features[start : start + BLOCK])
        if bad.any():
            spot, column = np.argwhere(bad)[0]
            raise UserError(
                f"Expected finite features, found {features[start + spot, column]} at training spot {start + spot}, "
                f"feature {column}. Extract the features again, or drop the spots."
            )


def check_width(features: np.ndarray, width: int) -> None:
    """Refuse features of another kind than those fitted on."""
    if features.ndim != 2 or features.shape[1] != width:
        raise UserError(f"Expected features of shape [spot, {width}] as in training, received {list(features.shape)}.")
