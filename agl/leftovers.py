"""Temporary files that say whose they are, and the removal of those whose writer is gone.

`.NAME.HOST.PID.tmp` stands beside what it will replace. A writer that is killed cannot remove it, so the next one
sweeps: what a dead process of this machine left, and, since nobody here can ask another machine, what is a week old.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agl.errors import UserError

WEEK = 7 * 24 * 3600  # seconds after which nobody writes any more
_OWNED = re.compile(r"\.(\d+)\.(?:tmp|old|partial)$")


def temporary(target: Path, ending: str = "tmp") -> Path:
    """Where this process writes what will become `target`."""
    return beside(target, f".{target.name}{mark(ending)}")


def beside(target: Path, name: str) -> Path:
    """Another name in the folder of `target`.

    Raises:
        UserError: a target that is no name, such as an empty word.
    """
    if not target.name:
        raise UserError(f"Expected the name of a file or folder to write, received {str(target)!r}. Name a new one.")
    return target.with_name(name)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Where to write what becomes `target` at the end of the block; after an error all is as it was before.

    For folders that only one process writes to, so that a killed writer's file is the next one's to overwrite.
    """
    part = beside(target, target.name + ".part")
    try:
        yield part
        part.replace(target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def replace_folder(part: Path, target: Path) -> None:
    """Let `part` be `target`. Whoever is killed here leaves the old folder or the new one, never half of either."""
    old = temporary(target, "old")
    while True:
        remove(old)
        with suppress(FileNotFoundError):
            target.rename(old)
        try:
            part.rename(target)
            break
        except OSError:
            if not target.exists():
                raise  # else another process was quicker: what it wrote makes way as well
    remove(old)


def remove(path: Path) -> None:
    """Remove a file, a folder, or a link and not what it leads to; what cannot be removed stays."""
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def mark(ending: str = "tmp") -> str:
    """The end of a name that says whose a temporary file is."""
    return f".{socket.gethostname()}.{os.getpid()}.{ending}"


def sweep(folder: Path, pattern: str = "*") -> None:
    """Remove temporary files and folders in `folder` that no living process writes."""
    for path in list(abandoned(folder, pattern)):
        remove(path)


def abandoned(folder: Path, pattern: str = "*") -> Iterator[Path]:
    """Of the temporary files and folders in `folder`, those whose writer is gone."""
    host = socket.gethostname()
    for path in folder.glob(pattern):
        owned = _OWNED.search(path.name)
        if owned is None:
            continue
        try:
            old = time.time() - path.lstat().st_mtime > WEEK
        except OSError:  # its writer has just finished
            continue
        ours = path.name[: owned.start()].endswith(f".{host}")
        if old or (ours and not lives(int(owned.group(1)))):
            yield path


def lives(pid: int) -> bool:
    """Whether a process of this machine is at work; one that ended, and whose end nobody has asked for yet, is not."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it lives and is another user's
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:  # elsewhere than on Linux there is no such file
        return True
    return state[:1] not in (["Z"], ["X"])
