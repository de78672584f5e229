"""A slide to be predicted: its spots, their inputs, and its counts if it has any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agl.data.reading.formats.known import Formats
from agl.data.reading.h5ad import read_header, read_spots
from agl.data.reading.header import Header
from agl.data.reading.join import MIN_MATCHED, Rows, Spots, join
from agl.data.reading.patches import PatchReader, open_patches
from agl.data.surroundings import surround
from agl.errors import ModelError, UserError
from agl.prediction.locate import SlideFiles
from agl.prediction.recipe import Recipe


@dataclass(frozen=True)
class Slide:
    """Spots of one slide with what a model asks of them.

    Attributes:
        name: of the slide.
        spots: who and where; places are NaN where no file knows them.
        own: features `[spot, own feature]` of all encoders side by side; None for a model of patches.
        images: patches by positions of spots; None for a model of features.
        header: of the h5ad, if it holds raw counts.
        rows: `[spot]`, positions of the spots in the h5ad.
        h5ad: the file, if there is one.
        notes: what to know about it, in sentences.
    """

    name: str
    spots: Spots
    own: np.ndarray | None = None
    images: Callable[[np.ndarray], np.ndarray] | None = None
    header: Header | None = None
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    h5ad: Path | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.spots.barcodes)

    def inputs(self, recipe: Recipe) -> Callable[[np.ndarray], np.ndarray]:
        """What the model takes, by positions of spots: features in their surroundings, or patches."""
        if self.images is not None:
            return self.images
        assert self.own is not None
        if recipe.surroundings.none:
            return self.own.__getitem__
        return surround(self.own, self.spots.xy, recipe.surroundings, slide=self.name).__getitem__


def read_slide(files: SlideFiles, recipe: Recipe, formats: Formats) -> Slide:
    """Read what a model needs of a slide. Spots that lack some of it are left out, and it is said.

    Raises:
        ModelError: files that are missing, cannot be read, or belong to other spots; features of another width.
    """
    tables = _tables(files, recipe, formats)
    header, notes = _header(files)
    if header is not None:
        spots = header.spots
    elif files.h5ad is not None:
        spots = read_spots(files.name, files.h5ad)
    else:
        spots = _spots_of(files.name, next(iter(tables.values()))[1])
    rows = {name: _rows(files, spots, table) for name, (_, table) in tables.items()}
    kept = np.flatnonzero(np.all([found >= 0 for found in rows.values()], axis=0))
    if not len(kept):
        raise ModelError(f"Expected spots of slide {files.name!r} that have all of {', '.join(rows)}, found none.")
    lost = len(spots.barcodes) - len(kept)
    notes += (f"{files.name}: {lost} spots without features are left out",) if lost else ()
    slide = Slide(files.name, _some(spots, kept), header=header, rows=kept, h5ad=files.h5ad, notes=notes)
    if not recipe.encoders:
        return replace(slide, images=tables["patches"][0].subset(rows["patches"][kept]).read)
    own = [tables[name][0](rows[name][kept]) for name in recipe.names]
    recipe.check_widths(files.name, [part.shape[1] for part in own])
    return replace(slide, own=np.concatenate(own, axis=1) if len(own) > 1 else own[0])


def _tables(files: SlideFiles, recipe: Recipe, formats: Formats) -> dict[str, tuple[Any, Rows]]:
    """By encoder: how its values are read by rows, and which spot each row is of; a reader of the patches."""
    if not recipe.encoders:
        found = _patches(files, "a model of patches")
        if found.shape != recipe.patch_shape:
            raise ModelError(
                f"Expected patches of {recipe.patch_shape} pixels and channels as in training, received {found.shape} "
                f"for slide {files.name!r}. Cut them at the same size."
            )
        return {"patches": (_reader(found), found.rows)}
    tables: dict[str, tuple[Any, Rows]] = {}
    for name, path in files.features.items():
        if path is None:
            found = _patches(files, f"the features {name!r}")
            tables[name] = (partial(_extracted, _reader(found)), found.rows)
        else:
            opened = formats.open(path)
            tables[name] = (partial(_from_file, opened), opened.rows)
    return tables


def _patches(files: SlideFiles, asker: str) -> Any:
    if files.patches is None:
        raise ModelError(
            f"Expected patches of slide {files.name!r} for {asker}, found none. Put them into "
            f"patches/{files.name}.h5 beside its folder, or give the patch file itself."
        )
    return open_patches(files.patches)


def _reader(found: Any) -> PatchReader:
    rows = np.arange(found.n_rows)
    return PatchReader((found.path,), np.zeros_like(rows), rows, found.shape)


def _extracted(reader: PatchReader, rows: np.ndarray) -> np.ndarray:
    from agl.data.images.builtin import extract

    parts = [np.asarray(extract(reader.read(rows[i : i + 256])), dtype=np.float32) for i in range(0, len(rows), 256)]
    return np.concatenate(parts)


def _from_file(opened: Any, rows: np.ndarray) -> np.ndarray:
    values = np.empty((len(rows), opened.shape[1]), dtype=np.float32)
    place = np.full(opened.shape[0], -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    for start, block in opened.blocks():
        where = place[start : start + len(block)]
        values[where[where >= 0]] = block[where >= 0]
    bad = int((~np.isfinite(values).all(axis=1)).sum())
    if bad:
        raise ModelError(
            f"Expected finite features in {opened.path}, received NaN or infinite ones for {bad} spots. "
            "Extract them again."
        )
    return values


def _header(files: SlideFiles) -> tuple[Header | None, tuple[str, ...]]:
    """The h5ad's header if it holds raw counts: a model ranks spots without them, so their absence is only noted."""
    if files.h5ad is None:
        return None, ()
    try:
        return read_header(files.name, files.h5ad), ()
    except UserError as error:
        return None, (f"{files.name}: predicted without counts, for none can be read: {error}",)


def _spots_of(slide: str, rows: Rows) -> Spots:
    """The spots that a file of features or patches names by itself, by barcodes or corners."""
    corners = rows.corners
    if corners is not None:
        places = corners + (rows.patch_size or 0) / 2
    elif rows.barcodes is not None:
        places = np.full((len(rows.barcodes), 2), np.nan)
    else:
        raise ModelError(
            f"Expected barcodes or coordinates with the rows of {rows.where}, received neither: nobody could tell "
            "which spot a score is of. Add `barcodes` or `coords`, or give the slide's h5ad."
        )
    names = rows.barcodes
    if names is None:
        names = np.array([f"x{x:.0f}_y{y:.0f}" for x, y in places], dtype=object)
    return Spots(slide, np.asarray(names, dtype=object), places)


def _rows(files: SlideFiles, spots: Spots, rows: Rows) -> np.ndarray:
    if rows.barcodes is None and files.h5ad is None and rows.corners is not None and rows.patch_size is None:
        return np.arange(len(rows.corners))  # the spots are this file's own
    return join(spots, rows, min_matched=MIN_MATCHED).rows


def _some(spots: Spots, kept: np.ndarray) -> Spots:
    known = [None if each is None else each[kept] for each in (spots.pixels, spots.lattice, spots.on_tissue)]
    return Spots(spots.slide, spots.barcodes[kept], spots.xy[kept], *known)


def slide_of(adata: Any, recipe: Recipe, features: Sequence[str], *, name: str = "slide") -> Slide:
    """A slide that is in memory: features from `adata.obsm`, one key for each of the model's encoders."""
    if not recipe.encoders or len(features) != len(recipe.encoders):
        wanted = ", ".join(recipe.names) or "patches, which an AnnData has none of: give files"
        raise ModelError(f"Expected one key of obsm for each of {wanted}; received {list(features) or 'none'}.")
    own = []
    for key in features:
        if key not in adata.obsm:
            known = ", ".join(adata.obsm) or "nothing"
            raise ModelError(f"Expected features in obsm[{key!r}], the AnnData has {known} there. Say features=<key>.")
        own.append(np.asarray(adata.obsm[key], dtype=np.float32))
    recipe.check_widths(name, [part.shape[1] for part in own])
    n = adata.n_obs
    xy = np.asarray(adata.obsm["spatial"], dtype=float)[:, :2] if "spatial" in adata.obsm else np.full((n, 2), np.nan)
    return Slide(
        name, Spots(name, adata.obs_names.to_numpy(object), xy), np.concatenate(own, axis=1), rows=np.arange(n)
    )
