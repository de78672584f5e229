"""Splits as people and spreadsheets write them: read right, or one sentence."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from agl.data.checking.doctor import check
from agl.data.splitting.fold_files import listed_slides, read_folds
from agl.errors import UserError

SLIDES = ["1", "02", "S3", "S 4"]


def write(folder: Path, train: bytes | str, test: bytes | str = "sample_id\nS3\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, content in (("train", train), ("test", test)):
        (folder / f"{part}_0.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


READ_RIGHT = {
    "plain": "sample_id\n1\n02\n",
    "with paths": "sample_id,patches_path,expr_path\n1,p/1.h5,a/1.h5ad\n02,p,a\n",
    "repeated lines": "sample_id\n1\n02\n1\n1\n02\n",
    "a byte order mark": codecs.BOM_UTF8 + b"sample_id\n1\n02\n",
    "Windows line ends": "sample_id\r\n1\r\n02\r\n",
    "old Mac line ends": "sample_id\r1\r02\r",
    "no line end at the end": "sample_id\n1\n02",
    "semicolons": "sample_id;patches_path\n1;a\n02;b\n",
    "tabs": "sample_id\tpatches_path\n1\ta\n02\tb\n",
    "UTF-16": "sample_id\n1\n02\n".encode("utf-16"),
    "numbers of a spreadsheet": "sample_id\n1.0\n2.0\n",
    "zeros taken away": "sample_id\n1\n2\n",
    "names of files": "sample_id\n1.h5ad\n02.h5\n",
    "spaces": "sample_id , x\n  1  ,\n\t02 ,\n",
    "quotes": '"sample_id"\n"1"\n"02"\n',
    "blank lines": "\n\nsample_id\n\n1\n  \n,\n02\n\n",
    "letter case of the column": "Sample_ID\n1\n02\n",
    "a column of numbers before": ",sample_id\n0,1\n1,02\n",
    "invisible characters": "sample_id\n\u200b1\n02\u00a0\n",
    "commas at the ends": "sample_id,\n1,\n02,,\n",
}


@pytest.mark.parametrize("content", READ_RIGHT.values(), ids=READ_RIGHT)
def test_read_right(tmp_path: Path, content: bytes | str) -> None:
    assert read_folds(write(tmp_path / "splits", content), slides=SLIDES) == [(0, ["1", "02"], ["S3"])]


REFUSED = {
    "empty": ("", r"table with a header at .*train_0\.csv, found it empty; write it again or remove it\."),
    "header alone": ("sample_id\n", r"slides in train_0\.csv, found none; write one a line or remove the fold's two"),
    "no column": ("slide\n1\n", r"column sample_id in train_0\.csv, found slide\."),
    "no header": ("1\n02\n", r"column sample_id in train_0\.csv, found 1\."),
    "an unknown slide": (
        "sample_id\n1\nS5\n",
        r"for fold 0 in the data, received 'S5' in train_0\.csv\. Known: 02, 1, S",
    ),
    "two numbers it may be": ("sample_id\n0002\n", None),
    "on both sides": ("sample_id\n1\nS3\n", r"train or test of fold 0, found S3 in both files\."),
    "on both sides, spelled otherwise": ("sample_id\n1\nS3.h5ad\n", r"train or test of fold 0, found S3 in both"),
    "the column twice": ("sample_id,sample_id\n1,2\n", r"each column once in .*, found 'sample_id' twice"),
    "a workbook": (b"PK\x03\x04\x14\x00\x06\x00\xff\xfe", r"table of text at .*train_0\.csv, cannot read it"),
    "zeros": (b"sample_id\n1\n\0\0\0", r"table of text at .*train_0\.csv, received binary data"),
    "another alphabet's bytes": ("sample_id\nsch\u00e4del\n".encode("latin-1"), r"save it as CSV in UTF-8"),
    "a quote left open": ('sample_id\n"1\n02\n', r"CSV table at .*, line 3 cannot be read"),
    "a field too many": ("sample_id,x\n1,a\n02,b,c\n", r"2 fields in every line of .*, received 3 in line 3"),
}


@pytest.mark.parametrize(("content", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused_in_a_sentence(tmp_path: Path, content: bytes | str, sentence: str | None) -> None:
    folder = write(tmp_path / "splits", content)
    if sentence is None:  # 0002 is 02 here, where nothing else is two
        assert read_folds(folder, slides=SLIDES)[0][1] == ["02"]
        sentence, slides = "in the data, received '0002'", ["02", "002", "S3"]
    else:
        slides = SLIDES
    with pytest.raises(UserError, match=sentence) as caught:
        read_folds(folder, slides=slides)
    assert "\n" not in str(caught.value)


def test_two_files_of_one_number(tmp_path: Path) -> None:
    folder = write(tmp_path / "splits", "sample_id\n1\n")
    (folder / "train_00.csv").write_text("sample_id\n02\n")
    with pytest.raises(UserError, match=r"one file for each part of a fold, found train_0\.csv and train_00\.csv\."):
        read_folds(folder)
    (folder / "train_00.csv").rename(folder / "train_old_copy.csv")
    assert [number for number, *_ in read_folds(folder)] == [0]


def test_names_without_the_data_are_as_they_are(tmp_path: Path) -> None:
    folder = write(tmp_path / "splits", "sample_id\n1.0\nS9.h5ad\n")
    assert read_folds("splits", tmp_path) == [(0, ["1.0", "S9.h5ad"], ["S3"])]
    assert listed_slides(folder / "train_0.csv") == ["1.0", "S9.h5ad"]


def test_the_doctor_reads_them_the_same_way(task) -> None:
    root, _ = task()
    write(root / "splits", "sample_id\nS1.h5ad\n", "sample_id;x\r\nS2;\r\n")
    write(root / "splits_bad", "sample_id\nS1\n", "sample_id\nS1.h5ad\n")
    write(root / "splits_old", "sample_id\nS1\n", "sample_id\nS7\n")
    said = [f.message for f in check(root, features="uni").findings if "splits" in f.message or "fold" in f.message]
    assert "Expected slides in train or test of fold 0, found S1 in both files." in said
    assert "splits_old/test_0.csv lists 'S7', which has no section." in said
    assert [f.level for f in check(root, features="uni").findings if "both files" in f.message] == ["warning"]


def test_named_slides_as_a_config_spells_them() -> None:
    import pandas as pd

    from agl.data.splitting.named import named_slides

    spots = pd.DataFrame({"slide": ["1"] * 2 + ["02"] * 2 + ["S3"] * 2, "patient": "P", "x": [0, 1] * 3, "y": 0})
    [fold] = named_slides(spots, test=[2], validation=["S3.h5ad"], train=[1.0])  # YAML reads 02 and 1.0 as numbers
    assert (fold.test.tolist(), fold.validation.tolist(), fold.train.tolist()) == ([2, 3], [4, 5], [0, 1])
    with pytest.raises(UserError, match="found 02 twice"):
        named_slides(spots, test=["02"], validation=[2])
