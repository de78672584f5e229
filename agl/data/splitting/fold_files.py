"""Folds in files: pairs of tables `train_0.csv`, `test_0.csv` whose column `sample_id` names slides (HEST-bench)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from agl.data.reading.spelling import find_slide
from agl.data.reading.tables import read_text_table
from agl.errors import DataError, did_you_mean

COLUMN = "sample_id"
FoldOfSlides = tuple[int, list[str], list[str]]  # number, training slides, test slides


def read_folds(
    folder: str | Path, root: str | Path | None = None, *, slides: Collection[str] | None = None
) -> list[FoldOfSlides]:
    """`(number, training slides, test slides)` of every fold, by number. Other files in the folder are ignored.

    Slides come in the order of the file; one named twice counts once.

    Args:
        root: where a relative `folder` is looked up first.
        slides: those of the data, which a file may also name as S1.h5ad, or 1.0 for 1 (`spelling.find_slide`); None
            takes the names as they are.

    Raises:
        DataError: no such folder, a fold with one of its two files, a file without `sample_id` or without slides, a
            slide that is not in the data or is on both sides.
    """
    places = [Path(root) / folder, Path(folder)] if root is not None else [Path(folder)]
    path = next((place for place in places if place.is_dir()), None)
    if path is None:
        raise DataError(f"Expected a folder of train_0.csv and test_0.csv files, found no folder {str(folder)!r}.")
    files: dict[tuple[str, int], Path] = {}
    for part in ("train", "test"):
        for file in sorted(path.glob(f"{part}_*.csv")):
            first = files.setdefault((part, _number(file)), file)
            if first != file and _number(file) >= 0:
                raise DataError(f"Expected one file for each part of a fold, found {first.name} and {file.name}.")
    numbers = sorted({number for _, number in files if number >= 0})
    if not numbers:
        raise DataError(f"Expected files train_0.csv, test_0.csv, ... in {str(folder)!r}, found none.")
    folds = []
    for number in numbers:
        for part in ("train", "test"):
            if (part, number) not in files:
                raise DataError(f"Expected a train and a test file for fold {number}, found no {part}_{number}.csv.")
        train, test = (_known(files[part, number], number, slides) for part in ("train", "test"))
        if both := sorted(set(train) & set(test)):
            raise DataError(
                f"Expected slides in train or test of fold {number}, found {', '.join(both)} in both files."
            )
        folds.append((number, train, test))
    return folds


def listed_slides(file: Path) -> list[str]:
    """The names in one file, each once, in its order.

    Raises:
        DataError: a file that cannot be read, has no column `sample_id`, or names no slide.
    """
    table = read_text_table(file)
    column = table.column(COLUMN)
    if column is None:
        raise DataError(f"Expected a column {COLUMN} in {file.name}, found {', '.join(table.columns)}.")
    names = list(dict.fromkeys(name for _, name in table.values(column)))
    if not names:
        raise DataError(f"Expected slides in {file.name}, found none; write one a line or remove the fold's two files.")
    return names


def _known(file: Path, number: int, slides: Collection[str] | None) -> list[str]:
    names = listed_slides(file)
    if slides is None:
        return names
    found: dict[str, None] = {}
    for name in names:
        slide = find_slide(name, slides)
        if slide is None:
            raise DataError(
                f"Expected a slide for fold {number} in the data, received {name!r} in {file.name}."
                f"{did_you_mean(name, slides)}"
            )
        found[slide] = None
    return list(found)


def _number(file: Path) -> int:
    text = file.stem.rpartition("_")[2]
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
