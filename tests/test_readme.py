"""What the README shows, run as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import blocks_of, lines_of

PATH = Path(__file__).parents[1] / "README.md"
README = PATH.read_text()


def blocks(language: str) -> list[str]:
    return [block.code for block in blocks_of(PATH) if block.language == language]


def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook, loss, alone = blocks("python")
    (tmp_path / "readme_loss.py").write_text(loss)
    monkeypatch.syspath_prepend(str(tmp_path))
    import readme_loss  # type: ignore[import-not-found]

    import agl.testing

    agl.testing.check_loss(readme_loss.tweedie)
    exec(compile(alone, "README.md", "exec"), {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    assert len(notebook.splitlines()) <= 30
    exec(compile(notebook, "README.md", "exec"), {})
    assert (tmp_path / "new_slide.png").stat().st_size > 10_000
    assert "Spearman" in (tmp_path / "my_model" / "README.md").read_text()


def test_the_study_in_it_is_a_study(tmp_path: Path) -> None:
    from agl.studies.grid import read_grid

    (text,) = blocks("yaml")
    assert len(yaml.safe_load(text)["axes"]) == 3
    (tmp_path / "study.yaml").write_text(text)
    assert len(read_grid(tmp_path / "study.yaml").cells()) == 18


def test_the_commands_in_it_exist() -> None:
    from typer.main import get_command

    from agl.cli import app

    known = set(get_command(app).commands)
    lines = [line.split() for code in blocks("bash") for line in lines_of(code)]
    named = {words[1] for words in lines if words[0] == "agl"}
    assert named
    assert named <= known


def test_the_batteries_are_where_it_says() -> None:
    import agl.testing

    assert all(callable(getattr(agl.testing, name)) for name in agl.testing.__all__)
    with pytest.raises(AttributeError, match="it has check_engine"):
        agl.testing.check_los  # noqa: B018
