"""One fold whose slides are named: for protocols that say which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from agl.data.reading.spelling import find_slide
from agl.data.splitting.holdout import hold_out, patient_or_slide
from agl.data.splitting.splits import Split
from agl.errors import DataError, did_you_mean
from agl.seeds import seeded


def named_slides(
    spots: pd.DataFrame,
    validation_fraction: float = 0.2,
    validation_unit: str = "auto",
    seed: int = 0,
    *,
    test: Sequence[str],
    validation: Sequence[str] = (),
    train: Sequence[str] = (),
) -> list[Split]:
    """Test, validate and train on the slides given. Without `train`, on all others; without `validation`, on a part.

    Optimistic where a test slide's patient is trained on or decides when to stop.

    Raises:
        DataError: an unknown slide, a slide in two parts, no slides left to train on.

    >>> spots = pd.DataFrame({"slide": list("aabbcc"), "patient": list("AABBCC"), "x": [0, 1] * 3, "y": 0})
    >>> [fold] = named_slides(spots, test=["b"], validation=["c"])
    >>> fold.train.tolist(), fold.validation.tolist(), fold.test.tolist()
    ([0, 1], [4, 5], [2, 3])
    """
    slide = spots["slide"].astype(str).to_numpy()
    known = sorted(set(slide))
    parts = {"test": _listed(test), "validation": _listed(validation), "train": _listed(train)}
    for part, names in parts.items():
        for place, name in enumerate(names):
            slide_meant = find_slide(name, known)
            if slide_meant is None:
                raise DataError(f"Expected slides that exist in {part}, received {name!r}.{did_you_mean(name, known)}")
            names[place] = slide_meant
    named = [name for names in parts.values() for name in names]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise DataError(f"Expected each slide in one part of the split, found {', '.join(twice)} twice.")
    wanted = parts["train"] or [name for name in known if name not in named]
    if not wanted:
        raise DataError("Expected slides to train on, found none beside those to test and to validate.")
    tested, kept, held = (
        np.flatnonzero(np.isin(slide, names)) for names in (parts["test"], wanted, parts["validation"])
    )
    name = f"test={','.join(parts['test'])}"
    if not parts["validation"]:
        rng = seeded(seed, "validation", "named_slides", name)
        kept, held = hold_out(spots, kept, validation_fraction, validation_unit, rng)
    relative = patient_or_slide(spots).to_numpy()
    seen = set(relative[kept]) | set(relative[held])
    return [Split(name, kept, held, tested, "named_slides", optimistic=bool(seen & set(relative[tested])))]


def _listed(names: Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else [str(name) for name in names]
