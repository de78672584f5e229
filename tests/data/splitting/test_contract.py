"""Every built-in split and sampler against its contract, and some that break it in one way each."""

from __future__ import annotations

import numpy as np
import pytest

from agl import registry
from agl.data.splitting.splits import Split
from agl.testing import check_sampler, check_split
from agl.testing.splits import example_spots

SPLITS = {
    "leave_one_patient_out": {},
    "leave_one_slide_out": {"patient": "B"},
    "k_fold": {"k": 2},
    "named_slides": {"validation": ["A0"], "test": ["B0", "B1"]},
    "spatial_blocks": {"k": 4},
    "random_spots": {"k": 3},
}
NEEDS_FILES = {"hest_csv"}


def test_every_split_is_here() -> None:
    assert {*SPLITS, *NEEDS_FILES} == set(registry.names("split"))


@pytest.mark.parametrize("name", SPLITS)
def test_built_in_split(name) -> None:
    check_split(registry.find("split", name), **SPLITS[name])


def test_the_splits_of_files(tmp_path) -> None:
    folder = tmp_path / "splits"
    folder.mkdir()
    for fold, test in enumerate("AB"):
        for part, patients in (("train", [p for p in "ABCD" if p != test]), ("test", [test])):
            rows = [f"{p}{s},patches/{p}{s}.h5,adata/{p}{s}.h5ad" for p in patients for s in (0, 1)]
            (folder / f"{part}_{fold}.csv").write_text("\n".join(["sample_id,patches_path,expr_path", *rows]))
    check_split(registry.find("split", "hest_csv"), root=tmp_path)


@pytest.mark.parametrize("name", registry.names("sampler"))
@pytest.mark.parametrize("batch_size", [2, 16, 500])
def test_built_in_sampler(name, batch_size) -> None:
    check_sampler(registry.find("sampler", name), batch_size=batch_size)


def fold(train, validation, test, name="one", optimistic=False) -> Split:
    return Split(name, np.array(train), np.array(validation), np.array(test), "mine", optimistic)


A, B, C = np.arange(72), np.arange(72, 144), np.arange(144, 216)  # patients of the example


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda spots: [], "one fold or more"),
        (lambda spots: [fold(A, B, C), fold(B, A, C, "two")], "test in one fold at most"),
        (lambda spots: [fold(A, B, C), fold(C, B, A)], "a name of its own"),
        (lambda spots: [fold(A, [], C)], "Expected validation spots"),
        (lambda spots: [fold(A, B, [10_000])], "Expected positions below 288"),
        (lambda spots: [fold(A[:50], B, A[50:])], "is on both sides"),
        (lambda spots, seed: [fold(A, B, C if seed else np.arange(216, 288))], "seeds are repetitions"),
        (lambda spots: [fold(A, B[np.random.default_rng().random(72) < 0.5], C)], "twice from the same seed"),
    ],
)
def test_a_split_that_breaks_the_contract(make, told) -> None:
    with pytest.raises(AssertionError, match=told):
        check_split(make)


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        (lambda slides, size, rng: [rng.permutation(len(slides) - 1)], "some are missing"),
        (lambda slides, size, rng: np.split(rng.permutation(len(slides)), [1]), "one alone"),
        (lambda slides, size, rng: [np.arange(len(slides))], "from another generator"),
        (lambda slides, size, rng: [np.random.default_rng().permutation(len(slides))], "from the same generator"),
        (lambda slides, size, rng: [np.arange(len(slides) + 1)], "Expected positions below"),
        (lambda slides, size, rng: [np.random.permutation(len(slides))], "the global state moved"),  # noqa: NPY002
    ],
)
def test_a_sampler_that_breaks_the_contract(sampler, told) -> None:
    with pytest.raises(AssertionError, match=told):
        check_sampler(sampler)


def test_the_example_is_of_whole_patients() -> None:
    spots = example_spots(patients=2, slides=3, spots_per_slide=10)
    assert spots.groupby("slide").patient.nunique().eq(1).all()
    assert len(spots) == 60
    assert spots.barcode.is_unique
