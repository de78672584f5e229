"""What a killed writer leaves is swept by the next one; what a living one writes is not touched."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agl.leftovers import WEEK, abandoned, lives, sweep, temporary
from agl.runs.folder import locked

HOST = socket.gethostname()


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return gone.pid


def test_whose_writer_is_gone(tmp_path: Path, dead: int) -> None:
    kept = [
        temporary(tmp_path / "mine.h5"),
        tmp_path / f".parents.{HOST}.{os.getppid()}.tmp",
        tmp_path / ".elsewhere.another-host.1.tmp",
        tmp_path / f".elsewhere.not-{HOST}.{dead}.tmp",
        tmp_path / f"old_manner.{dead}.tmp",
        tmp_path / f"a_file_of_a_user.{HOST}.{dead}",
        tmp_path / "plain.tmp",
        tmp_path / "notes.2024.tmp.txt",
    ]
    gone = [
        tmp_path / f".file.h5.{HOST}.{dead}.tmp",
        tmp_path / f".folder.{HOST}.{dead}.partial",
        tmp_path / f".folder.{HOST}.{dead}.old",
        tmp_path / ".ancient.another-host.1.tmp",
        tmp_path / f".long.{HOST}.{10**30}.tmp",
    ]
    for path in [*kept, *gone]:
        path.mkdir() if "folder" in path.name else path.touch()
    (gone[1] / "inside").touch()
    os.utime(gone[3], (time.time() - WEEK - 60,) * 2)
    assert set(abandoned(tmp_path)) == set(gone)
    sweep(tmp_path)
    assert set(tmp_path.iterdir()) == set(kept)


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path, dead: int) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").touch()
    (tmp_path / f".x.{HOST}.{dead}.tmp").symlink_to(tmp_path / "precious")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["precious", "data"]


def _killed(body: Callable[[], None]) -> int:
    """Fork, run, and be killed without a chance to clean up."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    return pid


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_fingerprints_of_a_killed_import(own_sections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agl.data.dataset import open_dataset
    from agl.data.reading import hashing

    monkeypatch.setenv("AGL_CACHE", str(tmp_path / "cache"))
    for file in own_sections.rglob("*"):
        os.utime(file, (1e9, 1e9))  # only what has settled is remembered
    with monkeypatch.context() as killing:
        killing.setattr(hashing.os, "replace", _die)
        _killed(lambda: open_dataset(str(own_sections), features="latent") and None)
    left = list((tmp_path / "cache" / "fingerprints").glob(".*.tmp"))
    assert len(left) == 1
    open_dataset(str(own_sections), features="latent")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".tmp", ".partial")]


def test_a_killed_simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agl.data.simulate import task

    size = {"n_patients": 2, "spots_per_slide": 12, "n_genes": 80, "features": "latent"}
    with monkeypatch.context() as killing:
        killing.setattr(task, "write_task", _die)
        _killed(lambda: task.simulate(tmp_path / "made", **size) and None)
    assert len(list(tmp_path.iterdir())) == 1
    task.simulate(tmp_path / "made", **size)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_workers_leave_no_clocks(tmp_path: Path) -> None:
    from agl.studies.address import parse_storage
    from agl.studies.heartbeats import FileHeartbeats

    address = parse_storage(f"journal:{tmp_path / 'study.journal'}?heartbeat=1")
    old, new = tmp_path / ".clock-0123", tmp_path / ".clock-4567"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    beats = FileHeartbeats(tmp_path, "s", address)
    assert abs(beats._servers_time() - time.time()) < 5
    beats.claim(1)
    assert beats.dead([]) == []
    assert not old.exists()
    assert new.exists(), "a living worker of an earlier version may be looking at it"
    beats.close()
    assert [path.name for path in tmp_path.iterdir()] == [new.name]


def test_a_killed_worker_that_had_not_said_what_it_does_leaves_nothing(tmp_path: Path, dead: int) -> None:
    from agl.studies.address import parse_storage
    from agl.studies.heartbeats import FileHeartbeats

    address = parse_storage(f"journal:{tmp_path / 'study.journal'}?heartbeat=1")
    gone, elsewhere, beginning = (
        tmp_path / name for name in (f"{HOST}-{dead}-0a1b2c", f"other-{dead}-0a1b2c", f"{HOST}-{os.getppid()}-0a1b2c")
    )
    for file in (gone, elsewhere, beginning):
        file.touch()
    FileHeartbeats(tmp_path, "s", address).dead([])
    assert not gone.exists()
    assert elsewhere.exists()  # nobody here can know
    assert beginning.exists()  # it may be about to say it


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="how Linux tells")
def test_who_has_ended_is_gone_although_nobody_has_asked(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and still in the table of processes
    left = tmp_path / f".a.{HOST}.{child.pid}.partial"
    left.mkdir()
    assert not lives(child.pid)
    sweep(tmp_path, ".*")
    assert not left.exists()
    child.wait()
    assert lives(os.getpid())


def test_halves_of_a_run_are_removed_by_whoever_takes_it_up(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    halves = [tmp_path / "config.yaml.part", tmp_path / "checkpoints" / "state.part", tmp_path / "predictions.npz.part"]
    for file in [*halves, tmp_path / "history.jsonl"]:
        file.touch()
    with locked(tmp_path):
        assert {path.name for path in tmp_path.rglob("*")} == {"checkpoints", ".lock", "history.jsonl"}


def test_a_link_in_the_place_of_a_folder_makes_way_and_is_not_left(tmp_path: Path) -> None:
    from agl.leftovers import replace_folder

    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").touch()
    for name, leads_to in (("here", tmp_path / "precious"), ("nowhere", tmp_path / "nothing"), ("circle", "circle")):
        part = tmp_path / f"{name}.new"
        part.mkdir()
        (tmp_path / name).symlink_to(leads_to)
        replace_folder(part, tmp_path / name)
        assert (tmp_path / name).is_dir()
        assert not (tmp_path / name).is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"precious", "here", "nowhere", "circle"}
    assert (tmp_path / "precious" / "data").exists()


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_target_without_a_name(path: str) -> None:
    from agl.errors import UserError

    with pytest.raises(UserError, match="Expected the name of a file or folder to write"):
        temporary(Path(path))
