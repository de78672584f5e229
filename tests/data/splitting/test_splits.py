"""Splits: every spot where it belongs, whole patients apart, the same folds however the table is sorted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agl.data import geometry
from agl.data.splitting import splits
from agl.data.splitting.splits import Split, hold_out
from agl.errors import UserError


def table(sizes: dict[str, list[int]], seed: int = 0) -> pd.DataFrame:
    """Spots on square lattices: `{patient: [spots of each slide]}`."""
    parts = []
    for patient, slides in sizes.items():
        for number, n in enumerate(slides):
            side = int(np.ceil(np.sqrt(n)))
            at = np.arange(n)
            parts.append(
                pd.DataFrame(
                    {
                        "slide": f"{patient}{number}",
                        "patient": patient,
                        "x": 10.0 * (at % side),
                        "y": 10.0 * (at // side),
                    }
                )
            )
    spots = pd.concat(parts, ignore_index=True)
    spots.insert(0, "barcode", [f"b{i}" for i in range(len(spots))])
    return spots


FIVE = table({"A": [30], "B": [21, 9], "C": [16, 17, 18], "D": [12], "E": [25]})

RULES: dict[str, Callable[[pd.DataFrame], list[Split]]] = {
    "leave_one_patient_out": splits.leave_one_patient_out,
    "leave_one_slide_out": splits.leave_one_slide_out,
    "within_patient": lambda spots: splits.leave_one_slide_out(spots, patient="C"),
    "k_fold": lambda spots: splits.k_fold(spots, k=3),
    "spatial_blocks": lambda spots: splits.spatial_blocks(spots, k=3),
    "buffered": lambda spots: splits.spatial_blocks(spots, k=3, buffer=1.0),
    "random_spots": splits.random_spots,
}
COVERING = ("leave_one_patient_out", "leave_one_slide_out", "k_fold", "spatial_blocks", "random_spots")

cohorts = st.dictionaries(
    st.sampled_from(list("CDEFGH")), st.lists(st.integers(3, 14), min_size=1, max_size=3), min_size=3, max_size=6
).map(lambda sizes: table({**sizes, "C": [9, 12]}))


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=12, deadline=None)
@given(spots=cohorts)
def test_parts_are_disjoint_sorted_and_tests_cover(rule: str, spots: pd.DataFrame) -> None:
    folds = RULES[rule](spots)
    for fold in folds:
        parts = [fold.train, fold.validation, fold.test]
        assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() and len(part) for part in parts)
        assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
        if rule in COVERING:
            assert sum(map(len, parts)) == len(spots)
    tested = np.concatenate([fold.test for fold in folds])
    assert len(np.unique(tested)) == len(tested)
    expected = spots.index[spots.patient == "C"] if rule == "within_patient" else spots.index
    np.testing.assert_array_equal(np.sort(tested), expected)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=8, deadline=None)
@given(spots=cohorts, seed=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_matter(rule: str, spots: pd.DataFrame, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(spots))
    shuffled = spots.iloc[order].reset_index(drop=True)
    for a, b in zip(RULES[rule](spots), RULES[rule](shuffled), strict=True):
        assert a.name == b.name
        assert a.optimistic == b.optimistic
        for part in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(a, part), np.sort(order[getattr(b, part)]))


def test_patients_stay_whole_and_are_labelled() -> None:
    for rule in (splits.leave_one_patient_out, splits.k_fold):
        for fold in rule(FIVE):
            seen = FIVE.patient[np.concatenate([fold.train, fold.validation])]
            assert not set(seen) & set(FIVE.patient[fold.test])
            assert not fold.optimistic
    assert [fold.name for fold in splits.leave_one_patient_out(FIVE)] == [f"patient={p}" for p in "ABCDE"]


def test_a_slide_left_out_is_optimistic_where_its_patient_has_others() -> None:
    found = {fold.name: fold.optimistic for fold in splits.leave_one_slide_out(FIVE)}
    assert found == {f"slide={s}": s[0] in "BC" for s in ["A0", "B0", "B1", "C0", "C1", "C2", "D0", "E0"]}
    within = splits.leave_one_slide_out(FIVE, patient="C")
    assert [fold.name for fold in within] == ["slide=C0", "slide=C1", "slide=C2"]
    assert all(fold.optimistic for fold in within)
    assert all(set(FIVE.patient[np.concatenate([f.train, f.validation, f.test])]) == {"C"} for f in within)


def test_k_fold_balances_spots() -> None:
    # C 51, A 30, B 30, E 25, D 12: C | A E | B D, the largest first, into the emptiest, the first of equals
    sizes = [len(fold.test) for fold in splits.k_fold(FIVE, k=3)]
    assert sizes == [51, 55, 42]
    patients = ["".join(sorted(set(FIVE.patient[fold.test]))) for fold in splits.k_fold(FIVE, k=3)]
    assert patients == ["C", "AE", "BD"]


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "random_spots"])  # a fold validates there
def test_seeds_move_validation_and_never_the_test(rule: str) -> None:
    function = (
        getattr(splits, rule, None)
        or {
            "within_patient": lambda spots, seed: splits.leave_one_slide_out(spots, seed=seed, patient="C"),
            "buffered": lambda spots, seed: splits.spatial_blocks(spots, seed=seed, k=3, buffer=1.0),
        }[rule]
    )
    runs = [[function(FIVE, seed=seed) for _ in range(2)] for seed in range(6)]
    for first, second in runs:
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a.validation, b.validation)
            np.testing.assert_array_equal(a.train, b.train)
    for fold in range(len(runs[0][0])):
        assert len({tuple(run[0][fold].test) for run in runs}) == 1
        assert len({tuple(run[0][fold].validation) for run in runs}) > 1


def test_blocks_are_compact_and_equal() -> None:
    spots = table({"A": [400], "B": [100]})
    folds = splits.spatial_blocks(spots, k=4)
    for fold in folds:
        assert fold.optimistic
        for slide, side in (("A0", 20), ("B0", 10)):
            here = spots.iloc[fold.test][spots.slide.iloc[fold.test] == slide]
            assert len(here) == side * side / 4
            assert np.ptp(here.x) == np.ptp(here.y) == 10.0 * (side / 2 - 1)  # a quarter: half by half


@pytest.mark.parametrize(("buffer", "gap"), [(0.0, 10.0), (1.0, np.hypot(10, 10)), (2.0, np.hypot(20, 10))])
def test_buffer_keeps_its_distance_and_drops_no_more(buffer: float, gap: float) -> None:
    spots = table({"A": [400]})
    xy = spots[["x", "y"]].to_numpy()
    for fold in splits.spatial_blocks(spots, k=4, buffer=buffer):
        seen = np.concatenate([fold.train, fold.validation])
        distance = np.linalg.norm(xy[seen][:, None] - xy[fold.test][None], axis=2)
        assert distance.min() == pytest.approx(gap)
        every = np.setdiff1d(np.arange(400), fold.test)
        far = np.linalg.norm(xy[every][:, None] - xy[fold.test][None], axis=2).min(1) > buffer * 10 + 1e-6
        np.testing.assert_array_equal(np.sort(seen), every[far])


def test_random_spots_is_three_to_one_to_one_in_every_slide() -> None:
    spots = table({"A": [100], "B": [50]})
    for fold in splits.random_spots(spots):
        assert fold.optimistic
        for slide, n in (("A0", 100), ("B0", 50)):
            sizes = [int((spots.slide.iloc[part] == slide).sum()) for part in (fold.train, fold.validation, fold.test)]
            assert sizes == [n * 3 // 5, n // 5, n // 5]
    one = splits.random_spots(spots, slide="B0")
    assert set(spots.slide.iloc[np.concatenate([one[0].train, one[0].test])]) == {"B0"}
    other = splits.random_spots(spots, fold_seed=1)
    assert not np.array_equal(other[0].test, splits.random_spots(spots)[0].test)


# ---- holding out


@settings(max_examples=40, deadline=None)
@given(
    spots=cohorts,
    fraction=st.floats(0.05, 0.9),
    unit=st.sampled_from(["auto", "patient", "slide", "blocks", "random"]),
    seed=st.integers(0, 1000),
)
def test_held_and_kept_make_up_the_training_spots(spots: pd.DataFrame, fraction: float, unit: str, seed: int) -> None:
    train = np.flatnonzero(np.arange(len(spots)) % 7 != 0)
    kept, held = hold_out(spots, train, fraction, unit, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), train)
    assert len(kept)
    assert len(held)
    again = hold_out(spots, train, fraction, unit, np.random.default_rng(seed))
    np.testing.assert_array_equal(again[1], held)
    if unit in ("patient", "slide"):
        assert not set(spots[unit][kept]) & set(spots[unit][held])
    if unit == "slide":
        assert set(spots.patient[kept]) == set(spots.patient[train])  # C has two slides, so all patients keep one


@pytest.mark.parametrize(
    ("sizes", "unit"),
    [
        ({p: [20] for p in "ABCDE"}, "patient"),  # five patients
        ({p: [20] for p in "ABCD"}, "blocks"),  # four, a slide each: a slide is a patient
        ({"A": [20, 20, 20], "B": [20, 20]}, "slide"),  # five slides that can be spared
        ({"A": [20, 20], "B": [20], "C": [20]}, "blocks"),  # four slides
        ({"A": [100, 2], "B": [100], "C": [100], "D": [100]}, "blocks"),  # one spare slide, far too small
    ],
)
def test_what_auto_means(sizes: dict[str, list[int]], unit: str) -> None:
    spots = table(sizes)
    everything = np.arange(len(spots))
    found = hold_out(spots, everything, 0.2, "auto", np.random.default_rng(0))
    named = hold_out(spots, everything, 0.2, unit, np.random.default_rng(0))
    np.testing.assert_array_equal(found[1], named[1])
    if unit != "blocks":
        assert len(found[1]) == 20  # one unit of five


def test_held_blocks_are_patches_of_the_right_size_in_every_slide() -> None:
    spots = table({"A": [100], "B": [225]})
    xy = spots[["x", "y"]].to_numpy()
    _, held = hold_out(spots, np.arange(325), 0.2, "blocks", np.random.default_rng(1))
    for slide, n in (("A0", 100), ("B0", 225)):
        here = held[spots.slide.iloc[held] == slide]
        assert len(here) == n // 5
        others = np.setdiff1d(np.flatnonzero(spots.slide == slide), here)
        reach = np.array([np.linalg.norm(xy[here] - centre, axis=1).max() for centre in xy[here]])
        centre = xy[here[reach.argmin()]]  # a disc: no other spot is nearer to its centre than its farthest spot
        assert np.linalg.norm(xy[others] - centre, axis=1).min() >= reach.min() - 10.0


def test_missing_patients_are_their_own_patients() -> None:
    spots = table({"A": [20], "B": [20], "C": [20]})
    spots["patient"] = [None] * 20 + [""] * 20 + [np.nan] * 20
    _, held = hold_out(spots, np.arange(60), 0.3, "slide", np.random.default_rng(0))
    assert len(held) == 20
    assert not any(fold.optimistic for fold in splits.leave_one_slide_out(spots))
    with pytest.raises(UserError, match="found none for A0, B0, C0"):
        splits.leave_one_patient_out(spots)


# ---- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: splits.leave_one_patient_out(table({"A": [5, 5]})), r"at least two patients .* received 1 \(A\)"),
        (lambda: splits.leave_one_slide_out(FIVE, patient="c"), "patient in the data, received 'c'"),
        (lambda: splits.leave_one_slide_out(FIVE, patient="A"), r"at least two slides .* \(A0\)"),
        (lambda: splits.k_fold(FIVE, k=6), r"number of patients \(5\), received 6"),
        (lambda: splits.k_fold(FIVE, k=1), "received 1"),
        (lambda: splits.spatial_blocks(FIVE, k=1), "received k=1"),
        (lambda: splits.spatial_blocks(FIVE, buffer=-1), "buffer=-1"),
        (lambda: splits.spatial_blocks(FIVE, slide="C9"), "received 'C9'. Known: A0, B0"),
        (lambda: splits.spatial_blocks(table({"A": [40]}), buffer=99), "training spots in fold 'block=0'"),
        (lambda: splits.random_spots(FIVE, k=2), "received 2"),
        (lambda: splits.leave_one_patient_out(FIVE, 1.5), "between 0 and 1, received 1.5"),
        (lambda: splits.leave_one_patient_out(FIVE, 0.2, "patients"), "received 'patients'. Did you mean 'patient'"),
        (
            lambda: splits.leave_one_patient_out(table({"A": [9], "B": [9]}), 0.2, "patient"),
            "at least two training patients",
        ),
        (lambda: splits.leave_one_patient_out(table({"A": [1], "B": [9]})), "enough to hold out"),
        (
            lambda: splits.leave_one_patient_out(FIVE.assign(patient=list("AB") * 74)),
            "one patient a slide, found 2 in slide 'A0'",
        ),
        (lambda: Split("x", np.array([0]), np.array([0]), np.array([1]), "p", False), "each spot once in fold 'x'"),
        (
            lambda: Split("x", np.array([0]), np.array([1]), np.array([], int), "p", False),
            "test spots in fold 'x' of p, found none",
        ),
    ],
)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_geometry() -> None:
    lattice = np.array([[i % 5, i // 5] for i in range(25)]) * 3.0
    assert geometry.pitch(lattice) == 3.0
    assert np.isnan(geometry.pitch(np.zeros((4, 2))))
    assert geometry.distance_to(lattice[:2], np.empty((0, 2))).tolist() == [np.inf, np.inf]
    assert np.bincount(geometry.blocks(lattice, 4)).tolist() == [6, 6, 6, 7]
    assert geometry.blocks(lattice[:2], 5).max() < 5
