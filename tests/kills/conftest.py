"""Sections and finished runs, made once for all tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kills.harness import make_stock


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`task/`, `large/` and `runs/` of two losses; read-only by convention."""
    return make_stock(tmp_path_factory.mktemp("stock") / "stock")
