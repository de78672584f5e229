"""A process that has imported the program and forks for every command it is asked to run: milliseconds, not seconds.

One JSON line in, one out. A command that runs for too long is killed, one that kills its interpreter is reported, and
one that wants all the memory does not get it. Started by `stage.Stage`, with one thread: forks must not share locks.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

MEMORY = 6 << 30  # bytes a command may ask for
CPU = 10  # seconds of work


def preload() -> None:
    """Everything that the commands import when they need it."""
    import anndata  # noqa: F401
    import matplotlib

    matplotlib.use("Agg")
    import torch._dynamo  # seconds, of which an optimiser has need
    import torch.utils.tensorboard  # noqa: F401


def perform(words: list[str], cwd: str, environment: dict[str, str]) -> None:
    """In the child: run one command as the console script does, then end without ceremony."""
    from agl.cli import main

    os.setsid()
    os.chdir(cwd)
    os.environ |= environment
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(
            os.open(f"{environment['AGL_HOSTILE_OUT']}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number
        )
    sys.stdin = open(os.devnull)  # noqa: SIM115
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(os.fdopen(n, "wb"), encoding="utf-8", errors=e, write_through=True)
        for n, e in ((1, "strict"), (2, "backslashreplace"))
    )
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU + 2))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.argv = ["agl", *words]
    status = 1
    try:
        main()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def warm(request: dict) -> dict:
    """Run a command in this very process: what it imports, and what it remembers, all forks have from then on."""
    from agl.cli import main

    os.environ |= request["environment"]
    os.chdir(request["cwd"])
    sys.argv = ["agl", *request["words"]]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            main()
    except SystemExit as stop:
        if stop.code not in (None, 0):
            raise RuntimeError(said.getvalue()) from stop
    for thread in threading.enumerate():  # a fork would find the locks of threads that it does not have
        if thread is not threading.main_thread():
            thread.join(20)
            assert not thread.is_alive(), thread.name
    return {"code": 0}


def run(request: dict) -> dict:
    """Fork, wait, kill what does not end; how it ended."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        perform(request["words"], request["cwd"], request["environment"])
    late = False
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() - started > request["limit"] and not late:
            late = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(ended[1])
    with contextlib.suppress(ProcessLookupError, PermissionError):  # whoever the command started
        os.killpg(child, signal.SIGKILL)
    late = late or code == -signal.SIGXCPU
    return {"code": code, "late": late, "seconds": round(time.monotonic() - started, 3)}


def answer(request: dict) -> dict:
    """What came of a request."""
    return warm(request) if request["here"] else run(request)


def main() -> None:
    """Serve until the other end is closed."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    preload()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
