"""Which columns of a feature table show what of a spot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

OWN, CONTEXT = "own", "context"


def feature_views(about: Mapping[str, Any] | None, width: int) -> dict[str, np.ndarray]:
    """Columns by view: a spot's own features, and these with its surroundings'; one pair for each of several encoders.

    Args:
        about: `dataset.report["features"]`.
        width: of the table.

    >>> about = {"encoders": {"builtin": {"width": 2}}, "context": [8]}
    >>> {name: columns.tolist() for name, columns in feature_views(about, 4).items()}
    {'own': [0, 1], 'context': [0, 1, 2, 3]}
    """
    encoders = (about or {}).get("encoders") or {OWN: {"width": width}}
    widths = {Path(name).name: int(each["width"]) for name, each in encoders.items()}
    own = sum(widths.values())
    width -= 2 if (about or {}).get("places") else 0  # columns of where a spot lies are no view of what it shows
    blocks = width // own  # the spot itself, then each of its surroundings
    found, start = {}, 0
    for name, size in widths.items():
        prefix = f"{name} " if len(widths) > 1 else ""
        columns = np.arange(start, start + size)
        found[f"{prefix}{OWN}"] = columns
        if blocks > 1:
            found[f"{prefix}{CONTEXT}"] = np.concatenate([columns + own * block for block in range(blocks)])
        start += size
    return found
