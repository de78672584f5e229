"""Fixed scores below a network: what they are, what a state holds of them, and heads that begin at 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agl.models.predictor import Start, mlp
from agl.testing import check_model


@pytest.mark.parametrize("start", ["low_rank", "convex"])
def test_the_contract(start: str) -> None:
    check_model(mlp, start=start, hidden=(7,))


def test_scores_are_the_given_linear_ones_whatever_the_features_scale() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4)) * np.geomspace(1e-3, 1e3, 4) + np.array([5.0, -3.0, 1e4, 0.0])
    x[:, 3] = 2.5  # constant: a solved weight of it is 0
    weights = rng.normal(size=(4, 3)) / np.geomspace(1e-3, 1e3, 4)[:, None]
    weights[3], intercept = 0.0, rng.normal(size=3)
    model = mlp(4, 3, hidden=(8,), start="low_rank").eval()
    assert isinstance(model.start, Start)
    model.start.standardise.fit(torch.from_numpy(x))
    model.start.take(torch.from_numpy(weights), torch.from_numpy(intercept))
    expected = x @ weights + intercept
    with torch.no_grad():
        scores = model(torch.from_numpy(x).float()).numpy()
        some = model.start(torch.from_numpy(x).float(), torch.tensor([2, 0])).numpy()
    assert np.allclose(scores, expected, atol=1e-3)  # features of 1e4 have three decimals in single precision
    assert np.allclose(some, expected[:, [2, 0]], atol=1e-3)
    exact = model.start.double()(torch.from_numpy(x)).numpy()
    assert np.allclose(exact, expected, atol=1e-5)


def test_without_a_start_nothing_is_kept_and_heads_are_random() -> None:
    for start in ("auto", "none"):
        model = mlp(4, 3, start=start)
        assert model.start is None
        assert not any(name.startswith("start") for name in model.state_dict())
        assert model.head.weight.abs().min() > 0


def test_the_trunk_is_the_same_with_and_without() -> None:
    models = []
    for start in ("none", "convex"):
        torch.manual_seed(0)
        models.append(mlp(4, 3, start=start))
    for a, b in zip(models[0].trunk.parameters(), models[1].trunk.parameters(), strict=True):
        assert torch.equal(a, b)


def test_nothing_of_the_start_is_trained() -> None:
    model = mlp(4, 3, start="low_rank")
    assert not any(name.startswith("start") for name, _ in model.named_parameters())
    assert {"start.weight", "start.level", "start.standardise.mean"} <= set(model.state_dict())


def test_a_start_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="received 'ridge'"):
        mlp(4, 3, start="ridge")  # type: ignore[arg-type]
