"""HEST-bench's folds as a split: pairs of files `train_0.csv`, `test_0.csv` whose column `sample_id` names slides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from agl.data.splitting.fold_files import read_folds
from agl.data.splitting.splits import Split, carve


def hest_csv(
    spots: pd.DataFrame,
    validation_fraction: float = 0.2,
    validation_unit: str = "auto",
    seed: int = 0,
    root: str | Path | None = None,
    *,
    folder: str = "splits",
) -> list[Split]:
    """HEST-bench's folds: `train_0.csv`, `test_0.csv`, ... whose column `sample_id` names slides.

    Args:
        root: where a relative `folder` is looked up first.
    """
    slide = spots["slide"].astype(str).to_numpy()
    folds, listed = [], []
    for number, train, test in read_folds(folder, root, slides=sorted(set(slide))):
        listed.append(tuple(train))
        folds.append((f"fold={number}", np.isin(slide, train), np.isin(slide, test)))
    splits = carve(spots, folds, "hest_csv", validation_fraction, validation_unit, seed)
    return [replace(split, train_slides=train) for split, train in zip(splits, listed, strict=True)]
