"""Visium HD from import to score: time, memory, and whether a quarter of the bins costs a quarter.

    python benchmarks/big_slides.py --bins 500000    # 20 GB of disk
    python benchmarks/big_slides.py                  # 4 slides of 20,000 bins, for a look

150 counts a bin, features in half precision. Every step runs in a process of its own, first on a quarter of the bins,
then on all; a patient is a slide, and the first one is left out. Memory is the largest resident size above the
interpreter and its libraries; what is mapped from a file counts while it is being read.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from scale import peak_megabytes

SLIDES, GENES, WIDTH, COUNTS = 4, 18_000, 1_024, 150
SHARED = ["data.features=enc", "data.min_counts=1", "fold=0", "primary.min_detection=0.001"]
STEPS = {
    "import": [],
    "ridge": ["model=ridge"],
    "convex list, 300 genes": ["model=convex", "loss=listwise", "primary.k=300"],
    "low rank, 3,000 auxiliary genes": ["model=low_rank", "loss=mse", "auxiliary.genes=top", "auxiliary.genes.k=3000"],
    "MLP, an epoch": ["model=mlp", "model.start=none", "training.epochs=1", "training.batch_size=4096"],
}


def write_section(root: Path, name: str, bins: int, rng: np.random.Generator) -> None:
    """Counts that follow a few of the features, and those features, block by block."""
    import anndata
    import pandas as pd
    from scipy import sparse

    share = np.sort(rng.gamma(0.5, size=GENES))[::-1]
    share /= share.sum()
    slope = np.random.default_rng(1).normal(size=(8, GENES)).astype(np.float32) * 0.3
    side = int(np.ceil(np.sqrt(bins)))
    names = np.array([f"{name}-{i:07d}" for i in range(bins)])
    parts = []
    (root / "embeddings/enc").mkdir(parents=True, exist_ok=True)
    (root / "adata").mkdir(exist_ok=True)
    with h5py.File(root / f"embeddings/enc/{name}.h5", "w") as h5:
        h5.create_dataset("barcodes", data=names[:, None].astype("S16"))
        values = h5.create_dataset("embeddings", (bins, WIDTH), np.float16, chunks=(min(1024, bins), WIDTH))
        for start in range(0, bins, 5_000):
            x = rng.standard_normal((min(5_000, bins - start), WIDTH), dtype=np.float32)
            values[start : start + len(x)] = x
            tilt = np.exp(x[:, :8] @ slope[:, :600])  # of the frequent genes
            low = share[:600] * tilt
            draws = rng.poisson(COUNTS * low)
            rest = rng.poisson(COUNTS * share[600:].sum(), len(x))
            rows = np.repeat(np.arange(len(x)), rest)
            columns = 600 + np.searchsorted(np.cumsum(share[600:] / share[600:].sum()), rng.random(len(rows)))
            tail = sparse.coo_matrix((np.ones(len(rows)), (rows, np.minimum(columns, GENES - 1))), (len(x), GENES))
            head = sparse.csr_matrix(draws)
            head.resize(len(x), GENES)
            parts.append((head + tail.tocsr()).astype(np.float32))
    y, x = np.divmod(np.arange(bins), side)
    section = anndata.AnnData(
        sparse.vstack(parts, format="csr"),
        obs=pd.DataFrame({"patient": f"P{name}"}, index=names),
        var=pd.DataFrame(index=[f"GENE{i}" for i in range(GENES)]),
    )
    section.obsm["spatial"] = np.column_stack([x, y]) * 8.0
    section.write_h5ad(root / f"adata/{name}.h5ad")


def step(name: str, root: str, out: str) -> None:
    """One step in this process: seconds, CPU seconds, MB above the start."""
    import anndata.io  # noqa: F401  part of the floor
    import torch

    import agl
    from agl.data.dataset import open_dataset
    from agl.training import experiment  # noqa: F401

    torch.set_num_threads(1)
    before, start, cpu = peak_megabytes(), time.perf_counter(), time.process_time()
    if name == "import":
        open_dataset(root, features="enc", cache_dir=f"{out}/cache", min_counts=1)
    else:
        words = [*SHARED, *STEPS[name], f"data.root={root}", f"data.cache={out}/cache", f"output={out}/runs/{name}"]
        agl.train(None, words)
    print(time.perf_counter() - start, time.process_time() - cpu, peak_megabytes() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bins", type=int, default=20_000, help="of a slide")
    parser.add_argument("--folder", type=Path, help="where to write the data (default: a temporary folder)")
    parser.add_argument("--step", choices=STEPS, action="append", help="after the import, this one only")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return step(*given.one)
    print(f"{SLIDES} slides x {GENES:,} genes x {WIDTH:,} features in half precision, {COUNTS} counts a bin\n")
    print("| step | bins | s | CPU s | bins a CPU second | MB above the start | CPU of 4 x the bins |\n|" + "---|" * 7)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        roots = {}
        for bins in (given.bins // 4, given.bins):
            roots[bins] = Path(folder) / str(bins)
            for nth in range(SLIDES):
                write_section(roots[bins] / "task", f"S{nth}", bins, np.random.default_rng(nth))
        for name in ["import", *given.step] if given.step else STEPS:
            costs: list[float] = []
            for bins, root in roots.items():
                command = [sys.executable, __file__, "--one", name, str(root / "task"), str(root)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    print(
                        f"| {name} | {SLIDES * bins:,} | failed: {done.stderr.strip().splitlines()[-1]} |", flush=True
                    )
                    continue
                seconds, cpu, peak = map(float, done.stdout.split()[-3:])
                costs.append(cpu)
                ratio = f"{costs[1] / costs[0]:.1f}" if len(costs) == 2 else ""
                speed = SLIDES * bins / cpu
                print(
                    f"| {name} | {SLIDES * bins:,} | {seconds:.0f} | {cpu:.0f} | {speed:,.0f} | {peak:,.0f} "
                    f"| {ratio} |",
                    flush=True,
                )
    return None


if __name__ == "__main__":
    main()
