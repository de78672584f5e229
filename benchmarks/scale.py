"""Import and batch reading at the size of HEST-1k: peak memory and rows per second, beside plain h5py and AnnData.

    python benchmarks/scale.py            # 200,000 spots x 18,000 genes x 1,024 features in 8 sections, ~6 GB of disk
    python benchmarks/scale.py --quick    # 20,000 spots x 4,000 genes x 256 features

The import runs in a process of its own, whose largest resident size is reported; so does a second one of half the
sections, because memory should not grow with their number. The plain readers get the same random batches from the
same files: features as HDF5 rows, counts as backed AnnData. Page cache is warm for all of them.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from scipy import sparse

PANEL, BATCH = 1000, 256


def write_section(root: Path, name: str, n_spots: int, n_genes: int, width: int, rng: np.random.Generator) -> None:
    """Counts with about 8 % non-zeros (few genes high, most low) and random features, written in blocks."""
    share = np.sort(rng.gamma(0.5, size=n_genes))[::-1]
    rate = 1 - np.exp(-share * 0.08 * n_genes / share.sum() / 0.75)
    (root / "adata").mkdir(parents=True, exist_ok=True)
    (root / "embeddings" / "enc").mkdir(parents=True, exist_ok=True)
    barcodes = np.array([f"{name}-{i:06d}" for i in range(n_spots)], dtype=object)
    order = rng.permutation(n_spots)
    with h5py.File(root / "adata" / f"{name}.h5ad", "w") as h5:
        text = h5py.string_dtype()
        h5.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for frame, names in (("obs", barcodes), ("var", np.array([f"GENE{j}" for j in range(n_genes)], dtype=object))):
            group = h5.create_group(frame)
            group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
            group.attrs["column-order"] = np.array([], dtype="S1")
            group.create_dataset("_index", data=names, dtype=text)
            group["_index"].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
        patient = h5["obs"].create_dataset("patient", data=np.full(n_spots, f"P{name}", dtype=object), dtype=text)
        patient.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
        h5["obs"].attrs["column-order"] = np.array(["patient"], dtype=object)
        h5["obsm/spatial"] = np.stack(np.divmod(np.arange(n_spots), 200), axis=1) * 100.0
        h5["obsm/spatial"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for mapping in ("obsm", "layers", "uns", "varm", "obsp", "varp"):
            h5.require_group(mapping).attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        x = h5.create_group("X")
        x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [n_spots, n_genes]})
        data = x.create_dataset("data", (0,), np.float32, maxshape=(None,), chunks=(1 << 18,))
        indices = x.create_dataset("indices", (0,), np.int32, maxshape=(None,), chunks=(1 << 18,))
        indptr = [np.zeros(1, dtype=np.int64)]
        for start in range(0, n_spots, 1000):
            block = rng.random((min(1000, n_spots - start), n_genes), dtype=np.float32) < rate
            rows, columns = np.nonzero(block)
            stored = data.shape[0]
            data.resize((stored + len(columns),))
            indices.resize((stored + len(columns),))
            data[stored:], indices[stored:] = rng.geometric(0.6, len(columns)), columns
            indptr.append(stored + np.cumsum(np.bincount(rows, minlength=len(block))))
        x["indptr"] = np.concatenate(indptr)
    with h5py.File(root / "embeddings" / "enc" / f"{name}.h5", "w") as h5:
        h5.create_dataset("barcodes", data=barcodes[order][:, None].astype("S16"))
        values = h5.create_dataset("embeddings", (n_spots, width), np.float32, chunks=(256, width))
        for start in range(0, n_spots, 4096):
            values[start : start + 4096] = rng.standard_normal((min(4096, n_spots - start), width), dtype=np.float32)


def import_in_own_process(root: Path, cache: Path, sections: list[str]) -> tuple[float, float, float]:
    """(seconds, peak MB, MB before the import: interpreter and libraries)."""
    command = [sys.executable, __file__, "--import-only", str(root), str(cache), *sections]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    seconds, peak, before = map(float, output[-3:])
    return seconds, peak, before


def import_only(root: str, cache: str, sections: list[str]) -> None:
    import anndata.io  # noqa: F401  part of the floor, not of the import's own memory

    from agl.data.dataset import open_dataset

    before = peak_megabytes()
    start = time.perf_counter()
    open_dataset(root, features="enc", cache_dir=cache, sections=sections)
    print(time.perf_counter() - start, peak_megabytes(), before)


def peak_megabytes() -> float:
    """Largest resident size of this process; Linux counts its parent's into `ru_maxrss`, so not that one there."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2  # bytes on macOS


def rows_per_second(read: Callable[[np.ndarray], object], batches: list[np.ndarray], limit: float = 20.0) -> float:
    """Rows read in at most `limit` seconds, after one batch to warm up."""
    read(batches[0])
    done, start = 0, time.perf_counter()
    for batch in batches[1:]:
        read(batch)
        done += len(batch)
        if time.perf_counter() - start > limit:
            break
    return done / (time.perf_counter() - start)


def plain_readers(root: Path, names: list[str], per_section: int, genes: np.ndarray) -> dict[str, Callable]:
    """What one writes without a cache: open files, one fancy index for each section in the batch."""
    import anndata

    features = [h5py.File(root / "embeddings" / "enc" / f"{n}.h5", "r")["embeddings"] for n in names]
    backed = [anndata.read_h5ad(root / "adata" / f"{n}.h5ad", backed="r") for n in names]

    def by_section(spots: np.ndarray) -> list[tuple[int, np.ndarray]]:
        spots = np.unique(spots)  # h5py wants increasing rows
        return [(s, spots[spots // per_section == s] % per_section) for s in np.unique(spots // per_section)]

    def read_features(spots: np.ndarray) -> np.ndarray:
        return np.concatenate([features[s][rows] for s, rows in by_section(spots)])

    def read_counts(spots: np.ndarray) -> np.ndarray:
        return np.concatenate([backed[s].X[rows][:, genes].toarray() for s, rows in by_section(spots)])

    return {
        "h5py features": read_features,
        "backed AnnData counts": read_counts,
        "both": lambda spots: (read_features(spots), read_counts(spots)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to write the data (default: a temporary folder)")
    parser.add_argument("--import-only", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.import_only:
        root, cache, *sections = arguments.import_only
        return import_only(root, cache, sections)
    spots, genes, width = (20_000, 4_000, 256) if arguments.quick else (200_000, 18_000, 1_024)
    names = [f"S{i}" for i in range(8)]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        run(Path(folder), names, spots, genes, width)
    return None


def run(folder: Path, names: list[str], spots: int, genes: int, width: int) -> None:
    from agl.data.dataset import open_dataset

    root, per_section = folder / "task", spots // len(names)
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    for name in names:
        write_section(root, name, per_section, genes, width, rng)
    size = sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) / 1e9
    print(f"{spots:,} spots x {genes:,} genes x {width:,} features, {len(names)} sections, {size:.2f} GB on disk")
    print(f"written in {time.perf_counter() - start:.0f} s")

    seconds, peak, before = import_in_own_process(root, folder / "cache", names)
    _, half_peak, half_before = import_in_own_process(root, folder / "half", names[: len(names) // 2])
    start = time.perf_counter()
    dataset = open_dataset(root, features="enc", cache_dir=folder / "cache", sections=names)
    opening = time.perf_counter() - start
    dense = spots * genes * 4 / 2**20
    print(f"non-zero counts {dataset.counts.nnz:,} ({dataset.counts.nnz / spots / genes:.1%})")
    print(f"import {seconds:.1f} s, peak {peak:,.0f} MB, of which {before:,.0f} MB before it began")
    print(f"import of half the sections: peak {half_peak:,.0f} MB, of which {half_before:,.0f} MB before it began")
    print(f"opening the cache {opening:.2f} s")

    panel = np.sort(rng.choice(genes, size=min(PANEL, genes // 4), replace=False))
    start = time.perf_counter()
    counts = dataset.panel_counts(panel)
    print(f"cutting out a panel of {len(panel):,} genes {time.perf_counter() - start:.1f} s, once")
    batches = [rng.choice(spots, size=BATCH, replace=False) for _ in range(400)]
    check = batches[0]
    assert sparse.issparse(counts)
    np.testing.assert_array_equal(counts[check].toarray(), dataset.dense_counts(check, panel))
    assert dataset.features is not None
    memory = dataset.features

    ours = {
        "features": lambda rows: memory[rows],
        "counts": lambda rows: counts[rows].toarray(),
        "both": lambda rows: (memory[rows], counts[rows].toarray()),
    }
    without_panel = rows_per_second(lambda rows: dataset.dense_counts(rows, panel), batches)
    position = dataset.gene_positions([f"GENE{j}" for j in range(genes)])  # genes are sorted by name in the dataset
    original = np.flatnonzero(np.isin(position, panel))
    speeds = {name: rows_per_second(read, batches) for name, read in ours.items()}
    plain = plain_readers(root, names, per_section, original)
    plain_speeds = {name: rows_per_second(read, batches) for name, read in plain.items()}
    for name, speed in {**{f"agl {n}": s for n, s in speeds.items()}, **plain_speeds}.items():
        print(f"{name:<24} {speed:>12,.0f} rows/s")
    print(f"{'agl counts, no panel cut':<24} {without_panel:>12,.0f} rows/s")
    print("ratios, agl / plain:")
    for (name, speed), (other, slow) in zip(speeds.items(), plain_speeds.items(), strict=True):
        print(f"  {name:<10} {speed / slow:8.1f} x  ({other})")
    print(f"  memory     {dense / (peak - before):8.1f} x  less than the dense counts ({dense:,.0f} MB) to import all")
    print(f"  memory     {(peak - before) / (half_peak - half_before):8.2f} x  of importing half the sections")


if __name__ == "__main__":
    main()
