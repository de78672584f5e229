"""The split whose slides are named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agl.data.splitting.named import named_slides
from agl.errors import UserError

SPOTS = pd.DataFrame(
    {"slide": np.repeat(list("abcd"), 10), "patient": np.repeat(list("AABC"), 10), "x": list(range(10)) * 4, "y": 0}
)


def slides_of(positions: np.ndarray) -> str:
    return "".join(sorted(set(SPOTS.slide.to_numpy()[positions])))


def test_each_part_holds_the_slides_named():
    [fold] = named_slides(SPOTS, test=["d"], validation=["b"], train=["a"])
    assert (slides_of(fold.train), slides_of(fold.validation), slides_of(fold.test)) == ("a", "b", "d")
    assert len(fold.train) == len(fold.validation) == len(fold.test) == 10
    assert not fold.optimistic


@pytest.mark.parametrize(("parts", "optimistic"), [
    ({"test": ["a"]}, True), ({"test": ["a"], "train": ["c", "d"]}, False),
    ({"test": ["a"], "train": ["c"], "validation": ["b"]}, True), ({"test": "c"}, False),
])  # fmt: skip
def test_a_patient_on_both_sides_is_optimistic(parts, optimistic):
    [fold] = named_slides(SPOTS, **parts)
    assert fold.optimistic is optimistic


def test_without_validation_slides_a_part_of_training_is_held_out():
    [fold] = named_slides(SPOTS, 0.25, "random", test=["d"])
    assert slides_of(fold.validation) <= "abc"
    assert len(fold.validation) == pytest.approx(0.25 * 30, abs=2)
    assert len(fold.train) + len(fold.validation) == 30
    [again] = named_slides(SPOTS, 0.25, "random", seed=1, test=["d"])
    assert not np.array_equal(again.validation, fold.validation)
    assert np.array_equal(again.test, fold.test)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"test": ["e"]}, "received 'e'"),
        ({"test": ["a"], "train": ["a"]}, "found a twice"),
        ({"test": ["a", "a"]}, "found a twice"),
        ({"test": list("abcd")}, "slides to train on"),
        ({"test": []}, "test spots"),
    ],
)
def test_mistakes(parts, said):
    with pytest.raises(UserError, match=said):
        named_slides(SPOTS, **parts)
