"""Reading an HDF5 dataset after making sure that it can be: its filters are there and its size can be meant.

A file of a few kilobytes may declare terabytes, which the library would try to allocate. What is read is therefore
compared with what is stored, and with the memory that is free.
"""

from __future__ import annotations

import importlib.util
import math
import os
from functools import cache
from typing import Any

import numpy as np

from agl.errors import DataError

_HARMLESS = 1 << 28  # bytes that are read whatever the file looks like
_MOST_DEFLATED = 1100  # no file of zeros is compressed further by gzip, which can do 1032 : 1
_BYTES_PER_STRING = 100
_FILTERS = {307: "bzip2", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp", 32015: "zstd"}
_FILTERS |= {32017: "sz", 32019: "fcidecomp", 32022: "spdp", 32024: "sz3", 32026: "blosc2", 4: "szip"}


def read(node: Any, part: slice = slice(None)) -> np.ndarray:
    """Rows `part` of a dataset.

    Raises:
        DataError: no dataset with rows, packed by a filter that is not installed, or far larger than what is stored.
    """
    import h5py

    if not isinstance(node, h5py.Dataset) or not node.shape:
        raise DataError(f"Expected an array at {_place(node)}, found none; write the file again.")
    refuse_missing_filter(node)
    _refuse_absurd_size(node, part)
    return np.asarray(node[part])


def refuse_missing_filter(node: Any) -> None:
    """Name the compression that HDF5 cannot undo here; the library itself calls such a file unreadable.

    Raises:
        DataError: a filter of the dataset is not installed.
    """
    import h5py

    properties = node.id.get_create_plist()
    for i in range(properties.get_nfilters()):
        code = properties.get_filter(i)[0]
        if h5py.h5z.filter_avail(code):
            continue
        name = _FILTERS.get(code, "an unknown filter")
        how = (
            "which hdf5plugin here does not have: write the file again with compression='gzip'"
            if plugins_installed()
            else "`pip install hdf5plugin`, or write the file again with compression='gzip'"
        )
        raise DataError(
            f"Expected data that can be decompressed, {_place(node)} is packed with {name} (HDF5 filter {code}); {how}."
        )


@cache
def plugins_installed() -> bool:
    """Load hdf5plugin's filters (zstd, blosc, lz4, ...) where the package is installed."""
    if importlib.util.find_spec("hdf5plugin") is None:
        return False
    __import__("hdf5plugin")
    return True


def _refuse_absurd_size(node: Any, part: slice) -> None:
    each = _BYTES_PER_STRING if node.dtype.kind == "O" else node.dtype.itemsize
    rows = len(range(*part.indices(node.shape[0])))
    wanted = rows * math.prod(node.shape[1:]) * each
    wanted = max(wanted, math.prod(node.chunks or (0,)) * each)  # a chunk is unpacked whole
    if wanted <= _HARMLESS:
        return
    stored, free = node.id.get_storage_size(), _free_memory()
    if node.chunks and wanted > _MOST_DEFLATED * stored:
        raise DataError(
            f"Expected an array of a size that its file can hold, {_place(node)} declares {_size(wanted)} in "
            f"{_size(stored)}; the file is damaged or made to fill the memory: write it again."
        )
    if wanted > free:
        raise DataError(
            f"Expected an array that fits the memory, {_place(node)} needs {_size(wanted)} and {_size(free)} are free; "
            "write it again in smaller chunks and as CSR, or use a larger machine."
        )


def _free_memory() -> int:
    """Bytes that can be had without swapping, as far as the system says."""
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:
            lines = dict(line.split(":", 1) for line in stream)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1 << 62


def _size(n_bytes: int) -> str:
    power = max(0, min(4, (max(n_bytes, 1).bit_length() - 1) // 10))
    return f"{n_bytes / 1024**power:.3g} {('bytes', 'KB', 'MB', 'GB', 'TB')[power]}"


def _place(node: Any) -> str:
    return f"'{node.name.strip('/')}' in {node.file.filename}"
