"""A section that the tests know, in memory and as Space Ranger writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.preparing.forms import Truth, write_outs


@pytest.fixture(scope="session")
def truth() -> Truth:
    return Truth()


@pytest.fixture
def outs(truth: Truth, tmp_path: Path) -> Path:
    return write_outs(tmp_path / "S1", truth)
