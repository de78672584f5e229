"""Preparing a slide: time and memory, beside the size of what is read.

    python benchmarks/prepare.py            # 4,992 spots, 40,000 x 40,000 px; 500,000 bins x 18,000 genes; 6 GB of disk
    python benchmarks/prepare.py --quick    # 272 spots, 8,000 x 8,000 px; 50,000 bins x 4,000 genes

The slide is a pyramid of JPEG tiles as scanners write them, the counts are Space Ranger's HDF5. Each preparation runs
in a process of its own, whose largest resident size is reported, with what Python and its libraries take before.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import tifffile
from scale import peak_megabytes

TILE = 512
HEADER = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]


def tiles(side: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Tiles of coloured texture in turn, encoded once: what is measured is reading."""
    import imagecodecs

    base = rng.normal([200, 130, 180], 25, (8, TILE, TILE, 3))
    packed = [imagecodecs.jpeg_encode(np.clip(b, 0, 255).astype(np.uint8), level=80) for b in base]
    for number in range((-(-side // TILE)) ** 2):
        yield packed[number % len(packed)]


def write_slide(path: Path, side: int, rng: np.random.Generator) -> None:
    """A pyramid: side x side px at 0.25 um a px, then halves of it."""
    sizes = [side // 2**level for level in range(6)]
    shared = {"tile": (TILE, TILE), "photometric": "ycbcr", "compression": "jpeg", "dtype": np.uint8, "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for number, size in enumerate(sizes):
            more = {"subifds": len(sizes) - 1, "resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}
            tiff.write(
                tiles(size, rng),
                shape=(size, size, 3),
                subsampling=(1, 1),
                **shared,
                **(more if number == 0 else {"subfiletype": 1}),
            )


def write_counts(path: Path, barcodes: np.ndarray, genes: int, each: int, rng: np.random.Generator) -> int:
    """10x's HDF5 with about `each` genes a barcode, written in blocks; gives the number of stored values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as h5:
        group = h5.create_group("matrix")
        group["barcodes"] = barcodes.astype("S")
        chunked = {"chunks": (1 << 16,), "maxshape": (None,), "compression": "gzip", "compression_opts": 1}
        data = group.create_dataset("data", (0,), np.int32, **chunked)
        indices = group.create_dataset("indices", (0,), np.int64, **chunked)
        ends = [np.zeros(1, dtype=np.int64)]
        for start in range(0, len(barcodes), 5_000):
            many = rng.poisson(each, min(5_000, len(barcodes) - start))
            rows = np.repeat(np.arange(len(many)), many)
            rows, columns = np.divmod(np.unique(rows * genes + rng.geometric(20 / genes, len(rows)) % genes), genes)
            stored = data.shape[0]
            for target, values in ((data, rng.geometric(0.7, len(columns))), (indices, columns)):
                target.resize((stored + len(columns),))
                target[stored:] = values
            ends.append(stored + np.cumsum(np.bincount(rows, minlength=len(many))))
        group["indptr"] = np.concatenate(ends)
        group["shape"] = np.array([genes, len(barcodes)])
        features = group.create_group("features")
        features["name"] = features["id"] = np.array([f"GENE{i}" for i in range(genes)], dtype="S")
        features["feature_type"] = np.array([b"Gene Expression"] * genes)
        return int(data.shape[0])


def write_visium(root: Path, rows: int, columns: int, side: int, genes: int, rng: np.random.Generator) -> None:
    """`outs/` of a chip whose spots are 100 um (400 px) apart in a triangular pattern, and the slide beside it."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    pitch = min(400.0, (side - 1_000) / (columns + 1), (side - 1_000) / (rows + 1) / 0.866)
    x, y = 500 + pitch * (column + row % 2 / 2), 500 + pitch * 0.866 * row
    barcodes = np.array([f"{i:016d}-1" for i in range(len(row))])
    table = pd.DataFrame(dict(zip(HEADER, [barcodes, 1, row, 2 * column + row % 2, y, x], strict=True)))
    (root / "outs/spatial").mkdir(parents=True)
    table.to_csv(root / "outs/spatial/tissue_positions.csv", index=False)
    write_counts(root / "outs/filtered_feature_bc_matrix.h5", barcodes, genes, 3_000, rng)
    write_slide(root / "slide.tif", side, rng)


def write_hd(root: Path, bins: int, genes: int, rng: np.random.Generator) -> int:
    """`binned_outputs/square_008um` in random order."""
    width = int(np.ceil(np.sqrt(bins)))
    row, column = np.divmod(rng.permutation(bins), width)
    barcodes = np.array([f"s_008um_{r:05d}_{c:05d}-1" for r, c in zip(row, column, strict=True)])
    folder = root / "outs/binned_outputs/square_008um"
    (folder / "spatial").mkdir(parents=True)
    columns = [barcodes, 1, row, column, 32.0 * row + 16, 32.0 * column + 16]
    pd.DataFrame(dict(zip(HEADER, columns, strict=True))).to_parquet(folder / "spatial/tissue_positions.parquet")
    (folder / "spatial/scalefactors_json.json").write_text(json.dumps({"microns_per_pixel": 0.25}))
    return write_counts(folder / "filtered_feature_bc_matrix.h5", barcodes, genes, 200, rng)


def measured(*words: object) -> str:
    """Seconds and memory of a preparation in a process of its own."""
    command = [sys.executable, __file__, "--one", *map(str, words)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    seconds, cpu, peak, before = map(float, output[-4:])
    return f"{seconds:.0f} s, CPU {cpu:.0f} s, peak {peak:,.0f} MB, of which {before:,.0f} MB before it began"


def one(source: str, out: str, workers: str, bin_um: str) -> None:
    for name in ("anndata.io", "matplotlib.figure", "PIL.Image", "scipy.ndimage", "pyarrow.parquet", "tifffile"):
        import_module(name)  # what libraries take is no memory of the preparation
    from agl.preparing.prepare import prepare_sections
    from agl.preparing.writing import Settings

    before, start, cpu = peak_megabytes(), time.perf_counter(), time.process_time()
    settings = Settings(bin_um=None if bin_um == "-" else float(bin_um))
    done = prepare_sections([source], out, settings, workers=int(workers))
    assert not done.failed, done.failed
    print(time.perf_counter() - start, time.process_time() - cpu, peak_megabytes(), before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to write the data (default: a temporary folder)")
    parser.add_argument("--only", choices=["visium", "hd"])
    parser.add_argument("--workers", type=int, default=2, help="measure 1 to this number of threads")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return one(*arguments.one)
    rows, columns, side, bins, genes = (
        (17, 16, 8_000, 50_000, 4_000) if arguments.quick else (78, 64, 40_000, 500_000, 18_000)
    )
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        root = Path(folder)
        if arguments.only != "hd":
            write_visium(root / "V", rows, columns, side, genes, rng)
            size = (root / "V/slide.tif").stat().st_size / 1e6
            raw = side**2 * 3e-6
            print(f"{rows * columns:,} spots, {side:,} x {side:,} px as JPEG: {size:,.0f} MB, raw {raw:,.0f} MB")
            for workers in range(1, 1 + arguments.workers):
                print(f"  workers {workers}: {measured(root / 'V', root / f'out{workers}', workers, '-')}", flush=True)
        if arguments.only != "visium":
            stored = write_hd(root / "H", bins, genes, rng)
            print(f"Visium HD: {bins:,} bins x {genes:,} genes, {stored:,} counts ({stored * 8e-6:,.0f} MB as CSR)")
            for wanted, what in (("56", "summed to 56 um"), ("16", "summed to 16 um"), ("0", "as they are")):
                print(f"  {what}: {measured(root / 'H', root / f'hd{wanted}', 1, wanted)}", flush=True)
    return None


if __name__ == "__main__":
    main()
