from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from agl.models.predictor import Standardise, linear, mlp


def test_standardise_is_scikit_learns() -> None:
    features = np.random.default_rng(0).normal(3, 5, (40, 6)).astype(np.float32)
    layer = Standardise(6)
    layer.fit(torch.from_numpy(features))
    assert np.allclose(
        layer(torch.from_numpy(features)), StandardScaler().fit_transform(features.astype(float)), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_many_spots_are_taken_block_by_block(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    features = (np.random.default_rng(0).normal(300, 5, (1000, 6))).astype(dtype)
    spots = np.random.default_rng(1).permutation(1000)[:700]
    whole, cut = Standardise(6), Standardise(6)
    whole.fit(features, spots)
    monkeypatch.setattr("agl.models.predictor.BLOCK", 64)
    cut.fit(features, spots)
    scaled = StandardScaler().fit(features[spots].astype(float))
    for layer in (whole, cut):
        np.testing.assert_allclose(layer.mean, scaled.mean_, rtol=1e-6)
        np.testing.assert_allclose(1 / layer.scale, scaled.scale_, rtol=1e-5)
    torch.testing.assert_close(cut.scale, whole.scale, rtol=1e-6, atol=0)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6, -1e-9])
def test_a_constant_feature_becomes_zero(constant: float) -> None:
    features = torch.cat([torch.full((30, 1), constant), torch.randn(30, 1)], 1)
    layer = Standardise(2)
    layer.fit(features)
    assert (layer(features)[:, 0] == 0).all()
    assert (layer(features + 5)[:, 0] == 0).all()


def test_half_precision_features_are_standardised_in_single() -> None:
    layer = Standardise(3)
    layer.fit(torch.randn(20, 3) * 1e3)
    assert layer(torch.randn(4, 3).half()).dtype == torch.float32


def test_only_the_mlp_shares() -> None:
    assert not linear(4, 3).shares
    assert mlp(4, 3).shares


def test_widths_and_a_wrong_activation() -> None:
    model = mlp(5, 7, hidden=(8, 6), dropout=0.0, activation="relu")
    weights = [tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")]
    assert weights == [(8, 5), (6, 8), (7, 6)]
    with pytest.raises(ValueError, match="received 'swish'"):
        mlp(5, 7, activation="swish")


@pytest.mark.parametrize("hidden", [[-1], [0], [16, -16], [10**9], [2.5], [True]])
def test_widths_that_no_layer_can_have(hidden: list) -> None:
    with pytest.raises(ValueError, match="Expected hidden as widths of layers from 1 to 65,536"):
        mlp(4, 3, hidden=hidden)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_that_dropout_cannot_drop(dropout: float) -> None:
    with pytest.raises(ValueError, match="Expected dropout as a share"):
        mlp(4, 3, dropout=dropout)
