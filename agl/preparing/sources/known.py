"""The kinds of sources, each of which recognises itself by what is in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agl.data.reading.foreign import why_not_sections
from agl.errors import UserError
from agl.preparing.section import Found
from agl.preparing.sources import h5ad, space_ranger, tenx_file

SOURCES: list[Callable[[Path], list[Found]]] = [space_ranger.find, tenx_file.find, h5ad.find]
WANTED = "Space Ranger's outs/, a 10x matrix with its table of spots, or h5ad"


def recognise(path: Path) -> list[Found]:
    """The sections in a source, of the first kind that knows it.

    Raises:
        UserError: nothing there, or nothing that is known.
    """
    path = path.expanduser()
    if not path.exists():
        raise UserError(f"Expected a source at {path}, found nothing; check the path.")
    for find in SOURCES:
        if found := find(path):
            return found
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))[:6]
        received = f"has {', '.join(inside)}" if inside else "is empty"
    else:
        received = f"is {known}" if (known := why_not_sections(path)) else "is another kind of file"
    raise UserError(
        f"Expected {WANTED} at {path}, which {received}; give the folder that the sequencer's program wrote."
    )
