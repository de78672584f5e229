"""What is kept, for how long, and when it is made anew."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from agl.training.sharing import Sharing, marks, size_of


class Source:
    """Something parts are made of."""


def counted(sharing: Sharing, asked: list[tuple[str, Source, int]], size: int = 1) -> list[tuple[str, int]]:
    """Which parts were made when these were asked for."""
    made: list[tuple[str, int]] = []

    def make(kind: str, key: int) -> np.ndarray:
        made.append((kind, key))
        return np.zeros(size, dtype=np.uint8)

    for kind, of, key in asked:
        sharing.get(kind, of, key, lambda kind=kind, key=key: make(kind, key))  # type: ignore[misc]
    return made


def test_a_part_is_known_by_kind_source_and_key() -> None:
    one, other = Source(), Source()
    asked = [("a", one, 1), ("a", one, 1), ("b", one, 1), ("a", other, 1), ("a", one, 2), ("a", one, 1)]
    assert counted(Sharing(), asked) == [("a", 1), ("b", 1), ("a", 1), ("a", 2)]


def test_nothing_is_kept_when_nothing_shall_be() -> None:
    one = Source()
    assert counted(Sharing(0), [("a", one, 1)] * 3) == [("a", 1)] * 3


def test_of_each_kind_the_latest_used_stay() -> None:
    one = Source()
    asked = [("a", one, 1), ("b", one, 9), ("a", one, 2), ("a", one, 1), ("a", one, 3), ("a", one, 1), ("a", one, 2)]
    assert counted(Sharing(2), [*asked, ("b", one, 9)]) == [("a", 1), ("b", 9), ("a", 2), ("a", 3), ("a", 2)]


def test_what_does_not_fit_goes_the_longest_unused_first() -> None:
    one = Source()
    asked = [("a", one, 1), ("b", one, 2), ("a", one, 1), ("a", one, 3), ("a", one, 1), ("b", one, 2)]
    assert counted(Sharing(room=250), asked, size=100) == [("a", 1), ("b", 2), ("a", 3), ("b", 2)]


def test_a_part_too_large_for_the_room_is_kept_until_the_next() -> None:
    one = Source()
    assert counted(Sharing(room=50), [("a", one, 1), ("a", one, 1), ("a", one, 2)], size=100) == [("a", 1), ("a", 2)]


def test_the_source_lives_as_long_as_its_part_and_no_longer() -> None:
    """Its place in memory, which is its name, is not given to another one before."""
    sharing, one = Sharing(1), Source()
    gone = weakref.ref(one)
    counted(sharing, [("a", one, 1)])
    del one
    gc.collect()
    assert gone() is not None
    counted(sharing, [("a", Source(), 1)])
    gc.collect()
    assert gone() is None


def test_an_error_is_not_kept() -> None:
    sharing, one = Sharing(), Source()
    with pytest.raises(ZeroDivisionError):
        sharing.get("a", one, 1, lambda: 1 // 0)
    assert sharing.get("a", one, 1, lambda: 5) == 5


def test_marks_tell_values_types_and_shapes_apart() -> None:
    a = np.array([[1, 2], [3, 4]])
    others = [a.T, a.ravel(), a.astype(np.int32), a + 1]
    assert marks(a) == marks(np.asfortranarray(a))
    assert len({marks(each) for each in [a, *others]}) == 5


def test_sizes_are_of_what_lies_in_memory(tmp_path) -> None:
    table = sparse.csr_matrix(np.eye(4, dtype=np.float32))
    assert size_of(table) == 4 * 4 + 4 * 4 + 5 * 4
    assert size_of({"a": [torch.zeros(3), np.zeros(2)]}) == 12 + 16
    assert size_of(pd.DataFrame({"a": np.zeros(5)})) >= 40
    np.save(tmp_path / "a.npy", np.zeros(100))
    assert size_of(np.load(tmp_path / "a.npy", mmap_mode="r")) == 0
