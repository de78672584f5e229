"""Bad input and losses that are not convex are refused in a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from agl.convex.heads import solve_path
from agl.convex.losses import read_loss
from agl.errors import UserError


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("margin_ranking", {}, "no curvature"),
        ("margin_ranking_released", {}, "no curvature"),
        ("dirichlet_multinomial", {}, "not convex"),
        ("negative_binomial", {}, "known dispersion"),
        ("negative_binomial", {"dispersion": -1.0}, "above 0"),
        ("negative_binomial", {"dispersion": torch.tensor([1.0, 0.0])}, "above 0"),
        ("listwse", {}, "Did you mean 'listwise'"),
        ("listwise", {"list_size": 32}, "list_size=None"),
        ("listwise", {"count_power": -1}, "count_power"),
        ("listwise", {"temperature": 2}, "'temperature'"),
        ("pearson", {"count_power": 0.5}, "count_power=1"),
        ("mse", {"centred": "yes"}, "true or false"),
        (lambda scores, counts: scores, {}, "train a network"),
    ],
)
def test_a_loss_is_refused_with_the_reason(name: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        read_loss(name, options)
    assert str(error.value).startswith("Expected")
    assert str(error.value).endswith((".", "?"))


def test_partners_are_accepted_because_all_pairs_are_their_mean() -> None:
    assert read_loss("pairwise", {"n_partners": 8}).name == "pairwise"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": np.zeros(60)}, "features"),
        ({"x": np.full((60, 6), np.nan)}, "finite features"),
        ({"counts": np.zeros((59, 4))}, "60 spots"),
        ({"counts": np.full((60, 4), -1)}, "raw counts"),
        ({"counts": np.full((60, 4), np.nan)}, "raw counts"),
        ({"library_size": np.ones(3)}, "library_size"),
        ({"library_size": np.full(60, -1)}, "library sizes"),
        ({"library_size": np.zeros(60)}, "training spots"),
        ({"slides": np.zeros(60)}, "integer slide codes"),
        ({"slides": np.zeros(3, int)}, "slides"),
        ({"penalties": []}, "penalties"),
        ({"penalties": [0.0]}, "penalties"),
        ({"penalties": [np.inf]}, "penalties"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"dtype": torch.float16}, "float64"),
        ({"loss": "negative_binomial", "options": {"dispersion": np.ones(3)}}, "dispersion"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(change: dict[str, Any], says: str, data: Any) -> None:
    with pytest.raises(UserError, match=says):
        solve_path(**{**data._asdict(), **change})


def test_slides_too_long_for_all_pairs_are_refused(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agl.convex.path.MOST_PAIRED", 10)
    with pytest.raises(UserError, match="at most 10 spots"):
        solve_path(*data, loss="pairwise")


def test_other_features_than_in_training_are_refused(data: Any) -> None:
    heads = solve_path(*data, penalties=[1.0])
    with pytest.raises(UserError, match="6 features"):
        heads.predict(data.x[:, :5])


def test_arrays_and_tensors_of_any_number_type_are_alike(data: Any) -> None:
    heads = solve_path(*data, penalties=[1.0])
    tensors = [torch.as_tensor(part) for part in data]
    other = solve_path(tensors[0], tensors[1].int(), tensors[2].float(), tensors[3].int(), penalties=[1.0])
    torch.testing.assert_close(heads.weights, other.weights)
    small = solve_path(data.x, data.counts.astype(np.uint16), data.library_size, data.slides, penalties=[1.0])
    torch.testing.assert_close(heads.weights, small.weights)
