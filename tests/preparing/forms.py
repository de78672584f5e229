"""Small folders in the exact forms of sequencers and scanners, drawn from one known section."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse

PX_APART, DOWN = 40, 4  # px between spots; full image px for a px of the hires picture
HEADER = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]


@dataclass
class Truth:
    """A section that the tests know: `side` x `side` spots on a square grid, a round tissue, counts that follow it."""

    side: int = 8
    seed: int = 0
    genes: list[str] = field(default_factory=lambda: [*(f"G{i}" for i in range(28)), "TWICE", "TWICE"])

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        rows, columns = np.divmod(np.arange(self.side**2), self.side)
        self.lattice = np.column_stack([rows, columns])
        self.xy = np.column_stack([columns, rows]) * PX_APART + [60, 50]  # (x, y)
        # An egg that is not like itself however it is turned; some spots lie off tissue.
        u, v = (self.xy - self.xy.mean(axis=0)).T / (PX_APART * self.side / 2)
        self.in_tissue = ((u + 0.15) ** 2 / 0.7 + (v - 0.1 - 0.3 * u) ** 2 / 0.4 < 1).astype(int)
        self.barcodes = np.array([f"{''.join(rng.choice(list('ACGT'), 16))}-1" for _ in rows])
        depth = np.where(self.in_tissue == 1, 20, 1) * (1 + 2 * (u + v > 0))
        self.counts = rng.poisson(depth[:, None] * rng.uniform(0.1, 0.5, len(self.genes)))
        self.ids = [f"ENSG{i:011d}" for i in range(len(self.genes))]
        self.width, self.height = 60 * 2 + PX_APART * self.side, 50 * 2 + PX_APART * (self.side + 1)
        self.image = self._image(rng)

    def _image(self, rng: np.random.Generator) -> np.ndarray:
        """Pink tissue with darker spots of more RNA, on glass, with texture."""
        picture = np.full((self.height, self.width, 3), 245, dtype=np.float64)
        total = self.counts.sum(axis=1) / self.counts.sum(axis=1).max()
        half = PX_APART // 2
        for (x, y), inside, depth in zip(self.xy, self.in_tissue, total, strict=True):
            if inside:
                box = np.s_[y - half : y + half, x - half : x + half]
                picture[box] = np.array([220, 130, 190]) - 110 * depth
                picture[box] += rng.normal(0, 12, (2 * half, 2 * half, 1))
        return np.clip(picture, 0, 255).astype(np.uint8)

    @property
    def kept(self) -> np.ndarray:
        return np.flatnonzero(self.in_tissue)


def write_matrix(path: Path, truth: Truth, rows: np.ndarray, antibody: bool = True) -> None:
    """10x's HDF5, version 3, with an antibody as its last feature."""
    counts = np.column_stack([truth.counts, 7 * np.ones(len(truth.counts), int)]) if antibody else truth.counts
    stored = sparse.csc_matrix(counts[rows].T)  # features x barcodes
    extra = int(antibody)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as h5:
        h5.attrs["chemistry_description"] = "Spatial 3' v1"
        h5.attrs["library_ids"] = np.array([b"sample"])
        group = h5.create_group("matrix")
        group["barcodes"] = truth.barcodes[rows].astype("S")
        group["data"], group["indices"] = stored.data.astype(np.int32), stored.indices.astype(np.int64)
        group["indptr"], group["shape"] = stored.indptr.astype(np.int64), np.array(stored.shape, dtype=np.int32)
        features = group.create_group("features")
        features["name"] = np.array([*truth.genes, *["CD3"] * extra], dtype="S")
        features["id"] = np.array([*truth.ids, *["CD3"] * extra], dtype="S")
        kinds = ["Gene Expression"] * len(truth.genes) + ["Antibody Capture"] * extra
        features["feature_type"] = np.array(kinds, dtype="S")
        features["genome"] = np.array(["GRCh38"] * len(kinds), dtype="S")


def write_mtx(folder: Path, truth: Truth, rows: np.ndarray) -> None:
    from scipy.io import mmwrite

    folder.mkdir(parents=True)
    mmwrite(folder / "matrix.mtx", sparse.coo_matrix(truth.counts[rows].T), field="integer")
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress((folder / "matrix.mtx").read_bytes()))
    (folder / "matrix.mtx").unlink()
    lines = [f"{i}\t{name}\tGene Expression\n" for i, name in zip(truth.ids, truth.genes, strict=True)]
    (folder / "features.tsv.gz").write_bytes(gzip.compress("".join(lines).encode()))
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress("\n".join(truth.barcodes[rows]).encode() + b"\n"))


def positions(truth: Truth) -> pd.DataFrame:
    columns = [truth.barcodes, truth.in_tissue, *truth.lattice.T, truth.xy[:, 1], truth.xy[:, 0]]
    return pd.DataFrame(dict(zip(HEADER, columns, strict=True)))


def write_spatial(folder: Path, truth: Truth, table: str = "tissue_positions.csv") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    where = positions(truth)
    if table.endswith(".parquet"):
        where.to_parquet(folder / table)
    else:
        where.to_csv(folder / table, index=False, header="list" not in table)
    small = Image.fromarray(truth.image).resize((truth.width // DOWN, truth.height // DOWN), Image.Resampling.BOX)
    small.save(folder / "tissue_hires_image.png")
    small.resize((small.width // 2, small.height // 2)).save(folder / "tissue_lowres_image.png")
    factors = {
        "spot_diameter_fullres": 22.0,
        "tissue_hires_scalef": 1 / DOWN,
        "fiducial_diameter_fullres": 40.0,
        "tissue_lowres_scalef": 1 / DOWN / 2,
    }
    (folder / "scalefactors_json.json").write_text(json.dumps(factors))


def write_outs(sample: Path, truth: Truth, *, matrix: str = "h5", table: str = "tissue_positions.csv") -> Path:
    """`sample/outs` as Space Ranger writes it, and the image beside `outs`."""
    outs = sample / "outs"
    if matrix == "mtx":
        write_mtx(outs / "filtered_feature_bc_matrix", truth, truth.kept)
    elif matrix == "raw":
        write_matrix(outs / "raw_feature_bc_matrix.h5", truth, np.arange(len(truth.barcodes)))
    else:
        write_matrix(outs / "filtered_feature_bc_matrix.h5", truth, truth.kept)
    write_spatial(outs / "spatial", truth, table)
    Image.fromarray(truth.image).save(sample / "slide.png")
    return outs
