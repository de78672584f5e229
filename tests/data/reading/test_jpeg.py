"""Patches stored as JPEG: the same pixels as Pillow's, the same joins as arrays, one sentence for damage."""

from __future__ import annotations

import io
import pickle
import shutil

import h5py
import numpy as np
import pytest
from PIL import Image

from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.images.builtin import extract
from agl.data.images.folder import extract_folder
from agl.data.reading.jpeg import JpegImages
from agl.data.reading.patches import open_patches
from agl.errors import UserError


def encoded(image: np.ndarray, quality: int = 90) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def pixels(stream: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(stream)).convert("RGB"))


def compress(path, streams=None) -> list[bytes]:
    """Replace a patch file's array by JPEGs; returns them in file order."""
    with h5py.File(path, "r+") as h5:
        streams = [encoded(image) for image in h5["img"][...]] if streams is None else streams
        del h5["img"]
        stored = h5.create_dataset("jpeg", (len(streams),), dtype=h5py.vlen_dtype(np.uint8))
        for row, stream in enumerate(streams):
            stored[row] = np.frombuffer(stream, np.uint8)
        if "coords" in h5:
            h5["coords"].attrs["patch_size_level0"] = 8
    return streams


@pytest.fixture
def jpegs(task, make_slide):
    """A folder whose slides have 16 px patches as JPEG, and what Pillow makes of them in the order of the spots."""
    root, slides = task([make_slide("S1", patch=16), make_slide("S2", n_spots=70, patient="P2", patch=16)])
    expected = []
    for slide in slides:
        streams = compress(root / "patches" / f"{slide.name}.h5")
        expected += [pixels(stream) for stream in reversed(streams)]  # files are written in reversed order
    return root, np.stack(expected)


def test_pixels_are_pillows_in_any_order(jpegs):
    root, expected = jpegs
    reader = open_dataset(root, features="none").patches
    np.testing.assert_array_equal(reader.read(np.arange(len(expected))), expected)
    positions = np.array([80, 3, 3, 11, 12, 0, 81])
    np.testing.assert_array_equal(reader.read(positions), expected[positions])
    again = pickle.loads(pickle.dumps(reader))  # as sent to a worker
    np.testing.assert_array_equal(again.read(positions), expected[positions])
    assert reader.read(np.array([], int)).shape == (0, 16, 16, 3)


def test_only_the_rows_asked_for_are_decoded_and_few_at_a_time(jpegs, monkeypatch):
    root, expected = jpegs
    held, decoded = [], []
    with h5py.File(root / "patches" / "S2.h5") as h5:
        images = JpegImages(h5["jpeg"])
        read, decode = h5py.Dataset.__getitem__, JpegImages._decoded

        def reading(self, rows):
            held.append(rows.stop - rows.start)
            return read(self, rows)

        def decoding(self, row, stream):
            decoded.append(row)
            return decode(self, row, stream)

        monkeypatch.setattr(h5py.Dataset, "__getitem__", reading)
        monkeypatch.setattr(JpegImages, "_decoded", decoding)
        np.testing.assert_array_equal(images[2:5], expected[12:][::-1][2:5])
        assert decoded == [2, 3, 4]
        assert len(images[:]) == 70
        assert held == [3, 64, 6]
        assert images.shape == (70, 16, 16, 3)


def test_features_are_those_of_the_decoded_patches(jpegs):
    root, expected = jpegs
    dataset = open_dataset(root, features="builtin")
    np.testing.assert_allclose(dataset.features, extract(expected), rtol=1e-5, atol=1e-6)
    folder = extract_folder(root)
    with h5py.File(folder / "S1.h5") as h5:
        np.testing.assert_allclose(h5["embeddings"][:][::-1], extract(expected[:12]), rtol=1e-5, atol=1e-6)
    assert check(root).status != "error"
    assert check(root).will_use["patches"] == "16 x 16 px, joined by barcode"


def test_other_pixels_are_another_dataset(jpegs):
    root, _ = jpegs
    before = open_dataset(root, features="none").key
    with h5py.File(root / "patches" / "S1.h5", "r+") as h5:
        h5["jpeg"][0] = np.frombuffer(encoded(np.zeros((16, 16, 3), np.uint8)), np.uint8)
    assert open_dataset(root, features="none").key != before


GREY = encoded(np.zeros((8, 8), np.uint8))
PNG = io.BytesIO()
Image.new("RGB", (8, 8)).save(PNG, "PNG")


@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        (b"", r"Expected a JPEG in row 0 of .*S1\.h5, cannot decode it"),
        (b"\xff\xd8 no picture", r"Expected a JPEG in row 0 of .*S1\.h5, cannot decode it"),
        (PNG.getvalue(), r"Expected a JPEG in row 0 of .*S1\.h5, cannot decode it"),
        (GREY, r"Expected RGB patches in .*S1\.h5, row 0 is L"),
    ],
    ids=["empty", "damaged", "PNG", "grey"],
)
def test_a_first_patch_that_is_no_rgb_jpeg(task, first, sentence):
    root, slides = task()
    compress(root / "patches" / "S1.h5", [first, *map(encoded, slides[0].images[1:])])
    with pytest.raises(UserError, match=sentence) as caught:
        open_dataset(root, features="none")
    assert "0x" not in str(caught.value), "no address of an object"
    assert any(sentence.split(" in ")[0] in f.message for f in check(root).findings if f.level == "error")


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda stream: stream[: len(stream) // 2], r"Expected a JPEG in row 3 of .*S1\.h5, cannot decode it"),
        (lambda stream: GREY, r"Expected RGB patches in .*S1\.h5, row 3 is L"),
        (lambda stream: encoded(np.zeros((16, 9, 3), np.uint8)), r"of 16 x 16 px in .*S1\.h5, row 3 has 9 x 16"),
    ],
    ids=["cut off", "grey", "other size"],
)
def test_a_later_patch_that_is_wrong_is_named_when_it_is_read(task, make_slide, broken, sentence):
    root, slides = task([make_slide("S1", patch=16)])
    streams = list(map(encoded, slides[0].images))
    compress(root / "patches" / "S1.h5", [*streams[:3], broken(streams[3]), *streams[4:]])
    reader = open_dataset(root, features="none").patches
    assert reader.read([0, 1, 2]).shape == (3, 16, 16, 3), "rows 11, 10, 9 are whole"
    with pytest.raises(UserError, match=sentence):
        reader.read(np.arange(12))
    with pytest.raises(UserError, match=sentence):
        open_dataset(root, features="builtin")


def test_what_is_no_list_of_byte_strings(tmp_path):
    for number, values in enumerate((np.zeros((3, 8, 8, 3), np.uint8), np.zeros(3, "S5"))):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w") as h5:
            h5["jpeg"] = values
        with pytest.raises(UserError, match=r"one byte string .* for each of some patches, received"):
            open_patches(path)
    with h5py.File(tmp_path / "empty.h5", "w") as h5:
        h5.create_dataset("jpeg", (0,), dtype=h5py.vlen_dtype(np.uint8))
    with pytest.raises(UserError, match=r"for each of some patches, received object \(0,\)"):
        open_patches(tmp_path / "empty.h5")


def test_a_truncated_file(jpegs, tmp_path):
    root, _ = jpegs
    path = tmp_path / "torn.h5"
    shutil.copy(root / "patches" / "S1.h5", path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UserError, match=r"torn\.h5 is truncated or damaged .*; copy or download it again\.$"):
        open_patches(path)


def test_bytes_that_were_overwritten_inside_the_file(jpegs):
    """Damage after opening: the place where HDF5 keeps the byte strings is gone."""
    root, _ = jpegs
    reader = open_dataset(root, features="none").patches
    path = root / "patches" / "S1.h5"
    content = bytearray(path.read_bytes())
    where = content.index(b"GCOL")
    content[where : where + 4] = b"GONE"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"S1\.h5.*copy"):
        reader.read(np.arange(12))
