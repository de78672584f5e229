"""Features that are dead or on another scale: said alike by the import and the doctor, and by nothing that is real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import agl.data.example
from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.reading.vital_signs import LARGEST, Vitals, odd_scales
from agl.data.simulate.task import simulate
from agl.errors import UserError


def measured(values, slide="S", block=7):
    values = np.asarray(values)
    signs = Vitals(slide, "f.h5", values.shape[1])
    for start in range(0, len(values), block):
        part = values[start : start + block]
        signs.add(part, [f"b{start + i}" for i in range(len(part))])
    return signs


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_mean_and_spread_do_not_depend_on_blocks(dtype):
    values = (np.random.default_rng(0).normal(size=(50, 9)) * 3 + 40).astype(dtype)
    for block in (1, 7, 50):
        signs = measured(values, block=block)
        np.testing.assert_allclose(signs.mean, values.astype(float).mean(axis=0))
        np.testing.assert_allclose(signs.spread, values.astype(float).std(axis=0))
    assert signs.doubts() == []


def normal(n=60, width=16, seed=0, scale=1.0, shift=0.0):
    return (np.random.default_rng(seed).normal(size=(n, width)) * scale + shift).astype(np.float32)


def test_rows_of_zeros():
    values = normal()
    values[20:] = 0
    assert measured(values).doubts() == [
        "The features of 40 of 60 spots are all 0 in f.h5: was their extraction interrupted?"
    ]


@pytest.mark.parametrize("value", [0.0, 1.0, 255.0])
def test_a_slide_that_does_not_vary(value):
    values = np.full((60, 16), value, np.float32) * (1 + 1e-7 * normal())
    (words,) = measured(values).doubts()
    assert words == "The features of all 60 spots are the same in f.h5: was one picture read again and again?"


def test_rows_that_repeat():
    values = normal()
    values[50:] = values[3]
    (words,) = measured(values).doubts()
    assert words.startswith("The features of 10 of 60 spots are those of another spot in f.h5")
    values[52:] = normal(8, seed=1)
    assert measured(values).doubts() == []  # 2 of 60
    assert measured(np.random.default_rng(0).integers(0, 2, (60, 4)).astype(np.float32) + 1).doubts() == []  # labels


def test_one_value_from_another_world():
    values = normal()
    values[7, 3] = 3e8
    (words,) = measured(values).doubts()
    assert words.startswith("Feature 3 is 3e+08 at one spot in f.h5 and about 0.")
    values[7, 3] = 3e3
    assert measured(values).doubts() == []


@pytest.mark.parametrize("value", [3e38, -3e38, 2 * LARGEST, np.inf, np.nan])
def test_what_would_overflow_is_an_error(value):
    values = normal()
    values[7, 3] = value
    with pytest.raises(UserError, match=r"slide 'S',? spot b7 has .* in f\.h5 \(1 such spots in its block\); extract"):
        measured(values)


def test_the_largest_value_allowed_overflows_nowhere():
    values = np.full(1_000_000, LARGEST, np.float32)
    assert np.isfinite(np.sum(values * values, dtype=np.float32))
    with np.errstate(over="ignore"):
        assert not np.isfinite(np.sum((100 * values) ** 2, dtype=np.float32))


def slides(**changed):
    return {name: measured(changed.get(name, normal(seed=i)), name) for i, name in enumerate(("A", "B", "C", "D"))}


def test_another_scale_and_another_offset():
    assert odd_scales(slides()) == []
    ((name, words),) = odd_scales(slides(B=normal(scale=255, seed=1)))
    assert (name, "times as wide as usual" in words) == ("B", True)
    assert [name for name, _ in odd_scales(slides(C=normal(scale=1 / 255, seed=1)))] == ["C"]
    ((name, words),) = odd_scales(slides(D=normal(shift=9, seed=1)))
    assert (name, "times their spread from those of the other slides" in words) == ("D", True)


def test_two_slides_cannot_tell_whose_scale_it_is():
    both = {"A": measured(normal()), "B": measured(normal(scale=255, seed=1))}
    assert [name for name, _ in odd_scales(both)] == ["A", "B"]


def test_other_tissues_are_no_other_scale():
    assert odd_scales(slides(B=normal(scale=4, shift=2, seed=1))) == []
    assert odd_scales(slides(B=np.ones((60, 16), np.float32))) == []  # dead, which is said elsewhere
    assert odd_scales(slides(B=normal(n=3, scale=255))) == []
    assert odd_scales({"A": measured(normal())}) == []


def spoilt(values, how):
    values = values.copy()
    if how == "zeros":
        values[: len(values) // 2] = 0
    elif how == "flat":
        values[:] = values[0]
    else:
        values *= 255
    return values


@pytest.mark.parametrize("how", ["zeros", "flat", "scale"])
def test_the_import_and_the_doctor_say_the_same(task, make_slide, how):
    made = [make_slide(f"S{i}", n_spots=30, width=10, patient=f"P{i}") for i in range(3)]
    made[1].features = spoilt(made[1].features, how)
    root, _ = task(made)
    (words,) = open_dataset(root, features="uni").report["warnings"]
    assert words.startswith("S1: ")
    found = [f for f in check(root, features="uni").findings if f.level == "warning"]
    assert words in [f"{f.slide}: {f.message}" for f in found]


def test_the_doubts_of_every_encoder_reach_the_run(task, make_slide, agl):
    made = [make_slide(f"S{i}", n_spots=30, width=10, patient=f"P{i}") for i in range(3)]
    root, _ = task(made)
    (root / "embeddings/uni").rename(root / "embeddings/first")
    made[2].features = spoilt(made[2].features, "zeros")
    task(made)
    for features in ("uni", "[first,uni]"):
        status, _, err = agl(
            *("train", f"data.root={root}", f"data.features={features}", "model=ridge", "fold=0", "data.context=[4]"),
            *("primary.k=2", "primary.min_detection=0"),
        )
        assert status == 0, err
        assert "warning: S2: The features of 15 of 30 spots are all 0 in" in err


def test_real_and_simulated_sections_give_no_warning(tmp_path):
    example = Path(agl.data.example.__file__).parent
    assert open_dataset(example, features="embeddings/builtin_originals").report["warnings"] == []
    for features in ("patches", "latent"):
        root = simulate(
            tmp_path / features, n_patients=3, slides_per_patient=1, spots_per_slide=40, seed=1, features=features
        )
        kind = "builtin" if features == "patches" else features
        assert open_dataset(root, features=kind, min_counts=1).report["warnings"] == []
