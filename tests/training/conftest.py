"""A dataset in memory, small enough to train on in a blink, with signal in it."""

from __future__ import annotations

import pytest

from agl.data.dataset import Dataset
from agl.testing.plugins import example_dataset as make_dataset


@pytest.fixture
def dataset() -> Dataset:
    return make_dataset()
