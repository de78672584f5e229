"""A linear head and its loss in one piece beside the two apart, measured in the same run.

    python benchmarks/head.py            # 2,048 spots x 20,000 genes x 256 features, a few minutes
    python benchmarks/head.py --quick    # 512 x 5,000 x 256

CPU time of one thread, forward + backward to features, weight and bias, medians of runs in turn. "apart" is
torch's linear and today's loss on a dense float32 table; "products" are the three matrix products alone, which neither
can do without. From sparse counts, "apart" lays the table out first. Memory is the peak of torch's allocator beside
inputs and gradients, in tables of scores [spot, gene]; what NumPy lays out of sparse counts comes on top for "apart".
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from losses import Loss, seconds
from torch import Tensor

import strank

SIZES = {False: (2048, 20000, 256), True: (512, 5000, 256)}  # spots, genes, features
PAIRS: dict[str, tuple[Loss, Loss]] = {
    "listwise": (strank.linear_listwise_nll, strank.listwise_nll),
    "pearson": (strank.linear_pearson_loss, strank.pearson_loss),
    "poisson": (strank.linear_poisson_nll, strank.poisson_nll),
    "mse": (strank.linear_mse, strank.mse),
}
MOST_TIME, MOST_MEMORY = 0.8, 0.1  # of head and loss apart; of a table of scores


class Data(NamedTuple):
    features: Tensor
    weight: Tensor
    bias: Tensor
    sparse: scipy.sparse.csr_matrix
    slides: Tensor
    library_size: Tensor


def make_data(n_spots: int, n_genes: int, n_features: int) -> Data:
    """Counts with one entry in eleven, as sections have them; 8 slides in random order."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    rates = rng.gamma(0.3, 0.4, n_genes)
    sparse = scipy.sparse.csr_matrix(rng.poisson(rates, (n_spots, n_genes)).astype(np.int32))
    features = torch.randn(n_spots, n_features, generator=generator)
    weight = torch.randn(n_genes, n_features, generator=generator) / n_features**0.5
    library = torch.from_numpy(np.asarray(sparse.sum(1)).ravel().astype(np.float32)) + 1
    slides = torch.randint(0, 8, (n_spots,), generator=generator)
    learnt = [t.requires_grad_() for t in (features, weight, torch.zeros(n_genes))]
    return Data(*learnt, sparse, slides, library)


def dense(data: Data) -> Tensor:
    return torch.from_numpy(data.sparse.toarray().astype(np.float32))


def apart(loss: Loss, data: Data, counts: Tensor | None) -> None:
    clear(data)
    counts = dense(data) if counts is None else counts
    scores = F.linear(data.features, data.weight, data.bias)
    loss(scores, counts, slides=data.slides, library_size=data.library_size).mean().backward()


def together(loss: Loss, data: Data, counts: Any) -> None:
    clear(data)
    learnt = (data.features, data.weight, data.bias)
    loss(*learnt, counts, slides=data.slides, library_size=data.library_size).mean().backward()


def products(data: Data) -> None:
    with torch.no_grad():
        scores = F.linear(data.features, data.weight, data.bias)
        torch.mm(scores, data.weight)
        torch.mm(scores.T, data.features)


def clear(data: Data) -> None:
    for tensor in data[:3]:
        tensor.grad = None


def in_turn(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each."""
    for run in runs.values():
        run()
    times = [{name: seconds(run, 1) for name, run in runs.items()} for _ in range(rounds)]
    return {name: statistics.median(turn[name] for turn in times) for name in runs}


def extra_tables(name: str, which: str, size: tuple[int, int, int]) -> float:
    command = [sys.executable, __file__, "--memory", name, which, *map(str, size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report_memory(name: str, which: str, size: tuple[int, int, int]) -> None:
    fused, loss = PAIRS[name]

    def step(data: Data) -> None:
        apart(loss, data, None) if which == "apart" else together(fused, data, data.sparse)

    step(make_data(16, 100, size[2]))  # what is loaded on first use
    data, now, peak = make_data(*size), 0, 0
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step(data)
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":  # what torch's allocator gave out or took back
            now += event.nbytes()
            peak = max(peak, now)
    gradients = sum(tensor.numel() for tensor in data[:3]) * 4
    print((peak - gradients) / (size[0] * size[1] * 4))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--loss", choices=PAIRS, help="this loss only")
    arguments.add_argument("--size", nargs=3, type=int, metavar=("SPOTS", "GENES", "FEATURES"))
    arguments.add_argument("--memory", nargs=5, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    if given.memory:
        name, which, *size = given.memory
        report_memory(name, which, (int(size[0]), int(size[1]), int(size[2])))
        return
    shape = tuple(given.size or SIZES[given.quick])
    data, met = make_data(*shape), True
    table = dense(data)
    weights = (torch.arange(shape[1]) % 4 == 0).float()  # a selector that leaves out three genes of four
    density = data.sparse.nnz / (shape[0] * shape[1])
    print(f"{shape[0]:,} spots x {shape[1]:,} genes x {shape[2]} features, {density:.0%} of the counts are not 0\n")
    head = "| loss | products s | apart s | in one s | / apart | from sparse: apart s | in one s | / apart "
    print(f"{head}| 1/4 of the genes | tables, apart | in one |\n|" + "---|" * 11)
    for name, (fused, loss) in PAIRS.items():
        if given.loss not in (None, name):
            continue
        runs: dict[str, Callable[[], None]] = {
            "products": lambda: products(data),
            "apart": lambda loss=loss: apart(loss, data, table),
            "together": lambda fused=fused: together(fused, data, table),
            "sparse apart": lambda loss=loss: apart(loss, data, None),
            "sparse": lambda fused=fused: together(fused, data, data.sparse),
            "some": lambda fused=fused: together(
                lambda *a, **k: fused(*a, **k, gene_weights=weights), data, data.sparse
            ),
        }
        t = in_turn(runs, 5)
        tables = [extra_tables(name, which, shape) for which in ("apart", "together")]
        ratios = t["together"] / t["apart"], t["sparse"] / t["sparse apart"]
        met &= max(ratios) <= MOST_TIME and tables[1] <= MOST_MEMORY
        print(
            f"| {name} | {t['products']:.2f} | {t['apart']:.2f} | {t['together']:.2f} | {ratios[0]:.2f} "
            f"| {t['sparse apart']:.2f} | {t['sparse']:.2f} | {ratios[1]:.2f} | {t['some']:.2f} "
            f"| {tables[0]:.2f} | {tables[1]:.2f} |",
            flush=True,
        )
    print(f"\ntargets: {MOST_TIME} of apart, {MOST_MEMORY} tables: {'met' if met else 'MISSED'}")
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
