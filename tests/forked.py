"""Commands in processes of their own, forked from one that has imported the program: no seconds of imports for each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PRELOADED = ["torch", "optuna", "anndata", "sklearn.linear_model", "matplotlib.figure", "agl.cli.command",
             "agl.training.experiment", "agl.runs.train", "agl.studies.launch", "agl.reporting.build"]  # fmt: skip


def call(folder: Path, said_in: str, target: Callable[..., Any], *given: Any) -> None:
    """In a child: a group of its own, a folder of its own, what it says into a file there."""
    os.setsid()
    os.chdir(folder)
    os.environ |= {"AGL_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    said = os.open(said_in, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    target(*given)


def agl(words: Sequence[str]) -> None:
    """The command line."""
    from agl.cli import main

    sys.argv = ["agl", *words]
    main()


def start(
    folder: Path, target: Callable[..., Any], *given: Any, said: str = "said.txt"
) -> multiprocessing.process.BaseProcess:
    """A child that does not inherit what this process has computed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=call, args=(folder, said, target, *given), daemon=False)
    process.start()
    return process


def finish(
    folder: Path, target: Callable[..., Any], *given: Any, seconds: float = 1200, said: str = "said.txt"
) -> tuple[int, str]:
    """Exit status, and what was said."""
    process = start(folder, target, *given, said=said)
    process.join(seconds)
    if process.is_alive():
        kill_group(process)
        raise AssertionError(f"still at work after {seconds} s:\n{(folder / said).read_text()}")
    return int(process.exitcode or 0), (folder / said).read_text()


def kill_group(process: multiprocessing.process.BaseProcess) -> None:
    """Whatever runs in the child's group."""
    try:
        os.killpg(int(process.pid or 0), signal.SIGKILL)
    except ProcessLookupError:  # it is gone, or has not come to its group yet
        process.kill()
    process.join()
