"""A cache of finished imports: a folder is either complete and checked, or it is not there.

<cache>/datasets/<key>/manifest.json  + the files it lists with size, time and sha256
<cache>/datasets/.<key>.<host>.<pid>.partial/   an import under way; renamed when complete
<cache>/datasets/.<key>.lock                    held by the process that imports
<cache>/fingerprints/                           sha256 of input files already seen
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agl.data.reading.hashing import sha256_of_file
from agl.errors import UserError
from agl.leftovers import sweep, temporary

_log = logging.getLogger("agl.data")
_MANIFEST = "manifest.json"


def cache_root(cache_dir: Path | str | None) -> Path:
    """The cache folder, made if needed: the argument, else `$AGL_CACHE`, else `~/.cache/agl`.

    Raises:
        UserError: it cannot be written to.
    """
    root = Path(cache_dir or os.environ.get("AGL_CACHE") or Path.home() / ".cache" / "agl").expanduser()
    try:
        for name in ("datasets", "fingerprints"):
            (root / name).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):  # it has no name, so nothing is left of a process that is killed
            pass
    except OSError as error:
        raise UserError(
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
        UserError: from `build`, or a full disk.
    """
    final = root / "datasets" / key
    if final.is_dir() and damage(final) is None:
        return final
    with _lock(root / "datasets" / f".{key}.lock"):
        found = damage(final) if final.is_dir() else None
        if final.is_dir() and found is None:
            return final  # another process built it while this one waited
        for folder in ("datasets", "fingerprints"):
            sweep(root / folder)
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
        except OSError as error:
            if error.errno is None:
                raise
            raise UserError(
                f"Expected to write the imported data to {root}, could not ({error.strerror}); "
                "free some space or set AGL_CACHE to another folder."
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return final


def damage(folder: Path) -> str | None:
    """What is wrong with a cached folder; None when it is whole.

    Sizes are always compared. Contents are hashed when a file's time differs from the manifest's (it was
    touched or copied); a file that proves whole gets its time back, so that it is hashed once.
    """
    try:
        files = read_manifest(folder)["files"]
    except (OSError, ValueError, KeyError):
        return f"no readable {_MANIFEST}"
    for name, expected in files.items():
        path = folder / name
        try:
            status = path.stat()
            if status.st_size != expected["bytes"]:
                return f"{name} has {status.st_size} bytes instead of {expected['bytes']}"
            if status.st_mtime_ns != expected["mtime_ns"]:
                if sha256_of_file(path) != expected["sha256"]:
                    return f"{name} has changed"
                _restore_time(path, expected["mtime_ns"])
        except OSError as error:
            return f"{name}: {error.strerror}"
    return None


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
