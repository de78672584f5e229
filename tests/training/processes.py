"""What two processes compute together, written as JSON for `test_parallel`: started by torchrun, one argument."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import nn

import strank
from agl.config import Outer, Training, load
from agl.data.batches import SpotLoader, shuffled
from agl.genes.selectors.base import Selector
from agl.models.predictor import resnet18
from agl.runs.train import train
from agl.training.auxiliary import AuxiliarySelection
from agl.training.parallel import Ranks, alone, current, together
from agl.training.plugins import Plugin
from agl.training.shared_norm import share_batch_norm
from agl.training.task import Task
from agl.training.trainer import Trainer

N_SPOTS = 7  # an odd number: shares of 4 and 3


def scores_and_gradients(ranks: Ranks, n: int) -> dict[str, list]:
    """A linear model, each process with its share of the spots, a loss that mixes all spots."""
    inputs, model = problem(n)
    own = model(inputs[ranks.share(n)])
    scores = ranks.gather(own, n)
    torch.log_softmax(scores, 0)[0].sum().backward()
    ranks.sum_gradients(model.parameters())
    return {"scores": scores.tolist(), "weight": model.weight.grad.tolist(), "bias": model.bias.grad.tolist()}


def problem(n: int) -> tuple[torch.Tensor, nn.Linear]:
    torch.manual_seed(0)
    return torch.randn(n, 3), nn.Linear(3, 2)


def normed(shape: tuple[int, ...], momentum: float | None) -> tuple[torch.Tensor, nn.Sequential]:
    torch.manual_seed(1)
    layer = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(shape[1], momentum=momentum)
    nn.init.uniform_(layer.weight)
    nn.init.uniform_(layer.bias)
    return torch.randn(shape, dtype=torch.float64) + 100, nn.Sequential(layer).double()


def through_batch_norm(ranks: Ranks, shape: tuple[int, ...], momentum: float | None) -> dict[str, list]:
    """Two batches through a batch norm; the second one's gradients."""
    inputs, model = normed(shape, momentum)
    if ranks.size > 1:
        share_batch_norm(model)
    share = ranks.share(shape[0])
    model(inputs[share] * 2)
    mine = inputs[share].clone().requires_grad_()
    out = ranks.gather(model(mine), shape[0])
    out.pow(3).flatten(1).cumsum(1).sum().backward()
    ranks.sum_gradients(model.parameters())
    state = {name: value.tolist() for name, value in model.state_dict().items()}
    gradients = {f"{name}.grad": value.grad.tolist() for name, value in model.named_parameters()}
    with alone():
        own = model(inputs)  # the whole batch in every process, as a look-ahead
    return state | gradients | {"out": out.tolist(), "inputs": collected(ranks, mine.grad), "own": own.tolist()}


def collected(ranks: Ranks, mine: torch.Tensor) -> list:
    parts = ranks.all_gather([mine.tolist()])
    return [row for part in parts for row in part]


def training(ranks: Ranks, *words: str) -> dict[str, list]:
    """A whole run, as `agl train` makes it: what every epoch recorded, and the test scores."""
    folder = Path(tempfile.mkdtemp()) if ranks.leads else None
    run = train(load([*SMALL, *words, f"output={ranks.broadcast(str(folder))}"]))[0]
    ranks.barrier()
    records = {}
    for stage in ("selection", "history"):
        for line in (run.folder / f"{stage}.jsonl").read_text().splitlines():
            for key, value in json.loads(line).items():
                records.setdefault(f"{stage}/{key}", []).append(value)
    scores = pd.read_csv(run.folder / "per_gene.csv").select_dtypes("number").fillna(-9)
    files = sorted(file.name for file in run.folder.iterdir())
    return records | {name: column.tolist() for name, column in scores.items()} | {"files": files}


def pixels(ranks: Ranks) -> dict[str, list]:
    """Two epochs of a ResNet in float64: batch norm in every layer, and look-aheads between the epochs."""
    torch.manual_seed(2)
    model = resnet18(5)
    model.trunk.layer2 = model.trunk.layer3 = model.trunk.layer4 = nn.Identity()
    model.head = nn.Linear(64, 5)
    selector = Gates(2)
    loader = SpotLoader(Pictures(), np.arange(5))
    weights = selector().detach().clone()
    task = Task(model.double(), strank.pearson_loss, loader, np.arange(21), np.arange(21, 30), 3, weights)
    outer = Outer(steps=2, batches=3, every=1, start=0, batch_size=8)
    plugin = AuxiliarySelection(selector.double(), outer, np.arange(13, 21))
    seen: list[list[float]] = []
    settings = Training(epochs=2, batch_size=7, augment="dihedral")
    trainer = Trainer(task, settings, shuffled, plugins=[plugin, Losses(seen)], ranks=ranks)
    trainer.fit()
    state = {f"state/{name}": value.tolist() for name, value in model.state_dict().items() if "layer1.0" in name}
    return state | {"losses": seen, "weights": task.weights.tolist(), "scores": trainer.predict(np.arange(30)).tolist()}


def threads_of_gloo() -> list[str]:
    """By their names, where the system tells; one that is left when the interpreter ends may abort the process."""
    names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


class Gates(Selector):
    """One sigmoid per gene."""

    signal = "hypergradient"

    def __init__(self, n: int) -> None:
        nn.Module.__init__(self)
        self.n_genes, self.logits = n, nn.Parameter(torch.zeros(n))

    def forward(self) -> torch.Tensor:
        return torch.sigmoid(self.logits)


class Losses(Plugin):
    """Every epoch's losses and score."""

    def __init__(self, seen: list[list[float]]) -> None:
        self.seen = seen

    def epoch_end(self, trainer: Trainer, record: dict) -> None:
        self.seen.append([record[key] for key in ("loss", "primary_loss", "auxiliary_loss", "scc", "outer_before")])


class Pictures:
    """Thirty spots of two slides with patches, five genes that the brightness of a patch decides."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        level = rng.integers(20, 230, 30)
        noise = rng.integers(-20, 20, (30, 16, 16, 3))
        self.images = (level[:, None, None, None] + noise).astype(np.uint8)
        self.rates = np.exp(level[:, None] / 100 * rng.normal(size=5)[None])
        self.table = sparse.csr_matrix(rng.poisson(self.rates))
        self.library_size = np.full(30, 100)
        self.slide_codes = np.repeat([0, 1], 15)
        self.slide_names = ("A", "B")
        self.features, self.patches, self.spots = None, self, range(30)

    def panel_counts(self, genes: np.ndarray) -> sparse.csr_matrix:
        return self.table[:, genes]

    def read(self, spots: np.ndarray) -> np.ndarray:
        return self.images[spots]


SMALL = (
    "data.simulate={n_genes: 60, spots_per_slide: 40, n_patients: 3, patch_size: 32}", "primary.k=6", "fold=0",
    "model=mlp", "model.dropout=0", "training.device=cpu", "training.batch_size=31", "training.epochs=3",
    "auxiliary.outer.batches=3", "auxiliary.outer.batch_size=24", "auxiliary.outer.start=0", "auxiliary.outer.every=1",
)  # fmt: skip
CASES = {
    "linear": lambda ranks: scores_and_gradients(ranks, N_SPOTS),
    "one spot": lambda ranks: scores_and_gradients(ranks, 1),  # one process has none
    "norm of features": lambda ranks: through_batch_norm(ranks, (N_SPOTS, 3), 0.1),
    "norm of maps": lambda ranks: through_batch_norm(ranks, (N_SPOTS, 3, 2, 4), 0.1),
    "norm, plain average": lambda ranks: through_batch_norm(ranks, (N_SPOTS, 3, 2, 2), None),
    "norm, one spot": lambda ranks: through_batch_norm(ranks, (1, 2, 3, 3), 0.1),
    "in turn": lambda ranks: {"found": ranks.all_gather([i * i for i in ranks.round_robin(5)])},
    "training, learned selection": lambda ranks: training(ranks, "auxiliary.genes=dkgsb"),
    "training, gated, partners drawn": lambda ranks: training(
        ranks, "auxiliary.genes=prior_mixture", "auxiliary.gate=trunk", "loss=pairwise"
    ),
    "training from pixels": pixels,
}


if __name__ == "__main__":
    with together("cpu"):
        found = {name: case(current()) for name, case in CASES.items()}
        found["leader"] = current().broadcast("leader" if current().leads else "other")
        leads = current().leads
    assert not (left := threads_of_gloo()), f"these threads outlive the group: {left}"
    if leads:
        Path(sys.argv[1]).write_text(json.dumps(found))
