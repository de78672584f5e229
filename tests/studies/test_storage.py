"""Addresses of storages, and what happens when one is full, damaged or gone."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from pathlib import Path

import pytest

from agl.errors import UserError
from agl.studies.address import parse_storage, refuse_sqlite
from agl.studies.journal import SafeJournal
from agl.studies.outages import StorageGone, storage_errors
from agl.studies.study import create_study, open_study


@pytest.mark.parametrize(
    ("text", "kind", "url", "heartbeat"),
    [
        ("journal:runs/a.journal", "journal", "runs/a.journal", 15),
        ("journal:///srv/a.journal", "journal", "/srv/a.journal", 15),
        ("journal:/srv/a.journal?heartbeat=2", "journal", "/srv/a.journal", 2),
        ("postgresql://me:pw@db:5433/agl", "postgresql", "postgresql+psycopg2://me:pw@db:5433/agl", 15),
        ("postgres:///agl?host=/run&heartbeat=0.5", "postgresql", "postgresql+psycopg2:///agl?host=/run", 0.5),
        ("postgresql+psycopg://db/agl", "postgresql", "postgresql+psycopg://db/agl", 15),
        ("sqlite:////srv/a.db?heartbeat=3", "sqlite", "sqlite:////srv/a.db", 3),
        ("grpc://db:13000?heartbeat=1", "grpc", "db:13000", 1),
    ],
)
def test_addresses(text: str, kind: str, url: str, heartbeat: float) -> None:
    address = parse_storage(text)
    assert (address.kind, address.url, address.heartbeat) == (kind, url, heartbeat)
    assert parse_storage(address.text) == address
    assert "pw" not in address.shown


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("runs/a.journal", "it has no scheme before a colon"),
        ("postgrsql://h/db", "Did you mean 'postgresql'?"),
        ("redis://h", "Known: grpc, journal"),
        ("journal:", "Expected a file after journal:"),
        ("grpc://h", "Expected grpc://host:port"),
        ("postgresql:me@h/db", "'//' is missing after postgresql:"),
        ("postgresql://me:pw@h/db?heartbeat=-1", "above 0 in the storage, received 'postgresql://me:***@h/db"),
        ("journal:a?heartbeat=soon", "Expected heartbeat=SECONDS above 0"),
    ],
)
def test_addresses_nobody_understands(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        parse_storage(text)
    assert sentence in str(error.value)
    assert "pw@" not in str(error.value)


def test_sqlite_is_refused_for_several_workers_with_the_reason() -> None:
    with pytest.raises(
        UserError, match=r"for 3 workers, received SQLite: it has no row locks.*Use journal:PATH on one"
    ):
        refuse_sqlite(parse_storage("sqlite:///a.db"), "3 workers")
    refuse_sqlite(parse_storage("journal:a"), "3 workers")


def test_half_a_line_is_cut_off_and_nothing_else_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    journal = SafeJournal(path)
    journal.append_logs([{"n": 1}, {"n": 2}])
    with path.open("ab") as file:
        file.write(b'{"n": 3, "long": "' + b"x" * 10_000)  # longer than one read of the tail
    assert [log["n"] for log in SafeJournal(path).read_logs(0)] == [1, 2]
    journal.append_logs([{"n": 4}])
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 2, 4]
    path.write_bytes(b'{"n"')
    journal.append_logs([{"n": 5}])
    assert path.read_text() == '{"n":5}\n'


def test_a_full_disk_leaves_whole_lines_and_says_so(tmp_path: Path) -> None:
    """The limit on a file's size fails a write in its middle, as a full disk does."""
    study = create_study(f"journal:{tmp_path}/a.journal", "a", kind="grid")
    path = tmp_path / "a.journal"
    before = path.read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, old[1]))
    try:
        with pytest.raises(StorageGone, match=r"a\.journal cannot be written: .*the same command goes on\.$"):
            study.set_attr("key", "x" * 100)
        assert path.read_bytes() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    study.set_attr("key", "fits")
    assert open_study(f"journal:{tmp_path}/a.journal", "a").attrs["key"] == "fits"


def test_a_full_disk_is_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    study = create_study(f"journal:{tmp_path}/a.journal", "a", kind="grid")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageGone, match=r"cannot be written: the disk is full\. What is finished is kept"):
        study.set_attr("key", 1)


def test_a_read_only_folder(tmp_path: Path) -> None:
    folder = Path("/proc/agl") if os.geteuid() == 0 else tmp_path / "closed"
    if os.geteuid() != 0:
        folder.mkdir(mode=0o500)
    with pytest.raises(StorageGone, match=r"cannot be written"):
        create_study(f"journal:{folder}/a/study.journal", "a", kind="grid")


def test_a_damaged_journal(tmp_path: Path) -> None:
    create_study(f"journal:{tmp_path}/a.journal", "a", kind="grid")
    path = tmp_path / "a.journal"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\x00garbage\n" + b"".join(lines[1:]))
    with pytest.raises(StorageGone, match=r"is damaged.*finished runs are kept"):
        open_study(f"journal:{path}", "a")


def test_studies_that_do_not_exist(tmp_path: Path) -> None:
    storage = f"journal:{tmp_path}/a.journal"
    with pytest.raises(UserError, match="found no such file"):
        open_study(storage, "ablation")
    assert not (tmp_path / "a.journal").exists()
    create_study(storage, "ablation", kind="grid")
    assert open_study(storage).name == "ablation"
    with pytest.raises(UserError, match=r"received 'ablatoin': there is none of that name\. Did you mean 'ablation'\?"):
        open_study(storage, "ablatoin")
    create_study(storage, "size", kind="search")
    with pytest.raises(UserError, match=r"Known: ablation, size\."):
        open_study(storage)
    with pytest.raises(
        UserError, match=r"Expected a grid of the name 'size' in .*, found a search\. Set another name="
    ):
        create_study(storage, "size", kind="grid")


def test_a_database_that_is_not_there() -> None:
    pytest.importorskip("psycopg2")
    with pytest.raises(StorageGone) as error:
        open_study("postgresql://me:hidden@127.0.0.1:9/agl", "a")
    assert "postgresql+psycopg2://me:***@127.0.0.1:9/agl does not answer" in str(error.value)
    assert "the same command goes on" in str(error.value)
    assert "hidden" not in str(error.value)


def test_other_errors_stay_what_they_are() -> None:
    for error in (ValueError("x"), KeyError("x"), OSError(2**10, "odd"), RuntimeError("x")):
        with pytest.raises(type(error)) as raised, storage_errors(parse_storage("journal:a")):
            raise error
        assert raised.value is error
