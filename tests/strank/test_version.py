"""One distribution, one version, wherever it is written."""

from __future__ import annotations

import tomllib
from pathlib import Path

import agl
import strank


def test_both_packages_have_the_version_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert strank.__version__ == agl.__version__ == project["version"]
