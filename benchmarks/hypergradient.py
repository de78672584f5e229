"""Time and memory of a hypergradient, beside the package `higher` and beside plain training steps of the same run.

    python benchmarks/hypergradient.py           # everything, about a quarter of an hour
    python benchmarks/hypergradient.py --quick   # a few minutes

Every engine runs in a process of its own, with one thread. Time is CPU seconds, the best of a few calls; memory is the
peak of the first call above the model, its Adam state and the batches. "plain" is H ordinary training steps on all
genes with torch's Adam: the practical floor. Ends with the targets, met or missed; exit status 1 if one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from mixflow import mixflow
from torch import Tensor, nn

import strank
from agl import registry
from agl.bilevel import Problem
from agl.bilevel.engines import jvp
from agl.bilevel.settings import InnerSettings
from agl.models.predictor import Predictor

HERE, MIXFLOW = "jvp, no look-ahead", "MixFlow"
N_PRIMARY, N_FEATURES, BATCH = 50, 512, 64
MOST_MEMORY = 10_000  # MiB; `higher` is not started where it would need more


class Case(NamedTuple):
    """What is differentiated: a model, genes of the panel, inner steps."""

    model: str
    genes: int
    steps: int
    engine: str

    def __str__(self) -> str:
        return f"{self.model}, {self.genes:,} genes, H = {self.steps}"


class Spots(NamedTuple):
    inputs: Tensor
    counts: Tensor
    library_size: Tensor
    slides: Tensor


class Threshold(nn.Module):
    """The paper's selector: one cut-off on the normalised rank, temperature 0.01."""

    rank: Tensor

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(0.5))
        order = torch.randperm(n_genes, generator=torch.Generator().manual_seed(1))
        self.register_buffer("rank", torch.linspace(0, 1, n_genes)[order])

    def forward(self) -> Tensor:
        return torch.sigmoid((self.threshold - self.rank) / 0.01)


def make(model: str, genes: int, spots: int) -> tuple[Problem, torch.optim.Optimizer, Callable[[], Spots]]:
    """A problem whose optimiser has taken a step, and a maker of batches."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    if model.startswith("ResNet"):
        from agl.models.resnet import resnet18

        trunk: nn.Module = resnet18()
        pixels = int(model.split()[1])
        shape: tuple[int, ...] = (spots, pixels, pixels, 3)
    else:
        trunk = nn.Identity() if model == "linear" else nn.Sequential(nn.Linear(N_FEATURES, 512), nn.GELU())
        shape = (spots, N_FEATURES)
    predictor = Predictor(trunk, 512, genes)
    optimizer = torch.optim.Adam(predictor.parameters(), lr=1e-4)

    def batch() -> Spots:
        if model.startswith("ResNet"):
            inputs = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        else:
            inputs = torch.randn(shape, generator=generator)
        counts = torch.poisson(torch.full((spots, genes), 3.0), generator=generator)
        return Spots(inputs, counts, counts.sum(1), torch.zeros(spots, dtype=torch.long))

    problem = Problem(predictor, strank.pearson_loss, Threshold(genes - N_PRIMARY), N_PRIMARY)
    plain(problem, [batch()], optimizer)
    return problem, optimizer, batch


def plain(problem: Problem, batches: list[Spots], optimizer: torch.optim.Optimizer) -> None:
    """Ordinary training steps."""
    with torch.no_grad():
        coefficients, _ = problem.coefficients(problem.weights())
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        scores = problem.model(batch.inputs)
        losses = strank.pearson_loss(scores, batch.counts, slides=batch.slides, library_size=batch.library_size)
        (coefficients @ losses).backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def measure(case: Case, spots: int, repeats: int) -> dict[str, float]:
    """CPU seconds and MiB of one case, in this process."""
    torch.set_num_threads(1)

    def call(problem: Problem, optimizer: torch.optim.Optimizer, inner: list[Spots], outer: Spots) -> None:
        if case.engine == "plain":
            plain(problem, inner, optimizer)
        elif case.engine == HERE:
            jvp(problem, inner, outer, InnerSettings(optimizer), look_ahead=False)
        elif case.engine == MIXFLOW:
            mixflow(problem, inner, outer, InnerSettings(optimizer))
        else:
            registry.find("engine", case.engine)(problem, inner, outer, InnerSettings(optimizer))

    small, small_optimizer, small_batch = make(case.model, 60, 4)  # loads what is loaded on first use
    call(small, small_optimizer, [small_batch(), small_batch()], small_batch())
    problem, optimizer, batch = make(case.model, case.genes, spots)
    inner, outer = [batch()] * case.steps, batch()
    with open("/proc/self/clear_refs", "w") as file:  # the peak starts from here
        file.write("5")
    before = _memory("VmRSS")
    seconds = []
    for turn in range(repeats):
        started = time.process_time()
        call(problem, optimizer, inner, outer)
        seconds.append(time.process_time() - started)
        if turn == 0:
            peak = _memory("VmHWM") - before
    return {"seconds": min(seconds), "mib": peak}


def _memory(name: str) -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))


def run(case: Case, spots: int, repeats: int) -> dict[str, float] | None:
    """`measure` in a process of its own; None where it needs too much memory or ends badly."""
    if case.engine == "higher" and _higher_needs(case, spots) > MOST_MEMORY:
        return None
    command = [sys.executable, __file__, "--one", json.dumps([list(case), spots, repeats])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _higher_needs(case: Case, spots: int) -> float:
    """About what `higher` keeps, in MiB: some 8 tables of parameters for each step, and a trunk's activations."""
    parameters = case.genes * 513 + (11e6 if case.model.startswith("ResNet") else 3e5)
    pixels = int(case.model.split()[1]) if case.model.startswith("ResNet") else 0
    return case.steps * (8 * parameters * 4 + spots * pixels**2 * 1500) / 2**20


def cases(quick: bool) -> list[tuple[Case, int, int]]:
    """Every case with its spots and repeats."""
    found = []
    sizes = [(genes, steps) for genes in (500, 1000, 5000, 20000) for steps in (1, 4, 12, 48)]
    for genes, steps in [(500, 12), (5000, 12), (20000, 1), (20000, 4), (20000, 12), (20000, 48)] if quick else sizes:
        engines = ["plain", "higher", "forward"]
        if quick and steps in (4, 48):
            engines = ["plain", "forward"]
        if steps == 1:
            engines += ["jvp", HERE]
        if steps == 12:
            engines += ["reverse", MIXFLOW] if not quick or genes == 5000 else []
        found += [(Case("MLP", genes, steps, engine), BATCH, 1 if steps == 48 else 3) for engine in engines]
    genes, spots = (1000, 16) if quick else (5000, 64)
    for steps in (1, 4) if quick else (1, 4, 12):
        engines = ["plain", "jvp", HERE] if steps == 1 else ["plain", "higher", "forward"]
        engines += ["reverse"] if steps == 4 else []
        found += [(Case("ResNet-18 64 px", genes, steps, engine), spots, 2 if quick else 1) for engine in engines]
    return found


def targets(found: dict[Case, dict[str, float]]) -> list[tuple[str, float, float]]:
    """What is promised: a sentence, the measured ratio, the most it may be."""
    asked: list[tuple[str, float, float]] = []

    def ask(case: Case, other: Case, what: str, most: float) -> None:
        if case in found and other in found:
            name = {"seconds": "time", "mib": "memory"}[what]
            beside = other.engine if other.steps == case.steps else f"H = {other.steps}"
            asked.append((f"{case}: {name} of {case.engine} / {beside}", found[case][what] / found[other][what], most))

    for genes, faster in ((20000, 4), (5000, 2)):
        case = Case("MLP", genes, 12, "forward")
        ask(case, case._replace(engine="higher"), "seconds", 1 / faster)
        ask(case, case._replace(engine="higher"), "mib", 0.1)
    for genes, engine in ((500, "forward"), (5000, "reverse")):  # `higher` is what the released code calls
        case = Case("MLP", genes, 12, engine)
        ask(case, case._replace(engine="higher"), "seconds", 1)
    case = Case("MLP", 20000, 12, "forward")
    ask(case, case._replace(engine="plain"), "seconds", 1.5)
    case = Case("MLP", 20000, 48, "forward")
    ask(case, case._replace(steps=4), "mib", 1.1)
    if case in found:
        asked.append((f"{case}: MiB of forward", found[case]["mib"], 300))
    for genes in (1000, 5000, 20000):
        for engine in ("jvp", HERE):
            case = Case("MLP", genes, 1, engine)
            ask(case, case._replace(engine="plain"), "seconds", 2)
        case = Case("ResNet-18 64 px", genes, 4, "forward")
        ask(case, case._replace(engine="higher"), "seconds", 1)
        ask(case, case._replace(engine="higher"), "mib", 0.4)
    return asked


def report(found: dict[Case, dict[str, float]]) -> bool:
    """The table, then the targets; whether all are met."""
    engines = ["plain", "higher", MIXFLOW, "forward", "reverse", "jvp", HERE]
    print("\n| CPU seconds, MiB | " + " | ".join(engines) + " |\n|---|" + "---|" * len(engines))
    for row in dict.fromkeys(case._replace(engine="") for case in found):
        cells = [found.get(row._replace(engine=engine)) for engine in engines]
        shown = ["" if cell is None else f"{cell['seconds']:.2f}, {cell['mib']:.0f}" for cell in cells]
        print(f"| {row} | " + " | ".join(shown) + " |")
    print("\n| target | measured | at most | |\n|---|---|---|---|")
    asked = targets(found)
    for sentence, value, most in asked:
        print(f"| {sentence} | {value:.2f} | {most:.2f} | {'met' if value <= most else 'MISSED'} |")
    return all(value <= most for _, value, most in asked)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        case, spots, repeats = json.loads(options.one)
        print(json.dumps(measure(Case(*case), spots, repeats)))
        return 0
    found: dict[Case, dict[str, float]] = {}
    for case, spots, repeats in cases(options.quick):
        result = run(case, spots, repeats)
        shown = "not run" if result is None else f"{result['seconds']:8.2f} s {result['mib']:8.0f} MiB"
        print(f"{case!s:40} {case.engine:8} {shown}", flush=True)
        if result is not None:
            found[case] = result
    return 0 if report(found) else 1


if __name__ == "__main__":
    sys.exit(main())
