"""Every method on every case at once: the cases are the genes of one call of the loss.

A loss of strank gives one value per column and knows nothing of the others, so the sum over columns trains every
network as if it were alone: same gradient, same AdamW step. All methods and cases see the spots in the same order;
x, counts and first weights differ by case and are shared by the methods.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import strank
from agl import registry
from agl.papers.strank_synthetic.networks import Networks
from agl.papers.strank_synthetic.points import Points
from agl.papers.strank_synthetic.settings import Method, StudySettings
from agl.papers.strank_synthetic.tissues import Tissues, Truth
from agl.seeds import seeded

STREAMS = ("oracle", "honest", "test")
CHUNK = 1024  # spots scored at once: memory stays small


@dataclass(frozen=True)
class TableBatch:
    """One mini-batch of every case: `counts [spot, case]`, `slides [spot]`."""

    points: Points
    counts: Tensor
    slides: Tensor


@dataclass
class Curves:
    """SCC after each evaluated epoch, `[evaluation, case]`: three ways to judge, one row an evaluation.

    oracle: against the noise-free signal at validation spots. honest: against counts of validation spots, inside each
    tissue, mean of both. test: against the noise-free signal at test spots.
    """

    epochs: list[int] = field(default_factory=list)
    oracle: list[np.ndarray] = field(default_factory=list)
    honest: list[np.ndarray] = field(default_factory=list)
    test: list[np.ndarray] = field(default_factory=list)


class StudyData:
    """What all methods share: tissues, the truth, and the scale of the networks' input."""

    def __init__(self, study: StudySettings) -> None:
        cases, spots = study.cases, study.evaluation_spots
        self.study = study
        self.training = Tissues.draw(cases, study.protocol, study.spots, "training", study.device)
        self.validation = Tissues.draw(cases, study.protocol, -(-spots // 2), "validation", study.device)
        self.oracle = Truth.draw(cases, spots, "oracle", study.device)
        self.test = Truth.draw(cases, spots, "test", study.device)
        x = self.training.x
        self.centre = x.mean(1, keepdim=True) if study.standardise else torch.zeros_like(x[:, :1])
        self.spread = x.std(1, keepdim=True) if study.standardise else torch.ones_like(x[:, :1])

    def inputs(self, x: Tensor) -> Tensor:
        """What the networks see of x `[case, spot]`."""
        return (x - self.centre) / self.spread

    def batches(self, epoch: int) -> Iterator[TableBatch]:
        """The training spots of both tissues in an order that the epoch decides."""
        tissues, size = self.training, self.study.batch_size
        order = torch.from_numpy(seeded(self.study.seed, "order", epoch).permutation(len(tissues.slides)))
        order = order.to(tissues.x.device)
        x, counts, slides = (
            self.inputs(tissues.x[:, order]),
            tissues.counts[:, order].T.contiguous(),
            tissues.slides[order],
        )
        for start in range(0, len(order), size):
            part = slice(start, start + size)
            yield TableBatch(Points.of(x[:, part].contiguous()), counts[part], slides[part])


class MethodTraining:
    """One method: a network, an optimiser state and curves for every case."""

    def __init__(self, study: StudySettings, method: Method) -> None:
        self.study, self.method = study, method
        seeds = [seeded(case.seed, "network", case.function) for case in study.cases]
        self.networks = Networks(study.hidden, seeds, device=study.device)
        found = registry.find("loss", method.loss.name)
        if isinstance(found, type):
            self.loss: Any = registry.build("loss", method.loss, n_genes=len(study.cases))
        else:
            registry.check_complete("loss", method.loss, found)
            self.loss = registry.bind("loss", method.loss)
        module = isinstance(self.loss, nn.Module)
        self.takes = registry.parameters(self.loss.forward if module else self.loss)
        learned = list(self.loss.to(study.device).parameters()) if module else []
        self.optimizer = torch.optim.AdamW([*self.networks.parameters, *learned], lr=study.learning_rate, fused=True)
        self.curves = Curves()

    def train_epoch(self, batches: list[TableBatch], epoch: int) -> None:
        """One pass over the spots."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.study, epoch)
        generator = torch.Generator().manual_seed(int(seeded(self.study.seed, "pairs", epoch).integers(2**62)))
        for batch in batches:
            self.step(batch, generator)

    def step(self, batch: TableBatch, generator: torch.Generator) -> None:
        """Scores, the loss's own gradient, the networks' gradient, AdamW."""
        scores = self.networks.forward(batch.points).T.contiguous().requires_grad_()
        given: dict[str, Any] = {"slides": batch.slides if self.method.grouped else None, "generator": generator}
        values = self.loss(scores, batch.counts, **{word: given[word] for word in given if word in self.takes})
        if isinstance(self.loss, nn.Module):
            self.loss.zero_grad()
        values.sum().backward()
        assert scores.grad is not None
        self.networks.backward(batch.points, scores.grad.T)
        self.optimizer.step()

    def evaluate(self, data: StudyData, epoch: int) -> None:
        """Append to the curves."""
        self.curves.epochs.append(epoch)
        for stream, truth in (("oracle", data.oracle), ("test", data.test)):
            found = strank.spearman(self.scores(data, truth.x), truth.signal.T)
            getattr(self.curves, stream).append(found.cpu().numpy())
        validation = data.validation
        found = strank.spearman(
            self.scores(data, validation.x), validation.counts.T, slides=validation.slides, per_slide=True
        )
        self.curves.honest.append(torch.nanmean(found, 0).cpu().numpy())

    def scores(self, data: StudyData, x: Tensor) -> Tensor:
        """`[spot, case]` for x `[case, spot]`."""
        inputs = data.inputs(x)
        parts = [self.networks.forward(Points.of(part.contiguous())) for part in inputs.split(CHUNK, dim=1)]
        return torch.cat(parts, 1).T

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, and the curves so far: tensors and plain values."""
        return {
            "networks": [parameter.detach().clone() for parameter in self.networks.parameters],
            "loss": self.loss.state_dict() if isinstance(self.loss, nn.Module) else {},
            "optimizer": self.optimizer.state_dict(),
            "curves": {name: torch.as_tensor(np.array(values)) for name, values in vars(self.curves).items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        for parameter, saved in zip(self.networks.parameters, state["networks"], strict=True):
            parameter.copy_(saved)
        if isinstance(self.loss, nn.Module):
            self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        curves = {name: values.numpy() for name, values in state["curves"].items()}
        self.curves = Curves(curves.pop("epochs").tolist(), **{name: [*values] for name, values in curves.items()})


def learning_rate(study: StudySettings, epoch: int) -> float:
    """Of an epoch, counted from 0: warm restarts after 10, 30, 70, ... epochs (released) or one cosine (paper).

    >>> learning_rate(StudySettings(epochs=10, schedule="cosine"), 5)
    0.0005
    """
    if study.schedule == "cosine":
        return study.learning_rate * (1 + math.cos(math.pi * epoch / study.epochs)) / 2
    period = 10
    while epoch >= period:
        epoch, period = epoch - period, 2 * period
    lowest = study.learning_rate / 10
    return lowest + (study.learning_rate - lowest) * (1 + math.cos(math.pi * epoch / period)) / 2
