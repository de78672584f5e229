"""What the README shows, run as it stands there."""

from __future__ import annotations

import shlex
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


def test_the_way_from_a_space_ranger_folder(agl, tmp_path: Path) -> None:
    """The commands as they stand there; what is recommended would take a minute, so a model is trained instead."""
    import tifffile

    from agl.studies.recommend import plan
    from tests.preparing.forms import Truth, write_outs

    (block,) = (text for text in blocks("bash") if "agl prepare" in text)
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [words[:2] for words in commands[1:]] == [["agl", "prepare"], ["agl", "check"], ["agl", "recommend"]]
    for seed, patient in enumerate(("P1", "P2", "P3")):
        truth = Truth(side=8, seed=seed, genes=[f"G{i}" for i in range(60)])
        write_outs(tmp_path / patient, truth)
        (tmp_path / patient / "slide.png").unlink()
        options = {"tile": (64, 64), "photometric": "rgb", "compression": "zlib"}
        tifffile.imwrite(tmp_path / patient / "slide.tif", truth.image, **options)
    (tmp_path / "patients.csv").write_text("section,patient\nP1,Ann\nP2,Bea\nP3,Eve\n")
    assert agl(*commands[1][1:])[0] == 0
    assert (tmp_path / "mine/checks/P3.png").is_file()
    status, out, err = agl(*commands[2][1:])
    assert (status, err) == (0, "")
    assert "3 sections, 3 patients" in out
    folder = commands[3][2]
    assert plan(folder, []).folder
    assert agl("train", f"data.root={folder}", "model=ridge", "fold=0")[0] == 0


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
