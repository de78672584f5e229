"""What a unit is, when nothing may be claimed, and what seeds add, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agl.analysis.seed_level import TYPICAL, by_seed, seed_level, typical_move
from agl.analysis.units import choose_unit, left_out_level

KNOWN = {"a": "P", "b": "P", "c": "Q"}


@pytest.mark.parametrize(
    ("slides", "asked", "left_out", "name", "bar"),
    [
        ("abc", "auto", "patient", "patient", ""),
        ("abc", "auto", "slide", "patient", ""),
        ("abc", "auto", "spot", "patient", "test spots lie on slides that were trained on"),
        ("ab", "auto", "slide", "slide", ""),  # one patient: speaks for its slides
        ("acd", "auto", "patient", "slide", "patients unknown"),
        ("acd", "slide", "patient", "slide", ""),  # the user's word
        ("abc", "slide", "patient", "slide", "slides of one patient are no repetitions"),
        ("ac", "slide", "patient", "slide", ""),
    ],
)  # fmt: skip
def test_units_and_bars(slides: str, asked: str, left_out: str, name: str, bar: str) -> None:
    unit = choose_unit(list(slides), KNOWN, asked, left_out)
    assert (unit.name, unit.bar) == (name, bar)


def test_words_say_what_a_claim_holds_for() -> None:
    assert "nothing here speaks for other patients" in choose_unit(["a", "b"], KNOWN).words
    assert "Their other slides were trained on" in choose_unit(["a", "c"], KNOWN, left_out="slide").words
    assert "sections.csv" in choose_unit(["d"], KNOWN).words


def split(train: str, validation: str, test: str) -> dict[str, dict[str, list[str]]]:
    return {"slides": {"train": list(train), "validation": list(validation), "test": list(test)}}


def test_the_worst_fold_decides_what_was_left_out() -> None:
    owners = {"a": "P", "b": "P", "c": "Q", "d": "R"}
    assert left_out_level([split("ab", "d", "c"), split("c", "", "ab")], owners) == "patient"
    assert left_out_level([split("ab", "d", "c"), split("d", "a", "b")], owners) == "slide"
    assert left_out_level([split("d", "a", "b"), split("a", "b", "b")], owners) == "spot"
    assert left_out_level([{}], owners) == "patient"  # runs of before it was recorded


def cells(scores: dict[tuple[str, int, str, str], float]) -> pd.DataFrame:
    rows = [(m, int(f), s, slide, "G", v) for (m, s, f, slide), v in scores.items()]
    return pd.DataFrame(rows, columns=["method", "fold", "seed", "slide", "gene", "scc"])


def test_seeds_of_one_training_on_two_patients_by_hand() -> None:
    """Differences of (P, Q) by seed: (0.1, 0.3), (0.3, 0.5): means 0.2 and 0.4, sd 0.1414, error sd / sqrt 2."""
    one_fold = cells(
        {
            ("x", 0, "0", "a"): 0.1, ("x", 0, "0", "c"): 0.3, ("x", 1, "0", "a"): 0.3, ("x", 1, "0", "c"): 0.5,
            **{("y", seed, "0", slide): 0.0 for seed in (0, 1) for slide in "ac"},
        }
    )  # fmt: skip
    level = seed_level(one_fold, "x", "y", KNOWN)
    assert (level.seeds, level.shared) == (2, True)
    assert level.spread == pytest.approx(0.02**0.5)
    assert level.error is not None
    assert level.error.parts == ((pytest.approx(0.01), 1),)
    own = one_fold.assign(fold=np.where(one_fold.slide == "a", 0, 1))  # a training for each patient
    assert seed_level(own, "x", "y", KNOWN).error is None
    assert seed_level(own, "x", "y", KNOWN).spread == pytest.approx(0.02**0.5)


def test_unpaired_seeds_add_up_and_one_seed_says_nothing() -> None:
    unlike = cells(
        {
            **{("x", seed, "0", slide): value for seed, value in ((0, 0.1), (1, 0.3)) for slide in "ac"},
            **{("y", seed, "0", slide): value for seed, value in ((4, 0.0), (5, 0.3), (6, 0.6)) for slide in "ac"},
        }
    )
    level = seed_level(unlike, "x", "y", KNOWN)
    assert level.spread == pytest.approx((0.02 + 0.09) ** 0.5)
    assert level.error is not None
    assert level.error.parts == ((pytest.approx(0.02 / 2), 1), (pytest.approx(0.09 / 3), 2))
    lone = seed_level(unlike[unlike.seed.isin([0, 4])], "x", "y", KNOWN)
    assert (lone.seeds, lone.error) == (1, None)
    assert np.isnan(lone.spread)


def test_a_typical_move_is_that_of_the_runs_at_hand_else_the_stated_one() -> None:
    several = cells({("x", s, "0", "a"): v for s, v in enumerate((0.1, 0.2, 0.3))} | {("y", 0, "0", "a"): 0.0})
    move, source = typical_move(several, KNOWN)
    assert move == pytest.approx((2 * 0.01) ** 0.5)
    assert source == "1 method here with several seeds"
    move, source = typical_move(several[several.seed == 0], KNOWN)
    assert move == pytest.approx(2**0.5 * TYPICAL)
    assert "HER2ST" in source


def test_a_unit_that_a_seed_was_not_tested_on_is_left_out() -> None:
    table = by_seed(cells({("x", 0, "0", "a"): 1.0, ("x", 0, "1", "c"): 2.0, ("x", 1, "0", "b"): 3.0}), KNOWN)
    assert list(table.index) == ["P"]
