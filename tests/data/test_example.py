"""The sections that come with the package: whole, true to their source, credited, small."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import tomllib
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from agl.config import load
from agl.data.checking.doctor import check
from agl.data.dataset import Dataset, open_dataset
from agl.data.example import example_folder, folder_named
from agl.data.images.builtin import FEATURE_NAMES, extract
from agl.data.images.folder import BUILTIN_VERSION
from agl.data.images.thumbnails import find_thumbnail
from agl.errors import DataError
from agl.runs.train import train
from agl.training.loading import load_data

REPOSITORY = Path(__file__).resolve().parents[2]
SPOTS = {"A1": 346, "B4": 283, "C2": 187, "C3": 180, "C5": 181}
# Of the original sections' counts, summed over all 15,045 to 15,821 genes; and of their counts of the genes kept here.
ORIGINAL_TOTALS = {"A1": 1_553_744, "B4": 935_146, "C2": 1_926_633, "C3": 2_033_498, "C5": 2_014_132}
ORIGINAL_LIBRARY_SIZES = "4d53dc5966b82a44a05762a660fe5bcd76ec8964b5680600688effc05ae29369"
ORIGINAL_COUNTS = "f21d830730e59fbe03fb3c207a6d67f5012568e5092bbb9441059907f4826dd3"
# Ridge on the original sections, 50 spatially structured genes, a section of patient C left out: SCC of each fold.
ORIGINAL_RIDGE = [0.3457, 0.4276, 0.4140]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    cache = tmp_path_factory.mktemp("cache")
    return open_dataset(example_folder(), features="builtin_originals", cache_dir=cache)


def test_the_doctor_finds_nothing_wrong() -> None:
    for features in ("auto", "builtin_originals"):
        report = check(example_folder(), features=features)
        assert report.status == "ok"
        assert {finding.level for finding in report.findings} == {"note"}
        assert (report.spots, report.genes_overlap, report.patients) == (1177, 8796, ["A", "B", "C"])
        assert {section.slide: section.spots for section in report.sections} == SPOTS


def test_library_sizes_and_counts_are_the_originals(example: Dataset) -> None:
    sizes = example.library_size
    assert hashlib.sha256(sizes.astype("<i8").tobytes()).hexdigest() == ORIGINAL_LIBRARY_SIZES
    totals = {slide: int(sizes[(example.spots.slide == slide).to_numpy()].sum()) for slide in SPOTS}
    assert totals == ORIGINAL_TOTALS
    stored = np.asarray(example.counts.sum(axis=1)).ravel()
    assert (stored <= sizes).all()
    assert 0.94 < stored.sum() / sizes.sum() < 0.97
    counts = example.counts.toarray().astype("<i4")
    digest = hashlib.sha256()
    for slide in SPOTS:  # slide after slide, as they were hashed
        digest.update(counts[(example.spots.slide == slide).to_numpy()].tobytes())
    assert digest.hexdigest() == ORIGINAL_COUNTS


def test_every_gene_is_in_a_tenth_of_the_spots(example: Dataset) -> None:
    detected = np.asarray((example.counts > 0).sum(axis=0)).ravel()
    assert detected.min() == 118
    assert list(example.genes) == sorted(example.genes)


def test_it_is_the_original_cut(example: Dataset, her2st: Path, tmp_path: Path) -> None:
    original = open_dataset(her2st, cache_dir=tmp_path)
    assert example.spots.equals(original.spots)
    np.testing.assert_array_equal(example.library_size, original.library_size)
    kept = np.asarray((original.counts > 0).sum(axis=0)).ravel() >= 0.1 * 1177
    assert set(example.genes) == {gene for gene, keep in zip(original.genes, kept, strict=True) if keep}
    positions = original.gene_positions(example.genes)
    assert (original.counts[:, positions] != example.counts).nnz == 0
    assert example.features is not None
    assert original.features is not None
    np.testing.assert_allclose(example.features, original.features, rtol=1e-4, atol=1e-5)
    spots = np.arange(0, 1177, 50)
    assert original.patches is not None
    assert example.patches is not None
    difference = original.patches.read(spots).astype(float) - example.patches.read(spots)
    assert np.abs(difference).mean() < 4, "of 255 levels"


def test_patches_are_what_pillow_decodes(example: Dataset) -> None:
    assert example.patches is not None
    assert example.patches.complete
    with h5py.File(example_folder() / "patches" / "C2.h5") as h5:
        assert h5["jpeg"].shape == (187,)
        expected = np.stack([np.asarray(Image.open(io.BytesIO(stream.tobytes()))) for stream in h5["jpeg"][:5]])
        barcodes = [barcode.decode() for barcode in h5["barcode"][:5, 0]]
    here = example.spots[example.spots.slide == "C2"]
    spots = [int(here.index[here.barcode == barcode][0]) for barcode in barcodes]
    np.testing.assert_array_equal(example.patches.read(spots), expected)
    assert expected.shape == (5, 112, 112, 3)


def test_features_beside_are_this_versions_and_near_the_jpegs(example: Dataset) -> None:
    with h5py.File(example_folder() / "embeddings" / "builtin_originals" / "C3.h5") as h5:
        assert h5.attrs["agl_encoder"] == BUILTIN_VERSION, "the extractor changed: make the example again"
        assert h5["embeddings"].shape == (180, len(FEATURE_NAMES))
    assert example.features is not None
    assert example.patches is not None
    spots = np.flatnonzero(example.spots.slide == "C3")
    decoded = extract(example.patches.read(spots))
    agreement = [np.corrcoef(a, b)[0, 1] for a, b in zip(np.asarray(example.features[spots]).T, decoded.T, strict=True)]
    assert np.median(agreement) > 0.995
    assert np.mean(np.array(agreement) > 0.95) > 0.9, "all but a few of the third and fourth moments"


def test_ridge_scores_as_on_the_original(tmp_path: Path) -> None:
    words = ["model=ridge", "primary=moran", "split=hest_csv", "split.folder=splits_section", "allow_leaks=[patient]"]
    for features, tolerance in (("builtin_originals", 0.002), ("builtin", 0.006)):
        runs = train(load([f"data.features={features}", "data.root=example", f"output={tmp_path}", *words]))
        found = [run.result["scc"] for run in runs]
        np.testing.assert_allclose(found, ORIGINAL_RIDGE, atol=tolerance)
        assert abs(np.mean(found) - np.mean(ORIGINAL_RIDGE)) < 0.002


def test_the_word_example_unless_there_is_such_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agl) -> None:
    monkeypatch.chdir(tmp_path)
    assert folder_named("example") == str(example_folder())
    assert folder_named("sections") == "sections"
    with pytest.raises(DataError, match="Did you mean 'example'"):
        folder_named("examples")
    config = load(["data.root=example", "data.features=builtin_originals", "data.sections=[C2]"])
    assert len(load_data(config)) == 187
    status, out, err = agl("check", "example")
    assert status == 0, err
    assert "Nothing wrong was found." in out
    (tmp_path / "example").mkdir()
    assert folder_named("example") == "example"


def test_source_authors_licence_and_changes_are_beside_it() -> None:
    texts = [(example_folder() / name).read_text() for name in ("README.md", "LICENCE.txt")]
    for text in [*texts, (REPOSITORY / "README.md").read_text()]:
        assert all(word in text for word in ("Andersson", "CC BY 4.0", "github.com/almaan/her2st"))
    for text in texts:
        assert all(word in text for word in ("creativecommons.org/licenses/by/4.0", "10.1038/s41467-021-26271-2"))
    assert "## What was changed" in texts[0]
    assert "8,796 genes" in texts[0]
    about = anndata.read_h5ad(example_folder() / "adata" / "B4.h5ad").uns
    assert about["licence"] == "CC-BY-4.0"
    assert about["doi"] == "10.1038/s41467-021-26271-2"


def test_at_most_ten_megabytes_and_all_of_it_is_packaged() -> None:
    files = {path for path in example_folder().rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert sum(path.stat().st_size for path in files) < 10e6
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = {path for pattern in settings["package-data"]["agl"] for path in (REPOSITORY / "agl").glob(pattern)}
    assert files <= packaged
    assert len(list((example_folder() / "patches").glob("*.h5"))) == 5


def test_spots_lie_on_the_tissue_of_the_thumbnails(example: Dataset) -> None:
    for slide in SPOTS:
        here = example.spots[example.spots.slide == slide]
        x, y = here.x.to_numpy(), here.y.to_numpy()
        picture = find_thumbnail(str(example_folder()), slide, x, y, here.barcode.to_numpy())
        assert picture is not None
        assert max(picture.pixels.shape) == 480
        column, row = picture.place(x, y).round().astype(int).T
        inside = picture.pixels[row, column].mean()
        assert inside < picture.pixels.mean() - 10, "tissue is darker than what surrounds it"


def test_sections_csv_agrees_with_the_sections(example: Dataset) -> None:
    table = pd.read_csv(example_folder() / "sections.csv").set_index("section")
    assert table.spots.to_dict() == SPOTS
    medians = pd.Series(example.library_size).groupby(example.spots.slide.to_numpy()).median()
    assert table.median_library_size.to_dict() == medians.to_dict()


def test_made_twice_the_bytes_are_the_same(tmp_path: Path, make_slide, write_h5ad) -> None:
    """The script that cut the example, on two small sections of its source's kind."""
    place = REPOSITORY / "experiments" / "example_data" / "make.py"
    spec = importlib.util.spec_from_file_location("make_example", place)
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    root = tmp_path / "source"
    slides = [make_slide("S1", patch=16), make_slide("S2", n_spots=9, patient="P2", patch=16)]
    for slide in slides:
        slide.counts[:, 1] = 0
        slide.counts[:2, 1] = 1 if slide.name == "S1" else 0  # two of 21 spots: less than a tenth
        path = write_h5ad(root / "adata" / f"{slide.name}.h5ad", slide)
        adata = anndata.read_h5ad(path)
        adata.obs = adata.obs.assign(section=slide.name, pxl_row_in_fullres=1.0, pxl_col_in_fullres=2.0)
        adata.obsm["spatial_image"] = slide.xy / 10
        adata.uns = dict.fromkeys(make.UNS, "") | {"thumbnail_scale": 0.5}
        adata.write_h5ad(path)
        for folder in ("patches", "thumbnails", "splits_patient", "splits_section"):
            (root / folder).mkdir(exist_ok=True)
        Image.new("RGB", (960, 600)).save(root / "thumbnails" / f"{slide.name}.jpg")
        with h5py.File(root / "patches" / f"{slide.name}.h5", "w") as h5:
            h5["img"], h5["coords"] = slide.images, slide.xy.astype(int)
            h5["barcode"] = np.array([[barcode.encode()] for barcode in slide.barcodes])
            h5.attrs.update(dict.fromkeys(make.PATCH_ATTRS, 16))
    for out in ("once", "twice"):
        make.main(root, tmp_path / out)
    made = sorted(path.relative_to(tmp_path / "once") for path in (tmp_path / "once").rglob("*") if path.is_file())
    assert len(made) == 9
    for path in made:
        assert (tmp_path / "once" / path).read_bytes() == (tmp_path / "twice" / path).read_bytes()
    dataset = open_dataset(tmp_path / "once", features="builtin_originals")
    assert dataset.genes == tuple(sorted(set(slides[0].genes) - {slides[0].genes[1]}))
    np.testing.assert_array_equal(dataset.library_size, np.concatenate([slide.counts.sum(axis=1) for slide in slides]))
    np.testing.assert_allclose(dataset.features, extract(np.concatenate([s.images for s in slides])), rtol=1e-5)
    assert anndata.read_h5ad(tmp_path / "once" / "adata" / "S1.h5ad").uns["thumbnail_scale"] == 0.25
