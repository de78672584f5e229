"""What AGL and strank do on a GPU: right first, then how fast. One file, nothing to download.

    python benchmarks/gpu.py --wheels                 # what to bring along
    python benchmarks/gpu.py --minutes 6              # on a machine with a GPU, torch >= 2.9, Python 3.12
    python benchmarks/gpu.py --device cpu --minutes 1 # the same in small, to try it

Prints and writes `benchmarks/gpu.md`, part by part, so that what was found before the time ran out stays. Exit status 1
where a value on the device is not that on the CPU, or a part fails. Times are medians of synchronised runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

import strank  # noqa: E402

WHEELS = ("numpy", "h5py", "safetensors", "torchmetrics", "lightning-utilities", "einops")
MORE = {  # what else a part would like; without it the part says so
    "the synthetic study": ("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions"),
    "the tests marked gpu": ("pytest", "pluggy", "iniconfig", "pandas", "scipy", "scikit-learn", "anndata", "pydantic"),
    "`higher` beside our engines": ("higher",),
}


class Machine(NamedTuple):
    """Where things run, and until when."""

    device: torch.device
    deadline: float
    asked: bool = False  # for this part by name

    @property
    def small(self) -> bool:
        return self.device.type == "cpu"

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    def seconds(self, run: Callable[[], object], rounds: int = 7) -> float:
        """The median of some runs after a first one; fewer where time is short."""
        times = []
        for _ in range(2 if self.small else rounds + 1):
            self.wait()
            start = time.perf_counter()
            run()
            self.wait()
            times.append(time.perf_counter() - start)
            if len(times) > 1 and sum(times) > max(0.5, self.left / 10):
                break
        return statistics.median(times[1:])

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def busy(self, run: Callable[[], object]) -> float:
        """Seconds that the GPU itself works on a run, without the gaps between its kernels; NaN on a CPU."""
        if self.small:
            return float("nan")
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            run()
            self.wait()
        return sum(event.self_device_time_total for event in seen.key_averages()) / 1e6

    def peak(self, run: Callable[[], object]) -> float:
        """MiB above what was there; NaN on a CPU."""
        if self.small:
            return float("nan")
        self.wait()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        run()
        self.wait()
        return (torch.cuda.max_memory_allocated(self.device) - before) / 2**20


class Page:
    """The report, written anew with every line."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.lines, self.failures = path, [], 0

    def add(self, *lines: str) -> None:
        for line in lines:
            print(line, flush=True)
        self.lines += lines
        if self.path is not None:
            self.path.write_text("\n".join(self.lines) + "\n")

    def table(self, *columns: str) -> None:
        self.add("", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns))

    def row(self, *cells: object) -> None:
        self.add("| " + " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells) + " |")

    def check(self, what: str, error: float, most: float) -> None:
        self.failures += not error <= most
        self.row(what, error, most, "agrees" if error <= most else "DIFFERS")


class Spots(NamedTuple):
    inputs: Tensor
    counts: Tensor
    library_size: Tensor
    slides: Tensor

    def to(self, *where: Any) -> Spots:
        moved = [t.to(*where) if t.is_floating_point() else t.to(where[0]) for t in self]
        return Spots(*moved)


def spots(n_spots: int, n_genes: int, n_features: int, n_slides: int = 4, seed: int = 0) -> Spots:
    generator = torch.Generator().manual_seed(seed)
    rates = torch.rand(1, n_genes, generator=generator).square() * 3
    counts = torch.poisson(rates.expand(n_spots, n_genes), generator=generator)
    slides = torch.randint(0, n_slides, (n_spots,), generator=generator)
    features = torch.randn(n_spots, n_features, generator=generator)
    return Spots(features, counts, counts.sum(1) + 1, slides)


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest, relative to the largest value; NaN agrees with NaN alone."""
    a, b = (tensor.detach().double().cpu() for tensor in (found, expected))
    if not torch.equal(a.isnan(), b.isnan()):
        return float("nan")
    return float((a - b).nan_to_num().abs().max() / b.nan_to_num().abs().max().clamp(min=1e-12))


LOSSES: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "listwise": (strank.listwise_nll, {}),
    "listwise, power 0.5": (strank.listwise_nll, {"count_power": 0.5}),
    "pairwise": (strank.pairwise_nll, {"n_partners": 2}),
    "pearson": (strank.pearson_loss, {}),
    "poisson": (strank.poisson_nll, {}),
    "mse": (strank.mse, {}),
    "mse, centred": (strank.mse, {"centred": True}),
    "negative binomial": (strank.negative_binomial_nll, {"dispersion": 2.0}),
    "Dirichlet-multinomial": (strank.dirichlet_multinomial_nll, {"concentration": 5.0}),
    "margin ranking": (strank.margin_ranking, {"n_partners": 2}),
}
FUSED: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "listwise": (strank.linear_listwise_nll, strank.listwise_nll),
    "pearson": (strank.linear_pearson_loss, strank.pearson_loss),
    "poisson": (strank.linear_poisson_nll, strank.poisson_nll),
    "mse": (strank.linear_mse, strank.mse),
}
DTYPES = {torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}  # and how far a gradient may be off


def call(loss: Callable[..., Tensor], *learnt: Tensor | None, data: Spots, **options: Any) -> tuple[Tensor, ...]:
    """Value `[gene]` and the gradients of its mean."""
    given = {"slides": data.slides, "library_size": data.library_size}
    if "n_partners" in options:
        options |= {"generator": torch.Generator().manual_seed(1)}
    value = loss(*learnt, data.counts, **given, **options)
    return value, *torch.autograd.grad(value.mean(), [t for t in learnt if t is not None])


def agreement(machine: Machine, page: Page) -> None:
    """Every loss, metric and engine here and on the CPU in float64."""
    page.table("here against the CPU in float64", "differs by", "at most", "")
    data = spots(300, 40, 8)
    exact = data.to("cpu", torch.float64)
    scores = F.linear(data.inputs, torch.randn(40, 8, generator=torch.Generator().manual_seed(2)))
    for name, (loss, options) in LOSSES.items():
        for dtype, most in DTYPES.items():
            rounded = scores.to(dtype)
            expected = call(loss, rounded.double().requires_grad_(), data=exact, **options)
            learnt = rounded.to(machine.device).requires_grad_()
            found = call(loss, learnt, data=data.to(machine.device), **options)
            error = max(difference(a, b) for a, b in zip(found, expected, strict=True))
            page.check(f"{name}, {str(dtype)[6:]}", error, most)
    for name, (fused, loss) in FUSED.items():
        for dtype, most in DTYPES.items():
            head = [t.to(dtype) for t in (data.inputs, torch.randn(40, 8) / 3, torch.zeros(40))]
            x, w, b = (t.double().requires_grad_() for t in head)
            value = loss(F.linear(x, w, b), exact.counts, slides=exact.slides, library_size=exact.library_size)
            expected = (value, *torch.autograd.grad(value.mean(), [x, w]))
            learnt = [t.to(machine.device).requires_grad_() for t in head]
            found = call(fused, *learnt, data=data.to(machine.device))[:3]
            error = max(difference(a, b) for a, b in zip(found, expected, strict=True))
            page.check(f"head and {name} in one, {str(dtype)[6:]}", error, 5 * most)
    for metric in (strank.pearson, strank.spearman, strank.kendall):
        given = [metric(scores.to(d), data.counts.to(d), slides=data.slides.to(d), per_slide=True)
                 for d in (machine.device, torch.device("cpu"))]  # fmt: skip
        page.check(metric.__name__, difference(*given), 1e-10)
    for name, engine in engines().items():
        hypergradients = []
        for device in (machine.device, torch.device("cpu")):
            problem, optimizer, batches = problem_on(device, 60, torch.float64)
            found_here = engine(problem, batches[:3], batches[3], settings(optimizer))
            hypergradients.append(torch.cat([value.flatten() for value in found_here.phi.values()]))
        page.check(f"engine {name}, float64", difference(*hypergradients), 1e-6)


def engines() -> dict[str, Callable[..., Any]]:
    from agl.bilevel import engines as known

    found = {name: getattr(known, name) for name in ("forward", "reverse", "jvp", "one_step", "finite_difference")}
    return found | ({"higher": known.higher} if importlib.util.find_spec("higher") is not None else {})


def settings(optimizer: torch.optim.Optimizer) -> Any:
    from agl.bilevel.settings import InnerSettings

    return InnerSettings(optimizer)


class Threshold(nn.Module):
    """The paper's selector: one cut-off on the rank."""

    rank: Tensor

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("rank", torch.linspace(0, 1, n_genes))

    def forward(self) -> Tensor:
        return torch.sigmoid((self.threshold - self.rank) / 0.1)


def problem_on(
    device: torch.device, n_genes: int, dtype: torch.dtype, pixels: int = 0, n_spots: int = 64
) -> tuple[Any, torch.optim.Optimizer, list[Spots]]:
    """A problem whose optimiser has taken a step; four batches."""
    from agl.bilevel import Problem
    from agl.models.predictor import Predictor
    from agl.models.resnet import resnet18

    torch.manual_seed(0)
    trunk: nn.Module = resnet18() if pixels else nn.Sequential(nn.Linear(32, 512), nn.GELU())
    model = Predictor(trunk, 512, n_genes).to(device, dtype)
    batches = [spots(n_spots, n_genes, 32, seed=seed).to(device, dtype) for seed in range(4)]
    if pixels:
        patches = torch.randint(0, 256, (n_spots, pixels, pixels, 3), dtype=torch.uint8, device=device)
        batches = [batch._replace(inputs=patches) for batch in batches]
    selector = Threshold(n_genes - 20).to(device, dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    train(model, batches[0], optimizer)
    return Problem(model, strank.pearson_loss, selector, 20), optimizer, batches


def train(model: nn.Module, batch: Spots, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    losses = strank.pearson_loss(
        model(batch.inputs), batch.counts, slides=batch.slides, library_size=batch.library_size
    )
    losses.mean().backward()
    optimizer.step()


def speed_of_losses(machine: Machine, page: Page) -> None:
    """Every loss beside one pass that reads scores and counts and writes a gradient."""
    n_spots, n_genes = (128, 200) if machine.small else (2048, 20000)
    data = spots(n_spots, n_genes, 4).to(machine.device)
    scores = torch.randn(n_spots, n_genes, device=machine.device, requires_grad=True)
    room = torch.empty_like(data.counts)
    floor = machine.seconds(lambda: torch.add(scores.detach(), data.counts, out=room))
    rate = 3 * room.numel() * 4 / floor / 1e9
    page.add("", f"{n_spots:,} spots x {n_genes:,} genes, 4 slides. A floor: {1e3 * floor:.3g} ms, {rate:,.0f} GB/s.")
    page.table("loss, forward + backward", "ms", "floors", "of it GPU ms", "MiB beside the scores and their gradient")
    for name, (loss, options) in LOSSES.items():
        if machine.left < 2:
            return page.row(f"{name}: left out, no time", "", "", "", "")

        def run(loss: Any = loss, options: Any = options) -> None:
            call(loss, scores, data=data, **options)

        taken = machine.seconds(run)
        page.row(
            name, 1e3 * taken, taken / floor, 1e3 * machine.busy(run), machine.peak(run) - room.numel() * 4 / 2**20
        )
    return None


def speed_of_heads(machine: Machine, page: Page) -> None:
    """Head and loss in one beside the two apart, torch.compile's, and the three matrix products alone."""
    n_spots, n_genes, n_features = (64, 300, 16) if machine.small else (2048, 20000, 256)
    data = spots(n_spots, n_genes, n_features).to(machine.device)
    sparse = data.counts.to_sparse_csr()
    compiles = machine.device.type == "cuda" and importlib.util.find_spec("triton") is not None
    page.add("", f"{n_spots:,} spots x {n_genes:,} genes x {n_features} features; a table of scores has "
             f"{n_spots * n_genes * 4 / 2**20:,.1f} MiB.")  # fmt: skip
    page.table("loss", "type", "products ms", "apart ms", "compiled ms", "in one ms", "/ products", "of it GPU ms",
               "MiB apart", "in one", "from sparse ms")  # fmt: skip
    for dtype in (torch.float32,) if machine.small else (torch.float32, torch.bfloat16):
        x, w, b = (
            t.to(machine.device, dtype).requires_grad_()
            for t in (data.inputs, torch.randn(n_genes, n_features) / 16, torch.zeros(n_genes))
        )

        def products(x: Tensor = x, w: Tensor = w) -> None:
            with torch.no_grad():
                scores = F.linear(x, w)
                torch.mm(scores, w)
                torch.mm(scores.T, x)

        floor = machine.seconds(products)
        for name, (fused, loss) in FUSED.items():
            if machine.left < 3:
                return page.row(f"{name}: left out, no time", *[""] * 10)

            def apart(x: Tensor, w: Tensor, b: Tensor, counts: Tensor, loss: Any = loss, **more: Any) -> Tensor:
                return loss(F.linear(x, w, b), counts, **more)

            def together(fused: Any = fused, counts: Tensor = data.counts, head: Any = (x, w, b)) -> None:
                call(fused, *head, data=data._replace(counts=counts))

            def plain(how: Callable[..., Tensor] = apart, head: Any = (x, w, b)) -> None:
                call(how, *head, data=data)

            compiled = float("nan")
            if compiles and name == "listwise" and machine.left > 10:
                by_compiler = torch.compile(reference_list)
                compiled = machine.seconds(lambda how=by_compiler: plain(how))
            taken = machine.seconds(together)
            page.row(name, str(dtype)[6:], 1e3 * floor, 1e3 * machine.seconds(plain), 1e3 * compiled, 1e3 * taken,
                     taken / floor, 1e3 * machine.busy(together), machine.peak(plain), machine.peak(together),
                     1e3 * machine.seconds(lambda: together(counts=sparse)))  # fmt: skip
    return None


def reference_list(x: Tensor, w: Tensor, b: Tensor, counts: Tensor, *, slides: Tensor, library_size: Tensor) -> Tensor:
    """What one writes first, with the slides as a mask, for the compiler."""
    scores = F.linear(x, w, b).float() + library_size.log()[:, None]
    loss = scores.new_zeros(scores.shape[1])
    for slide in range(4):
        here = (slides == slide)[:, None]
        log_p = scores - torch.where(here, scores, -1e30).logsumexp(0)
        loss = loss - (torch.where(here, counts, 0.0) * log_p).sum(0)
    return loss / len(x)


def hypergradients(machine: Machine, page: Page) -> None:
    """Engines beside ordinary steps and `higher`."""
    columns = ["forward", "reverse", "jvp", "higher"]
    cases = [("MLP", 80, 0, 8)] if machine.small else [("MLP", 20000, 0, 64), ("ResNet-18, 224 px", 1000, 224, 32)]
    page.table("model, genes, inner steps", "plain ms", *columns)
    for name, n_genes, pixels, n_spots in cases:
        for steps in (1,) if machine.small else (1, 4, 12):
            if machine.left < 4:
                return page.row(f"{name}: left out, no time", *[""] * 5)
            problem, optimizer, batches = problem_on(machine.device, n_genes, torch.float32, pixels, n_spots)
            inner = [batches[step % 3] for step in range(steps)]

            def plain(problem: Any = problem, inner: Any = inner, optimizer: Any = optimizer) -> None:
                for batch in inner:
                    train(problem.model, batch, optimizer)

            cells: list[str] = []
            known = engines()
            for engine in columns:
                if engine not in known or (engine == "jvp" and steps > 1) or machine.left < 2:
                    cells.append("")
                    continue

                def run(
                    engine: Any = known[engine], problem: Any = problem, inner: Any = inner, optimizer: Any = optimizer,
                    outer: Spots = batches[3],
                ) -> None:  # fmt: skip
                    engine(problem, inner, outer, settings(optimizer))

                try:
                    cells.append(f"{1e3 * machine.seconds(run, 3):.3g} ms, {machine.peak(run):.0f} MiB")
                except torch.OutOfMemoryError:
                    cells.append("out of memory")
            page.row(f"{name}, {n_genes:,}, H = {steps}", 1e3 * machine.seconds(plain, 3), *cells)
    return None


def epoch(machine: Machine, page: Page) -> None:
    """An epoch from patches in memory: copied, scored, learnt from; mixed precision beside full."""
    from agl.models.predictor import resnet18

    n_spots, pixels, size, n_genes = (8, 32, 4, 30) if machine.small else (1024, 224, 128, 1000)
    data = spots(n_spots, n_genes, 1)
    patches = torch.randint(0, 256, (n_spots, pixels, pixels, 3), dtype=torch.uint8)
    patches = patches if machine.small else patches.pin_memory()
    page.table("ResNet-18, " + f"{pixels} px, {n_genes} genes", "spots a second", "GPU busy", "loss at the end")
    ends = []
    for precision in (None, torch.bfloat16):
        torch.manual_seed(0)
        model = resnet18(n_genes).to(machine.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def batch(at: int) -> Spots:
            part = slice(at, at + size)
            moved = [t[part].to(machine.device, non_blocking=True) for t in (patches, *data[1:])]
            return Spots(*moved)

        def step(given: Spots, model: Any = model, optimizer: Any = optimizer, precision: Any = precision) -> Tensor:
            with torch.autocast(machine.device.type, dtype=precision, enabled=precision is not None):
                hidden = model.trunk(given.inputs)
                losses = strank.linear_listwise_nll(
                    hidden, model.head.weight, model.head.bias, given.counts, slides=given.slides,
                    library_size=given.library_size,
                )  # fmt: skip
            optimizer.zero_grad(set_to_none=True)
            losses.mean().backward()
            optimizer.step()
            return losses.detach().mean()

        ready = batch(0)
        step(ready)
        computed = machine.seconds(lambda step=step, ready=ready: step(ready), 3) * n_spots / size
        whole = machine.seconds(lambda step=step: [step(batch(at)) for at in range(0, n_spots, size)], 1)
        ends.append(float(step(ready)))
        page.row("float32" if precision is None else "bfloat16", n_spots / whole, min(1.0, computed / whole), ends[-1])
    page.table("mixed precision against full", "differs by", "at most", "")
    page.check("loss after the same steps", abs(ends[1] - ends[0]) / abs(ends[0]), 0.02)


def solved(machine: Machine, page: Page) -> None:
    """Convex heads and the low-rank trunk, here and on the CPU."""
    from agl.convex.heads import solve_path
    from agl.convex.low_rank import Coordinates, Trunk

    n_spots, n_genes, n_features = (60, 6, 4) if machine.small else (2000, 300, 256)
    data = spots(n_spots, n_genes, n_features)
    x, counts, library = data.inputs.double(), data.counts.double(), data.library_size.double()
    found: dict[str, list[Any]] = {"convex": [], "low rank": []}
    times: dict[str, list[float]] = {"convex": [], "low rank": []}
    for device in (machine.device, torch.device("cpu")):

        def convex(device: torch.device = device) -> Any:
            return solve_path(x, counts, library, data.slides, penalties=[1.0, 0.1], device=device)

        heads = convex()
        found["convex"].append(heads.weights)
        times["convex"].append(machine.seconds(convex, 1))

        def low_rank(device: torch.device = device, weights: Tensor = heads.weights[1]) -> Tensor:
            trunk = Trunk(Coordinates.of(x.to(device)), weights.to(device))
            return trunk.cut(trunk.spectrum(torch.ones(n_genes, dtype=torch.float64, device=device)), [2, 3])

        found["low rank"].append(low_rank())
        times["low rank"].append(machine.seconds(low_rank, 1))
    page.table(f"{n_spots:,} spots x {n_genes} genes x {n_features} features", "here s", "CPU s", "ratio")
    for name, (here, there) in times.items():
        page.row(name, here, there, there / here)
    page.table("weights here against the CPU", "differ by", "at most", "")
    for name, pair in found.items():
        page.check(name, difference(*pair), 1e-4)


def synthetic(machine: Machine, page: Page) -> None:
    """The synthetic study's table, as long as time allows: mean SCC over functions and seeds."""
    if importlib.util.find_spec("pydantic") is None:
        return page.add("", "The synthetic study was left out: it needs the wheel pydantic.")
    from agl.papers.strank_synthetic.settings import StudySettings
    from agl.papers.strank_synthetic.training import MethodTraining, StudyData

    epochs = 1 if machine.small else 2000
    size = (
        {"spots": 400, "evaluation_spots": 100, "seeds": (0,), "functions": (0,)}
        if machine.small
        else {"seeds": (0, 1)}
    )
    study = StudySettings(epochs=epochs, hidden=(16,) if machine.small else (256,), standardise=True,
                          learning_rate=1e-2, device=str(machine.device), **size)  # fmt: skip
    data, budget = StudyData(study), machine.left / 2 / len(study.methods)
    page.table("method", "epochs in the time given", "SCC, last epoch", "s an epoch")
    for method in study.methods:
        training, start, done = MethodTraining(study, method), time.monotonic(), 0
        while done < epochs and (done == 0 or time.monotonic() - start < budget):
            training.train_epoch(list(data.batches(done)), done)
            done += 1
        training.evaluate(data, done - 1)
        page.row(method.label, done, float(training.curves.oracle[-1].mean()), (time.monotonic() - start) / done)
    return None


def several(machine: Machine, page: Page) -> None:
    """torchrun on all GPUs against one: the same gradient, and how much sooner."""
    count = 2 * machine.asked if machine.small else torch.cuda.device_count()
    if count < 2:
        return page.add("", "Left out: there are not several GPUs.")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", __file__]
    command += ["--device", machine.device.type, "--rank"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=max(30.0, machine.left))
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "torchrun failed")
    error, alone, shared = map(float, done.stdout.split()[-3:])
    page.table(f"{count} processes against one", "differs by", "at most", "")
    page.check(f"gradient ({1e3 * alone:.3g} ms alone, {1e3 * shared:.3g} ms together)", error, 1e-4)
    return None


def one_rank(device_type: str) -> None:
    """What each process under torchrun does: its share of the spots, everybody's loss, gradients added up."""
    from agl.training.parallel import together

    with together(device_type) as ranks:
        device = torch.device(device_type, ranks.rank) if device_type == "cuda" else torch.device("cpu")
        n_spots, n_genes = (64, 50) if device_type == "cpu" else (4096, 5000)
        data = spots(n_spots, n_genes, 256).to(device)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, n_genes)).to(device)

        def gradient(share: slice, gather: Callable[[Tensor], Tensor]) -> Tensor:
            model.zero_grad(set_to_none=True)
            scores = gather(model(data.inputs[share]))
            given = {"slides": data.slides, "library_size": data.library_size}
            strank.listwise_nll(scores, data.counts, **given).mean().backward()
            if share != slice(None):
                ranks.sum_gradients(model.parameters())
            return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

        machine = Machine(device, time.monotonic() + 60)
        shared = gradient(ranks.share(n_spots), lambda own: ranks.gather(own, n_spots)).clone()
        taken = machine.seconds(lambda: gradient(ranks.share(n_spots), lambda own: ranks.gather(own, n_spots)))
        ranks.barrier()
        alone = gradient(slice(None), lambda own: own).clone()
        single = machine.seconds(lambda: gradient(slice(None), lambda own: own))
        if ranks.leads:
            print(difference(shared, alone), single, taken)


def marked_tests(machine: Machine, page: Page) -> None:
    """The tests marked gpu, where pytest and what they import are there."""
    missing = [w for w in ("pytest", "pandas", "scipy", "pydantic") if importlib.util.find_spec(w) is None]
    if missing or machine.small:
        why = f"without {', '.join(missing)}" if missing else "on a CPU"
        return page.add("", f"The tests marked gpu were left out {why}.")
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    command += sorted(
        {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text()}
    )
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=machine.left)
    page.failures += done.returncode != 0
    return page.add("", "Tests marked gpu:", "```", *done.stdout.strip().splitlines()[-12:], "```")


class Part(NamedTuple):
    run: Callable[[Machine, Page], None]
    share: float  # of the time that is left, among the parts to come; what one does not use, the next ones have


PARTS = {
    "Right": Part(agreement, 3),
    "Head and loss in one": Part(speed_of_heads, 6),
    "Losses": Part(speed_of_losses, 2),
    "Hypergradients": Part(hypergradients, 5),
    "An epoch from patches": Part(epoch, 2),
    "Solved heads": Part(solved, 2),
    "Tests": Part(marked_tests, 5),
    "Several GPUs": Part(several, 1),
    "The synthetic study": Part(synthetic, 4),
}


def wheels() -> Iterator[str]:
    yield "Bring these wheels for Python 3.12 along, beside torch (with its own dependencies):"
    yield "  " + " ".join(WHEELS)
    for part, names in MORE.items():
        yield f"For {part}: {' '.join(names)}"
    yield f"On a machine with a network: pip download -d wheels --only-binary :all: --no-deps {' '.join(WHEELS)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--wheels", action="store_true", help="print what to bring along, and stop")
    parser.add_argument("--part", choices=PARTS, action="append", help="this part only; may be given again")
    parser.add_argument("--out", type=Path, help="where to write; by default benchmarks/gpu.md, on a CPU nowhere")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.wheels:
        print("\n".join(wheels()))
        return 0
    if given.device == "cuda" and not torch.cuda.is_available():
        print("Expected a CUDA device, found none; try --device cpu.", file=sys.stderr)
        return 2
    if given.rank:
        one_rank(given.device)
        return 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    machine = Machine(torch.device(given.device), time.monotonic() + 60 * given.minutes)
    page = Page(given.out or (None if machine.small else ROOT / "benchmarks" / "gpu.md"))
    card = platform.processor() or "a CPU" if machine.small else torch.cuda.get_device_name()
    page.add(
        "# On a GPU", "", f"`python benchmarks/gpu.py --minutes {given.minutes:g}`: {card}, torch {torch.__version__}."
    )
    asked = {title: part for title, part in PARTS.items() if not given.part or title in given.part}
    shares = [part.share for part in asked.values()]
    for nth, (title, part) in enumerate(asked.items()):
        own = machine.left * shares[nth] / sum(shares[nth:])
        page.add("", f"## {title}")
        if machine.left < 5:
            page.add("", "Left out: no time.")
            continue
        try:
            part.run(machine._replace(deadline=time.monotonic() + own, asked=given.part is not None), page)
        except subprocess.TimeoutExpired as error:
            page.failures += 1
            page.add("", f"FAILED: it took longer than the {error.timeout:.0f} s that were left for it")
        except Exception as error:  # the next part may work, and what failed must be on the page
            page.failures += 1
            page.add("", f"FAILED: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    page.add("", f"{page.failures} failures.")
    return 1 if page.failures else 0


if __name__ == "__main__":
    sys.exit(main())
