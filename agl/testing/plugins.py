"""Does a plugin of the training loop fit? For ours, and for yours.

>>> from agl.training.plugins import EarlyStopping
>>> check_plugin(EarlyStopping)
"""

from __future__ import annotations

import difflib
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor

import strank
from agl.config import Training
from agl.data.batches import SpotLoader, grouped
from agl.data.dataset import Dataset
from agl.models.predictor import mlp
from agl.training.plugins import Plugin
from agl.training.task import Task
from agl.training.trainer import Trainer

EVENTS = [name for name in vars(Plugin) if not name.startswith("_")]
EPOCHS = 4
N_GENES, N_PRIMARY = 8, 5


def example_dataset(
    spots_per_slide: int = 40, slides: int = 3, genes: int = 12, features: int = 6, seed: int = 0
) -> Dataset:
    """A dataset in memory, small enough to train on in a blink, with signal in it."""
    rng = np.random.default_rng(seed)
    n = spots_per_slide * slides
    x = rng.normal(size=(n, features)).astype(np.float32)
    counts = rng.poisson(np.exp(1 + x @ (rng.normal(size=(features, genes)) * 0.7))).astype(np.int32)
    slide = np.repeat([f"S{i}" for i in range(slides)], spots_per_slide)
    table = pd.DataFrame(
        {
            "barcode": [f"b{i}" for i in range(n)],
            "slide": slide,
            "patient": [f"P{s[1:]}" for s in slide],
            "x": np.tile(np.arange(spots_per_slide) % 8, slides) * 100.0,
            "y": np.tile(np.arange(spots_per_slide) // 8, slides) * 100.0,
        }
    )
    return Dataset(
        spots=table,
        genes=tuple(f"G{i}" for i in range(genes)),
        counts=sparse.csr_matrix(counts),
        library_size=counts.sum(1).astype(np.int64) + 5,
        features=x,
        patches=None,
        key=f"memory-{seed}",
        report={},
    )


def example_trainer(plugins: Sequence[Plugin] = (), *, epochs: int = EPOCHS) -> Trainer:
    """Five primary and three auxiliary genes on two slides of `example_dataset`; the third validates."""
    dataset = example_dataset()
    torch.manual_seed(0)
    model = mlp(dataset.features.shape[1], N_GENES, hidden=(16,))  # type: ignore[union-attr]
    task = Task(
        model=model,
        loss=strank.listwise_nll,
        loader=SpotLoader(dataset, np.arange(N_GENES)),
        train=np.arange(80),
        validation=np.arange(80, 120),
        n_primary=N_PRIMARY,
        weights=torch.tensor([1.0, 0.5, 0.0]),
    )
    return Trainer(task, Training(epochs=epochs, batch_size=24), grouped, 0, plugins)


def check_plugin(make: Callable[[], Plugin], *, watches: bool = False) -> None:
    """Assert the contract of a plugin that `make()` gives: it can be repeated, interrupted and taken up again.

    Its events have names that the trainer knows; what it adds to an epoch's record, and its summary, can be written as
    JSON; its state can be saved and read without running code; a training interrupted after any epoch ends with the
    bits of an uninterrupted one.

    Args:
        make: gives a new plugin; called several times.
        watches: whether it only watches: a training with it must have the bits of one without.
    """
    _check_names(make())
    whole = _Watched(make)
    whole.trainer.fit()
    _check_plain(whole)
    again = _Watched(make)
    again.trainer.fit()
    assert _same(whole.weights, again.weights), (
        "Expected the same training twice, received other bits; seed what is random."
    )
    for epoch in range(1, len(whole.records)):
        resumed = _Watched(make)
        resumed.trainer.load_state_dict(_through_a_file(whole.states[epoch - 1]))
        resumed.trainer.fit()
        assert _same(whole.weights, resumed.weights), (
            f"Expected a training taken up after epoch {epoch} to end with the bits of an uninterrupted one, received "
            "others; what the plugin must remember belongs in state_dict."
        )
        assert resumed.records == whole.records[epoch:], (
            f"Expected the same records of epochs after {epoch} from a training taken up there, received others."
        )
    if watches:
        plain = _Watched(None)
        plain.trainer.fit()
        assert _same(whole.weights, plain.weights), (
            "Expected a plugin that only watches; the training has other bits with it."
        )


class _Watched:
    """A training with the plugin, and what it recorded and would have saved after every epoch."""

    def __init__(self, make: Callable[[], Plugin] | None) -> None:
        self.records: list[dict[str, Any]] = []
        self.states: list[bytes] = []
        self.plugin = None if make is None else make()
        self.trainer = example_trainer([*([] if self.plugin is None else [self.plugin]), _Recorder(self)])

    @property
    def weights(self) -> dict[str, Tensor]:
        return {**self.trainer.task.model.state_dict(), "weights of auxiliary genes": self.trainer.task.weights}


class _Recorder(Plugin):
    """Comes last, as a checkpoint does."""

    def __init__(self, watched: _Watched) -> None:
        self.watched = watched

    def epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self.watched.records.append(dict(record))
        buffer = io.BytesIO()
        torch.save(trainer.state_dict(), buffer)
        self.watched.states.append(buffer.getvalue())


def _check_names(plugin: Any) -> None:
    for event in EVENTS:
        assert callable(getattr(plugin, event, None)), (
            f"Expected a method {event}; inherit agl.training.plugins.Plugin."
        )
    for name in vars(type(plugin)):
        near = difflib.get_close_matches(name, EVENTS, n=1, cutoff=0.8)
        assert name in EVENTS or name.startswith("_") or not near, (
            f"The trainer never calls {name!r}. Did you mean {near[0]!r}? Events are {', '.join(EVENTS)}."
        )


def _check_plain(watched: _Watched) -> None:
    for what, value in [("record", record) for record in watched.records] + [("summary", _summary(watched))]:
        try:
            json.dumps(value)
        except TypeError as error:
            raise AssertionError(f"Expected numbers and words in the {what}, received {value!r} ({error}).") from None


def _summary(watched: _Watched) -> dict[str, Any]:
    return {} if watched.plugin is None else watched.plugin.summary()


def _through_a_file(saved: bytes) -> dict[str, Any]:
    try:
        return torch.load(io.BytesIO(saved), weights_only=True)
    except Exception as error:
        raise AssertionError(
            "Expected a state_dict of tensors, numbers, strings, lists and dicts, received something that cannot be "
            f"read back without running code ({type(error).__name__})."
        ) from None


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)
