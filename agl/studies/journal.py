"""Optuna's journal file, made safe to kill: the lock dies with its process, and only whole lines are kept."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


class SafeJournal(JournalFileBackend):
    """A journal that a killed writer or a full disk leaves readable and unlocked.

    Optuna's own lock is a file, which a killed writer leaves behind for everybody to wait on (30 s), and a write cut
    short by a full disk leaves half a line, after which the journal is unreadable once anything follows it. Here the
    lock is on the journal itself (`flock`: released by the kernel), half a line at the end is cut off before the next
    one is written, and a write that fails is taken back.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add whole lines, or nothing."""
        data = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        file = os.open(self.path, os.O_RDWR | os.O_APPEND)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = _whole(file)
            try:
                _write_all(file, data)
                os.fsync(file)
            except OSError as error:
                os.ftruncate(file, end)
                raise OSError(error.errno, error.strerror, str(self.path)) from None
        finally:
            os.close(file)


def open_journal(path: Path) -> JournalStorage:
    """The storage over a journal file, made if need be; its folder must exist."""
    return JournalStorage(SafeJournal(path))


def _whole(file: int) -> int:
    """Cut off half a line at the end; where the next line begins."""
    end = os.fstat(file).st_size
    start, tail = end, b""
    while start > 0 and b"\n" not in tail:
        step = min(4096, start)
        start -= step
        tail = os.pread(file, step, start)
    whole = start + tail.rfind(b"\n") + 1 if b"\n" in tail else 0
    if whole != end:
        os.ftruncate(file, whole)
    return whole


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
