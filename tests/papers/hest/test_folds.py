"""Folds from HEST-bench's files: by number, with one sentence for each way they can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agl.errors import UserError
from agl.papers.hest.folds import hest_csv
from tests.data.splitting.test_splits import FIVE


def write_folds(folder: Path, folds: dict[str, list[str]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, ids in folds.items():
        rows = pd.DataFrame({"sample_id": ids, "patches_path": "p", "expr_path": "e"})
        rows.to_csv(folder / f"{name}.csv", index=False)
    return folder


def test_hest_files_by_number_whatever_else_lies_there(tmp_path: Path) -> None:
    names = {
        f"{part}_{i}": ["A0"] if (part == "test") == (i != 10) else ["B0", "B1"]
        for part in ("train", "test")
        for i in (0, 2, 10)
    }
    folder = write_folds(tmp_path / "splits", names)
    (folder / "train_old.csv").write_text("sample_id\nZ\n")
    (folder / "notes.txt").write_text("stray")
    folds = hest_csv(FIVE, root=tmp_path)
    assert [fold.name for fold in folds] == ["fold=0", "fold=2", "fold=10"]
    assert set(FIVE.slide[folds[0].test]) == {"A0"}
    assert set(FIVE.slide[np.concatenate([folds[0].train, folds[0].validation])]) == {"B0", "B1"}
    assert set(FIVE.slide[folds[2].test]) == {"B0", "B1"}
    assert not folds[0].optimistic
    assert hest_csv(FIVE, folder=str(folder))[0].test.tolist() == folds[0].test.tolist()


def test_hest_files_that_share_a_patient_are_optimistic(tmp_path: Path) -> None:
    write_folds(tmp_path / "splits", {"train_0": ["C0", "A0"], "test_0": ["C1"]})
    assert hest_csv(FIVE, root=tmp_path)[0].optimistic


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ({}, "Expected files train_0.csv"),
        ({"train_0": ["A0"]}, "found no test_0.csv"),
        ({"train_0": ["A0", "B0"], "test_0": ["B0"]}, "found B0 in both files"),
        (
            {"train_0": ["A0"], "test_0": ["B9"]},
            "slide for fold 0 in the data, received 'B9' in test_0.csv. Known: A0, B0",
        ),
    ],
)
def test_bad_hest_files(tmp_path: Path, folds: dict[str, list[str]], message: str) -> None:
    write_folds(tmp_path / "splits", folds)
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        hest_csv(FIVE, root=tmp_path)


def test_unreadable_hest_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no folder 'nowhere'"):
        hest_csv(FIVE, root=tmp_path, folder="nowhere")
    folder = write_folds(tmp_path / "splits", {"train_0": ["A0"], "test_0": ["B0"]})
    (folder / "test_0.csv").write_text("sample,path\nB0,x\n")
    with pytest.raises(UserError, match=r"column sample_id in test_0\.csv, found sample, path"):
        hest_csv(FIVE, root=tmp_path)
    (folder / "test_0.csv").write_text("")
    with pytest.raises(UserError, match=r"table with a header at .*test_0\.csv, found it empty"):
        hest_csv(FIVE, root=tmp_path)
