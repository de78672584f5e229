"""The released code of AGL, step by step: its threshold beside a plain loop, which takes nothing of ours but a forward.

The loop below says what the release does: an epoch of training, then for every mini-batch a fresh copy of the model,
H steps of a fresh Adam (eps before the bias correction) on the weighted mean of 1 - r divided by the batch size once
more, the primary genes' loss on a batch of held-out spots, and a step of Adam on the threshold.
"""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from torch.func import functional_call

from agl.config import validate
from agl.data.splitting.splits import Split
from agl.testing.plugins import example_dataset
from agl.training.experiment import Experiment
from agl.training.loading import as_deep
from agl.trees import apply_override

RELEASED = Path(__file__).parents[2] / "experiments/agl_intra_slide/released.yaml"
COMPONENTS = """
import numpy as np
from torch import nn
from agl.models.predictor import Predictor

class Wide(nn.Module):
    def forward(self, x):
        return x.double()

def normed(n_features: int, n_genes: int) -> Predictor:
    layers = Wide(), nn.Linear(n_features, 8), nn.BatchNorm1d(8), nn.Tanh()
    return Predictor(nn.Sequential(*layers), 8, n_genes).double()

def in_turn(slides, batch_size, rng):
    n = len(slides)
    return np.array_split(np.arange(n), -(-n // batch_size))

def dimmed(batch, rng, held=slice(None)):
    return batch._replace(inputs=batch.inputs.clamp(max=0.5))
"""
TRAIN, HELD, TEST = np.arange(60), np.arange(60, 90), np.arange(90, 120)
BATCH, PRIMARY, EPOCHS, LR, OUTER_LR, H = 15, 4, 3, 5e-3, 3e-3, 12
WORDS = [
    "data.features=builtin", "data.root=null", "data.sections=null", "primary={name: mean, k: 4}",
    "auxiliary.genes.prior=mean", "auxiliary.min_detection=0", f"auxiliary.outer.batch_size={BATCH}",
    f"auxiliary.outer.inner_scale={1 / BATCH}", f"auxiliary.outer.inner_learning_rate={LR}",
    f"training.batch_size={BATCH}", f"training.learning_rate={LR}", f"training.epochs={EPOCHS}", "training.workers=0",
]  # fmt: skip


def experiment(folder: Path, *words: str) -> Experiment:
    """released.yaml on a small dataset in memory, its model, sampler and augmentation without random draws."""
    file = folder / "components.py"
    file.write_text(COMPONENTS)
    tree = yaml.safe_load(RELEASED.read_text())
    tree["auxiliary"]["genes"] = tree.pop("axes")["auxiliary.genes"][-1]
    del tree["quick"]
    own = [f"model={file}:normed", f"training.sampler={file}:in_turn", f"training.augment={file}:dimmed"]
    for word in [*WORDS, *own, *words]:
        apply_override(tree, word)
    config = validate(tree)
    split = Split("fold", TRAIN, HELD, TEST, "random spots", True)
    return Experiment(config, as_deep(config, example_dataset(genes=16), split), split)


def thresholds(given: Experiment) -> tuple[list[float], dict[str, Tensor]]:
    """Our trainer's threshold after every outer step, and the model it began with."""
    trainer, selector = given.trainer(), given.panel.selector
    selector.double()
    start = {name: value.clone() for name, value in trainer.task.model.state_dict().items()}
    found: list[float] = []
    project = selector.project
    selector.project = lambda: (project(), found.append(selector.threshold.item()))
    trainer.fit()
    return found, start


def one_minus_r(x: Tensor, y: Tensor) -> Tensor:
    """`[gene]`, as released."""
    x, y = x - x.mean(0), y - y.mean(0)
    return 1 - (x * y).sum(0) / (x.square().sum(0).sqrt() * y.square().sum(0).sqrt() + 1e-8)


def plain_thresholds(given: Experiment, start: dict[str, Tensor]) -> list[float]:
    dataset, panel = given.dataset, given.panel
    features = torch.from_numpy(np.asarray(dataset.features)).double().clamp(max=0.5)
    y = torch.from_numpy(np.log1p(dataset.counts.toarray()[:, panel.genes].astype(float)))
    auxiliary = dataset.counts.toarray()[np.ix_(TRAIN, panel.auxiliary)].mean(0)
    rank = torch.empty(len(auxiliary), dtype=torch.float64)
    rank[np.argsort(-auxiliary)] = torch.linspace(0, 1, len(auxiliary), dtype=torch.float64)
    model = given._model()
    model.load_state_dict(start)
    threshold = torch.tensor(rank.mean().item(), dtype=torch.float64, requires_grad=True)
    outer_adam = torch.optim.Adam([threshold], lr=OUTER_LR)
    adam = torch.optim.Adam(model.parameters(), lr=LR)

    def combined(losses: Tensor) -> Tensor:
        weights = torch.cat([torch.ones(PRIMARY).double(), torch.sigmoid((threshold - rank) / 0.01)])
        return (weights * losses).sum() / weights.detach().sum()

    found = []
    inner, outer = np.split(TRAIN, len(TRAIN) // BATCH), np.split(HELD, len(HELD) // BATCH)
    for epoch in range(EPOCHS):
        model.train()
        for spots, held in zip(inner, cycle(outer), strict=False) if epoch else ():
            buffers = {name: value.clone() for name, value in model.named_buffers()}
            params = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
            first = {name: torch.zeros_like(p) for name, p in params.items()}
            second = {name: torch.zeros_like(p) for name, p in params.items()}

            def scores(params: dict[str, Tensor], rows: np.ndarray, buffers: dict[str, Tensor] = buffers) -> Tensor:
                copies = {name: value.clone() for name, value in buffers.items()}
                return functional_call(model, {**params, **copies}, (features[rows],))

            for step in range(1, H + 1):
                loss = combined(one_minus_r(scores(params, spots), y[spots])) / BATCH
                gradients = torch.autograd.grad(loss, list(params.values()), create_graph=True)
                moved = {}
                for (name, p), g in zip(params.items(), gradients, strict=True):
                    first[name] = 0.9 * first[name] + 0.1 * g
                    second[name] = 0.999 * second[name] + 0.001 * g * g
                    root = torch.where(second[name] > 0, second[name], 1.0).sqrt() * (second[name] > 0)
                    size = LR * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
                    moved[name] = p - size * first[name] / (root + 1e-8)
                params = moved
            outer_adam.zero_grad()
            one_minus_r(scores(params, held)[:, :PRIMARY], y[held][:, :PRIMARY]).mean().backward(inputs=[threshold])
            outer_adam.step()
            found.append(threshold.item())
        for spots in inner:
            adam.zero_grad()
            combined(one_minus_r(model(features[spots]), y[spots])).backward()
            adam.step()
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], list[float]]:
    """The thresholds of our trainer and of the plain loop."""
    given = experiment(tmp_path_factory.mktemp("released"))
    ours, start = thresholds(given)
    return ours, plain_thresholds(given, start)


def test_the_threshold_is_the_released_codes_step_by_step(both: tuple[list[float], list[float]]) -> None:
    ours, theirs = both
    assert len(ours) == len(theirs) == 4 * (EPOCHS - 1)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    assert np.abs(np.diff([0.5, *ours])).min() > 1e-5  # it moved at every step


@pytest.mark.parametrize(
    "word",
    [
        "auxiliary.outer.per=epoch", "auxiliary.outer.inner_scale=1.0", "auxiliary.outer.statistics=training",
        "auxiliary.outer.augment=false", "data.library=measured",
    ],
)  # fmt: skip
def test_each_of_its_settings_counts(word: str, both: tuple[list[float], list[float]], tmp_path: Path) -> None:
    theirs = both[1]
    other, _ = thresholds(experiment(tmp_path, word))
    assert len(other) != len(theirs) or np.abs(np.subtract(other, theirs)).max() > 1e-5


def test_an_unbounded_threshold_leaves_its_range() -> None:
    from agl.genes.selectors import DkGSB

    def after(bounded: bool) -> float:
        selector = DkGSB.__new__(DkGSB)
        torch.nn.Module.__init__(selector)
        selector.bounded, selector.threshold = bounded, torch.nn.Parameter(torch.tensor(1.25))
        selector.project()
        return selector.threshold.item()

    assert (after(True), after(False)) == (1.0, 1.25)
