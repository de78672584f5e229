"""What lies beside a source: the name of its section, and the image of the slide."""

from __future__ import annotations

import os
import re
from pathlib import Path

from agl.errors import UserError
from agl.preparing.images.kinds import SUFFIXES
from agl.preparing.section import Asked

_NAMELESS = {"outs", "binned_outputs", "spatial", "output", "outputs"}
_NO_SLIDE = re.compile(  # pictures that Space Ranger and Xenium write themselves
    r"^(tissue_(hires|lowres)_image|aligned_|detected_|cytassist_image|morphology)|_thumbnail|_mask", re.IGNORECASE
)
_PLACES = (".", "image", "images", "wsis", "..", "../image", "../images", "../wsis")


def section_name(path: Path) -> str:
    """What a section is called: its folder's name, the parent's where that says nothing.

    >>> section_name(Path("/data/S1/outs")), section_name(Path("/data/S2/binned_outputs/square_008um"))
    ('S1', 'S2')
    """
    path = Path(os.path.realpath(path))
    while path.name in _NAMELESS or path.name.startswith("square_"):
        path = path.parent
    return path.name or "section"


def find_image(folder: Path, asked: Asked, name: str | None = None) -> Path | None:
    """The image of the slide: the one that the user named, else the only one beside the source.

    With a `name`, only one that is called so: the folder may hold images of other sections.

    Raises:
        UserError: several are there.
    """
    if asked.image is not None:
        return asked.image
    for place in _PLACES:
        if place.startswith("..") and name is None and folder.name not in _NAMELESS:
            continue  # what lies beside the folder of a sample may be another sample's
        inside = folder / place
        found = [p for p in inside.iterdir() if _is_slide(p)] if inside.is_dir() else []
        if name is not None:
            found = [p for p in found if p.name.split(".")[0] == name]
        if len(found) > 1:
            names = " and ".join(sorted(p.name for p in found)[:2])
            raise UserError(f"Expected one image of the slide in {inside}, received {names}; name it with --image.")
        if found:
            return Path(os.path.normpath(found[0]))
    return None


def _is_slide(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and not _NO_SLIDE.search(path.name)
