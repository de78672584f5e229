"""Who is still at work? A trial that runs while its worker is dead must be found, and no other."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agl.leftovers import lives
from agl.studies.address import Address, refuse_sqlite
from agl.studies.outages import storage_errors

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


class Heartbeats(Protocol):
    """How the workers of one study know of each other."""

    def claim(self, number: int) -> None:
        """Say, before taking a trial, that it is this worker's if the storage lets it have it."""

    def beat(self, trial: FrozenTrial) -> None:
        """A sign of life, given at once and every few seconds while a trial runs."""

    def dead(self, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Of the running trials, those whose worker is gone for certain."""

    def close(self) -> None:
        """This worker leaves, in good order."""


def heartbeats_of(address: Address, storage: BaseStorage, study: optuna.Study) -> Heartbeats:
    """What fits the storage: locks beside a file, heartbeats in a database, beats through a proxy."""
    path = address.path
    if path is not None:
        return FileHeartbeats(path.with_name(path.name + ".workers"), study.study_name, address)
    return (
        DatabaseHeartbeats(storage, study, address)
        if address.kind == "postgresql"
        else ProxyHeartbeats(storage, address)
    )


@contextmanager
def beating(heartbeats: Heartbeats, trial: FrozenTrial, address: Address) -> Iterator[None]:
    """Heartbeats of life for as long as the block runs. One that fails is passed over: the next may succeed."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(address.heartbeat):
            try:
                heartbeats.beat(trial)
            except Exception:  # whatever a storage raises; the worker itself notices when it next writes
                continue

    with storage_errors(address):
        heartbeats.beat(trial)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class FileHeartbeats:
    """Every worker holds a lock on a file of its own that names the trial it has. The kernel drops a dead one's lock.

    The trial is named before it is taken, so there is no moment at which a living worker's trial looks abandoned.
    Locks of other machines are not always visible here (NFS without a lock daemon), so a worker elsewhere counts as
    dead only when its file has not been touched for the grace period either, by the file server's clock.
    """

    def __init__(self, folder: Path, study: str, address: Address) -> None:
        self.folder, self.study, self.address = folder, study, address
        self.host = socket.gethostname()
        self.file: Any = None

    def claim(self, number: int) -> None:
        if self.file is None:
            self._register()
        record = json.dumps({"host": self.host, "pid": os.getpid(), "study": self.study, "trial": number})
        os.pwrite(self.file.fileno(), record.ljust(512).encode(), 0)

    def beat(self, trial: FrozenTrial) -> None:
        if self.file is not None:
            os.utime(self.file.fileno())

    def dead(self, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        claimed = {record["trial"] for record in self._living() if record.get("study") == self.study}
        return [trial for trial in running if trial.number not in claimed]

    def close(self) -> None:
        """Leave; the file goes with the worker."""
        if self.file is not None:
            Path(self.file.name).unlink(missing_ok=True)
            self.file.close()
            self.file = None

    def _ended(self, path: Path) -> bool:
        """Whether a file's name is that of a worker of this machine which is no more."""
        host, pid, _ = path.name.rsplit("-", 2)
        return host == self.host and pid.isdigit() and not lives(int(pid))

    def _register(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.address.kind == "sqlite" and any(True for _ in self._living()):
            refuse_sqlite(self.address, "a second worker")
        self.file = (self.folder / f"{self.host}-{os.getpid()}-{uuid.uuid4().hex[:6]}").open("w+b", buffering=0)
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def _living(self) -> Iterator[dict[str, Any]]:
        """What the living workers say; the files of dead ones are removed."""
        now = self._servers_time()
        for clock in self.folder.glob(".clock-*"):  # left by killed workers of earlier versions
            if now - clock.lstat().st_mtime > self.address.grace:
                clock.unlink(missing_ok=True)
        for path in sorted(self.folder.glob("*-*-*")) if self.folder.is_dir() else []:
            if self.file is not None and str(path) == self.file.name:
                yield _record(path)
                continue
            try:
                with path.open("rb") as file:
                    record = _record(path)
                    elsewhere = record.get("host", self.host) != self.host
                    fresh = now - path.stat().st_mtime < self.address.grace
                    if elsewhere and fresh:
                        yield record
                        continue
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    if record or not fresh or self._ended(path):  # an empty one may be about to be locked
                        path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue
            except OSError:
                yield record

    def _servers_time(self) -> float:
        """The clock that stamps the files, which need not be this machine's."""
        try:
            with tempfile.TemporaryFile(dir=self.folder) as probe:  # it has no name that a killed worker could leave
                return os.fstat(probe.fileno()).st_mtime
        except OSError:
            return time.time()


class DatabaseHeartbeats:
    """Optuna's own heartbeats, judged by the database's clock.

    A worker that dies between taking a trial and its first heartbeat leaves a trial that Optuna never calls stale.
    Workers therefore put their name on a trial after the first heartbeat, and a trial without a name is watched like
    one behind a proxy.
    """

    def __init__(self, storage: Any, study: optuna.Study, address: Address) -> None:
        self.storage, self.study = storage, study
        self.unnamed = Watch(address.grace)
        self.named: set[int] = set()

    def claim(self, number: int) -> None:
        """Nothing: the heartbeat follows at once."""

    def beat(self, trial: FrozenTrial) -> None:
        self.storage.record_heartbeat(trial._trial_id)
        if trial.number not in self.named:
            self.storage.set_trial_user_attr(trial._trial_id, "worker", _myself())
            self.named.add(trial.number)

    def dead(self, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        from optuna.storages import fail_stale_trials

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls it experimental
            fail_stale_trials(self.study)
        return self.unnamed.silent([trial for trial in running if "worker" not in trial.user_attrs])

    def close(self) -> None:
        """Nothing to leave."""


class ProxyHeartbeats:
    """Heartbeats do not pass through Optuna's gRPC proxy; a counter among the trial's attributes does."""

    def __init__(self, storage: Any, address: Address) -> None:
        self.storage = storage
        self.watch = Watch(address.grace)
        self.count = 0

    def claim(self, number: int) -> None:
        """Nothing: the first beat follows at once."""

    def beat(self, trial: FrozenTrial) -> None:
        self.count += 1
        self.storage.set_trial_user_attr(trial._trial_id, "beat", [_myself(), self.count])

    def dead(self, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        return self.watch.silent(running)

    def close(self) -> None:
        """Nothing to leave."""


class Watch:
    """Trials whose beat this process has not seen change for so long, by its own clock: no two clocks are compared."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self.seen: dict[int, tuple[Any, float]] = {}

    def silent(self, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those that have said nothing for the grace period; call it again and again."""
        now = time.monotonic()
        known, self.seen = self.seen, {}
        for trial in running:
            beat = trial.user_attrs.get("beat")
            before, since = known.get(trial.number, (None, now))
            self.seen[trial.number] = (beat, since if beat == before and trial.number in known else now)
        return [trial for trial in running if now - self.seen[trial.number][1] >= self.grace]


def _myself() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes() or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
