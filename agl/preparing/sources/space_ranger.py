"""Space Ranger's `outs/` of Visium (v1, v2, CytAssist; probes or poly-A): a matrix, and the folder `spatial`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agl.data.reading.hdf5 import open_h5
from agl.errors import UserError
from agl.preparing.section import Asked, Found, Picture, Section
from agl.preparing.sources.beside import find_image, section_name
from agl.preparing.sources.positions import find_positions, read_positions
from agl.preparing.sources.tenx import TenxMatrix, read_tenx_folder, read_tenx_h5, rows_of

KIND = "Space Ranger (Visium)"
PITCH = 100.0  # um between the centres of neighbouring spots on all slides of Visium
MATRICES = ("filtered_feature_bc_matrix", "raw_feature_bc_matrix")
_ARCHIVED = ("", "spatial/")  # GEO keeps the files of `spatial` beside the matrix


def find(path: Path) -> list[Found]:
    """The section of `outs/`, or of the folder that holds it."""
    for outs in (path, path / "outs"):
        has_matrix, has_places = any(_matrix_in(outs, name) for name in MATRICES), _has_places(outs / "spatial")
        if (has_matrix and (outs / "spatial").is_dir()) or (has_matrix and outs.name == "outs") or has_places:
            return [Found(section_name(outs), KIND, outs, partial(read, outs))]
    return []


def read(outs: Path, asked: Asked) -> Section:
    """The spots on tissue with their counts of genes.

    Raises:
        UserError: a file is missing, damaged, or belongs to another sample.
    """
    where = next((found for name in MATRICES if (found := _matrix_in(outs, name))), None)
    if where is None:
        raise UserError(f"Expected filtered_feature_bc_matrix.h5 in {outs}, found none; copy it beside `spatial`.")
    if not (outs / "spatial").is_dir():
        raise UserError(
            f"Expected the folder `spatial` in {outs}, found none; copy it too. (Single cells have no places.)"
        )
    matrix = read_tenx_folder(where) if where.is_dir() else read_tenx_h5(where)
    return visium(section_name(outs), KIND, matrix, outs / "spatial", "", find_image(outs, asked))


def visium(name: str, kind: str, matrix: TenxMatrix, spatial: Path, prefix: str, image: Path | None) -> Section:
    """A section of Visium from its matrix and the files of `spatial`, whose names begin with `prefix`."""
    table_file = find_positions(spatial, prefix)
    positions = read_positions(table_file)
    rows, remarks = on_tissue(matrix, positions.in_tissue.to_numpy(), positions.index.to_numpy(), table_file)
    placed = positions.iloc[rows_of(positions.index.to_numpy(), matrix.barcodes[rows])]
    scales = _one_of(spatial, prefix, "scalefactors_json.json")
    factors = read_scalefactors(scales) if scales is not None else {}
    pictures = find_pictures(spatial, prefix, factors)
    n_other = int((~matrix.is_gene).sum())
    more = [f"Features that are no genes, left out: {n_other}."] if n_other else []
    read_from = [matrix.path, table_file, *([scales] if scales else []), *(p.path for p in pictures.values())]
    return Section(
        name,
        kind,
        matrix.barcodes[rows],
        placed[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(float),
        matrix.genes(),
        lambda: matrix.blocks(rows),
        tuple(read_from),
        lattice=placed[["array_row", "array_col"]].to_numpy(int),
        pitch_um=PITCH,
        image=image,
        image_size=size_of_image(pictures),
        pictures=pictures,
        scalefactors=factors,
        metadata=about(matrix.path),
        remarks=(*remarks, *more),
    )


def on_tissue(
    matrix: TenxMatrix, in_tissue: np.ndarray, barcodes: np.ndarray, where: Path
) -> tuple[np.ndarray, list[str]]:
    """(rows of the matrix whose spots lie on tissue, increasing; what was left out).

    Raises:
        UserError: barcodes of the matrix that the table of spots does not have; no spot on tissue.
    """
    spot = rows_of(barcodes, matrix.barcodes)
    unknown = np.flatnonzero(spot < 0)
    if len(unknown):
        share = "none" if len(unknown) == len(spot) else f"{len(spot) - len(unknown)}"
        raise UserError(
            f"Expected a place for each of the {len(spot)} barcodes of {matrix.path}, {share} of them are in {where} "
            f"({matrix.barcodes[unknown[0]]} is not); copy both from one sample."
        )
    rows = np.flatnonzero(in_tissue[spot] != 0)
    if not len(rows):
        raise UserError(f"Expected spots on tissue, {where} has in_tissue = 0 for all; give the table of this sample.")
    left = len(spot) - len(rows)
    return rows, [f"Spots off tissue, left out: {left}."] if left else []


def read_scalefactors(path: Path) -> dict[str, float]:
    """`scalefactors_json.json`: spot diameter in px, and pictures' px per full-resolution px.

    Raises:
        UserError: damaged, or no numbers.
    """
    try:
        import gzip

        content = path.read_bytes()
        text = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        found = json.loads(text.decode("utf-8-sig"))
        return {str(key): float(value) for key, value in found.items()}
    except (ValueError, TypeError, AttributeError, EOFError) as error:
        raise UserError(
            f"Expected scale factors as JSON in {path}, cannot read them ({error}); copy the file again."
        ) from error


def find_pictures(spatial: Path, prefix: str, factors: Mapping[str, float]) -> dict[str, Picture]:
    """The hires and lowres pictures that are there and whose scale is known."""
    found = {}
    for name in ("hires", "lowres"):
        scale = factors.get(f"tissue_{name}_scalef", 0.0)
        path = _one_of(spatial, prefix, f"tissue_{name}_image.png")
        if path is not None and path.suffix != ".gz" and scale > 0:
            found[name] = Picture(path, scale)
    return found


def size_of_image(pictures: Mapping[str, Picture]) -> tuple[float, float] | None:
    """(width, height) of the full-resolution image that the largest picture was made from.

    Raises:
        UserError: the picture is damaged.
    """
    from PIL import Image

    for picture in pictures.values():
        try:
            with Image.open(picture.path) as opened:
                return opened.width / picture.scale, opened.height / picture.scale
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise UserError(
                f"Expected a picture at {picture.path}, cannot read it; copy it again or remove it."
            ) from error
    return None


def about(matrix: Path) -> dict[str, Any]:
    """What an HDF5 matrix says about its making."""
    if matrix.suffix != ".h5":
        return {}
    with open_h5(matrix, "a 10x matrix") as h5:
        said = {key: h5.attrs.get(key) for key in ("chemistry_description", "software_version")}
    return {key: v.decode() if isinstance(v, bytes) else str(v) for key, v in said.items() if v is not None}


def _has_places(spatial: Path) -> bool:
    """Whether a folder `spatial` is Space Ranger's."""
    return spatial.is_dir() and any(p.name.startswith(("tissue_positions", "scalefactors")) for p in spatial.iterdir())


def _matrix_in(outs: Path, name: str) -> Path | None:
    return next((p for p in (outs / f"{name}.h5", outs / name) if p.exists()), None)


def _one_of(folder: Path, prefix: str, name: str) -> Path | None:
    return next((p for e in ("", ".gz") if (p := folder / f"{prefix}{name}{e}").is_file()), None)
