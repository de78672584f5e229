"""Small simulated sections that many tests share, and the command line in-process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """A test that draws from the global generator draws the same in every run, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests never read or write the user's cache."""
    import os

    os.environ["AGL_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def sections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients with one small section each, features already computed. Read-only by convention."""
    from agl.data.simulate.task import simulate

    folder = tmp_path_factory.mktemp("sections") / "task"
    simulate(folder, n_patients=3, slides_per_patient=1, spots_per_slide=40, n_genes=150, features="latent", seed=1)
    return folder


@pytest.fixture
def own_sections(sections: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(sections, tmp_path / "task"))


@pytest.fixture
def agl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: exit status, standard output, standard error."""
    from agl.cli import main

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["agl", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run
