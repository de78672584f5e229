"""Every built-in model against the contract, and models that break it in one way each."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from agl import registry
from agl.models.predictor import Predictor, Standardise
from agl.testing import check_model

PATCHES = {"resnet18": 32, "resnet50": 32, "nsl": 16}


@pytest.mark.parametrize("name", registry.names("model"))
def test_built_in(name) -> None:
    check_model(registry.find("model", name), patch_size=PATCHES.get(name))


@pytest.mark.parametrize(
    ("name", "options"),
    [("mlp", {"hidden": ()}), ("mlp", {"hidden": (7, 6), "dropout": 0.0}), ("resnet18", {"frozen": True}),
     ("nsl", {"shared": True})],
)  # fmt: skip
def test_built_in_with_options(name, options) -> None:
    check_model(registry.find("model", name), patch_size=PATCHES.get(name), **options)


class Broken(Predictor):
    def __init__(self, n_features: int, n_genes: int) -> None:
        super().__init__(nn.Sequential(Standardise(n_features), nn.Linear(n_features, 4)), 4, n_genes)


class OfTheBatch(Broken):
    def forward(self, inputs):
        return super().forward(inputs - inputs.mean(0))


class Random(Broken):
    def forward(self, inputs):
        return super().forward(inputs + torch.randn_like(inputs))


class Unused(Broken):
    def __init__(self, n_features: int, n_genes: int) -> None:
        super().__init__(n_features, n_genes)
        self.spare = nn.Linear(2, 2)


class Pooled(Broken):
    def forward(self, inputs):
        return super().forward(inputs).mean(1)


class Infinite(Broken):
    def forward(self, inputs):
        return super().forward(inputs) / 0


class Headless(nn.Linear):
    shares = True

    def __init__(self, n_features: int, n_genes: int) -> None:
        super().__init__(n_features, n_genes)


class Outside(Broken):
    """Keeps a number that scores depend on out of its state."""

    def __init__(self, n_features: int, n_genes: int) -> None:
        super().__init__(n_features, n_genes)
        self.factor = torch.rand(1)

    def forward(self, inputs):
        return super().forward(inputs) * self.factor


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (OfTheBatch, "depend on no other spot"),
        (Random, "the same scores twice"),
        (Unused, "Expected a gradient for spare.weight"),
        (Pooled, r"Expected shape \(6, 4\)"),
        (Infinite, "Expected finite scores"),
        (Headless, "Expected .trunk"),
        (Outside, "hold all that scores depend on"),
    ],
)
def test_what_breaks_the_contract_is_told(make, told) -> None:
    with pytest.raises(AssertionError, match=told):
        check_model(make)
