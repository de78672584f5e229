from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from agl.errors import UserError
from agl.genes.candidates import Candidates
from agl.genes.training import TrainingSpots


def test_slides_are_found_whatever_their_codes_and_order(spots):
    codes = [int(spots.slides[rows[0]]) for rows in spots.slide_rows]
    assert codes == [-2, 3, 11, 99]
    for code, rows in zip(codes, spots.slide_rows, strict=True):
        np.testing.assert_array_equal(rows, np.flatnonzero(spots.slides == code))


def test_normalisation_is_by_the_library_of_all_genes(spots):
    dense = spots.counts.toarray()
    rows = np.array([5, 3, 140])
    expected = dense[rows] * 1e4 / spots.library_size[rows][:, None]
    np.testing.assert_allclose(spots.normalised(rows).toarray(), expected, rtol=1e-14)
    np.testing.assert_allclose(spots.log_normalised(rows).toarray(), np.log1p(expected), rtol=1e-14)


def test_a_spot_without_counts_is_zero_not_nan():
    training = TrainingSpots(
        sparse.csr_matrix([[0, 0], [1, 1]]), np.array([0, 2]), np.zeros(2), np.zeros((2, 2)), ("A", "B")
    )
    assert training.log_normalised(np.array([0])).toarray().tolist() == [[0.0, 0.0]]


def test_detection_counts_spots_and_not_stored_zeros(spots):
    np.testing.assert_allclose(spots.detection, (spots.counts.toarray() > 0).mean(axis=0))
    stored = sparse.csr_matrix((np.array([0, 1]), np.array([0, 1]), np.array([0, 1, 2])), shape=(2, 2))
    training = TrainingSpots(stored, np.ones(2), np.zeros(2), np.zeros((2, 2)), ("A", "B"))
    assert training.detection.tolist() == [0.0, 0.5]


def test_training_spots_of_a_dataset_hold_these_spots_only():
    table = pd.DataFrame({"barcode": list("abcd"), "slide": list("sstt"), "x": [0.0, 1, 2, 3], "y": [9.0, 8, 7, 6]})
    dataset = SimpleNamespace(
        features=np.arange(8.0).reshape(4, 2),
        spots=table,
        counts=sparse.csr_matrix(np.arange(8).reshape(4, 2)),
        library_size=np.array([10, 20, 30, 40]),
        slide_codes=np.array([0, 0, 1, 1]),
        genes=("A", "B"),
    )
    training = TrainingSpots.of(dataset, np.array([1, 3]))
    assert training.counts.toarray().tolist() == [[2, 3], [6, 7]]
    assert training.library_size.tolist() == [20, 40]
    assert training.slides.tolist() == [0, 1]
    assert training.coords.tolist() == [[1.0, 8.0], [3.0, 6.0]]
    assert training.features is not None
    assert training.features[np.array([1])].tolist() == [[6.0, 7.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"library_size": np.ones(3)}, r"library_size of shape \(150,\).*received \(3,\)"),
        ({"coords": np.ones((150, 3))}, r"coords of shape \(150, 2\).*received \(150, 3\)"),
        ({"slides": np.ones((150, 1))}, r"slides of shape \(150,\)"),
        ({"genes": ("A", "B")}, "80 gene names.*received 2"),
        ({"counts": sparse.csr_matrix(np.full((150, 80), -1))}, "negative.*before any transformation"),
        ({"counts": sparse.csr_matrix(np.full((150, 80), np.nan))}, "NaN or infinite.*before any transformation"),
    ],
)
def test_wrong_spots_are_refused_with_a_sentence(spots, change, message):
    with pytest.raises(UserError, match=message):
        replace(spots, **change)


def test_no_training_spots_are_refused():
    with pytest.raises(UserError, match=r"at least one training spot.*check the split"):
        TrainingSpots(sparse.csr_matrix((0, 2)), np.ones(0), np.ones(0), np.ones((0, 2)), ("A", "B"))


@pytest.mark.parametrize(
    ("primary", "auxiliary", "message"),
    [
        ([0, 1], [1, 2], "in both"),
        ([0, 0], [2], "primary as a list of distinct"),
        ([0], [2, 80], "auxiliary gene positions from 0 to 79"),
        ([-1], [2], "primary gene positions from 0 to 79"),
    ],
)
def test_wrong_candidates_are_refused_with_a_sentence(spots, primary, auxiliary, message):
    with pytest.raises(UserError, match=message):
        Candidates(spots, np.array(primary), np.array(auxiliary))


def test_candidates_are_detected_and_not_primary(spots):
    candidates = Candidates.detected(spots, np.array([2, 1]), 0.3)
    share = (spots.counts.toarray() > 0).mean(axis=0)
    assert candidates.auxiliary.tolist() == [i for i in range(80) if share[i] >= 0.3 and i not in (1, 2)]
    assert candidates.names[0] == f"G{candidates.auxiliary[0]}"
    assert 7 not in Candidates.detected(spots, np.array([2, 1])).auxiliary  # no count anywhere


def test_priors_of_candidates_follow_their_order_and_are_computed_once(spots, monkeypatch):
    from agl.builtins import WHERE
    from agl.genes import priors

    calls = []
    mine = lambda training, *, primary, by=1: calls.append(by) or np.arange(80) * by  # noqa: E731
    monkeypatch.setattr(priors, "mine", mine, raising=False)
    monkeypatch.setitem(WHERE["prior"], "mine", "agl.genes.priors:mine")
    candidates = Candidates(spots, np.array([0]), np.array([5, 3]))
    assert candidates.prior("mine").tolist() == [5, 3]
    assert candidates.prior("mine").tolist() == [5, 3]
    assert candidates.prior("mine", by=2).tolist() == [10, 6]
    assert calls == [1, 2]
