"""A cache of finished imports: a folder is either complete and checked, or it is not there.

<cache>/datasets/<key>/manifest.json  + the files it lists with size, time and sha256
<cache>/datasets/.<key>.<host>.<pid>.partial/   an import under way; renamed when complete
<cache>/datasets/.<key>.lock                    held by the process that imports
<cache>/fingerprints/                           sha256 of input files already seen
<cache>/fingerprints/<key>.verified             when all contents were last compared with the manifest

Disks forget: a flipped bit leaves size and time as they were. Contents of files up to 4 MiB are hashed at every
opening (some ms each), all contents once a day: sha256 takes about a second a gigabyte where the processor has
instructions for it, three where not, once for all processes of the day. What does not prove whole is imported again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agl.data.reading.hashing import sha256_of_file
from agl.errors import DataError
from agl.leftovers import sweep, temporary
from agl.places import expanded

_log = logging.getLogger("agl.data")
_MANIFEST = "manifest.json"
_VERIFIED_SECONDS = 24 * 3600
_SMALL = 1 << 22  # bytes of a file that is hashed at every opening


def cache_root(cache_dir: Path | str | None) -> Path:
    """The cache folder, made if needed: the argument, else `$AGL_CACHE`, else `~/.cache/agl`.

    Raises:
        DataError: it cannot be written to.
    """
    root = expanded(cache_dir or os.environ.get("AGL_CACHE") or "~/.cache/agl")
    try:
        for name in ("datasets", "fingerprints"):
            (root / name).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):  # it has no name, so nothing is left of a process that is killed
            pass
        sweep(root / "fingerprints")
    except OSError as error:
        raise DataError(
            f"Expected a cache folder that can be written, {root} cannot ({error.strerror}); "
            "set AGL_CACHE or cache_dir to another folder."
        ) from error
    return root


def get_or_build(root: Path, key: str, build: Callable[[Path], Mapping[str, Any]]) -> Path:
    """The folder of `key`, built by `build(folder)` if it is not there or damaged.

    `build` writes files into the folder it is given and returns what goes into the manifest. Its folder
    appears under its final name by one rename, so a killed process leaves nothing half-valid; leftovers of
    dead processes are removed. Processes that need the same key at once wait for the first (where the file
    system has no locks they build side by side and the first to finish wins).

    Raises:
        DataError: from `build`, or a full disk.
    """
    final = root / "datasets" / key
    sweep(root / "datasets", f".{key}.*")
    if _verified(root, key) and final.is_dir() and damage(final) is None:
        return final
    with _lock(root / "datasets" / f".{key}.lock"):
        found = damage(final, thorough=not _verified(root, key)) if final.is_dir() else None
        if final.is_dir() and found is None:  # also if another process built it while this one waited
            _note_verified(root, key)
            return final
        sweep(root / "datasets")
        partial = temporary(final, "partial")
        if found is not None:
            _log.warning("The cached import %s is damaged (%s): importing again.", key[:12], found)
            os.replace(final, partial)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            content = build(partial)
            _write_manifest(partial, key, content)
            _move_into_place(partial, final)
            _note_verified(root, key)
        except OSError as error:
            if error.errno is None:
                raise
            raise DataError(
                f"Expected to write the imported data to {root}, could not ({error.strerror}); "
                "free some space or set AGL_CACHE to another folder."
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return final


def doubt(root: Path, key: str) -> None:
    """Have all contents of `key` compared at its next opening: something about it could not be read."""
    _mark(root, key).unlink(missing_ok=True)


def damage(folder: Path, *, thorough: bool = False) -> str | None:
    """What is wrong with a cached folder; None when it is whole.

    Sizes are always compared. Contents are hashed if `thorough`, where a file is small, and when its time differs from
    the manifest's (it was touched or copied); a file that proves whole gets its time back, so that it is hashed once.
    """
    try:
        files = {
            str(name): (int(entry["bytes"]), int(entry["mtime_ns"]), str(entry["sha256"]))
            for name, entry in read_manifest(folder)["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"no readable {_MANIFEST}"
    for name, (size, time_ns, digest) in files.items():
        path = folder / name
        try:
            status = path.stat()
            if status.st_size != size:
                return f"{name} has {status.st_size} bytes instead of {size}"
            touched = status.st_mtime_ns != time_ns
            if (thorough or touched or size <= _SMALL) and sha256_of_file(path) != digest:
                return f"{name} has changed"
            if touched:
                _restore_time(path, time_ns)
        except (OSError, ValueError, OverflowError) as error:
            return f"{name}: {getattr(error, 'strerror', None) or error}"
    return None


def _mark(root: Path, key: str) -> Path:
    return root / "fingerprints" / f"{key}.verified"


def _verified(root: Path, key: str) -> bool:
    """Whether all contents were compared within a day; a time to come is a clock that was wrong."""
    try:
        return 0 <= time.time() - float(_mark(root, key).read_text()) < _VERIFIED_SECONDS
    except (OSError, ValueError):
        return False


def _note_verified(root: Path, key: str) -> None:
    with suppress(OSError):  # then the next opening compares once more
        _mark(root, key).write_text(repr(time.time()))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a cached folder."""
    return json.loads((folder / _MANIFEST).read_text("utf-8"))


def _write_manifest(folder: Path, key: str, content: Mapping[str, Any]) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        status = path.stat()
        files[path.name] = {
            "bytes": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "sha256": sha256_of_file(path),
        }
    (folder / _MANIFEST).write_text(json.dumps({"key": key, "files": files, **content}, indent=1), "utf-8")


def _move_into_place(partial: Path, final: Path) -> None:
    try:
        os.replace(partial, final)
    except OSError:
        if not final.is_dir() or damage(final) is not None:
            raise
        # Without locks another process may have been first: its folder has the same content.


def _restore_time(path: Path, mtime_ns: int) -> None:
    with suppress(OSError):  # a read-only cache is hashed at every opening
        os.utime(path, ns=(mtime_ns, mtime_ns))


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold `path` alone; the system lets go when the process dies. Without lock support, go on without."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError:
            _log.debug("no file locks at %s", path)
        yield
