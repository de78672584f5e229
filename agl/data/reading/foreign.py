"""What lies where an h5ad should: another format, named, and how it becomes an h5ad."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

_PLACES = "add the spot centres as obsm['spatial'], (x, y) in full-resolution pixels, and write an h5ad"
_HEAD = 4096
_OF_SECTIONS = (".h5", ".loom", ".h5seurat", ".h5mu", ".rds", ".h5ad.gz", ".h5ad.zip", ".zarr.zip")
_NO_SECTION = "a file of patches or features"


def of_folder(path: Path) -> str | None:
    """What a folder is and what to do, as the end of a sentence; None for an ordinary folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as d:
    ...     (Path(d) / "S1.zarr" / "obs").mkdir(parents=True)
    ...     _ = (Path(d) / "S1.zarr" / ".zgroup").write_text("{}")
    ...     of_folder(Path(d) / "S1.zarr").split(";")[0]
    'a Zarr store of AnnData'
    """
    try:
        inside = {entry.name for entry in path.iterdir()}
    except OSError:
        return None
    if inside & {".zgroup", ".zattrs", ".zmetadata", "zarr.json"}:
        return _zarr(path, inside)
    if "outs" in inside and (path / "outs" / "spatial").is_dir():
        return _space_ranger(path / "outs")
    if "binned_outputs" in inside:
        return _space_ranger(path)
    if {"filtered_feature_bc_matrix.h5", "filtered_feature_bc_matrix"} & inside and "spatial" in inside:
        return _space_ranger(path)
    if {"cell_feature_matrix.h5", "cells.parquet"} <= inside:
        return (
            f"Xenium's output folder; write `agl prepare {path} --out FOLDER --image FILE`: cells are summed into spots"
        )
    if {"matrix.mtx.gz", "barcodes.tsv.gz"} <= inside or {"matrix.mtx", "barcodes.tsv"} <= inside:
        return f"a 10x matrix without places; read it with scanpy.read_10x_mtx('{path}'), {_PLACES}"
    return None


def of_file(path: Path) -> str | None:
    """What a file is that is not HDF5, and what to do, as the end of a sentence; None if unknown."""
    name = path.name
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return None
    if head.startswith(b"\x1f\x8b"):
        if name.endswith(".rds"):
            return _from_r(f"readRDS('{name}')")
        return f"compressed with gzip; unpack it: `gzip -dc {name} > copy.h5ad`"
    if head.startswith((b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        return "compressed (bzip2, xz or zstd); unpack it first"
    if head.startswith(b"PK"):
        return (
            "a zip archive; unpack it, and if it holds a Zarr store, write "
            "anndata.read_zarr('<folder>').write_h5ad('<section>.h5ad')"
        )
    if head.startswith((b"RDX", b"X\n", b"A\n")):
        return _from_r(f"readRDS('{name}')")
    if head.lstrip().startswith((b"<!", b"<html", b"<?xml")):
        return "a web page, perhaps an error of the download; download it again"
    if head.startswith(b"PAR1"):
        return f"a Parquet table; read it with pandas.read_parquet('{name}') into anndata.AnnData, {_PLACES}"
    if head.startswith(b"%%MatrixMarket"):
        return f"a Matrix Market file; read it with scanpy.read_mtx('{name}').T, {_PLACES}"
    if _is_table(head):
        sep = ", sep='\\t'" if b"\t" in head.splitlines()[0] else ""
        return f"a text table; read it with anndata.AnnData(pandas.read_csv('{name}', index_col=0{sep})), {_PLACES}"
    return None


def of_hdf5(name: str, keys: Collection[str]) -> str | None:
    """What an HDF5 file with these groups is that is not AnnData's, and what to do; None if unknown."""
    if {"obs", "var"} <= set(keys):
        return None
    if "matrix" in keys and {"row_attrs", "col_attrs"} <= set(keys):
        return f"a loom file; read it with scanpy.read_loom('{name}'), {_PLACES}"
    if "matrix" in keys:
        return (
            "a 10x matrix (Space Ranger's .h5), which has no places; write `agl prepare OUTS --out FOLDER`, OUTS being "
            "the folder that holds it and spatial/"
        )
    if "mod" in keys:
        return f"a MuData file; write mudata.read_h5mu('{name}').mod['rna'].write_h5ad('<section>.h5ad')"
    if {"assays", "cell.names"} <= set(keys) or {"assays", "meta.data"} <= set(keys):
        return _from_r(f"SeuratDisk::LoadH5Seurat('{name}')")
    if {"img", "coords"} <= set(keys) or "embeddings" in keys or {"features", "coords"} <= set(keys):
        return f"{_NO_SECTION}; it belongs into patches/ or a folder of features"
    return None


def why_not_sections(root: Path) -> str | None:
    """What `root`, or the first thing in it or in its `adata` that is known, is; None if nothing is known."""
    if root.is_file():
        return _one(root)
    own = of_folder(root)
    if own is not None:
        return f"{root} is {own}"
    for folder in (root / "adata", root / "st", root):
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
        for entry in entries[:1000]:
            if not entry.name.startswith(".") and (found := _one(entry)) is not None:
                return found
    return None


def about_overlooked(folder: Path, slides: Collection[str]) -> list[str]:
    """What lies beside sections and is one as well, in a format that is not read; a sentence each.

    What has a section's name is taken for what that section was made from.
    """
    found = []
    for entry in sorted(folder.iterdir()):
        stem = entry.name.partition(".")[0]
        if stem in slides or entry.name.startswith(".") or not (entry.is_dir() or entry.name.endswith(_OF_SECTIONS)):
            continue
        known = _one(entry)
        if known is not None and _NO_SECTION not in known:
            found.append(f"{entry.name} lies beside the sections and is left out: {known.partition(' is ')[2]}.")
    return found


def _one(entry: Path) -> str | None:
    if entry.is_dir():
        known = of_folder(entry)
    elif not entry.is_file() or entry.suffix in (".csv", ".txt", ".tsv", ".json", ".md", ".yaml"):
        return None
    elif entry.suffix in (".loom", ".h5seurat", ".h5mu", ".h5") or entry.name.startswith("filtered_feature"):
        known = _opened(entry)
    else:
        known = of_file(entry)
    return None if known is None else f"{entry} is {known}"


def _opened(path: Path) -> str | None:
    import h5py

    try:
        with h5py.File(path, "r") as h5:
            return of_hdf5(path.name, list(h5))
    except Exception:  # whatever it is, it is not known
        return None


def _is_table(head: bytes) -> bool:
    if b"\x00" in head:
        return False
    lines = head.splitlines()
    return any(len(lines) > 1 and line.count(sep) > 0 for sep in (b",", b"\t") for line in lines[:1])


def _zarr(path: Path, inside: Collection[str]) -> str:
    if {"tables", "table"} & set(inside) or {"images", "shapes", "points"} & set(inside):
        return f"a SpatialData store; write `agl prepare {path} --out FOLDER --image FILE`"
    return f"a Zarr store of AnnData; write `agl prepare {path} --out FOLDER`"


def _space_ranger(outs: Path) -> str:
    return f"Space Ranger's output folder; write `agl prepare {outs} --out FOLDER --image FILE`, FILE being the slide"


def _from_r(read: str) -> str:
    return (
        f"an object of R (Seurat); in R, write anndataR::write_h5ad({read}, '<section>.h5ad') with the raw "
        "counts as X and the spot centres as obsm['spatial']"
    )
