"""Errors that nobody foresaw but the user can mend: in code of their own, in an argument of a loss, of the disk."""

from __future__ import annotations

import errno
import re
import sys
import traceback
from pathlib import Path
from types import CodeType, ModuleType

from agl.errors import first_line

PLUGIN = "agl_plugin_"  # how modules made from a user's file are named
_ERRNO = re.compile(r"\berrno = (\d+)|\bos error (\d+)")
_CALL = re.compile(r"^([\w.<>]+)\(\) (?:takes|missing|got) ")  # what Python says where arguments do not fit
_MEMORY = re.compile(
    r"not enough memory|out of memory|can't allocate memory|[Ii]nvalid buffer size|Storage size calculation overflowed"
)

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EFBIG: "the file may not grow so large",
    errno.EDQUOT: "your share of the disk is full",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EISDIR: "it is a folder",
    errno.EEXIST: "a file of that name is in the way",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "its links lead in a circle",
    errno.EINVAL: "no file can have that name, or it is no file",
    errno.EIO: "the disk or the network failed",
    errno.ESTALE: "the network file system lost it",
    errno.EMFILE: "too many files are open (`ulimit -n` raises the limit)",
    errno.ENXIO: "it is a device or a pipe",
}


def sentence(error: BaseException) -> str | None:
    """One sentence about an error raised in a user's file or by calling it, by a check of `strank`, by the disk."""
    frames = list(traceback.walk_tb(error.__traceback__))
    modules = [str(frame.f_globals.get("__name__", "")) for frame, _ in frames]
    own = [(frame.f_code, line) for (frame, line), name in zip(frames, modules, strict=True) if name.startswith(PLUGIN)]
    what = " ".join(f"{type(error).__name__}: {error}".split())
    if own:
        return _in_own_code(*own[-1], what)
    if isinstance(error, TypeError) and (file := _called(str(error))) is not None:
        return f"{file} is called with other arguments than it takes: {what}. `agl.testing` says what it is given."
    if isinstance(error, (TypeError, ValueError)) and modules and modules[-1].split(".")[0] == "strank":
        return str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _MEMORY.search(str(error))):
        return (
            f"This needs more memory than there is ({first_line(error)}). "
            "Look for a number that is too large, or take fewer spots, genes or features."
        )
    number = _of_the_disk(error)
    if number in REASONS:
        file = getattr(error, "filename", None)
        reason = f"Could not use {file or 'a file'}: {REASONS[number]}. "
        return reason + "Make room or choose another place; the same command resumes."
    return None


def _of_the_disk(error: BaseException) -> int:
    """The system's number of what went wrong, which HDF5 and safetensors have in their messages only; 0 for none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = _ERRNO.search(str(error))
    return int(found.group(1) or found.group(2)) if found else 0


def _in_own_code(code: CodeType, line: int, what: str) -> str:
    where = f"{Path(code.co_filename).name} failed in line {line}, in {code.co_name}"
    return f"{where}: {what}. Mend it there; `--debug` shows how it was called."


def _called(message: str) -> str | None:
    """The user's file that holds what could not be called with the arguments given."""
    named = _CALL.match(message)
    if named is None:
        return None
    words = named.group(1).split(".")
    own = [module for name, module in list(sys.modules.items()) if name.startswith(PLUGIN)]
    return next((Path(str(m.__file__)).name for m in own[::-1] if any(_defines(m, word) for word in words)), None)


def _defines(module: ModuleType, name: str) -> bool:
    return getattr(getattr(module, name, None), "__module__", None) == module.__name__
