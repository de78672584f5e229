"""The kinds of sources, each of which recognises itself by what is in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agl.data.reading.foreign import why_not_sections
from agl.errors import UserError
from agl.places import expanded
from agl.preparing.section import Found
from agl.preparing.sources import h5ad, legacy_st, space_ranger, tenx_file, visium_hd, xenium, zarr_store

KINDS = (visium_hd, space_ranger, xenium, zarr_store, tenx_file, h5ad, legacy_st)
SOURCES: list[Callable[[Path], list[Found]]] = [kind.find for kind in KINDS]
_LOOKED_AT = 50  # things in a folder that is no source itself
WANTED = "Space Ranger's outs/, Xenium's folder, a 10x matrix, tables of ST, h5ad or Zarr"


def recognise(path: Path) -> list[Found]:
    """The sections in a source, of the first kind that knows it.

    Raises:
        UserError: nothing there, or nothing that is known.
    """
    path = expanded(path)
    if not path.exists():
        raise UserError(f"Expected a source at {path}, found nothing; check the path.")
    for find in SOURCES:
        if found := find(path):
            return found
    inner = [child for child in sorted(path.iterdir())[:_LOOKED_AT] if child.is_dir()] if path.is_dir() else []
    if known_inside := [child for child in inner if any(find(child) for find in SOURCES)]:
        raise UserError(
            f"Expected a source at {path}, received a folder of {len(known_inside)} or more (such as "
            f"{known_inside[0].name}); give them by themselves: agl prepare {path}/* --out FOLDER."
        )
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))[:6]
        received = f"has {', '.join(inside)}" if inside else "is empty"
    else:
        received = f"is {known}" if (known := why_not_sections(path)) else "is another kind of file"
    raise UserError(
        f"Expected {WANTED} at {path}, which {received}; give the folder that the sequencer's program wrote."
    )
