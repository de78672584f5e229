"""The names of a dataset: in the cache a hash of the files it is made from, for a run a hash of what was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agl.data.reading.cache import read_manifest
from agl.data.reading.foreign import of_folder
from agl.data.reading.formats.known import Formats
from agl.data.reading.hashing import sha256_of_json, sha256_remembered
from agl.data.reading.locate import BUILTIN
from agl.data.reading.sections import Folder, SectionFiles
from agl.errors import DataError

_IMPORTED = (
    "index.csv",
    "left_out.csv",
    "genes.json",
    "indptr.npy",
    "indices.npy",
    "data.npy",
    "library_size.npy",
    "features.npy",
)
_CACHE_FORMAT = 5  # raise when the same input files give different cached files


def content_key(
    folder: Folder,
    files: Sequence[SectionFiles],
    feature_files: Mapping[str, Path],
    kind: str,
    formats: Formats,
    min_counts: int,
    tolerance: float | None,
    min_matched: float,
    cache: Path,
) -> str:
    """Hash of everything that decides the imported data: contents of the files, names of slides, options.

    Paths and times are not in it, so a copied folder has the same key.

    Raises:
        DataError: a file that cannot be read.
    """
    memo = cache / "fingerprints"

    def content(path: Path | None) -> str | None:
        if path is None:
            return None
        if known := of_folder(path):
            raise DataError(f"Expected a file at {path}, found {known}.")
        try:
            return sha256_remembered(path, memo)
        except OSError as error:
            raise DataError(f"Expected a readable file at {path}, cannot read it ({error.strerror}).") from error

    readers = formats.readers(feature_files.values())
    abouts = {f.slide: content(f.about) for f in files if f.about is not None}
    return sha256_of_json(
        {
            **({"readers": readers} if readers else {}),
            **({"abouts": abouts} if abouts else {}),
            "format": _CACHE_FORMAT,
            "features": _extractor_version() if kind == BUILTIN else kind,
            "min_counts": min_counts,
            "tolerance": tolerance,
            "min_matched": min_matched,
            "tables": [content(folder.sections_csv), content(folder.metadata)],
            "sections": [
                [
                    f.slide,
                    content(f.counts),
                    content(f.patches),
                    [content(p) for p in _with_sidecars(feature_files.get(f.slide), formats)],
                ]
                for f in files
            ],
        }
    )


def imported_key(folder: Path, patches: Sequence[Path | None] | None, cache: Path) -> str:
    """Hash of what was imported: the same for the same spots, counts and features, whatever files they came in.

    Args:
        folder: the import in the cache.
        patches: of every slide, where models read them; None where there are features instead.
    """
    files = read_manifest(folder)["files"]
    names = [*_IMPORTED, *(["patch_rows.npy"] if patches is not None else [])]
    content: dict[str, Any] = {name: files[name]["sha256"] for name in names if name in files}
    if patches is not None:
        content["patches"] = [
            None if path is None else sha256_remembered(path, cache / "fingerprints") for path in patches
        ]
    return sha256_of_json(content)


def _with_sidecars(path: Path | None, formats: Formats) -> list[Path]:
    return [] if path is None else [path, *formats.sidecars(path)]


def _extractor_version() -> str:
    """Features computed by another version of the extractor are other features."""
    from agl.data.images.folder import BUILTIN_VERSION

    return BUILTIN_VERSION
