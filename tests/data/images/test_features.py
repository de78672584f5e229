"""The built-in features against plain NumPy/SciPy on small patches, their invariances, and the files they fill."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import ndimage, stats

from agl.data.images.builtin import FEATURE_NAMES, extract
from agl.data.images.folder import extract_folder
from agl.data.simulate.task import simulate
from agl.errors import UserError

MATRIX = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
AT = {name: column for column, name in enumerate(FEATURE_NAMES)}


def stained(n: int = 4, side: int = 40, seed: int = 0, darkest: float = 1.1) -> np.ndarray:
    """Random smooth tissue: densities of H and E, rendered in plain NumPy."""
    rng = np.random.default_rng(seed)
    density = ndimage.gaussian_filter(rng.random((n, side, side, 3)), (0, 2, 2, 0))
    density = (density - density.min()) / (density.max() - density.min()) * [darkest, 0.5, 0.05]
    return np.clip(256 * 10 ** -(density @ MATRIX) - 1, 0, 255).round().astype(np.uint8)


def layers(images: np.ndarray) -> dict[str, np.ndarray]:
    density = -np.log10((images.astype(float) + 1) / 256)
    stains = density @ np.linalg.inv(MATRIX)
    named = dict(zip(("hematoxylin", "eosin", "residual"), np.moveaxis(stains, -1, 0), strict=True))
    return named | {"density": density.mean(axis=-1)}


def averaged(layer: np.ndarray, size: int) -> np.ndarray:
    n, height, width = layer.shape
    kept = layer[:, : height // size * size, : width // size * size]
    return kept.reshape(n, height // size, size, width // size, size).mean(axis=(2, 4))


def column(images: np.ndarray, name: str) -> np.ndarray:
    return extract(images)[:, AT[name]].astype(float)


def test_names_are_unique_and_as_many_as_the_numbers() -> None:
    assert 60 <= len(FEATURE_NAMES) <= 100
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
    features = extract(stained())
    assert features.shape == (4, len(FEATURE_NAMES))
    assert features.dtype == np.float32


def test_colour_statistics() -> None:
    images = stained()
    scaled = images / 255
    for index, name in enumerate(("red", "green", "blue")):
        np.testing.assert_allclose(column(images, f"{name}_mean"), scaled[..., index].mean((1, 2)), rtol=1e-5)
        np.testing.assert_allclose(column(images, f"{name}_std"), scaled[..., index].std((1, 2)), rtol=1e-4)
    expected = [np.corrcoef(p[..., 1].ravel(), p[..., 2].ravel())[0, 1] for p in scaled]
    np.testing.assert_allclose(column(images, "green_blue_correlation"), expected, rtol=1e-4)
    spread = scaled.max(-1) - scaled.min(-1)
    np.testing.assert_allclose(column(images, "saturation_mean"), spread.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(column(images, "saturation_std"), spread.std((1, 2)), rtol=1e-4)


@pytest.mark.parametrize("scale", ["fine", "coarse"])
@pytest.mark.parametrize("name", ["hematoxylin", "eosin", "residual", "density"])
def test_moments_are_scipys(name: str, scale: str) -> None:
    images = stained(seed=1)
    layer = layers(images)[name]
    flat = (layer if scale == "fine" else averaged(layer, 4)).reshape(len(images), -1)
    np.testing.assert_allclose(column(images, f"{name}_{scale}_std"), flat.std(1), rtol=1e-3)
    np.testing.assert_allclose(column(images, f"{name}_{scale}_skewness"), stats.skew(flat, axis=1), atol=1e-2)
    kurtosis = stats.kurtosis(flat, axis=1, fisher=False)
    np.testing.assert_allclose(column(images, f"{name}_{scale}_kurtosis"), kurtosis, rtol=1e-2)
    if scale == "fine":
        np.testing.assert_allclose(column(images, f"{name}_fine_mean"), flat.mean(1), rtol=1e-3, atol=1e-5)
    ordered = np.sort(averaged(layer, 4).reshape(len(images), -1), axis=1)
    assert ordered.shape[1] == 100
    np.testing.assert_allclose(column(images, f"{name}_quantile_10"), ordered[:, 10], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(column(images, f"{name}_quantile_90"), ordered[:, 89], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["hematoxylin", "eosin"])
def test_roughness_is_differences_of_neighbours(name: str) -> None:
    images = stained(seed=2)
    layer = layers(images)[name]
    slope = sum(np.abs(np.diff(layer, axis=axis)).mean((1, 2)) for axis in (1, 2))
    bend = sum(np.abs(np.diff(layer, 2, axis=axis)).mean((1, 2)) for axis in (1, 2))
    np.testing.assert_allclose(column(images, f"{name}_fine_gradient"), slope, rtol=1e-3)
    np.testing.assert_allclose(column(images, f"{name}_fine_bend"), bend, rtol=1e-3)


def test_stripes_have_a_direction_and_noise_has_none() -> None:
    rows = np.where(np.arange(64) // 4 % 2, 90, 230).astype(np.uint8)
    stripes = np.broadcast_to(rows[None, :, None, None], (1, 64, 64, 3)).copy()
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 1), dtype=np.uint8).repeat(3, axis=3)
    assert column(stripes, "hematoxylin_fine_anisotropy")[0] > 0.99
    assert column(stripes.transpose(0, 2, 1, 3), "hematoxylin_fine_anisotropy")[0] > 0.99
    assert column(noise, "hematoxylin_fine_anisotropy")[0] < 0.1


def with_nuclei(centres: list[tuple[int, int]], side: int = 64, radius: float = 4.0) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    hematoxylin = np.full((side, side), 0.1)
    for cy, cx in centres:
        distance = np.hypot(y - cy, x - cx)
        hematoxylin = np.maximum(hematoxylin, 1.3 * np.exp(-0.5 * (distance / radius) ** 2))
    density = hematoxylin[..., None] * MATRIX[0] + 0.2 * MATRIX[1]
    return np.clip(256 * 10**-density - 1, 0, 255).round().astype(np.uint8)[None]


@pytest.mark.parametrize("centres", [[], [(32, 32)], [(16, 16), (16, 48), (48, 16), (48, 48), (32, 32)]])
def test_nuclei_are_counted(centres: list[tuple[int, int]]) -> None:
    image = with_nuclei(centres)
    assert column(image, "nuclear_count")[0] == pytest.approx(1000 * len(centres) / 64**2, rel=1e-5)
    # Twice blurred by a 3 x 3 box, thresholded: written out with SciPy's filters.
    blurred = ndimage.uniform_filter(ndimage.uniform_filter(layers(image)["hematoxylin"][0], 3), 3)
    mask = blurred > 0.6
    assert column(image, "nuclear_fraction")[0] == pytest.approx(mask.mean(), abs=1e-6)
    edges = sum(np.abs(np.diff(mask.astype(float), axis=axis)).mean() for axis in (0, 1))
    assert column(image, "nuclear_boundary")[0] == pytest.approx(edges, abs=1e-6)
    assert column(image, "background_eosin")[0] == pytest.approx(layers(image)["eosin"][0][~mask].mean(), rel=1e-3)
    if centres:
        inside = layers(image)["hematoxylin"][0][mask].mean()
        assert column(image, "nuclear_hematoxylin")[0] == pytest.approx(inside, rel=1e-3)
        assert column(image, "nucleus_size")[0] == pytest.approx(mask.sum() / len(centres), rel=1e-3)


def test_empty_glass_is_no_tissue() -> None:
    half = with_nuclei([])
    half[:, :32] = 255
    assert column(half, "tissue_fraction")[0] == pytest.approx(0.5)


@pytest.mark.parametrize("grey", [0, 1, 128, 255])
@pytest.mark.parametrize("side", [16, 17, 64])
def test_constant_patches_give_finite_numbers(grey: int, side: int) -> None:
    features = extract(np.full((2, side, side, 3), grey, np.uint8))
    assert np.isfinite(features).all()
    for name in ("red_std", "hematoxylin_fine_std", "eosin_coarse_skewness", "hematoxylin_fine_gradient"):
        assert np.abs(features[:, AT[name]]).max() < 1e-2, name
    np.testing.assert_allclose(features[:, AT["red_mean"]], grey / 255, rtol=1e-6)


def test_any_size_from_16_px_on() -> None:
    for shape in ((16, 16), (19, 33), (112, 112), (224, 224), (512, 512)):
        images = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
        assert np.isfinite(extract(images)).all(), shape


def test_twice_the_resolution_is_described_on_the_same_scale() -> None:
    coarse = stained(6, 112, seed=3)
    fine = coarse.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(extract(fine), extract(coarse), rtol=1e-4, atol=1e-5)


def test_each_patch_for_itself() -> None:
    images = stained(9, 32, seed=4)
    features = extract(images, batch_size=4)
    assert np.array_equal(features, extract(images, batch_size=4))
    np.testing.assert_allclose(features, extract(images, batch_size=9), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(features[::-1], extract(images[::-1], batch_size=4), rtol=1e-5, atol=1e-6)
    assert extract(images[:0]).shape == (0, len(FEATURE_NAMES))


def test_turning_a_patch_changes_nothing() -> None:
    images = stained(3, 48, seed=5)
    turned = np.rot90(images, axes=(1, 2))
    np.testing.assert_allclose(extract(turned), extract(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 3, 32, 32), np.uint8),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((2, 32, 32, 3), np.float32),
        np.zeros((2, 32, 32, 4), np.uint8),
    ],
)
def test_other_arrays_are_refused(images: np.ndarray) -> None:
    with pytest.raises(UserError, match="convert them to 8-bit RGB"):
        extract(images)


def test_too_small_patches_are_refused() -> None:
    with pytest.raises(UserError, match="received 15 x 20; cut larger"):
        extract(np.zeros((1, 15, 20, 3), np.uint8))


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return simulate(tmp_path / "task", n_patients=2, spots_per_slide=7, n_genes=60, patch_size=16)


def test_files_hold_the_features_in_the_order_of_the_patches(task: Path) -> None:
    folder = extract_folder(task, batch_size=3)
    assert folder == task / "embeddings" / "builtin"
    for source in (task / "patches").iterdir():
        with h5py.File(source) as patches, h5py.File(folder / source.name) as file:
            assert set(file) == {"embeddings", "barcodes", "coords"}
            np.testing.assert_array_equal(file["embeddings"][:], extract(patches["img"][:], 3))
            np.testing.assert_array_equal(file["barcodes"][:], patches["barcode"][:])
            np.testing.assert_array_equal(file["coords"][:], patches["coords"][:])
            assert json.loads(file.attrs["feature_names"]) == list(FEATURE_NAMES)


def test_finished_sections_are_kept_and_stale_ones_made_anew(task: Path, tmp_path: Path) -> None:
    folder = extract_folder(task, tmp_path / "features")
    first, second = sorted(folder.iterdir())
    os.utime(first, ns=(1, 1))
    os.utime(second, ns=(1, 1))
    with h5py.File(task / "patches" / second.name, "r+") as patches:
        patches["img"][0] = 255
    extract_folder(task, tmp_path / "features")
    assert first.stat().st_mtime_ns == 1
    assert second.stat().st_mtime_ns != 1
    with h5py.File(second) as file:
        assert file["embeddings"][0, AT["red_mean"]] == 1.0


def test_somebody_elses_file_is_never_overwritten(task: Path) -> None:
    folder = task / "embeddings" / "builtin"
    folder.mkdir(parents=True)
    for source in (task / "patches").iterdir():
        with h5py.File(source) as patches, h5py.File(folder / source.name, "w") as file:
            file["embeddings"], file["barcodes"] = np.zeros((7, 2)), patches["barcode"][:]
    extract_folder(task)  # the right spots: taken as finished
    with h5py.File(folder / "P1S1.h5", "r+") as file:
        assert file["embeddings"].shape == (7, 2)
        file["barcodes"][0] = b"other"
    with pytest.raises(UserError, match="not made here; move it away"):
        extract_folder(task)


def test_progress_counts_spots(task: Path) -> None:
    from rich.progress import Progress

    progress = Progress(disable=True)
    extract_folder(task, progress=progress)
    assert [(t.description, t.completed, t.total) for t in progress.tasks] == [("P1S1", 7, 7), ("P2S1", 7, 7)]


def test_damaged_or_missing_patches_leave_nothing_half_written(task: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found none; give the task folder"):
        extract_folder(tmp_path)
    torn = task / "patches" / "P2S1.h5"
    torn.write_bytes(torn.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"P2S1\.h5 to be a readable HDF5.*copy or cut the patches again"):
        extract_folder(task)
    assert [path.name for path in (task / "embeddings" / "builtin").iterdir()] == ["P1S1.h5"]
    with h5py.File(torn, "w") as file:
        file["img"] = np.zeros((3, 16, 16, 4), np.uint8)
        file["barcode"], file["coords"] = np.array([[b"a"], [b"b"], [b"c"]]), np.zeros((3, 2), int)
    with pytest.raises(UserError, match="convert them to 8-bit RGB"):
        extract_folder(task)
    with h5py.File(torn, "w") as file:
        file["pictures"] = np.zeros((3, 16, 16, 3), np.uint8)
    with pytest.raises(UserError, match="img"):
        extract_folder(task)
    assert [path.name for path in (task / "embeddings" / "builtin").iterdir()] == ["P1S1.h5"]
