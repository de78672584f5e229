"""Speed and memory of strank's losses beside a plain autograd loop over slides, measured in the same run.

    python benchmarks/losses.py            # everything, a few minutes
    python benchmarks/losses.py --quick    # without 2,048 x 20,000
    python benchmarks/losses.py --loss pairwise

CPU time of one thread, forward + backward; slides of unequal size in random order. "floor" is one pass that reads
scores and counts and writes a new gradient. Memory is the peak beside inputs and gradient, in tables of [spot, gene].
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import strank

Loss = Callable[..., Tensor]
SIZES = [  # spots, genes, slides
    (256, 50, 1),
    (256, 50, 8),
    (256, 50, 64),
    (2048, 50, 64),
    (2048, 1000, 1),
    (2048, 1000, 8),
    (2048, 1000, 64),
    (256, 20000, 1),
    (256, 20000, 8),
    (256, 20000, 64),
    (2048, 20000, 1),
    (2048, 20000, 8),
    (2048, 20000, 64),
]
OTHERS = [(256, 50, 1), (256, 50, 8), (2048, 1000, 8), (256, 20000, 8), (2048, 20000, 8)]
AT_LEAST = {  # times as fast
    "pairwise": 3.0,
    "margin_ranking": 3.0,
    "negative_binomial": 1.5,
    "pearson": 3.0,
    "mse": 1.0,
    "poisson": 1.0,
}
SMALL = 1.5  # the same for 256 x 50, whatever the loss


class Data(NamedTuple):
    scores: Tensor
    counts: Tensor
    slides: Tensor
    library_size: Tensor


def make_data(n_spots: int, n_genes: int, n_slides: int) -> Data:
    generator = torch.Generator().manual_seed(0)
    depth = torch.rand(1, n_genes, generator=generator) * 3
    counts = torch.poisson(depth.expand(n_spots, n_genes), generator=generator)
    slides = torch.arange(n_spots) % n_slides
    slides = slides[torch.randperm(n_spots, generator=generator)]
    if n_slides > 1:  # slides of unequal size, as a shuffled batch has them
        slides = torch.where(torch.rand(n_spots, generator=generator) < 0.5, slides, slides.flip(0))
    scores = torch.randn(n_spots, n_genes, generator=generator).requires_grad_()
    return Data(scores, counts, slides, counts.sum(1) + 1)


# --- the references: what one writes first, slide by slide ---------------------------------------------------------


def listwise_loop(scores: Tensor, counts: Tensor, *, slides: Tensor, library_size: Tensor) -> Tensor:
    losses = []
    for slide in slides.unique():
        here = slides == slide
        logits = scores[here] + library_size[here].log()[:, None]
        losses.append(-F.log_softmax(logits, 0) * counts[here])
    return torch.cat(losses).mean(0)


def pearson_loop(scores: Tensor, counts: Tensor, *, slides: Tensor, library_size: Tensor) -> Tensor:
    losses = []
    for slide in slides.unique():
        here = slides == slide
        x, y = scores[here], torch.log1p(1e4 * counts[here] / library_size[here][:, None])
        x, y = x - x.mean(0), y - y.mean(0)
        losses.append(1 - (x * y).sum(0) / (x.norm(dim=0) * y.norm(dim=0) + 1e-8))
    return torch.stack(losses).mean(0)


def mse_loop(scores: Tensor, counts: Tensor, *, slides: Tensor, library_size: Tensor) -> Tensor:
    target = torch.log1p(1e4 * counts / library_size[:, None])
    return F.mse_loss(scores, target, reduction="none").mean(0)


def poisson_loop(scores: Tensor, counts: Tensor, *, slides: Tensor, library_size: Tensor) -> Tensor:
    log_rate = scores + (library_size / 1e4).log()[:, None]
    return F.poisson_nll_loss(log_rate, counts, reduction="none").mean(0)


def _shuffle_inside(slides: Tensor) -> Tensor:
    order = torch.empty_like(slides)
    for slide in slides.unique():
        here = (slides == slide).nonzero().squeeze(1)
        order[here] = here[torch.randperm(len(here))]
    return order


def pairwise_loop(scores: Tensor, counts: Tensor, *, slides: Tensor, library_size: Tensor) -> Tensor:
    logits = scores + library_size.log()[:, None]
    first, second = _shuffle_inside(slides), _shuffle_inside(slides)
    pairs = torch.stack([logits[first], logits[second]], 1)
    both = torch.stack([counts[first], counts[second]], 1)
    return (-F.log_softmax(pairs, 1) * both).mean((0, 1))


def margin_loop(scores: Tensor, counts: Tensor, *, slides: Tensor, library_size: Tensor) -> Tensor:
    level = counts / library_size[:, None]
    loss = torch.zeros(scores.shape[1])
    for _ in range(32):
        other = _shuffle_inside(slides)
        sign = torch.where(level > level[other], 1, -1)
        loss = loss + F.margin_ranking_loss(scores, scores[other], sign, reduction="none").mean(0)
    return loss / 32


class NegativeBinomialLoop:
    """torch.distributions, as the released code has it."""

    def __init__(self, n_genes: int) -> None:
        self.log_dispersion = torch.zeros(n_genes, requires_grad=True)

    def __call__(self, scores: Tensor, counts: Tensor, *, slides: Tensor, library_size: Tensor) -> Tensor:
        mean = (scores + (library_size / library_size.mean()).log()[:, None]).exp()
        theta = self.log_dispersion.exp()
        return -torch.distributions.NegativeBinomial(theta, mean / (mean + theta)).log_prob(counts).mean(0)


def pair_of(name: str, n_genes: int) -> tuple[Loss, Loss]:
    """Ours and the reference."""
    if name == "negative_binomial":
        return strank.NegativeBinomialLoss(n_genes), NegativeBinomialLoop(n_genes)
    return {
        "listwise": (strank.listwise_nll, listwise_loop),
        "pearson": (strank.pearson_loss, pearson_loop),
        "pairwise": (strank.pairwise_nll, pairwise_loop),
        "margin_ranking": (strank.margin_ranking_released, margin_loop),
        "mse": (strank.mse, mse_loop),
        "poisson": (strank.poisson_nll, poisson_loop),
    }[name]


# --- measuring -----------------------------------------------------------------------------------------------------


def step(loss: Loss, data: Data) -> None:
    data.scores.grad = None
    loss(data.scores, data.counts, slides=data.slides, library_size=data.library_size).mean().backward()


class Timing(NamedTuple):
    """Median milliseconds, and the median over rounds of theirs / ours."""

    floor: float
    theirs: float
    ours: float
    ratio: float


def compare(
    floor: Callable[[], object], theirs: Callable[[], object], ours: Callable[[], object], budget: float
) -> Timing:
    """Times the three in turns, at least five rounds after a warm-up, so that other load hits all of them alike."""
    runs = (floor, theirs, ours)
    repeats = [max(1, int(0.004 / max(1e-6, (seconds(run, 1), seconds(run, 1))[1]))) for run in runs]
    rounds: list[list[float]] = []
    start = time.process_time()
    while len(rounds) < 5 or time.process_time() - start < 3 * budget:
        rounds.append([1e3 * seconds(run, n) for run, n in zip(runs, repeats, strict=True)])
    columns = [statistics.median(times) for times in zip(*rounds, strict=True)]
    return Timing(*columns, statistics.median(other / own for _, other, own in rounds))


def seconds(run: Callable[[], object], repeats: int) -> float:
    """CPU time of one run."""
    start = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - start) / repeats


def extra_tables(name: str, which: str, size: tuple[int, int, int]) -> float:
    """Peak memory of a step beside inputs and gradient, in tables of [spot, gene]; a fresh process measures it."""
    command = [sys.executable, __file__, "--memory", name, which, *map(str, size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report_memory(name: str, which: str, size: tuple[int, int, int]) -> None:
    loss = pair_of(name, size[1])[which == "reference"]
    step(loss, make_data(16, size[1], 1))  # libraries loaded, threads started
    data = make_data(*size)
    peak_before = _peak_bytes()
    filler = torch.ones(max(0, (peak_before - _now_bytes()) // 4))  # so that the peak cannot hide below an earlier one
    before = _now_bytes()
    step(loss, data)
    del filler
    table = data.scores.numel() * 4
    print((max(_peak_bytes(), before) - before) / table - 1)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _now_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class Target(NamedTuple):
    what: str
    found: float
    at_least: float  # for memory: at most
    is_memory: bool = False

    @property
    def met(self) -> bool:
        return self.found <= self.at_least if self.is_memory else self.found >= self.at_least


def listwise_target(n_genes: int, n_slides: int) -> float:
    if n_slides == 64:
        return 10.0
    if n_genes >= 1000:
        return 3.0 if n_slides == 8 else 2.5
    return SMALL


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--loss", choices=("listwise", *AT_LEAST), help="this loss only, and no memory")
    arguments.add_argument("--memory", nargs=5, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    if given.memory:
        name, which, *size = given.memory
        report_memory(name, which, (int(size[0]), int(size[1]), int(size[2])))
        return

    torch.ones(7 << 20)  # 28 MiB, freed at once: from here on malloc keeps such memory, as in a long training
    targets: list[Target] = []
    budget = 0.2 if given.quick else 1.0
    cases = [("listwise", size) for size in SIZES]
    cases += [(name, size) for name in AT_LEAST for size in OTHERS]
    cases = [(name, size) for name, size in cases if given.loss in (None, name)]
    header = f"{'floor ms':>10}{'loop ms':>10}{'ours ms':>10}{'floors':>8}{'ratio':>8}"
    print(f"{'loss':18}{'spots, genes, slides':>24}{header}")
    for name, size in cases:
        large = size[0] * size[1] > 10_000_000
        if large and (given.quick or name == "margin_ranking"):  # that loop takes minutes and 16 GB there
            continue
        data = make_data(*size)
        ours, reference = pair_of(name, size[1])
        found = compare(
            lambda data=data: torch.add(data.scores.detach(), data.counts),
            lambda data=data, reference=reference: step(reference, data),
            lambda data=data, ours=ours: step(ours, data),
            budget,
        )
        label = f"{size[0]:,} x {size[1]:,}, {size[2]}"
        times = f"{found.floor:10.3f}{found.theirs:10.2f}{found.ours:10.2f}{found.ours / found.floor:8.1f}"
        print(f"{name:18}{label:>24}{times}{found.ratio:7.1f}x", flush=True)
        goal = listwise_target(size[1], size[2]) if name == "listwise" else AT_LEAST[name] if size[1] > 50 else SMALL
        targets.append(Target(f"{name} {label}: times as fast", found.ratio, goal))

    size = (512, 20000, 8)
    print(f"\nextra memory at {size[0]:,} x {size[1]:,}, {size[2]} slides, in tables of [spot, gene]")
    for name in () if given.loss else ("listwise", *AT_LEAST):
        mine, theirs = extra_tables(name, "ours", size), extra_tables(name, "reference", size)
        print(f"{name:18}{mine:8.2f} (loop {theirs:.2f})", flush=True)
        limit = theirs / 10 if name == "margin_ranking" else 0.5
        targets.append(Target(f"{name}: extra memory", mine, limit, is_memory=True))

    print()
    for target in targets:
        sign = "<=" if target.is_memory else ">="
        verdict = "pass" if target.met else "FAIL"
        print(f"{verdict}  {target.what:60} {target.found:7.2f} {sign} {target.at_least:.2f}")
    raise SystemExit(0 if all(target.met for target in targets) else 1)


if __name__ == "__main__":
    main()
