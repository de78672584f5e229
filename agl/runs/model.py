"""The model of a finished run: what it was fitted to is kept in the run's folder and needs no training data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agl.errors import ModelError
from agl.runs.folder import Run
from agl.runs.saved import RECIPE, WEIGHTS, recipe_of

if TYPE_CHECKING:
    from agl.prediction.model import Model
    from agl.prediction.recipe import Recipe
    from agl.prediction.scorers import Scorer
    from agl.training.experiment import Experiment


def model_of(run: Run) -> Model:
    """A run's model.

    Raises:
        ModelError: an estimator that cannot be written down, or a run of an earlier version: it is fitted again, on the
            very data it was trained on, which have to be there.
    """
    import pandas as pd

    from agl.prediction.model import Model
    from agl.prediction.recipe import Recipe

    config = run.fitted_config
    panel = pd.read_csv(run.folder / "panel.csv", dtype={"gene": str}, keep_default_na=False)
    genes = tuple(panel.gene[panel.role == "primary"])
    if (run.folder / RECIPE).is_file() and (run.folder / WEIGHTS).is_file():
        recipe = Recipe.from_dict(run.recipe)
        scorer = _saved(run, recipe, len(genes), len(panel))
    else:
        experiment = experiment_of(run)
        recipe, scorer = recipe_of(experiment), _fitted_again(run, experiment)
    return Model(genes, recipe, scorer, config, _about(run, len(panel)))


def ensemble_of_runs(runs: Sequence[Run]) -> Model:
    """The average of several runs' models; of one run, its model."""
    from agl.prediction.ensemble import ensemble_of
    from agl.prediction.model import Model

    models = [model_of(run) for run in runs]
    return models[0] if len(models) == 1 else Model.of(ensemble_of(models))


def experiment_of(run: Run) -> Experiment:
    """The run's own experiment, on the very data it was trained on."""
    from agl.runs.choosing import decided
    from agl.runs.fit import settled
    from agl.runs.train import prepare

    experiment = prepare(run.config).experiments[0]
    key = run.whole_provenance["data"]["key"]
    if experiment.dataset.key != key:
        raise ModelError(
            f"Expected the data that {run.folder} was trained on (content {key[:12]}), received others (content "
            f"{experiment.dataset.key[:12]}). Restore them, or train anew."
        )
    return settled(decided(run.folder, experiment), run.folder)


def _saved(run: Run, recipe: Recipe, n_primary: int, n_heads: int) -> Scorer:
    """The scorer whose weights the run wrote."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    from agl.estimators.networks import network
    from agl.estimators.written import read
    from agl.prediction.scorers import Network, Solved

    file = run.folder / WEIGHTS
    try:
        tensors = load_file(str(file))
        with safe_open(str(file), "pt") as opened:
            kind = (opened.metadata() or {}).get("kind")
    except SafetensorError as error:
        raise ModelError(
            f"Expected weights in {file}, received something else ({error}). Train the run again."
        ) from None
    if kind is not None:
        return Solved(read(kind, tensors))
    width = recipe.surroundings.width(sum(size for _, size in recipe.encoders)) if recipe.encoders else None
    return Network(network(run.fitted_config.model, tensors, width, n_heads), n_primary)


def _fitted_again(run: Run, experiment: Experiment) -> Scorer:
    from agl.prediction.scorers import Network, Solved
    from agl.runs.checkpoint import load_weights

    if experiment.is_estimator:
        return Solved(experiment.fit_estimator())
    trainer = experiment.trainer()
    load_weights(trainer.task.model, run.folder / WEIGHTS)
    return Network(trainer.task.model.cpu(), len(experiment.panel.primary))


def _about(run: Run, n_heads: int) -> dict[str, Any]:
    """What a model's card says of where it comes from, as plain values."""
    provenance, config = run.whole_provenance, run.fitted_config
    split, report = provenance["split"], provenance["data"]["report"]
    slides = sorted({*split["slides"]["train"], *split["slides"]["validation"]})
    patients = {report["sections"][slide]["patient"] for slide in slides if slide in report["sections"]}
    spots = split["spots"]["train"] + split["spots"]["validation"]
    return {
        "run": run.folder.name,
        "heads": n_heads,
        "trained_on": {
            "spots": spots,
            "slides": f"{len(slides)} ({', '.join(slides[:12])}{', ...' if len(slides) > 12 else ''})",
            "patients": len(patients),
            "content of the data": provenance["data"]["key"],
            "split": f"{split['name']}: {split['protocol']}" + (" (optimistic)" if split["optimistic"] else ""),
        },
        "test_slides": len(split["slides"]["test"]),
        "optimistic": bool(split["optimistic"]),
        "slides": split["slides"],
        "per_gene": (run.folder / "per_gene.csv").read_text("utf-8"),
        "origin": {
            "run": run.folder.name,
            "seed": config.seed,
            "auxiliary genes": config.auxiliary.genes.name,
            "finished": provenance["finished"],
            "agl": provenance["packages"]["agl"],
            "torch": provenance["packages"]["torch"],
        },
    }
