"""The leak audit sees what is on both sides, and refuses what no rule has announced."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from agl.data.splitting import splits
from agl.data.splitting.audit import audit, refuse_leaks
from agl.data.splitting.splits import Split
from agl.errors import UserError


@pytest.fixture
def spots() -> pd.DataFrame:
    """Patients A (one slide), B (two), C (one); each slide a 5 x 5 lattice of pitch 8."""
    at = np.arange(25)
    slides = [("a", "A"), ("b1", "B"), ("b2", "B"), ("c", "C")]
    parts = [pd.DataFrame({"slide": s, "patient": p, "x": 8.0 * (at % 5), "y": 8.0 * (at // 5)}) for s, p in slides]
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "barcode", [f"{slide}-{i % 25}" for i, slide in enumerate(table.slide)])
    return table


def split(spots: pd.DataFrame, train: np.ndarray, test: np.ndarray, protocol: str = "k_fold") -> Split:
    train, test = np.flatnonzero(train), np.flatnonzero(test)
    return Split("fold=0", train[:-1], train[-1:], test, protocol, False)


def test_a_clean_split_passes(spots: pd.DataFrame) -> None:
    for fold in [*splits.leave_one_patient_out(spots), *splits.k_fold(spots, k=2)]:
        found = audit(spots, fold)
        assert (found.patients, found.slides, found.duplicates, found.nearest) == ((), (), 0, np.inf)
        assert found.spots == {
            "train": len(fold.train),
            "validation": len(fold.validation),
            "test": len(fold.test),
            "unused": 0,
        }
        refuse_leaks(found)
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["nearest"] is None


def test_a_patient_on_both_sides_is_refused_unless_allowed(spots: pd.DataFrame) -> None:
    found = audit(spots, split(spots, spots.slide != "b2", spots.slide == "b2"))
    assert (found.patients, found.slides, found.duplicates) == (("B",), (), 0)
    with pytest.raises(UserError, match=r"found B in both .* of fold 'fold=0' \(k_fold\).* Split by patient"):
        refuse_leaks(found)
    refuse_leaks(found, allow=["patient"])
    with pytest.raises(UserError, match=r"received 'patients'\. Did you mean 'patient'"):
        refuse_leaks(found, allow=["patients"])


def test_validation_spots_count_as_seen(spots: pd.DataFrame) -> None:
    a, b1, b2 = (np.flatnonzero(spots.slide == name) for name in ("a", "b1", "b2"))
    assert audit(spots, Split("f", a, b1, b2, "k_fold", False)).patients == ("B",)


def test_rules_that_name_the_leak_pass_and_are_labelled(spots: pd.DataFrame) -> None:
    announced = [
        splits.leave_one_slide_out(spots, patient="B"),
        splits.spatial_blocks(spots, k=2),
        splits.random_spots(spots),
    ]
    for folds in announced:
        for fold in folds:
            found = audit(spots, fold)
            assert found.patients
            assert found.optimistic
            refuse_leaks(found)


def test_leave_one_slide_out_may_not_cut_a_slide(spots: pd.DataFrame) -> None:
    even = np.arange(len(spots)) % 2 == 0
    found = audit(spots, split(spots, even, ~even, "leave_one_slide_out"))
    assert found.slides == ("a", "b1", "b2", "c")
    with pytest.raises(UserError, match="Expected whole slides on one side, found a, b1, b2, c in both"):
        refuse_leaks(found)
    refuse_leaks(found, allow=["slide"])


@pytest.mark.parametrize(("buffer", "pitches"), [(0.0, 1.0), (1.0, np.sqrt(2)), (1.5, 2.0)])
def test_nearest_distance_is_in_pitches(spots: pd.DataFrame, buffer: float, pitches: float) -> None:
    one = spots[spots.slide == "a"].reset_index(drop=True)
    found = [audit(one, fold).nearest for fold in splits.spatial_blocks(one, k=2, buffer=buffer)]
    assert min(found) == pytest.approx(pitches)


def test_duplicates_by_barcode_and_by_place(spots: pd.DataFrame) -> None:
    early = np.arange(len(spots)) % 25 < 20
    fold = split(spots, early, ~early, "spatial_blocks")
    assert audit(spots, fold).duplicates == 0
    twins = spots.copy()
    twins.loc[24, "barcode"] = twins.loc[0, "barcode"]  # test spot 24 and training spot 0 of slide a
    twins.loc[48, ["x", "y"]] = twins.loc[26, ["x", "y"]]  # a test spot of b1 at the place of a training spot
    found = audit(twins, fold)
    assert found.duplicates == 2
    assert found.nearest == 0.0
    with pytest.raises(UserError, match="Expected each spot once, found 2 test spots"):
        refuse_leaks(found)
    refuse_leaks(found, allow=["duplicate"])
    assert audit(twins.drop(columns="barcode"), fold).duplicates == 1


def test_the_same_barcode_on_two_slides_is_no_duplicate(spots: pd.DataFrame) -> None:
    visium = spots.assign(barcode=[f"AAAC-{i % 25}" for i in range(len(spots))])
    assert audit(visium, splits.leave_one_patient_out(visium)[0]).duplicates == 0


def test_unknown_patients_are_not_one_patient(spots: pd.DataFrame) -> None:
    unknown = spots.assign(patient="")
    assert audit(unknown, splits.leave_one_slide_out(unknown)[0]).patients == ()


def test_a_split_of_other_spots_is_refused(spots: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="positions of 25 spots"):
        audit(spots.iloc[:25], splits.leave_one_patient_out(spots)[0])


def test_one_place_has_no_pitch_and_still_a_distance() -> None:
    here = pd.DataFrame({"slide": "s", "patient": "p", "x": [1.0] * 4, "y": [1.0] * 4})
    assert audit(here, Split("f", np.array([0]), np.array([1]), np.array([2, 3]), "random_spots", True)).nearest == 0.0
