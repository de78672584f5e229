"""Train, score and write one run: begun once, finished once, whoever else tries."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from agl.errors import UserError
from agl.leftovers import mark, replacing, sweep
from agl.nuisances import nuisance_scores
from agl.runs.choosing import decided, read_choice
from agl.runs.files import write_json, write_text
from agl.runs.fit import fit
from agl.runs.folder import Run, folder_of, locked
from agl.runs.hparams import write_hparams
from agl.runs.provenance import run_provenance
from agl.runs.saved import RECIPE, recipe_of
from agl.training.sharing import marks

if TYPE_CHECKING:
    from rich.progress import Progress

    from agl.scoring import Measured
    from agl.training.experiment import Experiment
    from agl.training.parallel import Ranks

LOOKALIKE_SPOTS = 2_000  # of the training side that say how predictable a gene is: under a second, to .01 or so


def execute(experiment: Experiment, *, progress: Progress | None = None) -> Run:
    """Train, score and write one run; a finished one is returned as it is.

    `experiment.config` must be complete (see `agl.training.experiment.complete`) and name a fold.
    """
    from agl.training.parallel import current

    run, ranks = Run(folder_of(experiment.config, experiment.dataset)), current()
    if ranks.broadcast(run.finished):
        return run
    if not ranks.leads:
        return _follow(run, experiment, ranks)
    run.folder.mkdir(parents=True, exist_ok=True)
    with locked(run.folder):
        if not ranks.broadcast(run.finished):  # another process may have finished it while this one waited
            ranks.barrier()  # until the others have read what an interrupted attempt left
            with _begun_or_gone(run.folder):
                _write(run, experiment, progress)
            ranks.barrier()
    return run


@contextmanager
def _begun_or_gone(folder: Path) -> Iterator[None]:
    """A run that ends before its first epoch did has nothing to resume: its folder goes, too."""
    try:
        yield
    except BaseException:
        if not any(file.stat().st_size for file in folder.glob("*.jsonl")):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _follow(run: Run, experiment: Experiment, ranks: Ranks) -> Run:
    """Take part in a run that another process writes: the same steps, in a folder that is thrown away."""
    if not ranks.broadcast(None):
        sweep(Path(tempfile.gettempdir()), "agl-*")
        with tempfile.TemporaryDirectory(prefix="agl-", suffix=mark()) as scratch:
            own = Run(Path(scratch) / "run")
            shutil.copytree(run.folder, own.folder)
            ranks.barrier()
            _write(own, experiment, None)
        ranks.barrier()
    return run


def _write(run: Run, experiment: Experiment, progress: Progress | None) -> None:
    from agl.scoring import POOLED, PREDICTABILITY, summary

    started = time.perf_counter()
    write_text(run.folder / "config.yaml", yaml.safe_dump(experiment.config.to_dict(), sort_keys=False))
    asked = experiment
    experiment = decided(run.folder, asked, progress)
    write_panel(run.folder, experiment)  # early, so that a look into a running run shows its genes
    fitted = fit(run.folder, experiment, progress)
    write_panel(run.folder, experiment, fitted.weights)
    test = experiment.split.test
    dataset, n_primary = experiment.dataset, len(experiment.panel.primary)
    scores = fitted.predict(test)[:, :n_primary]
    if changed := dataset.changed():
        raise UserError(
            f"Expected the cached import of the data to stay as it is while a run reads it, found that {changed}. "
            f"Delete {run.folder} and start the same command again: the data are imported anew."
        )
    if not bool(scores.isfinite().all()):
        raise UserError(
            f"Expected finite scores of the test spots, received NaN or infinity: the training of {run.folder} has "
            "diverged. Lower training.learning_rate or set training.clip=1."
        )
    write_json(run.folder / RECIPE, recipe_of(experiment).to_dict())
    spread = None if fitted.spread is None else fitted.spread(test)
    write_predictions(run.folder / "predictions.npz", experiment, scores, spread)
    table = measured(experiment).table(scores, seed=experiment.config.seed)
    if (prior := predictability_of(experiment)) is not None:
        known = dict(zip(experiment.primary_names, prior, strict=True))
        table[PREDICTABILITY] = table.gene.map(known).where(table.slide != POOLED)
    write_text(run.folder / "per_gene.csv", table.to_csv(index=False))
    write_json(run.folder / "provenance.json", run_provenance(asked, time.perf_counter() - started, fitted.costs))
    result = summary(table) | fitted.numbers | {"optimistic": experiment.split.optimistic}
    if (choice := read_choice(run.folder)) is not None:
        result |= {"chosen": choice["chosen"], "chosen_by": choice["left_out"]}
    write_hparams(run.folder / "tb", asked.config, result)
    write_json(run.folder / "result.json", result)


def measured(experiment: Experiment) -> Measured:
    """What the scores of the test spots are judged by; the same for runs of one fold and one set of primary genes."""
    from agl.scoring import Measured

    dataset, test, primary = experiment.dataset, experiment.split.test, experiment.panel.primary

    def make() -> Measured:
        return Measured(
            _tensor(dataset.dense_counts(test, primary)),
            np.asarray(dataset.library_size)[test],
            np.asarray(dataset.slide_names)[np.asarray(dataset.slide_codes)[test]],
            experiment.primary_names,
            depth=experiment.config.scoring.depth,
            beside=nuisances_of(experiment),
        )

    key = (experiment.config.scoring.depth, experiment.config.data.features, marks(_seen(experiment), test, primary))
    return experiment.sharing.get("measured", dataset, key, make)


def nuisances_of(experiment: Experiment) -> dict[str, np.ndarray]:
    """Scores `[test spot, primary gene]` of what needs no model, fitted to the training and validation spots."""
    names = experiment.config.data.features
    encoders = (names,) if isinstance(names, str) else names
    return nuisance_scores(
        experiment.dataset, _seen(experiment), experiment.split.test, experiment.panel.primary, encoders
    )


def _seen(experiment: Experiment) -> np.ndarray:
    """Training and validation spots, in one order whatever the seed that parted them."""
    return np.union1d(experiment.split.train, experiment.split.validation)


def predictability_of(experiment: Experiment) -> np.ndarray | None:
    """`[primary gene]` how alike a gene is in training and validation spots that look alike; None without features."""
    if experiment.dataset.features is None:
        return None
    from agl.genes.lookalikes import feature_autocorrelation
    from agl.genes.training import TrainingSpots

    dataset, seen, primary = experiment.dataset, _seen(experiment), experiment.panel.primary

    def make() -> np.ndarray:
        return feature_autocorrelation(TrainingSpots.of(dataset, seen), genes=primary, most_spots=LOOKALIKE_SPOTS)

    return experiment.sharing.get("predictability", dataset, marks(seen, primary), make)


def write_panel(folder: Path, experiment: Experiment, weights: np.ndarray | None = None) -> None:
    """panel.csv: gene, role, weight, and the priors of the auxiliary genes that were computed."""
    import pandas as pd

    panel = experiment.panel
    n_primary = len(panel.primary)
    table = pd.DataFrame({"gene": [experiment.dataset.genes[i] for i in panel.genes]})
    table["role"] = np.where(np.arange(len(table)) < n_primary, "primary", "auxiliary")
    table["weight"] = np.concatenate([np.ones(n_primary), panel.weights if weights is None else weights])
    for name, values in panel.candidates.known_priors().items():
        table[f"prior/{name}"] = values[panel.genes]
    write_text(folder / "panel.csv", table.to_csv(index=False))


def write_predictions(path: Path, experiment: Experiment, scores: Any, spread: np.ndarray | None = None) -> None:
    """Scores and counts of the primary genes on the test spots, with where the spots are.

    A committee's `spread` beside: the standard deviation of its members' scores, in units of a slide's.
    """
    dataset, test = experiment.dataset, experiment.split.test
    spots = dataset.spots.iloc[test]
    tables: dict[str, Any] = {} if spread is None else {"spread": spread}
    tables |= {
        "scores": np.asarray(scores, dtype=np.float32),
        "counts": dataset.dense_counts(test, experiment.panel.primary).astype(np.int32),
        "library_size": np.asarray(dataset.library_size)[test],
        "genes": np.asarray(experiment.primary_names, dtype=str),
        "slide": spots.slide.to_numpy(str),
        "barcode": spots.barcode.to_numpy(str),
        "x": spots.x.to_numpy(float),
        "y": spots.y.to_numpy(float),
    }
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **tables)


def _tensor(array: Any) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
