"""A finished run put to use: scored again, or applied to a section."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agl.errors import UserError
from agl.runs.fit import settled, solved_scores
from agl.runs.folder import Run, open_run


def evaluate_again(folder: str | Path) -> dict[str, Any]:
    """Read the data and the saved weights anew, score the test spots, and compare with the run's own result."""
    import torch

    from agl.scoring import gene_table, summary

    run = open_run(folder)
    experiment = _experiment(run)
    scores = _predictor(run, experiment)(experiment.dataset, experiment.split.test)
    dataset, test = experiment.dataset, experiment.split.test
    names = np.asarray(dataset.slide_names)[np.asarray(dataset.slide_codes)[test]]
    counts = torch.from_numpy(np.asarray(dataset.dense_counts(test, experiment.panel.primary), dtype=np.float32))
    table = gene_table(
        torch.from_numpy(scores),
        counts,
        np.asarray(dataset.library_size)[test],
        names,
        experiment.primary_names,
        seed=experiment.config.seed,
    )
    numbers = summary(table)
    before = run.result
    keys = ("scc", "pcc", "scc_pooled", "pcc_pooled")
    pairs = [(float(numbers[key]), float("nan") if before[key] is None else float(before[key])) for key in keys]
    same = all(a == b or abs(a - b) < 1e-6 or (np.isnan(a) and np.isnan(b)) for a, b in pairs)
    return {**numbers, "as_recorded": same}


def predict_section(run_folder: str | Path, section: str, *, root: Path | None = None, out: Path | None = None) -> Path:
    """Write the scores of a run's primary genes on one section.

    The file holds the section's spots and the primary genes it measured: `X` the raw counts, `layers["agl_score"]`
    the scores, `obsm["spatial"]` the spot centres, `uns["agl"]` which run, what the numbers mean, and the versions.
    Scores rank the spots of one slide; they have no unit.
    """
    import anndata
    import pandas as pd

    import agl
    from agl.data.dataset import open_dataset

    run = open_run(run_folder)
    experiment = _experiment(run)
    config = run.config
    if root is None:
        dataset, spots = experiment.dataset, _spots_of(experiment.dataset, section)
    else:
        dataset = open_dataset(str(root), **config.data.reading, sections=(section,))
        spots = np.arange(len(dataset.spots))
    names = experiment.primary_names
    positions = {gene: i for i, gene in enumerate(dataset.genes)}
    measured = [i for i, gene in enumerate(names) if gene in positions]
    if not measured:
        raise UserError(
            f"Expected a section that measures some of the run's {len(names)} primary genes ({', '.join(names[:3])}, "
            f"...), section {section!r} has none of them. Are its gene names of the same kind?"
        )
    scores = _predictor(run, experiment)(dataset, spots)[:, measured]
    table = dataset.spots.iloc[spots]
    adata = anndata.AnnData(
        X=dataset.counts[spots][:, [positions[names[i]] for i in measured]],
        obs=pd.DataFrame({"slide": table.slide.to_numpy(object)}, index=pd.Index(table.barcode.to_numpy(object))),
        var=pd.DataFrame(index=pd.Index(np.asarray([names[i] for i in measured], dtype=object))),
        obsm={"spatial": table[["x", "y"]].to_numpy(float)},
        layers={"agl_score": scores.astype(np.float32)},
    )
    adata.uns["agl"] = {
        "run": run.folder.name,
        "version": agl.__version__,
        "loss": config.loss.name,
        "meaning": "higher scores rank higher expression among the spots of one slide; no unit",
        "role_in_training": _role(experiment, section, root),
        "genes_not_measured": [gene for gene in names if gene not in positions],
    }
    file = out or run.folder / f"{section}.h5ad"
    part = file.with_name(file.name + ".part")
    adata.write_h5ad(part)
    part.replace(file)
    return file


def _experiment(run: Run) -> Any:
    """The run's own experiment, on the very data it was trained on."""
    from agl.runs.train import prepare

    experiment = prepare(run.config).experiments[0]
    key = run.provenance["data"]["key"]
    if experiment.dataset.key != key:
        raise UserError(
            f"Expected the data that {run.folder} was trained on (content {key[:12]}), received others (content "
            f"{experiment.dataset.key[:12]}). Restore them, or train anew."
        )
    return settled(experiment, run.folder)


def _predictor(run: Run, experiment: Any) -> Callable[[Any, np.ndarray], np.ndarray]:
    """(dataset, spots) -> scores of the primary genes, from the saved weights; an estimator is fitted again."""
    if experiment.is_estimator:
        fitted = experiment.fit_estimator()
        return lambda dataset, spots: solved_scores(
            fitted, np.asarray(dataset.features[spots]), np.asarray(dataset.slide_codes)[spots]
        )
    from agl.data.batches import SpotLoader
    from agl.runs.checkpoint import load_weights

    trainer = experiment.trainer()
    load_weights(trainer.task.model, run.folder / "checkpoints" / "best.safetensors")
    n_primary = len(experiment.panel.primary)

    def scores(dataset: Any, spots: np.ndarray) -> np.ndarray:
        trainer.task.loader = SpotLoader(dataset, np.zeros(0, dtype=np.int64))
        return trainer.predict(spots)[:, :n_primary].numpy()

    return scores


def _spots_of(dataset: Any, section: str) -> np.ndarray:
    from agl.errors import did_you_mean

    spots = np.flatnonzero(dataset.spots.slide.to_numpy() == section)
    if len(spots) == 0:
        raise UserError(
            f"Expected a section of the run's data, received {section!r}.{did_you_mean(section, dataset.slide_names)}"
        )
    return spots


def _role(experiment: Any, section: str, root: Path | None) -> str:
    """Whether the section helped to make the model: train, validation, test, several of them, or none."""
    if root is not None:
        return "another folder than the run's data"
    slides = experiment.dataset.spots.slide.to_numpy()
    parts = ("train", "validation", "test")
    return " and ".join(part for part in parts if section in set(slides[getattr(experiment.split, part)]))
