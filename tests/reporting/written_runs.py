"""Runs to report on, written without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agl.testing.runs import CANDIDATES, ExampleSlides, write_run


@pytest.fixture
def world() -> ExampleSlides:
    """Seven patients, the first with two slides."""
    return ExampleSlides({"P0": ["S0", "S1"], **{f"P{i}": [f"S{i + 1}"] for i in range(1, 7)}})


@pytest.fixture
def runs(tmp_path: Path, world: ExampleSlides) -> Path:
    """Three methods over seven folds, the learned one better than the others by construction."""
    root = tmp_path / "runs"
    for fold in range(7):
        write_run(root, world, "loss=mse", "name=study", fold=fold, noise=1.5)
        write_run(root, world, "loss=listwise", "name=study", fold=fold, noise=1.5)
        learned = ["loss=listwise", "auxiliary.genes=dkgsb", "name=study"]
        for seed in (0, 1):
            chosen = CANDIDATES[: 10 + fold + seed]
            write_run(root, world, *learned, fold=fold, seed=seed, noise=0.5, chosen=chosen)
    return root


@pytest.fixture
def make_run() -> Callable[..., Path]:
    return write_run


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs of two methods over seven patients, and the page about them. Read-only by convention."""
    from agl.reporting.build import write_report
    from agl.reporting.inputs import ReportOptions

    root = tmp_path_factory.mktemp("report") / "runs"
    patients = {"P0": ["S0", "S1"], **{f"P{i}": [f"S{i + 1}"] for i in range(1, 7)}}
    for fold in range(7):
        write_run(root, ExampleSlides(patients), "loss=listwise", "name=a<b", fold=fold, noise=1.5)
        for seed in (0, 1):
            words = ["loss=listwise", "auxiliary.genes=dkgsb", "name=a<b"]
            chosen = CANDIDATES[: 8 + fold + seed]
            write_run(root, ExampleSlides(patients), *words, fold=fold, seed=seed, noise=0.5, chosen=chosen)
    return root, write_report([root], options=ReportOptions(slides=("S0",), genes=("GENE4",)))
