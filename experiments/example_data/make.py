"""Write the example data in `agl/data/example` from the sections they were cut from.

    python experiments/example_data/make.py PATH/TO/her2st [OUT]

PATH is a folder in HEST-bench's layout. Nothing is random: the same versions of Pillow, h5py, anndata and torch write
the same bytes again.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata.experimental import write_dispatched
from PIL import Image

from agl.data.images.builtin import FEATURE_NAMES, extract
from agl.data.images.folder import BUILTIN_VERSION

DETECTED = 10  # per cent of the spots of all sections together that have a count of a gene that is kept
QUALITY = 80  # of the JPEGs; colours are not subsampled, because stains are read from them
THUMBNAIL = 480  # px, the longer side
FEATURES = "builtin_originals"
PACKED: dict[str, Any] = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
OBS = ["section", "patient", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
UNS = ["source", "doi", "licence", "organ", "disease", "technology", "spot_diameter_um", "inter_spot_um"]
PATCH_ATTRS = ["patch_size_target", "patch_size_source_fullres_px", "target_um_per_px", "um_per_px_fullres"]
CHANGES = "genes cut, patches as JPEG, picture reduced; library_size is the total over all genes measured"


def main(root: Path, out: Path) -> None:
    """Every file but README.md and LICENCE.txt, which are written by hand."""
    sections = {path.stem: anndata.read_h5ad(path) for path in sorted((root / "adata").glob("*.h5ad"))}
    if not sections:
        sys.exit(f"Expected adata/*.h5ad in {root}, found none.")
    genes = kept_genes(list(sections.values()))
    for name, section in sections.items():
        ratio = write_thumbnail(root / "thumbnails" / f"{name}.jpg", out / "thumbnails" / f"{name}.jpg")
        write_counts(section, genes, ratio, out / "adata" / f"{name}.h5ad")
        write_patches(root / "patches" / f"{name}.h5", out, name)
    for folder in ("splits_patient", "splits_section"):
        shutil.copytree(root / folder, out / folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    table = pd.DataFrame([described(name, section) for name, section in sections.items()])
    table.to_csv(out / "sections.csv", index=False)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{len(sections)} sections, {int(table.spots.sum())} spots, {len(genes)} genes, {size / 1e6:.2f} MB in {out}")


def kept_genes(sections: list[anndata.AnnData]) -> list[str]:
    """Genes that every section measures and that have a count in at least 10 % of all spots; sorted by name."""
    shared = sorted(set.intersection(*(set(section.var_names) for section in sections)))
    detected = sum(np.asarray((section[:, shared].X > 0).sum(axis=0)).ravel() for section in sections)
    n_spots = sum(section.n_obs for section in sections)
    return [gene for gene, spots in zip(shared, detected, strict=True) if 100 * spots >= DETECTED * n_spots]


def write_counts(section: anndata.AnnData, genes: list[str], ratio: float, path: Path) -> None:
    """Raw counts of the kept genes (dense: smaller here than a sparse matrix's positions) and all genes' totals."""
    counts = section[:, genes].X.toarray()
    obs = section.obs[OBS].astype({"section": str, "patient": str})
    obs["library_size"] = np.asarray(section.X.sum(axis=1)).ravel().astype(np.int64)
    cut = anndata.AnnData(counts.astype(np.uint16), obs=obs, var=pd.DataFrame(index=pd.Index(genes, name="gene")))
    if counts.max() > np.iinfo(np.uint16).max:
        sys.exit("Expected counts below 65,536, found larger ones.")
    cut.obsm["spatial"], cut.obsm["spatial_image"] = section.obsm["spatial"], section.obsm["spatial_image"]
    cut.uns = {key: section.uns[key] for key in UNS}
    cut.uns |= {"changes": CHANGES, "thumbnail_scale": float(section.uns["thumbnail_scale"]) * ratio}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        write_dispatched(file, "/", cut, packed)


def packed(write: Any, store: Any, key: str, element: Any, dataset_kwargs: Any, **about: Any) -> None:
    """How anndata writes one element, but small: matrices as one compressed chunk, names of one length.

    HDF5 keeps text of varying length uncompressed, at some 40 bytes a name: a third of a file of 9,000 genes.
    """
    if isinstance(element, np.ndarray) and element.ndim == 2:
        write(store, key, element, dataset_kwargs={**PACKED, "chunks": element.shape})
    elif isinstance(element, np.ndarray) and element.dtype.kind in "OU":
        stored = store.create_dataset(key, data=np.char.encode(element.astype(str), "ascii"), **PACKED)
        stored.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    elif element is not None:
        write(store, key, element, dataset_kwargs=dataset_kwargs)


def write_patches(source: Path, out: Path, name: str) -> None:
    """The patches as JPEG, and beside them the built-in features of what they were before."""
    for folder in (out / "patches", out / "embeddings" / FEATURES):
        folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(source) as old:
        images, barcodes, coords = old["img"][...], old["barcode"][...], old["coords"][...]
        attrs = {key: old.attrs[key] for key in PATCH_ATTRS}
    with h5py.File(out / "patches" / f"{name}.h5", "w") as new:
        streams = new.create_dataset("jpeg", (len(images),), dtype=h5py.vlen_dtype(np.uint8))
        for row, image in enumerate(images):
            streams[row] = np.frombuffer(jpeg(image), np.uint8)
        new["barcode"], new["coords"] = barcodes, coords
        new.attrs.update({**attrs, "jpeg_quality": QUALITY})
    with h5py.File(out / "embeddings" / FEATURES / f"{name}.h5", "w") as new:
        new.create_dataset("embeddings", data=extract(images), **PACKED)
        new["barcodes"], new["coords"] = barcodes, coords
        new.attrs.update({"agl_encoder": BUILTIN_VERSION, "feature_names": json.dumps(FEATURE_NAMES)})


def write_thumbnail(source: Path, target: Path) -> float:
    """A small picture of the section; returns how much smaller than the source."""
    with Image.open(source) as picture:
        ratio = THUMBNAIL / max(picture.size)
        small = picture.convert("RGB").resize([round(side * ratio) for side in picture.size], Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(jpeg(small))
    return ratio


def jpeg(image: np.ndarray | Image.Image) -> bytes:
    """One picture as a JPEG file's bytes."""
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return stream.getvalue()


def described(name: str, section: anndata.AnnData) -> dict[str, Any]:
    """A section's row of sections.csv."""
    median = float(np.median(np.asarray(section.X.sum(axis=1))))
    return {
        "section": name,
        "patient": str(section.obs["patient"].iloc[0]),
        "spots": section.n_obs,
        "genes_measured": section.n_vars,
        "median_library_size": median,
    }


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(str(__doc__).split("\n\n")[1].strip())
    package = Path(__file__).resolve().parents[2] / "agl" / "data" / "example"
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else package)
