"""One epoch of training with auxiliary genes beside a plain epoch, each in a process of its own.

    python benchmarks/epoch.py            # 2,000 spots of 4 slides, 512 features, 50 primary + 15,000 auxiliary genes
    python benchmarks/epoch.py --quick    # 1,000 spots, 3,000 auxiliary genes

Both train the same MLP with AdamW and the list loss, a weight in [0, 1] on every auxiliary gene. "plain" is what the
released code does: a Dataset that reads AnnData row by row, a loop over slides, and Python's `sum` over the genes of
weight times loss. One thread; the median of three epochs after a first one; memory is the peak above what the data and
the libraries take.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import anndata
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

FEATURES, PRIMARY, SLIDES, BATCH = 512, 50, 4, 256


def make_data(spots: int, genes: int) -> tuple[np.ndarray, sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Features, counts with about a fifth of non-zeros, slides, weights of the auxiliary genes."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.5, 0.5, genes)
    counts = sparse.csr_matrix(rng.poisson(rates, (spots, genes)).astype(np.int32))
    features = rng.standard_normal((spots, FEATURES)).astype(np.float32)
    return features, counts, np.arange(spots) % SLIDES, rng.random(genes - PRIMARY).astype(np.float32)


def network(genes: int) -> nn.Sequential:
    """The predictor `mlp` in plain torch."""
    return nn.Sequential(nn.Linear(FEATURES, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, genes))


def plain_epoch(spots: int, genes: int) -> Callable[[], None]:
    """Row by row, slide by slide, gene by gene."""
    features, counts, slides, weights = make_data(spots, genes)
    table = anndata.AnnData(counts, obs=pd.DataFrame({"slide": slides}, index=[str(i) for i in range(spots)]))
    library = np.asarray(counts.sum(1)).ravel()

    class Rows(torch.utils.data.Dataset[tuple[Tensor, Tensor, int, float]]):
        def __len__(self) -> int:
            return spots

        def __getitem__(self, i: int) -> tuple[Tensor, Tensor, int, float]:
            row = table[i].X.toarray().ravel().astype(np.float32)
            return torch.from_numpy(features[i]), torch.from_numpy(row), int(slides[i]), float(library[i])

    model, gates = network(genes), torch.from_numpy(weights)
    optimizer = torch.optim.AdamW(model.parameters())
    loader = torch.utils.data.DataLoader(Rows(), batch_size=BATCH, shuffle=True)

    def epoch() -> None:
        for x, c, slide, size in loader:
            logits = model(x) + size.float().log()[:, None]
            parts = [-F.log_softmax(logits[slide == s], 0) * c[slide == s] for s in slide.unique()]
            per_gene = torch.cat(parts).mean(0)
            loss = sum(per_gene[g] for g in range(PRIMARY))
            loss = loss + sum(gates[g] * per_gene[PRIMARY + g] for g in range(genes - PRIMARY))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            optimizer.step()

    return epoch


def our_epoch(spots: int, genes: int) -> Callable[[], None]:
    """The trainer, as `agl train` uses it."""
    import strank
    from agl.config import Training
    from agl.data.batches import SpotLoader, grouped
    from agl.data.dataset import Dataset
    from agl.models.predictor import mlp
    from agl.training.task import Task
    from agl.training.trainer import Trainer

    features, counts, slides, weights = make_data(spots, genes)
    order = np.argsort(slides, kind="stable")
    table = pd.DataFrame({"slide": [f"S{s}" for s in slides[order]], "x": 0.0, "y": 0.0})
    library = np.asarray(counts.sum(1)).ravel()[order]
    names = tuple(f"G{i}" for i in range(genes))
    dataset = Dataset(table, names, counts[order], library, features[order], None, "", {})

    def epoch() -> None:
        trainer.settings = trainer.settings.model_copy(update={"epochs": trainer.epoch + 1})
        trainer.fit()

    task = Task(
        mlp(FEATURES, genes), strank.listwise_nll, SpotLoader(dataset, np.arange(genes)), np.arange(spots),
        np.arange(20), PRIMARY, torch.from_numpy(weights),
    )  # fmt: skip
    trainer = Trainer(task, Training(epochs=1, batch_size=BATCH), grouped, 0)
    return epoch


def measure(which: str, spots: int, genes: int) -> None:
    """Prints median seconds and peak MiB of an epoch."""
    torch.set_num_threads(1)
    epoch = {"plain": plain_epoch, "agl": our_epoch}[which](spots, genes)
    before = _status("VmRSS")
    times = []
    for _ in range(4):
        start = time.perf_counter()
        epoch()
        times.append(time.perf_counter() - start)
    print(statistics.median(times[1:]), _status("VmHWM") - before)


def _status(name: str) -> float:
    """MiB, from Linux's own books."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        return measure(given.measure[0], int(given.measure[1]), int(given.measure[2]))
    spots, genes = (1_000, 3_000 + PRIMARY) if given.quick else (2_000, 15_000 + PRIMARY)
    print(f"{spots:,} spots, {SLIDES} slides, {FEATURES} features, {genes:,} genes, batches of {BATCH}")
    found = {}
    for which in ("plain", "agl"):
        command = [sys.executable, __file__, "--measure", which, str(spots), str(genes)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        found[which] = float(output[-2]), float(output[-1])
        print(f"{which:6} {found[which][0]:8.2f} s an epoch, peak {found[which][1]:8,.0f} MiB", flush=True)
    print(f"ratios, plain / agl: time {found['plain'][0] / found['agl'][0]:.1f} x, ", end="")
    print(f"memory {found['plain'][1] / found['agl'][1]:.1f} x")
    return None


if __name__ == "__main__":
    main()
