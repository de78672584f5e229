"""A 10x matrix alone, `NAME_filtered_feature_bc_matrix.h5`, as archives keep it: its spots lie beside it."""

from __future__ import annotations

import re
from pathlib import Path

from agl.data.reading.hdf5 import open_h5
from agl.errors import UserError
from agl.preparing.section import Asked, Found, Section
from agl.preparing.sources.beside import find_image, section_name
from agl.preparing.sources.positions import NAMES
from agl.preparing.sources.space_ranger import visium
from agl.preparing.sources.tenx import read_tenx_h5

KIND = "10x matrix with spots beside it"
_ENDING = re.compile(r"(filtered|raw)?_?feature_bc_matrix\.h5$")


def find(path: Path) -> list[Found]:
    """The section of one `.h5` with 10x's group `matrix`."""
    if path.suffix != ".h5" or not path.is_file():
        return []
    with open_h5(path, "a 10x matrix") as h5:
        if "matrix" not in h5:
            return []
    prefix = _ENDING.sub("", path.name)
    named = prefix.strip("_-. ").removesuffix(".h5") or section_name(path.parent)
    return [Found(named, KIND, path, lambda asked: read(named, path, prefix, asked))]


def read(name: str, path: Path, prefix: str, asked: Asked) -> Section:
    """The spots on tissue with their counts of genes.

    Raises:
        UserError: no table of spots beside it; a file is damaged or belongs to another sample.
    """
    places = [(folder, start) for folder in (path.parent, path.parent / "spatial") for start in (prefix, "")]
    for folder, start in places:
        if any((folder / f"{start}{table}").is_file() for table in NAMES):
            image = find_image(path.parent, asked, name)
            return visium(name, KIND, read_tenx_h5(path), folder, start, image)
    raise UserError(
        f"Expected the places of the spots beside {path}, found no {prefix}tissue_positions.csv; put Space Ranger's "
        "table (and scalefactors_json.json) there, or give its whole folder outs/."
    )
