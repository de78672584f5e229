"""Every built-in format keeps the contract, and one from a file of the user's own is read like them."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from agl import registry
from agl.config import Component, load
from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.reading.formats.base import feature_file
from agl.data.reading.formats.known import Formats
from agl.data.reading.formats.matrices import NumpyMatrix
from agl.data.reading.join import Rows
from agl.errors import UserError
from agl.testing import check_format

OWN = '''
import csv

import numpy as np

from agl.data.reading.formats.base import feature_file
from agl.data.reading.join import Rows
from agl.errors import UserError


class Csv:
    """barcode, feature, feature, ..."""

    suffixes = (".csv.txt",)

    def __init__(self, *, scale: float = 1.0):
        self.scale = scale

    def open(self, path):
        barcodes, values = self._read(path)
        return feature_file(self, path, "my CSV", values, Rows(str(path), np.array(barcodes, dtype=object)))

    def blocks(self, file, size):
        _, values = self._read(file.path)
        for start in range(0, len(values), size):
            yield values[start : start + size]

    def sidecars(self, path):
        return []

    def _read(self, path):
        try:
            rows = list(csv.reader(path.open()))
            if rows.pop()[0] != "end":
                raise ValueError("no last line")
            return [row[0] for row in rows], self.scale * np.array([row[1:] for row in rows], dtype=np.float32)
        except (OSError, ValueError, IndexError) as error:
            raise UserError(f"Expected a table, cannot read {path} ({error}); write it again.") from error
'''


def write_csv(path, values, barcodes):
    lines = [",".join([name, *map(str, row)]) for name, row in zip(barcodes, values.tolist(), strict=True)]
    path.write_text("\n".join([*lines, "end"]))


def write_h5(path, values, barcodes):
    with h5py.File(path, "w") as h5:
        h5["embeddings"] = values
        h5["barcodes"] = np.array(barcodes, dtype="S")


def write_npy(path, values, barcodes):
    np.save(path, values)
    path.with_name(path.name.removesuffix(path.suffix) + ".barcodes.txt").write_text("\n".join(barcodes))


def write_pt(path, values, barcodes):
    torch.save({"features": torch.from_numpy(values), "barcodes": barcodes}, path)


def write_bare_pt(path, values, barcodes):
    torch.save(torch.from_numpy(values).half(), path)
    path.with_name(path.name.removesuffix(path.suffix) + "_barcodes.txt").write_text("\n".join(["barcode", *barcodes]))


WRITERS = {"hdf5": [write_h5], "npy": [write_npy], "pt": [write_pt, write_bare_pt]}


@pytest.fixture
def own(tmp_path) -> str:
    (tmp_path / "mine.py").write_text(OWN)
    return f"{tmp_path / 'mine.py'}:Csv"


@pytest.fixture
def folder(task) -> tuple[Path, list]:
    """Features as CSV, rows in another order than the spots, besides those in HDF5."""
    root, slides = task()
    (root / "features" / "enc").mkdir(parents=True)
    for slide in slides:
        rows = np.random.default_rng(2).permutation(len(slide.barcodes))
        names = [slide.barcodes[i] for i in rows]
        write_csv(root / "features" / "enc" / f"{slide.name}.csv.txt", slide.features[rows], names)
    return root, slides


@pytest.mark.parametrize("name", registry.names("format"))
def test_built_in_formats_keep_the_contract(name):
    for write in WRITERS[name]:
        check_format(registry.build("format", Component(name=name)), write)


def test_a_format_of_ones_own_keeps_it_and_is_read(own, folder):
    check_format(registry.build("format", Component(name=own)), write_csv)
    root, slides = folder
    dataset = open_dataset(root, features="enc", formats=[own])
    np.testing.assert_allclose(dataset.features, np.concatenate([s.features for s in slides]), rtol=1e-6)
    assert dataset.report["sections"]["S1"]["features"]["kind"] == "my CSV"
    doubled = open_dataset(root, features="enc", formats=[{"name": own, "scale": 2.0}])
    np.testing.assert_allclose(doubled.features, 2 * dataset.features)
    assert check(root, features="enc", formats=[own]).status != "error"
    joined = open_dataset(root, features=["enc", "uni"], formats=[own], context=[3])
    assert joined.features.shape[1] == 16
    with pytest.raises(UserError, match="Expected a feature file for slide 'S1' in enc, received no feature files"):
        open_dataset(root, features="enc")


def test_from_the_command_line(agl, own, folder):
    root, _ = folder
    status, out, err = agl("check", root, "--features", "enc", "--format", own, "--json")
    assert (status, json.loads(out)["status"]) == (0, "warning"), err
    status, _, err = agl(
        *("train", f"data.root={root}", "data.features=enc", f"data.formats=[{own}]", "model=ridge", "fold=0"),
        *("split=leave_one_slide_out", "primary.k=2", "primary.min_detection=0"),
    )
    assert status == 0, err


def test_the_key_knows_the_reader_where_it_reads_something(own, folder):
    root, _ = folder
    first = open_dataset(root, features="enc", formats=[own])
    before, cached = first.key, first.folder.name
    assert open_dataset(root, features="uni", formats=[own]).key == open_dataset(root, features="uni").key
    assert open_dataset(root, features="enc", formats=[{"name": own, "scale": 2.0}]).key != before
    file = Path(own.rpartition(":")[0])
    file.write_text(file.read_text() + "\n# another reader\n")
    changed = open_dataset(root, features="enc", formats=[own])
    assert changed.key == before  # it reads the same values
    assert changed.folder.name != cached  # which nobody can know before it has read them
    elsewhere = file.with_name("other") / "mine.py"
    elsewhere.parent.mkdir()
    elsewhere.write_text(OWN)
    assert open_dataset(root, features="enc", formats=[f"{elsewhere}:Csv"]).key == before


def test_an_own_format_comes_before_a_built_in_of_its_ending(tmp_path):
    (tmp_path / "mine.py").write_text(OWN.replace(".csv.txt", ".h5"))
    formats = Formats([f"{tmp_path / 'mine.py'}:Csv"])
    write_csv(tmp_path / "S1.h5", np.ones((2, 3), np.float32), ["a", "b"])
    assert formats.open(tmp_path / "S1.h5").kind == "my CSV"
    assert formats.suffixes == (".h5", ".hdf5", ".npy", ".pt", ".pth")
    assert formats.stem(Path("a/S1.x.h5")) == "S1.x"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class F:\n    suffixes = ('.x',)", "received nothing called open in"),
        (OWN.replace('(".csv.txt",)', '".csv.txt"').replace("Csv", "F"), "received suffixes = '.csv.txt' in"),
        (OWN.replace('(".csv.txt",)', '("csv",)').replace("Csv", "F"), r"received suffixes = \('csv',\) in"),
    ],
)
def test_what_is_no_format(tmp_path, code, message):
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(UserError, match=message):
        Formats([f"{tmp_path / 'mine.py'}:F"])


def test_names_that_are_no_format():
    with pytest.raises(UserError, match=r"Unknown format 'hdf'.*Did you mean 'hdf5'"):
        Formats(["hdf"])
    with pytest.raises(UserError, match="Expected a list such as"):
        load(["data.formats=mine.py:Csv"])


class Broken(NumpyMatrix):
    """NumPy, with one thing wrong."""


class ForgetsTheLast(Broken):
    def blocks(self, file, size):
        yield from list(super().blocks(file, size))[:-1]


class Unsorted(Broken):
    def open(self, path):
        file = super().open(path)
        return feature_file(self, path, "x", np.load(path), Rows(str(path), np.sort(file.rows.barcodes)))


class TooMuchAtOnce(Broken):
    def blocks(self, file, size):
        yield np.load(file.path)


class NoError(Broken):
    def open(self, path):
        return feature_file(self, path, "x", np.load(path), super().open(path).rows) if path.exists() else None


class Anonymous(Broken):
    def open(self, path):
        return feature_file(self, path, "x", np.load(path), Rows(str(path)))


class Drops(Broken):
    def blocks(self, file, size):
        for block in super().blocks(file, size):
            yield np.nan_to_num(block)


class Lists(Broken):
    @property
    def suffixes(self):
        return [".npy"]


class Itself(Broken):
    def sidecars(self, path):
        return [path]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (ForgetsTheLast, "Expected blocks of all rows"),
        (Unsorted, "Expected the barcodes in file order"),
        (TooMuchAtOnce, "Expected blocks of at most 1 rows"),
        (NoError, "Expected a UserError for a file that is empty"),
        (Anonymous, "Expected barcodes of the rows"),
        (Drops, "NaN included"),
        (Lists, "Expected suffixes as a tuple"),
        (Itself, "Expected sidecars other than the file itself"),
    ],
)
def test_the_battery_finds_what_is_broken(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_format(broken(), write_npy)


def test_blocks_that_break_their_promise_are_refused(tmp_path):
    write_npy(tmp_path / "S1.npy", np.ones((9, 2), np.float32), [f"b{i}" for i in range(9)])
    file = ForgetsTheLast().open(tmp_path / "S1.npy")
    with pytest.raises(UserError, match=r"Expected 9 rows of 2 features from .*, received others after row 8"):
        list(file.blocks(4))
