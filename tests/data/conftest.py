"""Small data folders on disk, in every layout the readers know; one fixture each, returning a function."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse


@dataclass
class Slide:
    """One slide in memory, as the tests know it: the truth that the readers have to return."""

    name: str
    counts: np.ndarray  # int [spot, gene]
    genes: list[str]
    barcodes: list[str]
    xy: np.ndarray  # [spot, 2] centres
    patient: str | None = None
    features: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    images: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))


@pytest.fixture
def make_slide() -> Callable[..., Slide]:
    """A slide with a 100 px lattice, negative binomial counts, random features and patches."""

    def make(
        name: str = "S1",
        n_spots: int = 12,
        genes: Sequence[str] = ("ERBB2", "ACTB", "MKI67", "CD3E", "KRT5", "FASN"),
        patient: str | None = "P1",
        seed: int = 0,
        width: int = 4,
        patch: int = 8,
    ) -> Slide:
        rng = np.random.default_rng([seed, *name.encode()])
        lattice = np.stack(np.divmod(np.arange(n_spots), 4), axis=1)[:, ::-1]
        return Slide(
            name=name,
            counts=rng.negative_binomial(2, 0.3, size=(n_spots, len(genes))),
            genes=list(genes),
            barcodes=[f"{name}-{chr(97 + i % 26)}{i}" for i in rng.permutation(n_spots)],
            xy=lattice * 100.0 + 1000.0,
            patient=patient,
            features=rng.normal(size=(n_spots, width)).astype(np.float32),
            images=rng.integers(0, 256, size=(n_spots, patch, patch, 3), dtype=np.uint8),
        )

    return make


@pytest.fixture
def write_h5ad() -> Callable[..., Path]:
    """`write(path, slide)`; `x`, `layer`, `raw` replace what is stored where."""

    def write(path: Path, slide: Slide, *, x: Any = None, layer: Any = None, raw: Any = None, var: Any = None) -> Path:
        obs = pd.DataFrame(index=pd.Index(np.asarray(slide.barcodes, dtype=object)))
        obs["array_row"], obs["array_col"] = (slide.xy[:, 1] // 100).astype(int), (slide.xy[:, 0] // 100).astype(int)
        if slide.patient is not None:
            obs["patient"] = pd.Categorical([slide.patient] * len(obs))
        names = pd.DataFrame(var or {}, index=pd.Index(np.asarray(slide.genes, dtype=object)))
        default = sparse.csr_matrix(slide.counts.astype(np.float32))
        adata = anndata.AnnData(default if raw is None else sparse.csr_matrix(raw), obs=obs, var=names)
        adata.obsm["spatial"] = slide.xy
        if raw is not None:
            adata.raw = adata.copy()
        if x is not None:
            adata.X = x
        if layer is not None:
            adata.layers["counts"] = layer
        path.parent.mkdir(parents=True, exist_ok=True)
        adata.write_h5ad(path)
        return path

    return write


@pytest.fixture
def write_patches() -> Callable[..., Path]:
    """HEST patches; `order` are the slide's spots in file order (default: reversed, so that order never helps)."""

    def write(path: Path, slide: Slide, order: np.ndarray | None = None, size: int = 8) -> Path:
        rows = np.arange(len(slide.barcodes))[::-1] if order is None else order
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as h5:
            h5["img"] = slide.images[rows]
            h5["img"].attrs["patch_size_src"] = size
            h5["barcode"] = np.array([[slide.barcodes[i].encode()] for i in rows])
            h5["coords"] = (slide.xy[rows] - size / 2).astype(np.int64)
        return path

    return write


@pytest.fixture
def write_embeddings() -> Callable[..., Path]:
    """HEST-bench embeddings in a shuffled order; `spots` are those that have a row."""

    def write(path: Path, slide: Slide, spots: Sequence[int] | None = None, values: np.ndarray | None = None) -> Path:
        rows = np.random.default_rng(5).permutation(np.arange(len(slide.barcodes)) if spots is None else spots)
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as h5:
            h5["embeddings"] = (slide.features if values is None else values)[rows]
            h5["barcodes"] = np.array([[slide.barcodes[i].encode()] for i in rows])
            h5["coords"] = slide.xy[rows].astype(np.int64)
        return path

    return write


@pytest.fixture
def task(
    tmp_path: Path,
    make_slide: Callable[..., Slide],
    write_h5ad: Callable[..., Path],
    write_patches: Callable[..., Path],
    write_embeddings: Callable[..., Path],
) -> Callable[..., tuple[Path, list[Slide]]]:
    """`task(slides)` writes a HEST-bench folder with patches and embeddings/uni; returns it and its slides."""

    def write(slides: list[Slide] | None = None) -> tuple[Path, list[Slide]]:
        if slides is None:
            slides = [make_slide("S1", patient="P1"), make_slide("S2", n_spots=9, patient="P2")]
        root = tmp_path / "TASK"
        for slide in slides:
            write_h5ad(root / "adata" / f"{slide.name}.h5ad", slide)
            write_patches(root / "patches" / f"{slide.name}.h5", slide)
            write_embeddings(root / "embeddings" / "uni" / f"{slide.name}.h5", slide)
        return root, slides

    return write


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees another's cache, nor the user's."""
    monkeypatch.setenv("AGL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def her2st() -> Path:
    """The real sections, if they are there."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data" / "her2st"
    path = Path(os.environ.get("AGL_HER2ST", beside))
    if not path.is_dir():
        pytest.skip("no HER2ST sections: set AGL_HER2ST to their folder")
    return path
