"""Mistakes by kind: what one can catch without reading a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest

import agl

QUICK: dict[str, Any] = {"features": "latent", "model": "ridge", "fold": 0, "progress": False}


def _one_section_twice(root: Path) -> dict[str, Any]:
    """Sections in memory, and a copy of one under another patient's name, on the other side of the split."""
    slides = {path.stem: anndata.read_h5ad(path) for path in sorted((root / "adata").glob("*.h5ad"))}
    slides["copy"] = next(iter(slides.values())).copy()
    for position, (name, section) in enumerate(slides.items()):
        section.obs["patient"] = name
        section.obsm["latent"] = np.random.default_rng(position).normal(size=(section.n_obs, 4))
    return slides


MISTAKES: dict[str, tuple[type[Exception], Callable[[Path], Any]]] = {
    "no folder": (agl.DataError, lambda root: agl.train(root / "nowhere", **QUICK)),
    "no features": (agl.DataError, lambda root: agl.train(root, **QUICK | {"features": "uni"})),
    "no such slide": (agl.DataError, lambda root: agl.train(root, **QUICK, **{"data.sections": ["x"]})),
    "a leak": (agl.LeakError, lambda root: agl.train(_one_section_twice(root), **QUICK)),
    "no such key": (agl.ConfigError, lambda root: agl.train(root, **QUICK, **{"training.epoch": 3})),
    "no such loss": (agl.ConfigError, lambda root: agl.train(root, **QUICK, loss="listwse")),
    "no such argument": (
        agl.ConfigError,
        lambda root: agl.train(root, **QUICK, primary={"name": "variance", "warm": 1}),
    ),
    "no model": (agl.ModelError, lambda root: agl.load_model(root)),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_kind_has_its_name(name: str, sections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kind, mistake = MISTAKES[name]
    with pytest.raises(agl.UserError) as caught:
        mistake(sections)
    assert type(caught.value) is kind, caught.value
    assert not list(tmp_path.rglob("result.json"))
