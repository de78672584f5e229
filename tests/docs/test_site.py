"""The site is built without a warning, shows formulas and notebooks, and asks the network for nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(r'<(?:script|img|link)[^>]+(?:src|href)="(?:https?:)?//[^"]+"')
LOADS = re.compile(r"@import|url\((?:https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(package, reason="needs the docs extra")
    out = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_nothing_is_fetched(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text("utf-8")
        assert not [found for found in FETCHED.findall(text) if 'rel="canonical"' not in found], page
    assert not [sheet for sheet in site.rglob("*.css") if LOADS.search(sheet.read_text("utf-8"))]


def test_formulas_are_drawn(site: Path) -> None:
    for page in ("ideas/ranking.html", "api/strank.html"):
        text = (site / page).read_text("utf-8")
        assert text.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"') >= 2, page
        assert ".. math::" not in text
        assert "arithmatex" not in text


def test_notebooks_are_pages(site: Path) -> None:
    text = (site / "tutorials" / "first_results.html").read_text("utf-8")
    assert "First results" in text
    assert "data:image/png;base64" in text
    assert "<table" in text
