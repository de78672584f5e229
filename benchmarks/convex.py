"""Convex heads beside SciPy's L-BFGS gene by gene, solved to the same gradient, measured in the same run.

    python benchmarks/convex.py            # some minutes
    python benchmarks/convex.py --quick    # a minute: 50 genes, no memory
    python benchmarks/convex.py --loss poisson

CPU time of one thread for a path of four penalties with warm starts, four slides of 1,200 spots together. The reference
warm starts too and solves a sample of the genes; its time is scaled up to all. Memory is the peak of a fresh process
above its inputs.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize

from agl.convex.heads import Heads, solve_path
from agl.seeds import seeded

PENALTIES = (1.0, 0.3, 0.1, 0.03)
TOLERANCE = 1e-6
SAMPLE = 5  # genes of the reference
SIZES = [(72, 50), (216, 50), (216, 1000)]  # features, genes
OPTIONS: dict[str, dict[str, float]] = {
    "listwise": {},
    "pairwise": {},
    "poisson": {},
    "negative_binomial": {"dispersion": 2.0},
    "mse": {},
}
TARGETS = {"listwise": 5.0, "poisson": 5.0, "negative_binomial": 5.0, "pairwise": 5.0, "mse": 25.0}  # times as fast
MIB = 2048.0  # for 15,000 genes x 1,200 spots x 216 features


class Data(NamedTuple):
    x: np.ndarray
    counts: np.ndarray
    library_size: np.ndarray
    slides: np.ndarray


def make_data(n_features: int, n_genes: int, n_spots: int = 1200) -> Data:
    """Features of 30 hidden directions and noise; genes of every depth that follow them."""
    rng = seeded(0, "convex")
    hidden = rng.normal(size=(n_spots, 30))
    x = hidden @ rng.normal(size=(30, n_features)) + 0.5 * rng.normal(size=(n_spots, n_features))
    signal = np.clip(hidden @ rng.normal(size=(30, n_genes)) * 0.1, -3, 3)
    library = rng.lognormal(8, 0.5, n_spots)
    rate = np.exp(signal + rng.normal(-0.5, 1, n_genes)) * (library / library.mean())[:, None]
    return Data(x, rng.poisson(rate).astype(np.int32), library, rng.integers(0, 4, n_spots))


def ours(loss: str, data: Data, n_genes: int) -> Heads:
    return solve_path(
        data.x, data.counts[:, :n_genes], data.library_size, data.slides,
        loss=loss, options=OPTIONS[loss], penalties=PENALTIES, tolerance=TOLERANCE,
    )  # fmt: skip


# --- the reference: one gene, one penalty, SciPy -------------------------------------------------------------------

Score = Callable[[np.ndarray], tuple[float, np.ndarray]]  # scores -> value and gradient of one gene


def plain_loss(loss: str, c: np.ndarray, data: Data) -> tuple[Score, float]:
    """What one writes first with NumPy, summed over spots, and the gene's mass."""
    groups = [np.flatnonzero(data.slides == slide) for slide in np.unique(data.slides)]
    log_library, mean = np.log(data.library_size), c.mean()

    def listwise(s: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = 0.0, np.empty_like(s)
        for rows in groups:
            t = s[rows] + log_library[rows]
            log_p = t - t.max() - np.log(np.exp(t - t.max()).sum())
            value -= c[rows] @ log_p
            gradient[rows] = c[rows].sum() * np.exp(log_p) - c[rows]
        return value, gradient

    def pairwise(s: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = 0.0, np.zeros_like(s)
        for rows in groups:
            t = s[rows] + log_library[rows]
            gap = t[None] - t[:, None]  # [first, second]
            lost = c[rows][:, None] / (1 + np.exp(-gap)) / (len(rows) - 1)
            value += (c[rows] * (np.logaddexp(0, gap).sum(1) - np.log(2))).sum() / (len(rows) - 1)
            gradient[rows] = lost.sum(0) - lost.sum(1)
        return value, gradient

    def poisson(s: np.ndarray) -> tuple[float, np.ndarray]:
        t = s + log_library - np.log(1e4)
        return (np.exp(t) - c * t).sum(), np.exp(t) - c

    def negative_binomial(s: np.ndarray) -> tuple[float, np.ndarray]:
        u = s + log_library - np.log(1e4) - np.log(2.0)
        return ((c + 2) * np.logaddexp(0, u) - c * u).sum(), (c + 2) / (1 + np.exp(-u)) - c

    def mse(s: np.ndarray) -> tuple[float, np.ndarray]:
        rest = s - np.log1p(1e4 * c / data.library_size)
        return rest @ rest, 2 * rest

    mass = {"mse": 1.0, "negative_binomial": mean * 2 / (mean + 2)}.get(loss, mean)
    return {
        "listwise": listwise,
        "pairwise": pairwise,
        "poisson": poisson,
        "negative_binomial": negative_binomial,
        "mse": mse,
    }[loss], mass


def objective(b: np.ndarray, x: np.ndarray, score: Score, scale: float, ridge: np.ndarray) -> tuple[float, np.ndarray]:
    value, gradient = score(x @ b)
    return value * scale + (ridge * b) @ b, x.T @ gradient * scale + 2 * ridge * b


def reference(loss: str, data: Data, n_genes: int) -> np.ndarray:
    """Coefficients `[penalty, gene, feature + 1]` of the first genes, the last one the intercept."""
    x = np.column_stack([(data.x - data.x.mean(0)) / data.x.std(0), np.ones(len(data.x))])
    ridge = np.append(np.ones(x.shape[1] - 1), 0)
    found = np.zeros((len(PENALTIES), n_genes, x.shape[1]))
    for gene in range(n_genes):
        score, mass = plain_loss(loss, data.counts[:, gene].astype(float), data)
        b = np.zeros(x.shape[1])
        for at, penalty in enumerate(PENALTIES):
            given = (x, score, 1 / (mass * len(x)), penalty * ridge)
            options = {"gtol": TOLERANCE, "ftol": 0, "maxiter": 2000, "maxfun": 4000}
            found[at, gene] = b = minimize(objective, b, given, jac=True, method="L-BFGS-B", options=options).x
    return found


# --- measuring -----------------------------------------------------------------------------------------------------


def seconds(run: Callable[[], object]) -> float:
    """CPU time."""
    start = time.process_time()
    run()
    return time.process_time() - start


def agreement(heads: Heads, plain: np.ndarray, data: Data) -> float:
    """Largest difference of scores, each gene's mean taken off."""
    x = (data.x - data.x.mean(0)) / data.x.std(0)
    scores = np.einsum("sf,pgf->psg", x, plain[:, :, :-1])
    mine = heads.predict(data.x)[:, :, : plain.shape[1]].numpy()
    return float(np.abs((mine - mine.mean(1, keepdims=True)) - (scores - scores.mean(1, keepdims=True))).max())


def extra_mib(n_genes: int) -> tuple[float, float]:
    """Peak memory of a list path above its inputs, and CPU seconds; a fresh process measures them."""
    command = [sys.executable, __file__, "--memory", str(n_genes)]
    mib, cpu = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(mib), float(cpu)


def report_memory(n_genes: int) -> None:
    data = make_data(216, n_genes)
    ours("listwise", data, 16)  # libraries loaded
    with open("/proc/self/statm") as status:
        before = int(status.read().split()[1]) * resource.getpagesize() / 2**20
    start = time.process_time()
    ours("listwise", data, n_genes)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before, time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--loss", choices=sorted(OPTIONS))
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        report_memory(options.memory)
        return
    met = True
    print("| loss | features x genes | SciPy s | ours s | times as fast | target | scores differ by at most |")
    print("|---|---|---|---|---|---|---|")
    for loss in [options.loss] if options.loss else OPTIONS:
        for n_features, n_genes in SIZES[: 2 if options.quick or loss == "pairwise" else None]:
            data = make_data(n_features, n_genes)
            ours(loss, data, 4)
            heads = ours(loss, data, n_genes)
            own = min(seconds(partial(ours, loss, data, n_genes)) for _ in range(3))
            sample = 2 if loss == "pairwise" else SAMPLE
            start = time.process_time()
            plain = reference(loss, data, sample)
            theirs = (time.process_time() - start) * n_genes / sample
            ratio = theirs / own
            met &= ratio >= TARGETS[loss]
            print(
                f"| {loss} | {n_features} x {n_genes:,} | {theirs:.2f} | {own:.3f} | {ratio:.0f} | {TARGETS[loss]:.0f} "
                f"| {agreement(heads, plain, data):.1e} |",
                flush=True,
            )
    if not options.quick and not options.loss:
        mib, cpu = extra_mib(15_000)
        met &= mib <= MIB
        print(
            f"\n15,000 genes x 1,200 spots x 216 features, list loss: {cpu:.0f} s, {mib:.0f} MiB above the inputs",
            end="",
        )
        print(f" (at most {MIB:.0f})")
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
