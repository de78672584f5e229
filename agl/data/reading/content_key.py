"""The name of a dataset: a hash of what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agl.data.reading.foreign import of_folder
from agl.data.reading.formats.known import Formats
from agl.data.reading.hashing import sha256_of_json, sha256_remembered
from agl.data.reading.locate import BUILTIN
from agl.data.reading.sections import Folder, SectionFiles
from agl.errors import UserError

_CACHE_FORMAT = 3  # raise when the same input files give different cached files


def content_key(
    folder: Folder,
    files: Sequence[SectionFiles],
    feature_files: Mapping[str, Path],
    kind: str,
    formats: Formats,
    min_counts: int,
    tolerance: float | None,
    cache: Path,
) -> str:
    """Hash of everything that decides the imported data: contents of the files, names of slides, options.

    Paths and times are not in it, so a copied folder has the same key.

    Raises:
        UserError: a file that cannot be read.
    """
    memo = cache / "fingerprints"

    def content(path: Path | None) -> str | None:
        if path is not None and (known := of_folder(path)):
            raise UserError(f"Expected a file at {path}, found {known}.")
        try:
            return None if path is None else sha256_remembered(path, memo)
        except OSError as error:
            raise UserError(f"Expected a readable file at {path}, cannot read it ({error.strerror}).") from error

    readers = formats.readers(feature_files.values())
    return sha256_of_json(
        {
            **({"readers": readers} if readers else {}),
            "format": _CACHE_FORMAT,
            "features": _extractor_version() if kind == BUILTIN else kind,
            "min_counts": min_counts,
            "tolerance": tolerance,
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


def _with_sidecars(path: Path | None, formats: Formats) -> list[Path]:
    return [] if path is None else [path, *formats.sidecars(path)]


def _extractor_version() -> str:
    """Features computed by another version of the extractor are other features."""
    from agl.data.images.folder import BUILTIN_VERSION

    return BUILTIN_VERSION
