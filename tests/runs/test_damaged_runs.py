"""Files of a run that are damaged, or no files: a sentence, whoever reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agl.errors import UserError
from agl.runs.folder import Run, find_runs, open_run

DAMAGE = {
    "half": b'{"scc": 0.',
    "empty": b"",
    "a list": b"[1, 2]",
    "a number": b"3",
    "bytes": b"\xff\xfe\x00",
    "many digits": b'{"scc": ' + b"9" * 5000 + b"}",
    "endless nesting": b'{"scc": ' + b"[" * 100_000,
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: a\n")
    return folder


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", ["result.json", "provenance.json"])
def test_a_damaged_json(run: Path, kind: str, name: str) -> None:
    (run / "result.json").write_text("{}")
    (run / name).write_bytes(DAMAGE[kind])
    opened = open_run(run)
    with pytest.raises(UserError, match=f"Expected keys and values in .*{name}, received"):
        _ = opened.result if name == "result.json" else opened.provenance


def test_a_pipe_is_no_result_and_no_config(run: Path) -> None:
    os.mkfifo(run / "result.json")
    assert not Run(run).finished
    with pytest.raises(UserError, match="found one without a result"):
        open_run(run)
    with pytest.raises(UserError, match=r"found no result\.json there"):
        _ = find_runs(run.parent)[0].result
    (run / "config.yaml").unlink()
    os.mkfifo(run / "config.yaml")
    with pytest.raises(UserError, match="it is a pipe"):
        _ = Run(run).config


def test_a_folder_that_looks_like_an_override_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loss=mse").mkdir()
    Path("loss=mse", "config.yaml").write_text("seed: 3\n")
    assert Run(Path("loss=mse")).config.seed == 3


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("{}", "finished"),
        ('{"finished": "now", "data": 3}', "data"),
        ('{"finished": "now", "data": {"key": "k", "report": "x"}}', "data.report"),
        ('{"finished": "now", "data": {"key": "k"}}', "data.report"),
    ],
)
def test_a_provenance_that_lacks_something(run: Path, content: str, place: str) -> None:
    (run / "provenance.json").write_text(content)
    with pytest.raises(UserError, match=f"found another {place} or none"):
        _ = Run(run).whole_provenance


def test_a_provenance_of_an_earlier_version_is_read_as_far_as_it_goes(run: Path) -> None:
    (run / "provenance.json").write_text('{"data": {"key": "k"}}')
    assert Run(run).provenance == {"data": {"key": "k"}}


@pytest.mark.parametrize(
    ("value", "right"), [("0.5", True), ("null", True), ('"high"', False), ("true", False), ("[]", False)]
)
def test_a_score_is_a_number_or_nothing(run: Path, value: str, right: bool) -> None:
    (run / "result.json").write_text(f'{{"scc": {value}}}')
    if value in ("0.5", "null"):
        assert str(Run(run).score("scc")) in ("0.5", "nan")
    else:
        with pytest.raises(UserError, match="Expected a number or null as scc in"):
            Run(run).score("scc")
    with pytest.raises(UserError, match="Expected a number or null as pcc in"):
        Run(run).score("pcc")


def test_a_disk_is_not_searched_for_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names / means something else; runs themselves do not count, and nothing inside them is looked at."""
    monkeypatch.setattr("agl.runs.folder.STRANGERS", 30)
    for i in range(40):
        (tmp_path / "study" / f"run{i}" / "checkpoints").mkdir(parents=True)
        for name in ("config.yaml", "result.json"):
            (tmp_path / "study" / f"run{i}" / name).write_text("{}")
    assert len(find_runs(tmp_path)) == 40
    assert [run.folder for run in find_runs(tmp_path / "study")] == sorted((tmp_path / "study").iterdir())
    for i in range(31):
        (tmp_path / "home" / f"{i}").mkdir(parents=True)
    with pytest.raises(UserError, match=r"with more than 30 folders that are none\. Name the one"):
        find_runs(tmp_path)
    with pytest.raises(UserError, match=r"which holds no config.yaml.$"):
        open_run(tmp_path)
