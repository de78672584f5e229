"""Zarr stores: AnnData's own, and the table of a SpatialData store, read by AnnData without the package spatialdata."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from agl.errors import UserError
from agl.extras import need
from agl.preparing.images.ome_zarr import is_picture
from agl.preparing.parquet import parquet
from agl.preparing.section import Asked, Found, Section
from agl.preparing.sources import h5ad
from agl.preparing.sources.beside import find_image

KIND, SPATIALDATA = "AnnData (Zarr)", "SpatialData"
_MARKS = {".zgroup", ".zattrs", ".zmetadata", "zarr.json"}
_POINT = np.dtype([("order", "u1"), ("kind", "<u4"), ("x", "<f8"), ("y", "<f8")])  # a point as WKB, little-endian


def find(path: Path) -> list[Found]:
    """The section of a store."""
    if not path.is_dir() or not any((path / mark).exists() for mark in _MARKS):
        return []
    name = path.name.removesuffix(".zarr").removesuffix(".h5ad")
    if (path / "obs").is_dir():
        return [Found(name, KIND, path, lambda asked: read(name, path, KIND, asked))]
    if (path / "tables").is_dir() or (path / "table").is_dir():
        return [Found(name, SPATIALDATA, path, lambda asked: read(name, _table_of(path), SPATIALDATA, asked, path))]
    return []


def read(name: str, path: Path, kind: str, asked: Asked, store: Path | None = None) -> Section:
    """Counts and places of one section; `store` is the SpatialData store whose shapes have the places, if needed.

    Raises:
        UserError: damaged, several sections, no places, no raw counts.
    """
    zarr = need("zarr", "to read Zarr stores", "spatialdata")
    import anndata

    try:
        table = anndata.read_zarr(path)
        _refuse_missing_chunks(zarr, path)
    except UserError:
        raise
    except Exception as error:  # Zarr's and AnnData's own are many
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(
            f"Expected a Zarr store of AnnData at {path}, cannot read it ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:120]}); copy it again."
        ) from error
    if store is not None:
        _one_region(table, path)
        if "spatial" not in table.obsm:
            table.obsm["spatial"] = _centres(table, store)
    table.uns = {}
    kept = tempfile.TemporaryDirectory()  # the reader of h5ad knows all that can be wrong with one
    copy = Path(kept.name) / f"{name}.h5ad"
    table.write_h5ad(copy)
    section = h5ad.read(copy, Asked())
    image = find_image((store or path).parent, asked, name) or (None if store is None else _full_image(store))

    def blocks(held: tempfile.TemporaryDirectory[str] = kept) -> Iterator[sparse.csr_matrix]:
        yield from section.blocks()
        assert held  # the copy lives as long as somebody may read it

    files = tuple(p for p in (path / "zarr.json", path / ".zgroup", path / ".zattrs") if p.is_file())
    return replace(section, kind=kind, blocks=blocks, files=files, image=image)


def _refuse_missing_chunks(zarr: Any, path: Path) -> None:
    """Zarr reads what was not copied as zeros, and a sparse matrix stores none: no chunk of it may be missing."""
    for place in ("X", "layers/counts"):
        if (path / place / "indptr").is_dir() or f"{place}/data" in zarr.open(str(path), mode="r"):
            data = zarr.open(str(path), mode="r")[f"{place}/data"]
            if data.nchunks_initialized != data.nchunks:
                raise UserError(
                    f"Expected all {data.nchunks} chunks of {path / place}, received {data.nchunks_initialized}; copy "
                    "the store again."
                )


def _table_of(store: Path) -> Path:
    """The only table of a SpatialData store.

    Raises:
        UserError: none, or several.
    """
    folder = next(store / name for name in ("tables", "table") if (store / name).is_dir())
    tables = sorted(p for p in folder.iterdir() if (p / "obs").is_dir())
    if len(tables) == 1:
        return tables[0]
    names = ", ".join(p.name for p in tables) or "none"
    raise UserError(
        f"Expected one table in {store}, received {names}; give the one you mean as a source, such as "
        f"{folder / (tables[0].name if tables else 'table')}."
    )


def _full_image(store: Path) -> Path | None:
    """The full-resolution picture of a SpatialData store: the only one that is not named as a small copy."""
    folder = store / "images"
    inside = sorted(p for p in folder.iterdir() if is_picture(p)) if folder.is_dir() else []
    found = [p for p in inside if not re.search(r"hires|lowres|cytassist|downscaled", p.name, re.IGNORECASE)]
    if len(found) > 1:
        raise UserError(
            f"Expected one full-resolution picture in {folder}, received {found[0].name} and {found[1].name}; name the "
            f"one you mean: --image {found[0]}"
        )
    return found[0] if found else None


def _one_region(table: Any, path: Path) -> None:
    said = table.uns.get("spatialdata_attrs", {})
    key = said.get("region_key")
    regions = sorted(set(table.obs[key].astype(str))) if key in table.obs else []
    if len(regions) > 1:
        raise UserError(
            f"Expected one section in {path}, obs['{key}'] names {len(regions)} ({', '.join(regions[:4])}); write one "
            "h5ad each and give these as sources."
        )


def _centres(table: Any, store: Path) -> np.ndarray:
    """Centres of the shapes that the table describes: points of `shapes/<region>/shapes.parquet`, joined by index."""
    said = table.uns.get("spatialdata_attrs", {})
    region = said.get("region")
    region = region if isinstance(region, str) else next(iter(region), "") if region is not None else ""
    path = store / "shapes" / str(region) / "shapes.parquet"
    if not region or not path.is_file():
        raise UserError(
            f"Expected places in obsm['spatial'] of the table of {store}, or shapes of its region, found neither; add "
            "obsm['spatial'] as (x, y) in px."
        )
    shapes = parquet(path)
    if "geometry" not in shapes:
        raise UserError(f"Expected a column 'geometry' in {path}, found none; write the store again.")
    raw = [bytes(value) for value in shapes["geometry"]]
    if any(len(value) != _POINT.itemsize for value in raw):
        raise UserError(f"Expected points as shapes in {path}, received others; add obsm['spatial'] to the table.")
    points = np.frombuffer(b"".join(raw), dtype=_POINT)
    index = {str(key): row for row, key in enumerate(shapes.index)}
    keys = table.obs[said["instance_key"]] if said.get("instance_key") in table.obs else table.obs_names
    rows = np.array([index.get(str(key), -1) for key in keys])
    if (rows < 0).any():
        raise UserError(f"Expected a shape for every row of the table of {store}, {int((rows < 0).sum())} have none.")
    return np.column_stack([points["x"][rows], points["y"][rows]])
