"""Scores as an AnnData that other tools open and plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from agl.data.geometry import pitch
from agl.data.images.thumbnails import FOLDERS, find_thumbnail
from agl.data.reading.counts import count_blocks, move_columns
from agl.data.reading.hdf5 import open_h5
from agl.data.reading.names import RawNames, harmonise
from agl.leftovers import replacing
from agl.prediction.slide import Slide

if TYPE_CHECKING:
    import anndata

    from agl.prediction.fitted import FittedModel, Prediction

SCORE, SPREAD = "agl_score", "agl_spread"
SPOT = 0.55  # a spot's diameter in spacings, as Visium's 55 of 100 um
MEANING = "higher scores rank higher expression among the spots of one slide; no unit"


def to_anndata(model: FittedModel, prediction: Prediction) -> anndata.AnnData:
    """A new AnnData of the slide's spots and the model's genes.

    `layers["agl_score"]` the scores, `layers["agl_spread"]` a committee's disagreement; `X` the raw counts, NaN for
    genes that the slide did not measure, and no `X` at all for a slide without counts; `obsm["spatial"]` the spots'
    centres, `uns["spatial"]` the pictures that came with the slide; `uns["agl"]` where the scores come from.
    """
    import anndata
    import pandas as pd

    slide = prediction.slide
    counts, measured = _counts(slide, model.genes)
    obs = pd.DataFrame({"slide": slide.name}, index=pd.Index(slide.spots.barcodes.astype(str)))
    if slide.spots.lattice is not None:
        for name, values in zip(("array_col", "array_row"), slide.spots.lattice.T, strict=True):
            whole = bool(np.isfinite(values).all() and (values == np.round(values)).all())
            obs[name] = values.astype(np.int64) if whole else values
    var = pd.DataFrame({"measured": measured}, index=pd.Index(np.asarray(model.genes, dtype=object)))
    made = anndata.AnnData(X=counts, obs=obs, var=var, shape=None if counts is not None else (len(obs), len(var)))
    if np.isfinite(slide.spots.xy).all():
        made.obsm["spatial"] = slide.spots.xy
    pictures = None if slide.h5ad is None else _pictures(slide.h5ad) or _thumbnail(slide)
    if pictures is not None:
        made.uns["spatial"] = pictures
    _add_layers(made, prediction)
    made.uns["agl"] = provenance(model, prediction)
    missing = [gene for gene, known in zip(model.genes, measured, strict=True) if not known]
    made.uns["agl"]["genes_not_measured"] = missing
    return made


def annotate(model: FittedModel, prediction: Prediction, adata: Any, *, inplace: bool) -> Any:
    """The scores beside what an AnnData in memory holds: for its genes and the model's, of which either may lack some.

    Written into `obsm["agl_score"]` (a table with the genes' names, also of genes that were not measured), and, in the
    copy that is returned unless `inplace`, the layer `agl_score` with NaN for genes that the model does not know. An
    AnnData without genes gets the model's.
    """
    import anndata
    import pandas as pd

    made = adata if inplace else adata.copy()
    if not inplace and not adata.n_vars:
        var = pd.DataFrame(index=pd.Index(np.asarray(model.genes, dtype=object)))
        made = anndata.AnnData(obs=made.obs, var=var, uns=made.uns, obsm=dict(made.obsm))
    table = pd.DataFrame(prediction.scores.astype(np.float32), index=made.obs_names, columns=list(model.genes))
    made.obsm[SCORE] = table
    if prediction.spread is not None:
        made.obsm[SPREAD] = pd.DataFrame(prediction.spread.astype(np.float32), table.index, table.columns)
    made.uns["agl"] = provenance(model, prediction)
    if not inplace:
        at = made.var_names.get_indexer(model.genes)
        layer = np.full(made.shape, np.nan, dtype=np.float32)
        layer[:, at[at >= 0]] = prediction.scores[:, at >= 0]
        made.layers[SCORE] = layer
    return made


def provenance(model: FittedModel, prediction: Prediction) -> dict[str, Any]:
    """Where scores come from: the run, what the numbers mean, versions, and what was odd about the slide."""
    import agl

    return {
        "run": str(model.about.get("run", "")),
        "version": agl.__version__,
        "loss": model.config.loss.name,
        "model": model.config.model.name,
        "features": model.config.data.features_label,
        "meaning": MEANING,
        "notes": list(prediction.notes),
    }


def write(adata: anndata.AnnData, path: Path) -> Path:
    """Write the file whole or not at all."""
    import h5py
    from anndata.io import write_elem

    adata.strings_to_categoricals()
    # In memory first: where a disk is full, HDF5 goes on complaining while it takes its objects apart.
    with h5py.File("scores", "w", driver="core", backing_store=False) as file:
        write_elem(file, "/", adata)
        file.flush()
        image = file.id.get_file_image()
    with replacing(path) as part:
        part.write_bytes(image)
    return path


def _add_layers(made: anndata.AnnData, prediction: Prediction) -> None:
    made.layers[SCORE] = prediction.scores.astype(np.float32)
    if prediction.spread is not None:
        made.layers[SPREAD] = prediction.spread.astype(np.float32)


def _counts(slide: Slide, genes: tuple[str, ...]) -> tuple[Any, np.ndarray]:
    """Raw counts `[spot, gene]` and which genes were measured; None where none of them was."""
    if slide.header is None or not len(slide.header.genes.names):
        return None, np.zeros(len(genes), dtype=bool)
    names = harmonise({"model": RawNames(genes), slide.name: slide.header.genes}, smallest_overlap=0.0)
    position = {gene: i for i, gene in enumerate(names.genes)}
    ours = np.array([position.get(gene, -1) for gene in _renamed(genes, names)], dtype=np.int64)
    measured = ours >= 0
    if not measured.any():
        return None, measured
    blocks = [
        move_columns(block, names.columns[slide.name], len(names.genes)) for _, block in count_blocks(slide.header)
    ]
    counts = sparse.csr_matrix(sparse.vstack(blocks))[slide.rows]
    counts.sum_duplicates()
    if not counts.nnz:
        return None, np.zeros(len(genes), dtype=bool)
    if measured.all():
        return counts[:, ours].astype(np.int32), measured
    table = np.full((len(slide), len(genes)), np.nan, dtype=np.float32)
    table[:, measured] = counts[:, ours[measured]].toarray()
    return table, measured


def _renamed(genes: tuple[str, ...], names: Any) -> list[str]:
    """The model's genes as they are called in the vocabulary that both share."""
    columns = names.columns["model"]
    return [names.genes[at] if at >= 0 else "" for at in columns]


def _thumbnail(slide: Slide) -> dict[str, Any] | None:
    """A picture beside the slide as `uns["spatial"]` has it, so that scanpy and squidpy draw spots on it."""
    assert slide.h5ad is not None
    xy, folder = slide.spots.xy, slide.h5ad.parent
    if len(xy) < 3 or not np.isfinite(xy).all():
        return None
    root = folder.parent if folder.name in FOLDERS else folder
    found = find_thumbnail(str(root), slide.name, xy[:, 0], xy[:, 1], slide.spots.barcodes.astype(str))
    if found is None or found.scale is None:
        return None
    factors = {"tissue_hires_scalef": found.scale, "spot_diameter_fullres": SPOT * pitch(xy)}
    return {slide.name: {"images": {"hires": found.pixels}, "scalefactors": factors}}


def _pictures(path: Path) -> Any:
    """`uns["spatial"]` of the slide's own file: pictures and scale factors; None where there are none to be read."""
    from anndata.io import read_elem

    with open_h5(path, "an h5ad file") as h5:
        if "uns" not in h5 or "spatial" not in h5["uns"]:
            return None
        try:
            return read_elem(h5["uns/spatial"])
        except Exception:  # a picture in an unknown encoding is not worth a prediction
            return None
