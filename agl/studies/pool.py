"""Worker processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

from agl.errors import UserError
from agl.machine import cores
from agl.studies.heartbeats import heartbeats_of
from agl.studies.study import Study
from agl.studies.worker import OPEN, Shown


@dataclass
class WorkerPool:
    """Local workers. One that is killed is replaced; one that cannot go on stops the study with its sentence.

    The cores are split between the workers by their numbers of threads; the threads of a run's own sums are part of
    its config (`training.threads`) and stay. Several GPUs in CUDA_VISIBLE_DEVICES are given to them in turn.
    """

    study: Study
    jobs: int
    command: Sequence[str] = (sys.executable, "-m", "agl", "worker")
    words: Sequence[str] = ()  # more of what every worker is told
    poll: float = 0.2
    workers: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = field(default_factory=list)
    started: int = 0

    def run(self, shown: Shown) -> None:
        """Until the queue is empty, or nobody can work on it."""
        sentence, fruitless, state = "", 0, None
        heartbeats = heartbeats_of(self.study.address, self.study.storage, self.study.optuna)
        try:
            while True:
                cells = self.study.cells()
                shown(cells)
                for code, words in self._gone():
                    if code == 2:
                        sentence = words
                    elif code != 0:
                        now = [(cell.name, cell.state, cell.deaths) for cell in cells]
                        fruitless = fruitless + 1 if now == state else 0
                        state = now
                        if fruitless > 3 * self.jobs:
                            raise UserError(
                                f"Expected workers that finish cells of study {self.study.name!r}, but they keep "
                                f"dying: {words or code}"
                            )
                unfinished = sum(cell.state in OPEN for cell in cells)
                if not self.workers:
                    if sentence:
                        raise UserError(sentence)
                    if unfinished == 0:
                        return
                    self.study.repair(heartbeats)
                missing = 0 if sentence else min(self.jobs, unfinished) - len(self.workers)
                for _ in range(missing):
                    self._start()
                time.sleep(self.poll)
        finally:
            self._dismiss()

    def _start(self) -> None:
        errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the worker is gone
        command = [*self.command, "--study", self.study.name, *self.words]
        environment = os.environ | worker_environment(self.started, self.jobs)
        environment["AGL_STORAGE"] = self.study.address.text  # not among the arguments, which everybody can read
        worker = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        self.workers.append((worker, errors))
        self.started += 1

    def _gone(self) -> list[tuple[int, str]]:
        """Exit status and last words of the workers that have ended."""
        ended = [(worker, errors) for worker, errors in self.workers if worker.poll() is not None]
        self.workers = [pair for pair in self.workers if pair not in ended]
        found = []
        for worker, errors in ended:
            errors.seek(0)
            lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
            errors.close()
            found.append((int(worker.returncode), lines[-1].removeprefix("agl: ") if lines else ""))
        return found

    def _dismiss(self) -> None:
        """Ask the workers to stop; they put their cells back. One that does not is killed."""
        for worker, _ in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        for worker, errors in self.workers:
            try:
                worker.wait(timeout=20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            errors.close()


def worker_environment(number: int, jobs: int) -> dict[str, str]:
    """Threads and GPU of the n-th of some workers on this machine."""
    threads = str(max(1, cores() // jobs))
    words = {f"{library}_NUM_THREADS": threads for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
    gpus = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    return words | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if len(gpus) > 1 else {})
