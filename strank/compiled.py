"""Find what the installation compiled, if it could; everything compiled has a version in plain PyTorch beside it."""

from __future__ import annotations

import ctypes
import importlib.machinery
from pathlib import Path


def load(path: Path, version_name: str, version: int) -> ctypes.CDLL | None:
    """The library at `path` plus the suffix of an extension module; None where there is none or it is another version.

    `version_name` is a function of the library that returns the version of its interface: a file left over from another
    installation is not called.

    >>> load(Path("nothing/here"), "version", 1) is None
    True
    """
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        file = path.with_name(path.name + suffix)
        try:
            found = ctypes.CDLL(str(file)) if file.exists() else None
        except OSError:  # built for another machine
            continue
        if found is not None and getattr(found, version_name)() == version:
            return found
    return None
