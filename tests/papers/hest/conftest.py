"""A small benchmark in the exact layout, with more spots than patches, another order, float16."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

N_GENES, WIDTH = 60, 270


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bench/{IDC,READ}` and `embeddings/{IDC,READ}/{conch_v1,uni_v1}`. Read-only by convention."""
    base = tmp_path_factory.mktemp("hest")
    write_task(base, "IDC", {"TENX95": "a", "NCBI783": "b", "NCBI785": "c"}, seed=0)
    write_task(base, "READ", {"ZEN36": "a", "ZEN40": "a", "ZEN48": "b", "ZEN49": "b"}, seed=1)
    return base


@pytest.fixture(name="write_task")
def _write_task() -> Callable[..., None]:
    return write_task


def write_task(base: Path, task: str, patients: dict[str, str], seed: int, width: int = WIDTH) -> None:
    rng = np.random.default_rng(seed)
    loading, mixing = rng.normal(size=(6, N_GENES)), rng.normal(size=(6, width))
    folder = base / "bench" / task
    for sub in ("adata", "splits"):
        (folder / sub).mkdir(parents=True)
    genes = [f"GENE{i:02d}" for i in range(N_GENES)]
    for slide in patients:
        n = 170
        hidden = rng.normal(size=(n, 6))
        counts = rng.poisson(np.exp(0.4 * hidden @ loading))
        counts[3] = 0  # a spot without any count, inside the tissue
        barcodes = np.array([f"{slide}-{i:03d}x" for i in range(n)])
        obs = pd.DataFrame({"array_row": np.arange(n) // 13, "array_col": np.arange(n) % 13}, index=barcodes)
        table = anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs, pd.DataFrame(index=genes))
        table.obsm["spatial"] = np.stack([np.arange(n) % 13, np.arange(n) // 13], 1) * 100.0
        table.write_h5ad(folder / "adata" / f"{slide}.h5ad")
        seen = rng.permutation(n)[:160]
        seen = np.append(seen[seen != 3], 3)
        for encoder, dtype in (("conch_v1", np.float32), ("uni_v1", np.float16)):
            place = base / "embeddings" / task / encoder
            place.mkdir(parents=True, exist_ok=True)
            values = hidden @ mixing + rng.normal(size=(n, width))
            with h5py.File(place / f"{slide}.h5", "w") as file:
                file["embeddings"] = values[seen].astype(dtype)
                file["barcodes"] = barcodes[seen].astype("S")[:, None]
                file["coords"] = table.obsm["spatial"][seen].astype(np.int64)
    for fold, patient in enumerate(sorted(set(patients.values()))):
        for part, keep in (("train", False), ("test", True)):
            names = [slide for slide, own in patients.items() if (own == patient) is keep]
            rows = {"sample_id": names, "patches_path": [f"patches/{n}.h5" for n in names]}
            pd.DataFrame(rows | {"expr_path": [f"adata/{n}.h5ad" for n in names]}).to_csv(
                folder / "splits" / f"{part}_{fold}.csv", index=False
            )
    (folder / "var_50genes.json").write_text(json.dumps({"genes": genes[5:55]}))
