"""Fitting one run, in one stage or two.

A learned selection is found with some training spots held out for the outer problem. Unless the config says
otherwise (`auxiliary.outer.refit`), its weights are then held fixed and the predictor is trained anew on all training
spots, as it is for every gene set: the comparison is of gene choices, not of numbers of spots.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import Tensor

    from agl.training.experiment import Experiment
    from agl.training.trainer import Trainer

SELECTION = "selection.json"


@dataclass(frozen=True)
class Fitted:
    """What fitting gives: a predictor, the auxiliary genes' weights `[auxiliary gene]`, numbers for the result."""

    predict: Callable[[np.ndarray], Tensor]  # positions of spots -> scores [spot, gene], primary genes first
    weights: np.ndarray
    numbers: dict[str, Any]
    spread: Callable[[np.ndarray], np.ndarray] | None = None  # how little a committee's members agree `[spot, gene]`
    costs: dict[str, float] = field(default_factory=dict)  # seconds of parts of the fit


def fit(folder: Path, experiment: Experiment, progress: Progress | None = None) -> Fitted:
    """Fit the experiment's predictor, taking up what an interrupted attempt left in the folder."""
    if experiment.is_estimator:
        return _fit_estimator(folder, experiment)
    if experiment.panel.selector is None or not experiment.config.auxiliary.outer.refit:
        trainer = _train(folder, experiment, "history", progress)
        weights = trainer.task.weights.cpu().numpy()
        return Fitted(trainer.predict, weights, _numbers(trainer) | _learned(trainer) | {"k": chosen(weights)})
    if not (folder / SELECTION).is_file():
        _select(folder, experiment, progress)
    selection = json.loads((folder / SELECTION).read_text())
    trainer = _train(folder, settled(experiment, folder), "history", progress)
    return Fitted(trainer.predict, np.asarray(selection["weights"]), _numbers(trainer) | selection["learned"])


def settled(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with the selection that a run found; as it is where none was learned."""
    file = folder / SELECTION
    if not file.is_file():
        return experiment
    weights = np.asarray(json.loads(file.read_text())["weights"], dtype=np.float32)
    return replace(experiment, given=experiment.panel.settled(weights))


def chosen(weights: np.ndarray) -> int:
    """k: how many genes have a weight of at least one half."""
    return int((weights >= 0.5).sum())


def _select(folder: Path, experiment: Experiment, progress: Progress | None) -> None:
    from agl.runs.files import write_json

    trainer = _train(folder, experiment, "selection", progress)
    weights = trainer.task.weights.cpu().numpy()
    learned = _learned(trainer) | {"k": chosen(weights), "selection_epochs": trainer.epoch}
    write_json(folder / SELECTION, {"weights": weights.tolist(), "learned": learned})


def _train(folder: Path, experiment: Experiment, stage: str, progress: Progress | None) -> Trainer:
    """Train to the end; `stage` names the files: STAGE.jsonl, checkpoints/STAGE.pt."""
    from agl.runs.checkpoint import resume, save_weights
    from agl.training.plugins import Checkpoint, History, Plugin, ProgressBar, TensorBoard

    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    state = checkpoints / f"{stage}.pt"
    board = folder / "tb" if stage == "history" else folder / "tb" / stage
    extra: list[Plugin] = [History(folder / f"{stage}.jsonl"), TensorBoard(board)]
    extra += [ProgressBar(progress, f"{folder.name} {stage}")] if progress is not None else []
    extra += [Checkpoint(state, every=experiment.config.training.checkpoint_every)]
    trainer = experiment.trainer(extra)
    resume(trainer, state)
    trainer.fit()
    if stage == "history":
        save_weights(trainer, checkpoints / "best.safetensors")
    return trainer


def _numbers(trainer: Trainer) -> dict[str, Any]:
    from agl.training.plugins import EarlyStopping

    stopping = next(plugin for plugin in trainer.plugins if isinstance(plugin, EarlyStopping))
    return {
        "epochs": trainer.epoch,
        "best_epoch": stopping.best_epoch,
        "validation": stopping.best,
        "k": chosen(trainer.task.weights.cpu().numpy()),
    }


def _learned(trainer: Trainer) -> dict[str, Any]:
    return {key: value for plugin in trainer.plugins for key, value in plugin.summary().items()}


def _fit_estimator(folder: Path, experiment: Experiment) -> Fitted:
    """Solve it, telling the history, TensorBoard and the config's plugins of every step."""
    import torch

    from agl.runs.saved import WEIGHTS, save_fitted
    from agl.training.experiment import features_of
    from agl.training.plugins import History, TensorBoard
    from agl.training.solving import Solving

    dataset = experiment.dataset
    features, slides = features_of(experiment.config, dataset), np.asarray(dataset.slide_codes)
    (folder / "history.jsonl").unlink(missing_ok=True)  # solved from its beginning, also after an interruption
    solving = Solving([*experiment.own_plugins(), History(folder / "history.jsonl"), TensorBoard(folder / "tb")])
    solving.begin()
    fitted = experiment.fit_estimator(solving.report)
    details = dict(fitted.details)
    costs = details.pop("costs", {})  # seconds, which differ from run to run: no part of the result
    weights = np.asarray(details.pop("weights", experiment.panel.weights), dtype=np.float32)
    numbers = {"epochs": 0, **details, **_validation(experiment), **solving.end()}

    def predict(spots: np.ndarray) -> Tensor:
        scores = solved_scores(fitted, np.asarray(features[spots]), slides[spots])
        return torch.from_numpy(np.ascontiguousarray(scores, dtype=np.float32))

    apart: Any = getattr(fitted, "mean_and_spread", None)  # of an estimator with several members

    def spread(spots: np.ndarray) -> np.ndarray:
        return np.asarray(apart(np.asarray(features[spots]), slides[spots])[1], dtype=np.float32)

    save_fitted(folder / WEIGHTS, fitted)
    return Fitted(predict, weights, numbers, None if apart is None else spread, costs)


def _validation(experiment: Experiment) -> dict[str, float]:
    """The score on the validation spots of a fit without them, for whoever searches; the result's has them in it.

    A selector that is learned has its own left-out spots, and would take as long again.
    """
    from agl.scoring import mean_scores

    spots, dataset = experiment.split.validation, experiment.dataset
    if len(spots) == 0 or experiment.panel.selector is not None:
        return {}
    import torch

    assert dataset.features is not None
    slides = np.asarray(dataset.slide_codes)[spots]
    fitted = experiment.fit_estimator(spots=experiment.split.train)
    scores = torch.from_numpy(solved_scores(fitted, np.asarray(dataset.features[spots]), slides))
    counts = torch.from_numpy(dataset.dense_counts(spots, experiment.panel.primary))
    found = mean_scores(scores, counts, np.asarray(dataset.library_size)[spots], slides)
    return {"validation": found[experiment.config.training.monitor]}


def solved_scores(fitted: Any, features: np.ndarray, slides: np.ndarray) -> np.ndarray:
    """float64 `[spot, primary gene]` of a fitted estimator, which is told of slides where it asks for them."""
    from agl import registry

    return np.asarray(registry.taking(fitted.predict, "slides")(features, slides=slides))
