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


@pytest.fixture(autouse=True)
def _no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is most of the time of a small section: only tests that ask for `pictures` draw them."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr("agl.preparing.writing.draw", lambda *args: None)


@pytest.fixture
def pictures() -> None:
    """Named by tests of the pictures in checks/."""
