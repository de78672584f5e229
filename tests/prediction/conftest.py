"""Finished runs on small simulated sections, trained once and read-only by convention."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from agl.config import load
from agl.runs.folder import Run
from agl.runs.train import train

QUICK = ["primary.k=8", "primary.min_detection=0", "training.epochs=2", "fold=0"]
MODELS = {
    "committee": ["model=committee", "data.context=[8]", "auxiliary.genes=none"],
    "per slide": ["model=low_rank", "data.context=[4]", "data.normalise=slide", "auxiliary.genes=none"],
    "ridge": ["model=ridge"],
    "mean": ["model=mean"],
    "mlp": ["model=mlp", "model.hidden=[8]", "auxiliary.genes=top", "auxiliary.genes.k=5"],
    "linear": ["model=linear"],
}


@pytest.fixture(scope="session")
def run_of(sections: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The run of a model by name."""
    output = tmp_path_factory.mktemp("runs")

    @cache
    def made(name: str) -> Run:
        words = [f"data.root={sections}", "data.features=latent", f"output={output}", *QUICK, *MODELS[name]]
        return train(load(words))[0]

    return made
