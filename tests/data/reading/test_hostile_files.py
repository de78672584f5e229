"""Files of features and of patches that are none: one sentence each, soon, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
import warnings

import h5py
import numpy as np
import pytest
import torch

from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.errors import UserError

N = 12
VALUES = np.random.default_rng(1).normal(size=(N, 9)).astype(np.float32)
TENSOR = torch.from_numpy(VALUES)
pytestmark = pytest.mark.timeout(60)  # nothing hangs, not even on a busy machine


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def write_h5(path, names, attrs=None, **datasets):
    with h5py.File(path, "w") as h5:
        for name, values in ({"embeddings": VALUES, "barcodes": np.array(names, "S")} | datasets).items():
            if values is not None:
                h5[name] = values
        for name, value in (attrs or {}).items():
            h5["coords"].attrs[name] = value


def h5(attrs=None, **datasets):
    return "h5", lambda path, names: write_h5(path, names, attrs, **datasets)


def pt(value):
    def write(path, names):
        torch.save(value, path)
        path.with_name("S1.barcodes.txt").write_text("\n".join(names))

    return "pt", write


def sidecar(content):
    def write(path, names):
        np.save(path, VALUES)
        path.with_name("S1.barcodes.txt").write_bytes(content)

    return "npy", write


def with_file(write):
    """h5py as a user writes it, for what `write_h5` cannot."""

    def run(path, names):
        with h5py.File(path, "w") as file:
            file["barcodes"] = np.array(names, "S")
            write(file)

    return "h5", run


def npy_header(path, names):
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 1024)})


def archive(path, names):
    with path.open("wb") as stream:
        np.savez(stream, a=VALUES)


CORNERS = np.zeros((N, 2))
FILES = {
    **{f"pipe.{end}": (end, lambda path, names: os.mkfifo(path)) for end in ("h5", "npy", "pt")},
    **{f"folder.{end}": (end, lambda path, names: path.mkdir()) for end in ("h5", "npy", "pt")},
    **{f"loop.{end}": (end, lambda path, names: path.symlink_to(path.name)) for end in ("h5", "npy", "pt")},
    **{f"nowhere.{end}": (end, lambda path, names: path.symlink_to("none")) for end in ("h5", "npy", "pt")},
    **{f"empty.{end}": (end, lambda path, names: path.touch()) for end in ("h5", "npy", "pt")},
    **{f"text.{end}": (end, lambda path, names: path.write_text("barcode,0\nb,1\n")) for end in ("h5", "npy", "pt")},
    "code.pt": ("pt", lambda path, names: path.write_bytes(pickle.dumps(Attack(path.parent / "hacked")))),
    "code in a zip.pt": ("pt", lambda path, names: torch.save({"features": Attack(path.parent / "hacked")}, path)),
    "code.npy": ("npy", lambda path, names: np.save(path, np.array([Attack(path.parent / "hacked")], dtype=object))),
    "module.pt": ("pt", lambda path, names: torch.save(torch.nn.Linear(2, 2), path)),
    "scalar.pt": pt(torch.tensor(3.0)),
    "numbers.pt": pt([1, 2, 3]),
    "none.pt": pt(None),
    "string.pt": pt("features"),
    "nested.pt": pt({"features": {"a": TENSOR}}),
    "nothing.pt": pt({}),
    "sparse.pt": pt(TENSOR.to_sparse()),
    "complex.pt": pt(TENSOR.to(torch.complex64)),
    "bool.pt": pt(TENSOR > 0),
    "without values.pt": pt(TENSOR.to("meta")),
    "size in words.pt": pt({"features": TENSOR, "patch_size_level0": "big"}),
    "size nan.pt": pt({"features": TENSOR, "patch_size_level0": float("nan")}),
    "coordinates in words.pt": pt({"features": TENSOR, "coords": ["a"] * N}),
    "ragged coordinates.pt": pt({"features": TENSOR, "coords": [[1, 2], [3]]}),
    "no rows.h5": h5(embeddings=VALUES[:0], barcodes=np.zeros(0, "S1")),
    "no columns.h5": h5(embeddings=VALUES[:, :0]),
    "scalar.h5": h5(embeddings=3.0),
    "words.h5": h5(embeddings=np.array([[b"a"]] * N)),
    "complex.h5": h5(embeddings=VALUES.astype(complex)),
    "too large for float32.h5": h5(embeddings=VALUES.astype(float) * 1e300),
    "two barcodes a row.h5": h5(barcodes=np.array([[b"a", b"b"]] * N)),
    "coordinates in words.h5": h5(coords=np.array([[b"a", b"b"]] * N)),
    "three coordinates.h5": h5(barcodes=None, coords=np.zeros((N, 3))),
    "coordinates without end.h5": h5({"patch_size_level0": 40}, barcodes=None, coords=np.full((N, 2), 1e300)),
    "size nan.h5": h5({"patch_size_level0": np.nan}, coords=CORNERS),
    "size below zero.h5": h5({"patch_size_level0": -40}, barcodes=None, coords=CORNERS),
    "size in words.h5": h5({"patch_size_level0": "big"}, coords=CORNERS),
    "group.h5": with_file(lambda file: file.create_group("embeddings")),
    "null.h5": with_file(lambda file: file.update({"embeddings": h5py.Empty("f")})),
    "link to itself.h5": with_file(lambda file: file.update({"embeddings": h5py.SoftLink("/embeddings")})),
    "link elsewhere.h5": with_file(lambda file: file.update({"embeddings": h5py.ExternalLink("no.h5", "/x")})),
    "rows without end.h5": with_file(lambda file: file.create_dataset("embeddings", (10**12, 9), "f4", chunks=(9, 9))),
    "a row without end.h5": with_file(lambda file: file.create_dataset("embeddings", (N, 10**9), "f4", chunks=(1, 9))),
    "rows without end.npy": ("npy", npy_header),
    "structured.npy": ("npy", lambda path, names: np.save(path, np.zeros(N, [("a", "f4")]))),
    "scalar.npy": ("npy", lambda path, names: np.save(path, np.float32(3))),
    "archive.npy": ("npy", archive),
    "latin barcodes.npy": sidecar("\n".join(["é"] * N).encode("latin-1")),
    "utf-16 barcodes.npy": sidecar("\n".join(["b"] * N).encode("utf-16")),
    "no barcodes.npy": sidecar(b""),
    "binary barcodes.npy": sidecar(bytes(range(256))),
}


def both(root, features):
    """The sentence of the import, which has to be an error of the doctor's too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserError) as caught:
            open_dataset(root, features=features)
        errors = [finding.message for finding in check(root, features=features).findings if finding.level == "error"]
    sentence = str(caught.value)
    assert sentence.startswith("Expected "), sentence
    assert "\n" not in sentence
    assert errors
    assert not any(error.startswith("Cannot be read") for error in errors), errors
    return sentence


@pytest.mark.parametrize("name", FILES)
def test_feature_files(task, name):
    root, slides = task()
    folder = root / "features" / "enc"
    folder.mkdir(parents=True)
    write_h5(folder / "S2.h5", slides[1].barcodes, embeddings=VALUES[:9])
    end, write = FILES[name]
    write(folder / f"S1.{end}", slides[0].barcodes)
    assert "S1" in both(root, "enc")
    assert not (folder / "hacked").exists()


PATCHES = {
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "loop": lambda path: path.symlink_to(path.name),
    "nowhere": lambda path: path.symlink_to("none"),
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("img"),
    "scalar": lambda path: write_h5(path, [], img=3),
    "no pixels": lambda path: write_h5(path, [], img=np.zeros((N, 0, 8, 3), np.uint8)),
    "no rows": lambda path: write_h5(path, [], img=np.zeros((0, 8, 8, 3), np.uint8)),
}


@pytest.mark.parametrize("name", PATCHES)
def test_patch_files(task, name):
    """One that is there but is no file must not count as none."""
    root, _ = task()
    (root / "patches/S1.h5").unlink()
    PATCHES[name](root / "patches/S1.h5")
    assert "patches/S1.h5" in both(root, "none")


@pytest.mark.parametrize("end", ["h5", "npy", "pt"])
@pytest.mark.parametrize("seed", range(6))
def test_files_cut_anywhere(task, end, seed):
    root, slides = task()
    folder = root / "features" / "enc"
    folder.mkdir(parents=True)
    write_h5(folder / "S2.h5", slides[1].barcodes, embeddings=VALUES[:9])
    path = folder / f"S1.{end}"
    if end == "h5":
        write_h5(path, slides[0].barcodes)
    elif end == "npy":
        np.save(path, VALUES)
        (folder / "S1.barcodes.txt").write_text("\n".join(slides[0].barcodes))
    else:
        torch.save({"features": TENSOR, "barcodes": slides[0].barcodes}, path)
    os.truncate(path, int(np.random.default_rng(seed).integers(0, path.stat().st_size)))
    assert str(path) in both(root, "enc")


@pytest.mark.parametrize(
    "value",
    [
        TENSOR.clone().requires_grad_(),
        torch.complex(TENSOR, TENSOR).conj().real,
        {"features": TENSOR, "coords": CORNERS.tolist(), "patch_size_level0": torch.tensor([40])},
    ],
)
def test_unusual_tensors_that_are_features(task, value):
    root, slides = task()
    folder = root / "features" / "enc"
    folder.mkdir(parents=True)
    write_h5(folder / "S2.h5", slides[1].barcodes, embeddings=VALUES[:9])
    if isinstance(value, dict):
        value["barcodes"] = [[name] for name in slides[0].barcodes]
        value["coords"] = (slides[0].xy - 20).tolist()
    pt(value)[1](folder / "S1.pt", slides[0].barcodes)
    np.testing.assert_array_equal(open_dataset(root, features="enc").features[:N], VALUES)
