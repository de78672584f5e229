"""What is held out of the training spots: nobody's last slide, and not the same places in every fold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agl.data.splitting.holdout import hold_out
from agl.data.splitting.splits import carve


def table(slides: dict[str, list[int]]) -> pd.DataFrame:
    """Patients with slides of so many spots each."""
    rows = [
        (f"{patient}{i}", patient, x, y)
        for patient, sizes in slides.items()
        for i, size in enumerate(sizes)
        for x, y in np.ndindex(size // 10, 10)
    ]
    return pd.DataFrame(rows, columns=["slide", "patient", "x", "y"])


@pytest.mark.parametrize(
    "slides",
    [
        {"A": [50], "B": [40, 30, 20], "C": [30, 30]},
        {"A": [20], "B": [20], "C": [20, 20, 20, 20]},
        {"A": [100, 20], "B": [20, 100], "C": [60, 20, 20]},
        {"A": [20], "B": [200, 200]},
    ],
)
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.6])
def test_every_patient_keeps_a_slide_where_one_can_spare_one(slides, fraction):
    spots = table(slides)
    everything = np.arange(len(spots))
    for seed in range(200):
        kept, held = hold_out(spots, everything, fraction, "slide", np.random.default_rng(seed))
        assert set(spots.patient.iloc[kept]) == set(slides), f"seed {seed}"
        assert not set(spots.slide.iloc[kept]) & set(spots.slide.iloc[held])
        assert len(held)


def test_patients_of_one_slide_each_may_be_held_out():
    spots = table({"A": [20], "B": [20], "C": [20], "D": [20]})
    kept, held = hold_out(spots, np.arange(len(spots)), 0.5, "slide", np.random.default_rng(0))
    assert (spots.slide.iloc[kept].nunique(), spots.slide.iloc[held].nunique()) == (2, 2)


@pytest.mark.parametrize("unit", ["random", "blocks"])
def test_folds_seeds_and_protocols_draw_each_their_own(unit):
    """The training spots are the same here, so only what the draw is named after can make a difference."""
    spots = table({"A": [100], "B": [100], "C": [50], "D": [50]})
    patient = spots.patient.to_numpy()
    train = np.isin(patient, ["A", "B"])
    folds = [(f"patient={name}", train, patient == name) for name in "CD"]

    def validation(folds, protocol="p", seed=0):
        return [tuple(split.validation) for split in carve(spots, folds, protocol, 0.2, unit, seed)]

    first, second = validation(folds)
    assert first != second
    assert validation(folds[::-1]) == [second, first]  # a fold's draw is its own, whatever comes before it
    assert validation(folds) == [first, second]
    assert not {first, second} & set(validation(folds, seed=1))
    assert not {first, second} & set(validation(folds, protocol="q"))
