"""Opening with several encoders and surroundings: whose features, which spots, no counts, one key."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from agl.data import encoders
from agl.data.dataset import open_dataset
from agl.data.surroundings import Surroundings, surround
from agl.errors import UserError


def features_of(slide, wanted, *, spots=slice(None)):
    return surround(slide.features, slide.xy, wanted)[spots]


@pytest.fixture
def two(task, write_embeddings, make_slide):
    """A folder with features uni, and conch of other width that lacks spot 3 of S1, while uni lacks spot 5."""
    root, slides = task()
    second = [make_slide(s.name, len(s.barcodes), width=3, seed=9) for s in slides]
    for slide, other in zip(slides, second, strict=True):
        other.barcodes = slide.barcodes
        write_embeddings(root / "embeddings" / "conch" / f"{slide.name}.h5", other)
    write_embeddings(root / "embeddings" / "conch" / "S1.h5", second[0], spots=[i for i in range(12) if i != 3])
    write_embeddings(root / "embeddings" / "uni" / "S1.h5", slides[0], spots=[i for i in range(12) if i != 5])
    return root, slides, second


def test_context_and_normalisation_slide_by_slide(task):
    root, slides = task()
    for wanted in (Surroundings.of([2, 5]), Surroundings.of([3], "slide"), Surroundings.of([], "slide")):
        dataset = open_dataset(root, features="uni", context=wanted.context, normalise=wanted.normalise)
        expected = np.concatenate([features_of(slide, wanted) for slide in slides])
        np.testing.assert_array_equal(dataset.features, expected)
        assert isinstance(dataset.features, np.memmap)
        assert dataset.features.dtype == np.float32
        plain = open_dataset(root, features="uni")
        assert dataset.spots.equals(plain.spots)
        assert (dataset.counts != plain.counts).nnz == 0
        assert dataset.key != plain.key


def test_several_encoders_over_the_spots_that_all_have(two):
    root, slides, second = two
    dataset = open_dataset(root, features=["conch", "uni"])
    kept = [i for i in range(12) if i not in (3, 5)]
    np.testing.assert_array_equal(dataset.features[:10], np.hstack([second[0].features, slides[0].features])[kept])
    np.testing.assert_array_equal(dataset.features[10:], np.hstack([second[1].features, slides[1].features]))
    assert dataset.spots.barcode[:10].tolist() == [slides[0].barcodes[i] for i in kept]
    genes = [slides[0].genes.index(gene) for gene in dataset.genes]
    np.testing.assert_array_equal(dataset.dense_counts(range(10)), slides[0].counts[kept][:, genes])
    np.testing.assert_array_equal(dataset.patches.read(range(10)), slides[0].images[kept])
    section = dataset.report["sections"]["S1"]
    assert section["spots_kept"] == 10
    assert {name: joined["matched_spots"] for name, joined in section["encoders"].items()} == {"conch": 11, "uni": 11}
    assert dataset.report["features"]["source"] == "conch + uni"
    assert (dataset.report["features"]["width"], dataset.report["sections"]["S2"]["spots_kept"]) == (7, 9)
    assert "S1: 1 spots lack the features of one of conch and uni and are left out" in dataset.report["warnings"]


def test_joined_features_have_a_context_too(two):
    root, slides, second = two
    dataset = open_dataset(root, features=["uni", "conch"], context=[2])
    slides[1].features = np.hstack([slides[1].features, second[1].features])
    np.testing.assert_array_equal(dataset.features[10:], features_of(slides[1], Surroundings.of([2])))
    assert dataset.report["features"]["source"] == "uni + conch, means of the nearest 2 spots"
    assert dataset.features.shape[1] == dataset.report["features"]["width"] == 14


def test_one_encoder_in_a_list_is_that_encoder(task):
    root, _ = task()
    assert open_dataset(root, features=["uni"]).key == open_dataset(root, features="uni").key


def test_spots_left_out_by_counts_still_have_neighbours(task, make_slide):
    slide = make_slide("S1")
    slide.counts[[1, 6]] = 0
    root, _ = task([slide])
    wanted = Surroundings.of([3], "slide")
    dataset = open_dataset(root, features="uni", context=[3], normalise="slide", min_counts=1)
    kept = [i for i in range(12) if i not in (1, 6)]
    np.testing.assert_array_equal(dataset.features, features_of(slide, wanted, spots=kept))
    assert dataset.spots.barcode.tolist() == [slide.barcodes[i] for i in kept]
    assert (dataset.library_size > 0).all()
    assert dataset.report["sections"]["S1"]["spots_kept"] == 10


@pytest.mark.parametrize("normalise", ["train", "slide"])
def test_counts_dealt_out_anew_change_no_feature(task, make_slide, write_h5ad, normalise):
    """Also where the empty spots, which min_counts leaves out, are others than before."""
    slides = [make_slide("S1"), make_slide("S2", n_spots=9)]
    slides[0].counts[[0, 7]] = 0
    root, _ = task(slides)
    settings = {"features": "uni", "context": [2, 4], "normalise": normalise, "min_counts": 1}

    def by_barcode(dataset):
        return dict(zip(dataset.spots.barcode, map(bytes, np.asarray(dataset.features)), strict=True))

    before = by_barcode(open_dataset(root, **settings))
    for slide in slides:
        slide.counts = slide.counts[np.random.default_rng(1).permutation(len(slide.counts))]
        write_h5ad(root / "adata" / f"{slide.name}.h5ad", slide)
    after = by_barcode(open_dataset(root, **settings))
    both = before.keys() & after.keys()
    assert len(both) >= 17
    assert before.keys() != after.keys()
    assert all(before[barcode] == after[barcode] for barcode in both)


def test_slides_never_mix(task, make_slide, write_embeddings):
    root, slides = task()
    before = np.array(open_dataset(root, features="uni", context=[20], normalise="slide").features)
    slides[0].features = slides[0].features * 100
    write_embeddings(root / "embeddings" / "uni" / "S1.h5", slides[0])
    after = open_dataset(root, features="uni", context=[20]).features
    assert not np.array_equal(before[:12], after[:12])
    again = open_dataset(root, features="uni", context=[20], normalise="slide").features
    np.testing.assert_array_equal(before[12:], again[12:])


def test_the_key_is_content_and_settings(task, tmp_path):
    root, _ = task()
    copy = shutil.copytree(root, tmp_path / "copy")

    def key(where=root, **settings):
        return open_dataset(where, **{"features": "uni", **settings}).key

    assert key(context=[2, 4]) == key(copy, context=[4, 2])
    keys = [
        key(),
        key(context=[2]),
        key(context=[2, 4]),
        key(context=[2], normalise="slide"),
        key(normalise="slide"),
        key(context=[2], min_counts=1),
    ]
    assert len(set(keys)) == len(keys)


def test_large_slides_are_worked_on_in_files(task, monkeypatch, private_cache):
    root, _ = task()
    settings = {"features": "uni", "context": [3], "normalise": "slide"}
    expected = np.array(open_dataset(root, **settings).features)
    shutil.rmtree(private_cache)
    monkeypatch.setattr(encoders, "_IN_MEMORY", 0)
    monkeypatch.setattr(encoders, "_ROWS_AT_ONCE", 2)
    np.testing.assert_array_equal(open_dataset(root, **settings).features, expected)
    folders = list((private_cache / "datasets").glob("*/features.npy"))
    assert len(folders) == 2  # the import, and the features in their surroundings; nothing else is left
    assert all("tmp" not in file.name for folder in folders for file in folder.parent.iterdir())


def test_half_precision_is_widened(task, write_embeddings):
    root, slides = task()
    for slide in slides:
        write_embeddings(root / "embeddings" / "uni" / f"{slide.name}.h5", slide, values=slide.features.astype("f2"))
        slide.features = slide.features.astype(np.float16)
    dataset = open_dataset(root, features="uni", context=[2])
    expected = np.concatenate([features_of(slide, Surroundings.of([2])) for slide in slides])
    np.testing.assert_array_equal(dataset.features, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": "none", "context": [8]}, "Expected features to join, to normalise or to give a context"),
        ({"features": "none", "normalise": "slide"}, "patches have none before the model"),
        ({"features": ["uni", "none"]}, "received features=none"),
        ({"features": []}, "Expected one or several different encoders"),
        ({"features": ["uni", "uni"]}, r"received \['uni', 'uni'\]"),
        ({"features": ["uni", "unj"]}, "Did you mean 'uni'"),
        ({"features": "uni", "context": [0]}, "Expected different numbers of nearest spots"),
        ({"features": "uni", "normalise": "slid"}, "Expected normalise as one of train, slide"),
    ],
)
def test_what_cannot_be_joined(task, settings, message):
    with pytest.raises(UserError, match=message):
        open_dataset(task()[0], **settings)


def test_encoders_of_other_spots(task, make_slide, write_embeddings):
    slide = make_slide("S1")
    root, _ = task([slide])
    for name, spots in (("a", range(6)), ("b", range(6, 12))):
        write_embeddings(root / "embeddings" / name / "S1.h5", slide, spots=list(spots))
    with pytest.raises(UserError, match="Expected spots of slide 'S1' that have features of a and b"):
        open_dataset(root, features=["a", "b"])
