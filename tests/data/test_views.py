"""Which columns of a feature table are whose: by hand, and against the tables that the encoders alone give."""

from __future__ import annotations

import numpy as np
import pytest

from agl.data.dataset import open_dataset
from agl.data.views import feature_views


def columns(about, width: int) -> dict[str, list[int]]:
    return {name: found.tolist() for name, found in feature_views(about, width).items()}


@pytest.mark.parametrize("about", [None, {}, {"context": []}])
def test_a_table_that_says_nothing_of_itself_is_the_spots_own(about) -> None:
    assert columns(about, 3) == {"own": [0, 1, 2]}


def test_one_encoder_with_surroundings() -> None:
    about = {"encoders": {"builtin": {"width": 2}}}
    assert columns(about, 2) == {"own": [0, 1]}
    assert columns(about, 6) == {"own": [0, 1], "context": [0, 1, 2, 3, 4, 5]}


def test_two_encoders_each_with_its_own_surroundings() -> None:
    about = {"encoders": {"builtin": {"width": 1}, "folder/of/uni": {"width": 2}}}
    assert columns(about, 3) == {"builtin own": [0], "uni own": [1, 2]}
    assert columns(about, 9) == {
        "builtin own": [0],
        "builtin context": [0, 3, 6],
        "uni own": [1, 2],
        "uni context": [1, 2, 4, 5, 7, 8],
    }


def test_views_of_a_dataset_are_the_tables_of_its_encoders(task, make_slide, write_embeddings) -> None:
    slides = [make_slide(name, patient=name, width=4) for name in ("S1", "S2")]
    root, _ = task(slides)
    for slide in slides:
        other = np.random.default_rng(9).normal(size=(len(slide.barcodes), 3)).astype(np.float32)
        write_embeddings(root / "embeddings" / "other" / f"{slide.name}.h5", slide, values=other)
    both = open_dataset(root, features=["uni", "other"], context=[2, 4])
    views = feature_views(both.report["features"], both.features.shape[1])
    assert {name: len(found) for name, found in views.items()} == {
        "uni own": 4, "uni context": 12, "other own": 3, "other context": 9
    }  # fmt: skip
    for name in ("uni", "other"):
        own, wide = (open_dataset(root, features=name, context=context) for context in ([], [2, 4]))
        np.testing.assert_array_equal(np.asarray(both.features)[:, views[f"{name} own"]], np.asarray(own.features))
        np.testing.assert_array_equal(np.asarray(both.features)[:, views[f"{name} context"]], np.asarray(wide.features))
        assert list(feature_views(own.report["features"], own.features.shape[1])) == ["own"]
        assert list(feature_views(wide.report["features"], wide.features.shape[1])) == ["own", "context"]
