"""HEST-bench's folds as a split: pairs of files `train_0.csv`, `test_0.csv` whose column `sample_id` names slides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from agl.data.splitting.splits import Split, carve, known_name
from agl.errors import UserError
from agl.places import regular_file


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
    for number, train, test in read_hest_folds(folder, root):
        listed.append(tuple(train))
        for name in train + test:
            known_name(name, slide, f"slide for fold {number}")
        folds.append((f"fold={number}", np.isin(slide, train), np.isin(slide, test)))
    splits = carve(spots, folds, "hest_csv", validation_fraction, validation_unit, seed)
    return [replace(split, train_slides=train) for split, train in zip(splits, listed, strict=True)]


def read_hest_folds(folder: str | Path, root: str | Path | None = None) -> list[tuple[int, list[str], list[str]]]:
    """`(number, training slides, test slides)` of every fold, by number. Other files in the folder are ignored.

    Raises:
        UserError: no such folder, a fold with one of its two files, a file without `sample_id`, a slide on both sides.
    """
    places = [Path(root) / folder, Path(folder)] if root is not None else [Path(folder)]
    path = next((place for place in places if place.is_dir()), None)
    if path is None:
        raise UserError(f"Expected a folder of train_0.csv and test_0.csv files, found no folder {str(folder)!r}.")
    files = {(part, _number(file)): file for part in ("train", "test") for file in path.glob(f"{part}_*.csv")}
    numbers = sorted({number for _, number in files if number >= 0})
    if not numbers:
        raise UserError(f"Expected files train_0.csv, test_0.csv, ... in {str(folder)!r}, found none.")
    folds = []
    for number in numbers:
        for part in ("train", "test"):
            if (part, number) not in files:
                raise UserError(f"Expected a train and a test file for fold {number}, found no {part}_{number}.csv.")
        train, test = _sample_ids(files["train", number]), _sample_ids(files["test", number])
        if both := sorted(set(train) & set(test)):
            raise UserError(
                f"Expected slides in train or test of fold {number}, found {', '.join(both)} in both files."
            )
        folds.append((number, train, test))
    return folds


def _number(file: Path) -> int:
    text = file.stem.rpartition("_")[2]
    return int(text) if text.isdecimal() else -1


def _sample_ids(file: Path) -> list[str]:
    regular_file(file, "a CSV table of folds")
    try:
        table = pd.read_csv(file, dtype=str, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"Expected a CSV table in {file.name}, could not read it ({error}).") from None
    if "sample_id" not in table:
        raise UserError(f"Expected a column sample_id in {file.name}, found {', '.join(map(str, table.columns))}.")
    return list(dict.fromkeys(table["sample_id"].dropna()))
