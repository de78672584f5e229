"""Studies without training: cells that only sleep, worker processes that start in milliseconds, databases."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# A process that forks workers on demand, everything imported already. A cell is a real one,
# or sleeps and writes a run folder, once.
NURSERY = """
import json, os, random, signal, sys, time
from pathlib import Path
import optuna.samplers, optuna.pruners, sqlalchemy, sqlalchemy.orm
from agl.runs.files import write_json
from agl.runs.folder import Run, RunIsBusy, locked
from agl.studies.study import open_study
from agl.studies.worker import work
import agl.studies.heartbeats, agl.studies.journal, agl.studies.sampling, agl.studies.search
import optuna.storages._rdb.storage
real, sleep = sys.argv[1] == "real", float(sys.argv[2])
if real:
    from agl.studies.cell import train_cell

def cell(config, *, folds, report, progress):
    tree = config.to_dict()
    folder = Path(config.output) / config.name / f"{config.loss.name}.s{config.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    while not (folder / "result.json").exists():
        try:
            with locked(folder):
                if not (folder / "result.json").exists():
                    time.sleep(sleep * (0.5 + random.random()))
                    numbers = {"validation": 0.1 + config.seed / 1000, "scc": config.seed / 7, "by": os.getpid()}
                    write_json(folder / "new.json", numbers)
                    os.link(folder / "new.json", folder / "result.json")  # an error if there is one already
                    (folder / "new.json").unlink()
        except RunIsBusy:
            time.sleep(0.01)
    return [Run(folder)]

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    name, storage = line.split()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            work(open_study(storage, name), train=train_cell if real else cell)
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(2)
        os._exit(0)
    print(child, flush=True)
"""


class Nursery:
    """Starts workers, and kills them."""

    def __init__(self, folder: Path, sleep: float, real: bool = False) -> None:
        script = folder / "nursery.py"
        script.write_text(NURSERY)
        self.errors = (folder / "errors.txt").open("w+")
        self.process = subprocess.Popen(
            # Python 3.12 warns of every fork in a process with threads, which libraries start.
            [sys.executable, "-W", "ignore::DeprecationWarning", str(script), "real" if real else "fake", str(sleep)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=folder,
        )

    def start(self, name: str, storage: str) -> int:
        self.process.stdin.write(f"{name} {storage}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    @staticmethod
    def alive(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait(self, pids: list[int], seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while any(map(self.alive, pids)):
            assert time.monotonic() < deadline, "the workers do not end:\n" + self.complaints()
            time.sleep(0.02)

    def complaints(self) -> str:
        self.errors.seek(0)
        return self.errors.read()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.errors.close()


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Callable[..., Nursery]]:
    made: list[Nursery] = []

    def make(sleep: float = 0, real: bool = False) -> Nursery:
        made.append(Nursery(tmp_path, sleep, real))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def grid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """A study file with 2 x n cells; the working folder is the test's own."""
    monkeypatch.chdir(tmp_path)

    def write(n: int) -> Path:
        path = tmp_path / "grid.yaml"
        path.write_text(f"name: g\nmodel: mlp\naxes:\n  loss: [mse, listwise]\n  seed: {list(range(n))}\n")
        return path

    return write


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL on loopback, from the system's own package; a URL that ends where a database's name would be."""
    pytest.importorskip("psycopg2", reason="the postgres extra is not installed")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [shutil.which("initdb")]
    if found[-1] is None:
        pytest.skip("PostgreSQL's initdb is not installed (Debian: apt-get install postgresql)")
    programs = Path(found[-1]).parent
    root = os.geteuid() == 0
    if root and subprocess.run(["id", "postgres"], capture_output=True).returncode:
        pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
    place = Path(tempfile.mkdtemp(prefix="agl-postgres-"))  # pytest's own folders are closed to other users
    folder = place / "data"
    folder.mkdir()
    if root:
        place.chmod(0o755)
        shutil.chown(folder, "postgres")

    def run(*words: str) -> None:
        command = ["runuser", "-u", "postgres", "--", *words] if root else list(words)
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/")
        if done.returncode:
            shutil.rmtree(place, ignore_errors=True)
            pytest.skip(f"PostgreSQL could not be started: {done.stderr[-300:]}")

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run(str(programs / "initdb"), "-D", str(folder), "-U", "agl", "-A", "trust", "--no-sync")
    options = f"-p {port} -h 127.0.0.1 -k {folder} -F"
    run(str(programs / "pg_ctl"), "-D", str(folder), "-o", options, "-w", "-l", str(folder / "log"), "start")
    yield f"postgresql://agl:secret@127.0.0.1:{port}"
    run(str(programs / "pg_ctl"), "-D", str(folder), "-m", "immediate", "-w", "stop")
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def database(postgres: str) -> str:
    """A new, empty database; heartbeats every second."""
    import uuid

    import psycopg2

    name = f"test_{uuid.uuid4().hex[:8]}"
    connection = psycopg2.connect(postgres + "/postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"create database {name}")
    connection.close()
    return f"{postgres}/{name}?heartbeat=1"


@pytest.fixture
def proxy_server() -> Iterator[Callable[[str], tuple[subprocess.Popen, str]]]:
    """Start `agl study proxy` in front of a database: the process, and the storage to give to workers."""
    servers: list[subprocess.Popen] = []

    def start(database: str) -> tuple[subprocess.Popen, str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "agl", "study", "proxy", "--port", str(port)]
        servers.append(subprocess.Popen(command, env=os.environ | {"AGL_STORAGE": database}))
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        return servers[-1], f"grpc://localhost:{port}?heartbeat=0.5"

    yield start
    for server in servers:
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
            assert server.wait(10) == 130


@pytest.fixture
def proxy(database: str, proxy_server: Callable[[str], tuple[subprocess.Popen, str]]) -> str:
    """A gRPC proxy in front of a new database."""
    return proxy_server(database)[1]
