"""Images: every region of every kind equals a plain crop, pyramids are used, memory stays bounded."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from agl.errors import UserError
from agl.preparing.images.image import SlideImage, levels_of
from agl.preparing.images.open import open_image
from agl.preparing.images.resample import cut, overview

HEIGHT, WIDTH = 150, 220
TILED = {"tile": (32, 48), "photometric": "rgb"}


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Smooth colours with noise, so that no two crops are alike."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], axis=-1)
    noise = np.random.default_rng(0).normal(0, 10, waves.shape)
    return np.clip(150 + 60 * waves + noise, 0, 255).astype(np.uint8)


def halved(array: np.ndarray) -> np.ndarray:
    height, width = array.shape[0] // 2 * 2, array.shape[1] // 2 * 2
    return array[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3)).astype(np.uint8)


def with_alpha(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array, np.full((*array.shape[:2], 1), 255, np.uint8)], axis=2)


WRITERS = {
    "tiles": lambda path, a: tifffile.imwrite(path, a, compression="zlib", **TILED),
    "big TIFF, LZW": lambda path, a: tifffile.imwrite(
        path, a, compression="lzw", predictor=True, bigtiff=True, **TILED
    ),
    "plain strips": lambda path, a: tifffile.imwrite(path, a, photometric="rgb"),
    "packed strips": lambda path, a: tifffile.imwrite(path, a, photometric="rgb", compression="zlib", rowsperstrip=13),
    "planes in tiles": lambda path, a: tifffile.imwrite(
        path, np.moveaxis(a, 2, 0), photometric="rgb", planarconfig="separate", tile=(32, 48), compression="zlib"
    ),
    "planes in strips": lambda path, a: tifffile.imwrite(
        path, np.moveaxis(a, 2, 0), photometric="rgb", planarconfig="separate", compression="zlib"
    ),
    "OME, colours as pages": lambda path, a: tifffile.imwrite(
        path, np.moveaxis(a, 2, 0), ome=True, photometric="minisblack", metadata={"axes": "CYX"}, tile=(32, 48)
    ),
    "OME, colours together": lambda path, a: tifffile.imwrite(path, a, ome=True, metadata={"axes": "YXS"}, **TILED),
    "with alpha": lambda path, a: tifffile.imwrite(path, with_alpha(a), extrasamples=["unassalpha"], **TILED),
    "PNG": lambda path, a: Image.fromarray(a).save(path, "PNG"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_region_is_a_plain_crop(pixels: np.ndarray, tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("image.png" if kind == "PNG" else "image.tif")
    WRITERS[kind](path, pixels)
    rng = np.random.default_rng(1)
    with open_image(path) as image:
        assert image.size == (WIDTH, HEIGHT)
        for _ in range(20):
            x, y = rng.integers(0, [WIDTH - 1, HEIGHT - 1])
            w, h = rng.integers(1, [WIDTH - x + 1, HEIGHT - y + 1])
            np.testing.assert_array_equal(image.read(0, x, y, w, h), pixels[y : y + h, x : x + w])
        np.testing.assert_array_equal(cut(image, np.array([31, 17]), 64.0, 64), pixels[17:81, 31:95])


def test_what_reaches_over_the_edge_is_glass(pixels: np.ndarray, tmp_path: Path) -> None:
    WRITERS["tiles"](tmp_path / "i.tif", pixels)
    padded = np.pad(pixels, ((40, 40), (40, 40), (0, 0)), constant_values=255)
    with open_image(tmp_path / "i.tif") as image:
        for x, y in ((-30, -20), (WIDTH - 10, 5), (3, HEIGHT - 1), (-30, HEIGHT - 20)):
            np.testing.assert_array_equal(image.read(0, x, y, 40, 40), padded[y + 40 : y + 80, x + 40 : x + 80])
        assert (image.read(0, WIDTH + 5, 0, 8, 8) == 255).all()


def test_a_grey_picture_has_three_equal_colours(pixels: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "i.tif", pixels[..., 0], photometric="minisblack", tile=(32, 48))
    with open_image(tmp_path / "i.tif") as image:
        np.testing.assert_array_equal(image.read(0, 5, 6, 50, 60), np.repeat(pixels[6:66, 5:55, :1], 3, axis=2))


def write_pyramid(path: Path, levels: list[np.ndarray], *, inside: bool, **options) -> None:
    """Smaller copies as sub-images of the first (`inside`), as OME has them, or as pages of their own (libvips)."""
    with tifffile.TiffWriter(path) as tiff:
        shared = {"tile": (32, 48), "photometric": "rgb", "compression": "zlib", "metadata": None}
        tiff.write(levels[0], subifds=len(levels) - 1 if inside else None, **shared, **options)
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, **shared)


@pytest.mark.parametrize("inside", [True, False])
def test_patches_come_from_the_nearest_level_that_is_fine_enough(
    pixels: np.ndarray, tmp_path: Path, inside: bool
) -> None:
    levels = [pixels[:144, :216], halved(pixels[:144, :216])]
    levels.append(halved(levels[1]))
    write_pyramid(tmp_path / "p.tif", levels, inside=inside)
    with open_image(tmp_path / "p.tif") as image:
        assert [(level.width, level.height) for level in image.levels] == [(216, 144), (108, 72), (54, 36)]
        for number, factor in enumerate((1, 2, 4)):
            found = cut(image, np.array([16, 8]), 32.0 * factor, 32)
            x, y = 16 // factor, 8 // factor
            np.testing.assert_array_equal(found, levels[number][y : y + 32, x : x + 32])
        assert (image.level_for(3.0), image.level_for(0.5), image.level_for(8.0)) == (1, 0, 2)
        small, scale = overview(image, 54)
        np.testing.assert_array_equal(small, levels[2])
        assert scale == 0.25


@pytest.mark.parametrize("compression", ["zlib", "jpeg"])
def test_a_scanners_file_is_read_by_openslide(pixels: np.ndarray, tmp_path: Path, compression: str) -> None:
    """Aperio's SVS: a tiled image, a thumbnail, a smaller copy; OpenSlide and tifffile decode the same."""
    path = tmp_path / "s.svs"
    said = "Aperio Image Library v12\r\n{0}x{1} |AppMag = 20|MPP = 0.4960"
    big = np.tile(pixels, (4, 4, 1))
    with tifffile.TiffWriter(path) as tiff:
        tiles = {"tile": (240, 240), "photometric": "rgb", "compression": compression, "metadata": None}
        tiff.write(big, description=said.format(*big.shape[1::-1]), **tiles)
        tiff.write(halved(halved(big)), photometric="rgb", metadata=None, description=said.format(1, 1))
        tiff.write(halved(big), description=said.format(*big.shape[1::-1]), **tiles)
    with open_image(path) as image:
        assert image.size == big.shape[1::-1]
        assert image.um_per_px == pytest.approx(0.496)
        assert [level.width for level in image.levels] == [880, 440]
        with tifffile.TiffFile(path) as tiff:
            exact = tiff.pages[0].asarray()
        found = image.read(0, 200, 100, 300, 250).astype(int)
        assert np.abs(found - exact[100:350, 200:500]).max() <= (0 if compression == "zlib" else 2)


def test_hamamatsus_ndpi_is_read_by_openslide(tmp_path: Path) -> None:
    """A file with its tags: one JPEG a level, the lens of each, the label's picture beside."""
    import imagecodecs

    colours = np.random.default_rng(0).integers(0, 255, (16, 20, 3)).astype(np.uint8)
    full, path = colours.repeat(16, 0).repeat(16, 1), tmp_path / "s.ndpi"
    known = [(271, "s", 0, "Hamamatsu", True), (65420, "I", 1, 1, True)]
    known += [(tag, "i", 1, 0, True) for tag in (65422, 65423, 65424)]  # offsets of the scan
    with tifffile.TiffWriter(path, bigtiff=False, byteorder="<") as tiff:
        for picture, lens in ((full, 20.0), (full[::4, ::4], 5.0), (full[::8, ::8], -1.0)):
            tiff.write(
                iter([imagecodecs.jpeg_encode(np.ascontiguousarray(picture), level=98)]),
                shape=picture.shape,
                dtype=np.uint8,
                photometric="ycbcr",
                compression="jpeg",
                subsampling=(2, 2),
                rowsperstrip=len(picture),
                resolution=(20_000, 20_000),
                resolutionunit="CENTIMETER",
                metadata=None,
                software=None,
                extratags=[*known, (65421, "f", 1, lens, True)],
            )
    with open_image(path) as image:
        assert (image.size, image.um_per_px) == ((320, 256), 0.5)
        found = image.read(0, 100, 60, 90, 50)
    assert np.abs(found.astype(int) - full[60:110, 100:190]).mean() < 5


def test_nothing_aliases_when_an_image_is_reduced(tmp_path: Path) -> None:
    y, x = np.mgrid[:256, :256]
    board = np.repeat((255 * ((x + y) % 2))[..., None], 3, axis=2).astype(np.uint8)
    image = SlideImage("board", levels_of([(256, 256)]), None, lambda level, x, y, w, h: board[y : y + h, x : x + w])
    for side in (64.0, 97.3):
        found = cut(image, np.array([40, 40]), side, 32)
        assert found.shape == (32, 32, 3)
        assert abs(found.mean() - 127.5) < 1
        if side == 64.0:
            assert np.ptp(found) <= 2  # picking every second px would give black or white
    small, scale = overview(image, 64)
    assert scale == 0.25
    assert np.abs(small.astype(int) - 127).max() <= 1


def test_a_cut_at_a_fraction_of_a_px_agrees_with_exact_areas(pixels: np.ndarray) -> None:
    """A smooth image, reduced by 2.5: the filter's result is within 2 of the mean over each area."""
    y, x = np.mgrid[:200, :200]
    smooth = np.repeat((128 + 60 * np.sin(x / 25) * np.cos(y / 30))[..., None], 3, axis=2)
    image = SlideImage(
        "s", levels_of([(200, 200)]), None, lambda level, x, y, w, h: smooth[y : y + h, x : x + w].round().astype("u1")
    )
    found = cut(image, np.array([30, 50]), 100.0, 40)
    fine = np.repeat(np.repeat(smooth[50:150, 30:130], 2, axis=0), 2, axis=1)  # 200 half-px are 40 areas of 5
    expected = fine.reshape(40, 5, 40, 5, 3).mean(axis=(1, 3))
    assert np.abs(found - expected).max() < 2


def test_an_overview_of_an_image_without_levels_is_read_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    asked: list[int] = []

    def region(level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        asked.append(width * height * 3)
        return whole[y : y + height, x : x + width]

    monkeypatch.setattr("agl.preparing.images.resample._BAND", 20_000)
    small, _ = overview(SlideImage("w", levels_of([(400, 300)]), None, region), 100)
    assert max(asked) <= 30_000
    expected = whole.reshape(75, 4, 100, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - expected).max() <= 1


def test_a_million_px_wide_image_needs_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000,000 x 128 px are 384 MB; patches at both ends and the overview need less than 64 MB."""
    path, tile = tmp_path / "wide.tif", np.full((128, 4096, 3), 240, np.uint8)
    tile[30:80, 500:600] = [200, 90, 150]
    packed, columns = zlib.compress(tile.tobytes(), 1), -(-1_000_000 // 4096)
    layout = {"shape": (128, 1_000_000, 3), "dtype": np.uint8, "tile": (128, 4096)}
    tifffile.imwrite(path, iter([packed] * columns), compression="zlib", photometric="rgb", **layout)
    monkeypatch.setattr("agl.preparing.images.segments.KEPT", 16 << 20)
    monkeypatch.setattr("agl.preparing.images.resample._BAND", 16 << 20)
    tracemalloc.start()
    try:
        with open_image(path) as image:
            assert image.size == (1_000_000, 128)
            for column in (0, 100, columns - 2):
                found = cut(image, np.array([column * 4096 + 450, 20]), 100.0, 100)
                np.testing.assert_array_equal(found, tile[20:120, 450:550])
            small, _ = overview(image, 2000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert small.shape == (1, 2000, 3)
    assert peak < 64 << 20


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}, 0.5),
        ({"resolution": (101_600, 101_600), "resolutionunit": "INCH"}, 0.25),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"description": "Aperio Image Library |AppMag = 40|MPP = 0.2520", "metadata": None}, 0.252),
        ({"ome": True, "metadata": {"axes": "YXS", "PhysicalSizeX": 0.325, "PhysicalSizeXUnit": "µm"}}, 0.325),
        ({"ome": True, "metadata": {"axes": "YXS", "PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm"}}, 0.5),
        ({}, None),
    ],
)
def test_the_size_of_a_px_is_read_from_the_tags(
    pixels: np.ndarray, tmp_path: Path, options: dict, expected: float | None
) -> None:
    tifffile.imwrite(tmp_path / "i.tif", pixels, **TILED, **options)
    with open_image(tmp_path / "i.tif") as image:
        assert image.um_per_px == (None if expected is None else pytest.approx(expected))


def broken_tiles(path: Path, pixels: np.ndarray) -> None:
    WRITERS["tiles"](path, pixels)
    with tifffile.TiffFile(path) as tiff:
        at, size = tiff.pages[0].dataoffsets[2], tiff.pages[0].databytecounts[2]
    content = bytearray(path.read_bytes())
    content[at : at + size] = bytes(size)
    path.write_bytes(content)


def cut_short(path: Path, pixels: np.ndarray) -> None:
    WRITERS["tiles"](path, pixels)
    path.write_bytes(path.read_bytes()[:40_000])


@pytest.mark.parametrize(
    ("write", "part"),
    [
        (lambda path, a: path.write_bytes(b"II*\0nonsense"), "cannot read it"),
        (lambda path, a: path.write_bytes(b""), "cannot read it"),
        (lambda path, a: path.mkdir(), "it is a folder"),
        (broken_tiles, "a part of it is damaged"),
        (cut_short, "copy the image again"),
        (lambda path, a: tifffile.imwrite(path, a.astype(np.uint16), **TILED), "8-bit colours"),
        (lambda path, a: tifffile.imwrite(path, a[..., :2], photometric="minisblack"), "8-bit colours"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(pixels: np.ndarray, tmp_path: Path, write, part: str) -> None:
    write(tmp_path / "i.tif", pixels)
    with pytest.raises(UserError, match=part), open_image(tmp_path / "i.tif") as image:
        image.read(0, 0, 0, WIDTH, HEIGHT)


def test_other_files_and_missing_packages_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "i.bmp").write_bytes(b"BM")
    with pytest.raises(UserError, match="convert it to a tiled TIFF"), open_image(tmp_path / "i.bmp"):
        pass
    for package, name in (("tifffile", "i.tif"), ("openslide", "i.ndpi")):
        (tmp_path / name).write_bytes(b"II*\0")
        monkeypatch.setitem(__import__("sys").modules, package, None)
        with pytest.raises(UserError, match=r"pip install 'agl\[slides\]'"), open_image(tmp_path / name):
            pass


def test_a_picture_too_large_to_be_held_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (100, 50)).save(tmp_path / "i.png")
    monkeypatch.setattr("agl.preparing.images.plain.LARGEST", 4_999)
    with pytest.raises(UserError, match=r"vips tiffsave i\.png i\.tif"), open_image(tmp_path / "i.png"):
        pass
