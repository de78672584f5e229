"""From a config to what will be trained: dataset, split, panel, predictor, trainer. Only training spots decide."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from agl import registry
from agl.config import Component, Config, Training
from agl.data.batches import SpotLoader
from agl.data.dataset import Dataset
from agl.data.splitting.holdout import patient_or_slide
from agl.data.splitting.splits import Split, hold_out
from agl.data.views import feature_views
from agl.errors import UserError
from agl.estimators.networks import NetworkScores
from agl.estimators.sample import FittedEstimator, Report, Sample
from agl.estimators.start import middle_penalty, read_start
from agl.genes.panel import Panel
from agl.machine import pick_device
from agl.seeds import seeded
from agl.training.auxiliary import AuxiliarySelection
from agl.training.contracts import module_of, plugin_of, try_model
from agl.training.merging import merge_of
from agl.training.parts import loader_of, panel_of
from agl.training.plugins import EarlyStopping, Plugin
from agl.training.sharing import Sharing
from agl.training.starting import SolvedStart, StartOnAllSpots
from agl.training.task import Task
from agl.training.trainer import Trainer

PATIENCE, RANK = 15, 5  # of a network in a committee: epochs without gain, and the rank of what it starts from


def features_of(config: Config, dataset: Dataset) -> np.ndarray:
    """Features `[spot, feature]`, which a model that is solved cannot do without."""
    if dataset.features is None:
        raise UserError(
            f"Expected features for the model {config.model.name!r}, received none. Set data.features=builtin or a "
            "folder of features, or choose a model of patches: resnet18, nsl."
        )
    return dataset.features


def sample_of(
    config: Config, dataset: Dataset, panel: Panel, spots: np.ndarray, report: Report | None = None
) -> Sample:
    """Some spots of a dataset, as an estimator is fitted on them, in the order of the positions `spots`."""
    features = features_of(config, dataset)
    given: dict[str, Any] = {} if report is None else {"report": report}
    return Sample(
        features=np.asarray(features[spots]),
        counts=dataset.panel_counts(panel.genes)[spots].toarray(),
        library_size=np.asarray(dataset.library_size)[spots],
        slides=np.asarray(dataset.slide_codes)[spots],
        patients=np.unique(patient_or_slide(dataset.spots).to_numpy(str)[spots], return_inverse=True)[1],
        n_primary=len(panel.primary),
        loss=config.loss,
        views=feature_views(dataset.report.get("features"), features.shape[1]),
        weights=panel.weights,
        strength=config.auxiliary.strength,
        selector=panel.selector,
        outer=config.auxiliary.outer,
        score=config.training.monitor,
        seed=config.seed,
        device=str(pick_device(config.training.device, "training.device")),
        spots=np.asarray(spots),
        genes=panel.genes,
        places=dataset.spots[["x", "y"]].to_numpy(float)[spots],
        trains=partial(_train_network, config, dataset, panel),
        **given,
    )


def _train_network(
    config: Config, dataset: Dataset, panel: Panel, sample: Sample, model: Component, columns: np.ndarray, seed: int
) -> NetworkScores:
    """A network beside the members of a committee, on a sample's own spots: some of them say when to stop."""
    assert dataset.features is not None
    assert sample.spots is not None
    assert sample.genes is not None
    component = registry.complete("model", model)
    if "start" in component.args:
        start = read_start(str(component.args["start"]), sample.loss)
        component = component.model_copy(update={"start": start})
    own = config.training
    training = Training(device=own.device, threads=own.threads, monitor=own.monitor, patience=PATIENCE)
    changes = {"model": component, "loss": sample.loss, "seed": sample.seed + seed, "training": training, "plugins": ()}
    if len(columns) < dataset.features.shape[1]:
        dataset = replace(dataset, features=np.asarray(dataset.features)[:, columns])
    drawn = seeded(config.seed, "seat")
    validation = config.validation
    train, held = hold_out(dataset.spots, np.sort(sample.spots), validation.fraction, validation.unit, drawn)
    rest = np.setdiff1d(np.arange(len(dataset)), sample.spots)
    genes, n = sample.genes, sample.n_primary
    experiment = Experiment(
        config.model_copy(update=changes),
        dataset,
        Split("seat", train, held, rest, "seat", False),
        replace(
            panel, primary=genes[:n], auxiliary=genes[n:], weights=sample.weights.astype(np.float32), selector=None
        ),
    )
    trainer = experiment.trainer()
    for plugin in trainer.plugins:
        if isinstance(plugin, SolvedStart):  # nothing is chosen in a committee
            rank = {"rank": RANK} if plugin.start == "low_rank" else {}
            plugin.chosen = {"penalty": middle_penalty(sample.loss.name), **rank}
    trainer.fit()
    return NetworkScores(component, trainer.task.model.cpu(), columns, len(genes), n)


@dataclass(frozen=True)
class Experiment:
    """One fold of one config over its dataset. Parts are made when first asked for, in this order."""

    config: Config
    dataset: Dataset
    split: Split
    given: Panel | None = None  # a panel that is known already
    sharing: Sharing = field(default_factory=lambda: Sharing(0))  # with other experiments of this process

    @cached_property
    def panel(self) -> Panel:
        """Genes: primary ones by all spots but the test's, so that seeds share them; all else by what is fitted on."""
        if self.given is not None:
            return self.given
        return panel_of(self.config, self.dataset, self.split, self.sharing, on_all=self.is_estimator)

    @property
    def primary_names(self) -> list[str]:
        """Names of the primary genes, in the order of the first heads."""
        return [self.dataset.genes[i] for i in self.panel.primary]

    @property
    def is_estimator(self) -> bool:
        """Whether the predictor is fitted as a whole instead of by the trainer."""
        return registry.is_estimator(self.config.model)

    def sample(self, report: Report | None = None, *, spots: np.ndarray | None = None) -> Sample:
        """What an estimator is fitted on: training and validation spots, for none are needed to know when to stop.

        Args:
            spots: others instead: a network starts from the training spots alone, not having seen its validation spots.
        """
        if spots is None:
            spots = np.sort(np.concatenate([self.split.train, self.split.validation]))
        if self.is_estimator and getattr(registry.find("estimator", self.config.model.name), "as_in_files", False):
            spots = self.dataset.as_in_files(spots, self.split.train_slides)
        return sample_of(self.config, self.dataset, self.panel, spots, report)

    def fit_estimator(self, report: Report | None = None, *, spots: np.ndarray | None = None) -> FittedEstimator:
        """A fitted estimator of the primary genes; it takes a `Sample`, or arrays as scikit-learn's do."""
        torch.set_num_threads(self.config.training.threads)
        estimator, sample = registry.build("estimator", self.config.model), self.sample(report, spots=spots)
        if registry.takes_sample(estimator):
            return estimator.fit(sample)
        return estimator.fit(sample.features, sample.primary, sample.library_size, sample.slides, seed=self.config.seed)

    def own_plugins(self) -> list[Plugin]:
        """The plugins that the config names."""
        given = [(each.name, registry.build("plugin", each, seed=self.config.seed)) for each in self.config.plugins]
        return [plugin_of(name, plugin) for name, plugin in given]

    def trainer(self, extra: list[Plugin] | None = None) -> Trainer:
        """A trainer at epoch 0, with the plugins the config implies and `extra` ones after them."""
        config, panel = self.config, self.panel
        torch.set_num_threads(config.training.threads)
        device = pick_device(config.training.device, "training.device")
        train = self.split.train
        plugins: list[Plugin] = []
        model = self._model()
        started = getattr(model, "start", None) is not None and "start" in config.model.args
        begun = SolvedStart(str(config.model.args.get("start")), lambda spots: self.sample(spots=spots))
        plugins += [begun] if started else []
        if panel.selector is not None:
            train, outer = self._outer_spots()
            plugins.append(AuxiliarySelection(panel.selector, config.auxiliary.outer, outer, seed=config.seed))
        plugins += self.own_plugins()
        plugins.append(
            EarlyStopping(patience=config.training.patience, monitor=config.training.monitor, from_start=started)
        )
        plugins += [StartOnAllSpots(begun)] if started else []
        task = Task(
            model=model,
            loss=self._loss(),
            loader=loader_of(self.dataset, panel.genes, getattr(model, "reduce", None), self.sharing),
            train=train,
            validation=self.split.validation,
            n_primary=len(panel.primary),
            weights=torch.from_numpy(panel.weights.copy()),
            combine=registry.bind("objective", config.auxiliary.objective),
            strength=config.auxiliary.strength,
            gate=config.auxiliary.gate,
            merge=merge_of(config.auxiliary.merge),
        )
        sampler = registry.bind("sampler", config.training.sampler)
        return Trainer(task, config.training, sampler, config.seed, [*plugins, *(extra or [])], device)

    def _model(self) -> Any:
        """The predictor, its initial weights drawn from the seed, its scaler fitted on the training spots."""
        from agl.models.predictor import Standardise

        features = self.dataset.features
        given: dict[str, Any] = {"n_genes": len(self.panel.genes)}
        given |= {"n_features": features.shape[1]} if features is not None else {}
        torch.manual_seed(int(seeded(self.config.seed, "init").integers(2**62)))
        try:
            model = module_of(self.config.model.name, registry.build("model", self.config.model, **given))
        except TypeError as error:
            if features is None and "n_features" in str(error):
                raise UserError(
                    f"The model {self.config.model.name!r} needs features, and data.features=none gives none. "
                    "Set data.features=builtin or a folder of features, or choose a model of patches: resnet18, nsl."
                ) from None
            raise UserError(f"The model {self.config.model.name!r} could not be built: {error}.") from None
        except ValueError as error:
            raise UserError(str(error)) from None
        if features is not None and not registry.has("model", self.config.model.name):
            try_model(self.config.model.name, model, features.shape[1], len(self.panel.genes))
        for module in model.modules():
            if isinstance(module, Standardise) and features is not None:
                module.fit(features, self.split.train)
        if features is None and hasattr(model, "calibrate"):
            model.calibrate(
                SpotLoader(self.dataset, self.panel.genes, reduce=model.reduce).inputs(self.split.train).numpy()
            )
        if len(self.panel.weights) and self.config.auxiliary.gate == "trunk" and not hasattr(model, "head"):
            raise UserError(
                f"The model {self.config.model.name!r} shares no trunk as it is configured, so auxiliary.gate=trunk "
                "has nothing to act on. Use auxiliary.gate=loss, or a shared trunk (nsl: model.shared=true)."
            )
        return model

    def _loss(self) -> Any:
        """The loss as (scores, counts, *, slides, library_size) -> [gene]; a class is made first."""
        component = self.config.loss
        if inspect.isclass(registry.find("loss", component.name)):
            return registry.build("loss", component, n_genes=len(self.panel.genes))
        return registry.taking(registry.bind("loss", component), "slides", "library_size")

    def _outer_spots(self) -> tuple[np.ndarray, np.ndarray]:
        """Training spots split once more: those of the inner and those of the outer problem."""
        outer = self.config.auxiliary.outer
        if outer.unit == "validation":
            return self.split.train, self.split.validation
        rng = seeded(self.config.seed, "outer")
        return hold_out(self.dataset.spots, self.split.train, outer.fraction, outer.unit, rng)
