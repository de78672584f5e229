"""What a file contains, as sha256, without reading unchanged files again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from agl.leftovers import temporary
from agl.places import regular_file

_CHUNK = 1 << 22
_SETTLED_NS = 2_000_000_000  # a file written this recently may change again without its time stamp changing


def sha256_of_file(path: Path) -> str:
    """Hash of a file's bytes, read in pieces.

    >>> import tempfile; from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as d:
    ...     _ = (Path(d) / "f").write_bytes(b"abc"); sha256_of_file(Path(d) / "f")[:16]
    'ba7816bf8f01cfea'
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_json(value: Mapping[str, Any]) -> str:
    """Hash of a JSON-able value, the same for equal values whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256_remembered(path: Path, memo_folder: Path) -> str:
    """sha256 of the file's bytes.

    The whole content counts, so that a copy elsewhere has the same hash and an edit in the middle of a
    large file is seen. As git does, the result is remembered with the file's size, modification time and
    inode, and only computed again when one of them differs; results for files modified within the last two
    seconds are not kept.
    """
    if os.path.lexists(path) and not path.is_dir():
        regular_file(path, "a file of data")  # a pipe would be waited on for ever
    resolved = path.resolve()
    status = resolved.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
    memo = memo_folder / f"{hashlib.sha256(str(resolved).encode()).hexdigest()[:32]}.json"
    try:
        known = json.loads(memo.read_text())
        if known["stamp"] == stamp and known["check"] == _check(stamp, known["sha256"]):
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digest = sha256_of_file(resolved)
    if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
        part = temporary(memo)
        try:
            part.write_text(json.dumps({"stamp": stamp, "sha256": digest, "check": _check(stamp, digest)}))
            os.replace(part, memo)
        except OSError:  # what cannot be remembered is computed again
            with suppress(OSError):
                part.unlink()
    return digest


def _check(stamp: list[int], digest: str) -> str:
    """Tells a damaged note from a whole one: else a flipped bit in it would be another dataset."""
    return sha256_of_json({"stamp": stamp, "sha256": digest})[:16]
