"""A simulated task on disk: HEST-bench's folders, so there is one reader, and the planted truth beside them.

adata/<id>.h5ad          raw int32 counts (CSR); obs patient, section, array_row, array_col, pxl_*_in_fullres;
                         obsm["spatial"] = spot centre (x, y) in full-resolution px
patches/<id>.h5          img, barcode, coords (top-left corner), where patches are drawn
embeddings/latent/<id>.h5    embeddings, barcodes, coords, for features="latent"
splits/{train,test}_<k>.csv  leave one patient out
oracle_genes.json        the planted useful auxiliary genes: what a perfect selection would choose
var_50genes.json         the planted primary genes (50, or as many as were asked for)
truth.csv truth.json truth/<id>.npz     class and loadings of every gene; all settings; log-rates of every spot
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from agl.data.simulate.counts import PlantedGenes
from agl.data.simulate.tissue import FloatArray

PITCH = 100  # full-resolution px between spots; one px is 1 um, so patches up to 100 px do not overlap


@dataclass(frozen=True)
class SimulatedSection:
    """One simulated slide. `centres [spot, 2]` are (x, y) in px."""

    name: str
    patient: str
    places: NDArray[np.int64]
    activity: FloatArray
    counts: NDArray[np.int32]
    log_rates: FloatArray
    draws: dict[str, FloatArray]
    patches: NDArray[np.uint8] | None
    features: NDArray[np.float32] | None

    @property
    def barcodes(self) -> list[str]:
        return [f"{column}x{row}" for row, column in self.places]

    @property
    def centres(self) -> NDArray[np.int64]:
        return self.places[:, ::-1] * PITCH


def write_section(root: Path, section: SimulatedSection, genes: PlantedGenes, side: int) -> None:
    """Write all files of one section below `root`."""
    _write_counts(root / "adata" / f"{section.name}.h5ad", section, genes)
    barcodes = np.array(section.barcodes, dtype="S")[:, None]
    coords = (section.centres - side // 2).astype(np.int32)
    if section.patches is not None:
        with _new_h5(root / "patches" / f"{section.name}.h5") as file:
            images = file.create_dataset("img", data=section.patches, chunks=(1, side, side, 3))
            images.attrs.update(
                {"patch_size_src": side, "patch_size_target": side, "downsample": 1.0, "pixel_size": 1.0}
            )
            file.create_dataset("barcode", data=barcodes)
            file.create_dataset("coords", data=coords)
    if section.features is not None:
        with _new_h5(root / "embeddings" / "latent" / f"{section.name}.h5") as file:
            file.create_dataset("embeddings", data=section.features)
            file.create_dataset("barcodes", data=barcodes)
            file.create_dataset("coords", data=coords)
    path = root / "truth" / f"{section.name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    truth: dict[str, Any] = {
        "barcodes": np.array(section.barcodes),
        "genes": np.array(genes.names),
        "log_rates": section.log_rates.astype(np.float32),
        "programmes": section.activity.astype(np.float32),
    }
    truth |= {name: values.astype(np.float32) for name, values in section.draws.items()}
    np.savez(path, **truth)


def _new_h5(path: Path) -> h5py.File:
    path.parent.mkdir(parents=True, exist_ok=True)
    return h5py.File(path, "w")


def _write_counts(path: Path, section: SimulatedSection, genes: PlantedGenes) -> None:
    import anndata

    x, y = section.centres.T
    obs = pd.DataFrame(
        {
            "patient": section.patient,
            "section": section.name,
            "array_row": section.places[:, 0],
            "array_col": section.places[:, 1],
            "pxl_col_in_fullres": x,
            "pxl_row_in_fullres": y,
        },
        index=pd.Index(section.barcodes, name="barcode"),
    )
    var = pd.DataFrame(index=pd.Index(genes.names, name="gene"))
    data = anndata.AnnData(X=sparse.csr_matrix(section.counts), obs=obs, var=var)
    data.obsm["spatial"] = section.centres.astype(np.float64)
    data.uns["simulated"] = True
    path.parent.mkdir(parents=True, exist_ok=True)
    data.write_h5ad(path)


def write_task(root: Path, sections: list[tuple[str, str]], genes: PlantedGenes, settings: dict[str, Any]) -> None:
    """Write what belongs to the whole task: splits, gene panel, truth. `sections` holds (name, patient)."""
    folder = root / "splits"
    folder.mkdir(parents=True, exist_ok=True)
    for fold, held_out in enumerate(sorted({patient for _, patient in sections})):
        for part, wanted in (("train", False), ("test", True)):
            names = [name for name, patient in sections if (patient == held_out) is wanted]
            rows = [(name, f"patches/{name}.h5", f"adata/{name}.h5ad") for name in names]
            table = pd.DataFrame(rows, columns=["sample_id", "patches_path", "expr_path"])
            table.to_csv(folder / f"{part}_{fold}.csv", index=False)
    primary = [name for name, kind in zip(genes.names, genes.classes, strict=True) if kind == "primary"]
    (root / "var_50genes.json").write_text(json.dumps({"genes": primary}) + "\n")
    useful = [name for name, kind in zip(genes.names, genes.classes, strict=True) if kind == "useful"]
    (root / "oracle_genes.json").write_text(json.dumps({"genes": useful}) + "\n")
    genes.table().to_csv(root / "truth.csv", index=False, float_format="%.6g")
    (root / "truth.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
