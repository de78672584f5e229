"""Opening HDF5 files so that every way they can be broken becomes one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from agl.data.reading.datasets import plugins_installed, refuse_missing_filter
from agl.data.reading.foreign import of_file, of_folder
from agl.errors import DataError, UserError
from agl.places import regular_file

_GIT_LFS = b"version https://git-lfs"


@contextmanager
def open_h5(path: Path, what: str = "an HDF5 file") -> Iterator[Any]:
    """Open `path` for reading; a missing, locked, truncated or foreign file is a `UserError` that names it.

    Damage inside a file shows only while it is read, as nearly any kind of exception, so whatever goes wrong inside
    the block is reported as the file's fault. Keep the block to reading. Errors of the operating system (a full
    disk) carry an errno and pass through.
    """
    import h5py

    path = Path(path)
    if path.exists() != path.is_dir() or path.is_symlink():
        regular_file(path, what)  # a pipe would be waited on for ever
    plugins_installed()
    try:
        file = h5py.File(path, "r")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(_why_not_opened(path, what, error)) from error
    with file:
        try:
            yield file
        except UserError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            _refuse_missing_filters(file)
            raise DataError(
                f"Expected {what} that can be read to its end, received a damaged one at {path} "
                f"({_short(error)}); copy or download it again."
            ) from error


def strings(values: Any) -> np.ndarray:
    """Text of any HDF5 flavour (bytes, fixed width, [n, 1]) as a flat array of stripped `str`.

    Bytes that are not UTF-8 are spelled out, so that different names stay different.

    >>> strings(np.array([[b"AAAC-1"], [b"AAAG-1 "]])).tolist()
    ['AAAC-1', 'AAAG-1']
    """
    flat = np.asarray(values).reshape(-1)
    text = [v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else str(v) for v in flat.tolist()]
    result = np.empty(len(text), dtype=object)
    result[:] = [t.strip().strip("\x00") for t in text]
    return result


def _why_not_opened(path: Path, what: str, error: Exception) -> str:
    if path.is_dir():
        known = of_folder(path) if "h5ad" in what else None
        return f"Expected {what} at {path}, found {known or 'a folder; give the file itself'}."
    if not path.exists():
        return f"Expected {what} at {path}, found nothing; check the path."
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_GIT_LFS))
    except OSError as unreadable:
        return f"Expected {what} at {path}, cannot read it ({unreadable.strerror}); check its permissions."
    if head == _GIT_LFS:
        return f"Expected {what}, {path} is only a Git LFS pointer to one; run `git lfs pull` where it came from."
    if not head:
        return f"Expected {what}, {path} is empty (0 bytes); copy or download it again."
    if not head.startswith(b"\x89HDF"):
        known = of_file(path) if "h5ad" in what else None
        return f"Expected {what}, {path} is {known or 'not HDF5; check what was saved under this name'}."
    if "unable to lock file" in str(error):
        if "Resource temporarily unavailable" in str(error):
            return f"Expected {what}, {path} is open for writing in another program; close it there and try again."
        return (
            f"Expected {what}, {path} lies where files cannot be locked ({_short(error)}); set the environment "
            "variable HDF5_USE_FILE_LOCKING=FALSE."
        )
    if "already open for write" in str(error):
        return (
            f"Expected {what}, {path} is marked as open for writing: close it in the other program, or, if that "
            f"ended without closing it, run `h5clear -s {path}` or write it again."
        )
    return f"Expected {what}, {path} is truncated or damaged ({_short(error)}); copy or download it again."


def _refuse_missing_filters(file: Any) -> None:
    """Damage may be no damage but compression that is not installed: look at every array of the file."""
    import h5py

    def visit(_: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            refuse_missing_filter(node)

    try:
        file.visititems(visit)
    except UserError:
        raise
    except Exception:  # damaged indeed
        return


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]
