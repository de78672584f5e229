"""AnnData in memory as a folder that everything else reads, by the same rules and with the same refusals.

<cache>/anndata/<content>/adata/SLIDE.h5ad, embeddings/KEY/SLIDE.h5. The folder's name is a hash of what is in it, so
that the same data is written once and the same run is found again. The objects themselves are only read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from agl.data.reading.cache import cache_root
from agl.data.reading.h5ad import ID_COLUMNS, SYMBOL_COLUMNS
from agl.data.reading.locate import BUILTIN, NONE
from agl.errors import UserError

OBS = ("in_tissue", "array_row", "array_col", "pxl_col_in_fullres", "pxl_row_in_fullres", "library_size")
VAR = (*SYMBOL_COLUMNS, *ID_COLUMNS, "feature_types")
Data = str | Path | Any


def in_memory(data: Data) -> bool:
    """Whether data is AnnData, or a list or dict of them, and not a path."""
    return not isinstance(data, str | os.PathLike)


def as_folder(
    data: Any,
    *,
    features: str | Sequence[str] | None = None,
    slide: str = "slide",
    patient: str = "patient",
    cache: str | Path | None = None,
) -> tuple[Path, tuple[str, ...]]:
    """The folder that holds the same slides, and the names of its features.

    Args:
        data: an AnnData with the columns `slide` and `patient` in obs, or a list or dict (name -> AnnData) of slides.
        features: keys of obsm.
        slide, patient: columns of obs; without a column of patients every slide counts as its own.

    Raises:
        UserError: something else than AnnData, no such column or key, names that cannot be names of files.
    """
    slides = slides_of(data, slide)
    keys = _keys(slides, features)
    digest = hashlib.sha256()
    for name, part in slides.items():
        for label, array in _contents(part, keys, patient):
            digest.update(f"{name}\0{label}\0{array.dtype}\0{array.shape}\0".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    home = cache_root(cache) / "anndata" / digest.hexdigest()[:32]
    if not home.is_dir():
        _write(slides, keys, patient, home)
    return home, tuple(f"embeddings/{key}" if key in (BUILTIN, NONE) else key for key in keys)  # as `data.features`


def slides_of(data: Any, column: str) -> dict[str, Any]:
    """Name -> AnnData of one slide each.

    Args:
        data: as `as_folder`'s.
        column: of obs, with the slides' names.

    Raises:
        UserError: something else than AnnData, no such column, a slide twice, names that cannot be names of files.
    """
    if hasattr(data, "obsm"):
        if column not in data.obs:
            raise UserError(
                f"Expected the name of each spot's slide in obs[{column!r}], the AnnData has "
                f"{', '.join(map(str, data.obs)) or 'no columns'} there. Name the column: slide=..., or give a dict "
                "of slides."
            )
        names = data.obs[column].astype(str)
        found = {str(name): data[np.flatnonzero(names == name)] for name in dict.fromkeys(names)}
    elif isinstance(data, Mapping):
        found = {str(name): part for name, part in data.items()}
    elif isinstance(data, Sequence):
        found = {}
        for position, part in enumerate(data, start=1):
            own = sorted(set(part.obs[column].astype(str))) if hasattr(part, "obs") and column in part.obs else []
            if len(own) > 1:
                raise UserError(
                    f"Expected one slide in each AnnData of the list, number {position} has {len(own)} in "
                    f"obs[{column!r}]. Give it alone, without a list."
                )
            name = own[0] if own else f"slide{position}"
            if name in found:
                raise UserError(f"Expected every slide once, {name!r} comes twice in the list. Rename one.")
            found[name] = part
    else:
        raise UserError(
            f"Expected a folder, an AnnData, or a list or dict of them, received {type(data).__name__}. See agl.train."
        )
    for name, part in found.items():
        if not hasattr(part, "obsm"):
            raise UserError(f"Expected an AnnData as slide {name!r}, received {type(part).__name__}.")
        if not name or name != name.strip() or name.startswith(".") or any(sign in name for sign in "/\\\0\n"):
            raise UserError(f"Expected slides' names that can be names of files, received {name!r}. Rename it.")
    if not found:
        raise UserError("Expected at least one slide, received none.")
    return found


def _keys(slides: Mapping[str, Any], features: str | Sequence[str] | None) -> tuple[str, ...]:
    name, first = next(iter(slides.items()))
    if features is None:
        known = [str(key) for key in first.obsm if key != "spatial"]
        raise UserError(
            "Expected features=<key of obsm>, for an AnnData brings no patches to compute them from; received none. "
            f"Slide {name!r} has {', '.join(known) or 'no features'} in obsm."
        )
    keys = (features,) if isinstance(features, str) else tuple(features)
    for slide, part in slides.items():
        for key in keys:
            if key not in part.obsm:
                raise UserError(
                    f"Expected features in obsm[{key!r}] of slide {slide!r}, found "
                    f"{', '.join(map(str, part.obsm)) or 'nothing'} there. Say features=<key>."
                )
    return keys


def _contents(part: Any, keys: Sequence[str], patient: str) -> Iterator[tuple[str, np.ndarray]]:
    """All that is written of one slide, as arrays with a label."""
    yield "barcodes", _text(part.obs_names)
    yield "genes", _text(part.var_names)
    for name in (*OBS, patient):
        if name in part.obs:
            yield f"obs/{name}", _text(part.obs[name])
    for name in VAR:
        if name in part.var:
            yield f"var/{name}", _text(part.var[name])
    for place, matrix in _matrices(part):
        if sparse.issparse(matrix):
            rows = sparse.csr_matrix(matrix)
            yield f"{place}/data", rows.data
            yield f"{place}/indices", rows.indices.astype(np.int64)
            yield f"{place}/indptr", rows.indptr.astype(np.int64)
        elif matrix is not None:
            yield place, np.asarray(matrix)
    for key in ("spatial", *keys):
        if key in part.obsm:
            yield f"obsm/{key}", np.asarray(part.obsm[key])


def _matrices(part: Any) -> Iterator[tuple[str, Any]]:
    yield "X", part.X
    if "counts" in part.layers:
        yield "layers/counts", part.layers["counts"]
    if part.raw is not None:
        yield "raw/X", part.raw.X


def _text(values: Any) -> np.ndarray:
    """Bytes that are the same for the same words."""
    return np.frombuffer("\0".join(map(str, values)).encode(), dtype=np.uint8)


def _write(slides: Mapping[str, Any], keys: Sequence[str], patient: str, home: Path) -> None:
    """All slides, whole or not at all; another process that writes the same writes the same bytes."""
    import anndata
    import h5py

    part = home.with_name(f".{home.name}.{os.getpid()}.partial")
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / "adata").mkdir(parents=True)
        for name, slide in slides.items():
            obs = pd.DataFrame(
                {c: slide.obs[c].to_numpy() for c in OBS if c in slide.obs}, index=slide.obs_names.astype(str)
            )
            if patient in slide.obs:
                known = slide.obs[patient]
                obs["patient"] = known.astype(str).where(known.notna(), "").to_numpy()
            var = pd.DataFrame(
                {c: slide.var[c].astype(str).to_numpy() for c in VAR if c in slide.var},
                index=slide.var_names.astype(str),
            )
            whole = anndata.AnnData(X=slide.X, obs=obs, var=var)
            if "counts" in slide.layers:
                whole.layers["counts"] = slide.layers["counts"]
            if slide.raw is not None:
                whole.raw = anndata.AnnData(slide.raw.X, obs=obs[[]], var=pd.DataFrame(index=slide.raw.var_names))
            if "spatial" in slide.obsm:
                whole.obsm["spatial"] = np.asarray(slide.obsm["spatial"])
            whole.write_h5ad(part / "adata" / f"{name}.h5ad")
            for key in keys:
                file = part / "embeddings" / key / f"{name}.h5"
                file.parent.mkdir(parents=True, exist_ok=True)
                with h5py.File(file, "w") as h5:
                    h5["embeddings"] = np.asarray(slide.obsm[key])
                    h5["barcodes"] = np.array([str(b).encode() for b in slide.obs_names])
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.replace(home)
        except OSError:
            if not home.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
