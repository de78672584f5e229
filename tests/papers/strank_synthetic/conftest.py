"""The reference: one of our networks as `torch.nn` builds it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn

from agl.papers.strank_synthetic.networks import Networks


@pytest.fixture(scope="session")
def as_module() -> Callable[[Networks, int], nn.Sequential]:
    return _as_module


def _as_module(networks: Networks, run: int) -> nn.Sequential:
    """The same network in torch.nn."""
    sizes = (1, *networks.hidden, 1)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after, dtype=torch.float64), nn.ReLU()]
    module = nn.Sequential(*layers[:-1])
    found = [parameter[run].detach() for parameter in networks.parameters]
    shaped = [found[0][:, None], found[1], found[2].T, found[3]]
    shaped += [] if len(networks.hidden) == 1 else [found[4][None], found[5]]
    with torch.no_grad():
        for mine, theirs in zip(module.parameters(), shaped, strict=True):
            mine.copy_(theirs.reshape(mine.shape))
    return module
