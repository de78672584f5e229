"""Every writer on a disk that is full, and in a folder that is read-only: one sentence, nothing half-written, and
once there is room the same command gives the same results."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kills.harness import Scenario, agl, finish, scenarios, uninterrupted

ROOM = 64 << 20


def limited(largest: int, target: Callable[..., Any], *given: Any) -> None:
    """No file grows beyond `largest` bytes: a disk that is full at a chosen moment, for whoever may not mount one."""
    spoken = io.StringIO()
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    try:
        with contextlib.redirect_stderr(spoken), contextlib.redirect_stdout(spoken):
            target(*given)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(spoken.getvalue(), flush=True)


def predict() -> None:
    [run] = Path("runs/run").glob("mse*")
    agl(["predict", str(run), "P1S1", "--out", "runs/run/P1S1.h5ad"])


def cases() -> dict[str, Scenario]:
    found = scenarios(epochs=2)
    found["grid"] = Scenario("grid", agl, (["grid", "study.yaml"],), "runs", study=found["grid"].study)
    del found["pool"]
    return found | {"predict": Scenario("report", predict, (), "runs/run", ("P1S1.h5ad",))}


@pytest.fixture(scope="module")
def truths(stock: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    known: dict[str, dict[str, bytes]] = {}

    def truth(name: str) -> dict[str, bytes]:
        if name not in known:
            known[name], _ = uninterrupted(cases()[name], stock, tmp_path_factory.mktemp("whole") / name)
        return known[name]

    return truth


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 64 MiB; `resize` makes it smaller or larger."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("not allowed to mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def check_sentence(status: int, said: str, *words: str) -> None:
    assert "Traceback" not in said, said
    assert status == 2, said
    assert any(word in said for word in words), said
    assert sum(line.startswith("agl: ") for line in said.splitlines()) == 1


def said_of(scenario: Scenario, folder: Path) -> tuple[int, str]:
    return finish(folder, scenario.target, *scenario.given, said=str(folder.parents[1] / "said.txt"))


NAMES = list(cases())
# bytes that each may still write; somewhere among its own files
LEFT = {"import": [20_000, 400_000], "train": [60_000], "grid": [80_000], "search": [3_000], "report": [200_000],
        "predict": [8_192]}  # fmt: skip


@pytest.mark.parametrize(("name", "left"), [(name, left) for name in NAMES for left in LEFT[name]])
def test_a_disk_that_is_full(name: str, left: int, stock: Path, truths: Callable, disk: Path) -> None:
    scenario, folder = cases()[name], disk / "place"
    scenario.prepare(folder, stock)
    before = set(folder.rglob("*"))
    used = os.statvfs(disk)
    taken = (used.f_blocks - used.f_bfree) * used.f_frsize
    remount(disk, f"size={taken + left}")
    status, said = said_of(scenario, folder)
    check_sentence(status, said, "No space left", "the disk is full")
    assert scenario.left_over(folder) == []
    assert before <= set(folder.rglob("*"))
    remount(disk, f"size={ROOM}")
    status, said = said_of(scenario, folder)
    assert status == 0, said
    assert scenario.outcome(folder) == truths(name)
    assert scenario.left_over(folder) == []


@pytest.mark.parametrize(
    ("name", "largest"),
    [("import", 0), ("import", 50_000), ("train", 3_000), ("grid", 2_000), ("report", 30_000), ("predict", 2_000)],
)  # fmt: skip
def test_files_that_may_not_grow(name: str, largest: int, stock: Path, truths: Callable, tmp_path: Path) -> None:
    scenario, folder = cases()[name], tmp_path / "place"
    scenario.prepare(folder, stock)
    status, said = finish(folder, limited, largest, scenario.target, *scenario.given)
    check_sentence(status, said, "File too large", "the file may not grow")
    assert scenario.left_over(folder) == []
    status, said = said_of(scenario, folder)
    assert status == 0, said
    assert scenario.outcome(folder) == truths(name)
    assert scenario.left_over(folder) == []


@pytest.mark.parametrize("name", ["import", "train", "grid", "report", "predict"])
def test_a_folder_that_is_read_only(name: str, stock: Path, truths: Callable, disk: Path) -> None:
    scenario, folder = cases()[name], disk / "place"
    scenario.prepare(folder, stock)
    remount(disk, "ro")
    status, said = said_of(scenario, folder)
    check_sentence(status, said, "Read-only file system", "the file system is read-only")
    remount(disk, "rw")
    status, said = said_of(scenario, folder)
    assert status == 0, said
    assert scenario.outcome(folder) == truths(name)
