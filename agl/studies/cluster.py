"""Workers as SLURM jobs, by way of submitit."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agl.errors import UserError
from agl.studies.address import refuse_sqlite
from agl.studies.study import Study


@dataclass(frozen=True)
class Resources:
    """What one worker gets."""

    minutes: int = 240
    cpus: int = 1
    memory: float = 8.0  # GB
    gpus: int = 0
    partition: str | None = None


def submit_workers(study: Study, workers: int, resources: Resources, *, local: bool = False) -> list[str]:
    """Start so many workers as jobs of their own; their ids. Logs go to `slurm/` beside the journal, or to runs/slurm.

    A worker that SLURM ends puts its cell back (SIGTERM) or is found dead later; either way the cell is done by
    another, or when more workers are submitted.
    """
    try:
        import submitit
    except ImportError:
        raise UserError(
            "Expected the `slurm` extra for `agl submit`, found none. Install it with `pip install 'agl[slurm]'`, "
            "or start `agl worker` yourself in as many jobs as you like."
        ) from None
    refuse_sqlite(study.address, f"{workers} jobs")
    if workers < 1:
        raise UserError(f"Expected at least 1 worker, received --workers {workers}.")
    path = study.address.path
    folder = (path.parent if path is not None else Path("runs")) / "slurm"
    try:
        executor = submitit.AutoExecutor(folder=str(folder), cluster="local" if local else None)
    except RuntimeError as error:
        raise UserError(
            f"Expected SLURM here, found none ({error}). Submit from a login node, or use --local."
        ) from None
    if not local and executor.cluster != "slurm":
        raise UserError(
            "Expected SLURM here, found none (there is no `srun`). Submit from a login node, or use --local."
        )
    executor.update_parameters(**_parameters(study, resources, local))
    command = [sys.executable, "-m", "agl", "worker", "--study", study.name]
    with _environment({"AGL_STORAGE": study.address.text}):
        jobs = [executor.submit(submitit.helpers.CommandFunction(command, cwd=Path.cwd())) for _ in range(workers)]
    return [str(job.job_id) for job in jobs]


def _parameters(study: Study, resources: Resources, local: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"name": f"agl-{study.name}", "timeout_min": resources.minutes}
    if resources.gpus:
        found["gpus_per_node"] = resources.gpus
    if not local:
        found |= {"cpus_per_task": resources.cpus, "mem_gb": resources.memory}
        found |= {"slurm_partition": resources.partition} if resources.partition else {}
    return found


class _environment:
    """Variables for the jobs, which inherit this process's; not on a command line that everybody can read."""

    def __init__(self, words: dict[str, str]) -> None:
        self.words = words

    def __enter__(self) -> None:
        self.before = {key: os.environ.get(key) for key in self.words}
        os.environ.update(self.words)

    def __exit__(self, *_: object) -> None:
        for key, value in self.before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
