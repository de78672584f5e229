"""One run in one folder: trained once, never redone, never overwritten, resumed after an interruption.

config.yaml        the resolved config, every default written out
provenance.json    data, split, versions, device, seed, time, memory
panel.csv          genes of the panel, their role, weight and priors
history.jsonl      one line an epoch
checkpoints/       state.pt (to resume), best.safetensors (to predict)
predictions.npz    scores and counts of the primary genes on the test spots
per_gene.csv       scores per gene and slide, and pooled
result.json        the run's numbers; its presence says that the run is finished
tb/                TensorBoard
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from agl.config import Config, load
from agl.errors import UserError
from agl.studies.files import write_json, write_text
from agl.studies.fit import fit
from agl.studies.hparams import write_hparams
from agl.studies.provenance import fingerprint, run_provenance

if TYPE_CHECKING:
    from rich.progress import Progress

    from agl.data.dataset import Dataset
    from agl.training.experiment import Experiment
    from agl.training.parallel import Ranks


@dataclass(frozen=True)
class Run:
    """A run's folder, and what can be read from it."""

    folder: Path

    @property
    def finished(self) -> bool:
        """Whether its result is there."""
        return (self.folder / "result.json").is_file()

    @property
    def result(self) -> dict[str, Any]:
        """The run's numbers."""
        return self._json("result.json")

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the result comes from."""
        return self._json("provenance.json")

    @property
    def config(self) -> Config:
        """The resolved config."""
        return load([self.folder / "config.yaml"])

    def _json(self, name: str) -> dict[str, Any]:
        file = self.folder / name
        if not file.is_file():
            raise UserError(
                f"Expected a finished run in {self.folder}, found no {name} there. "
                "Run `agl train` first, or name another folder."
            )
        return json.loads(file.read_text())


def open_run(folder: str | Path) -> Run:
    """The finished run in a folder, or a sentence saying what is missing."""
    run = Run(Path(folder))
    if not run.folder.is_dir():
        raise UserError(f"Expected the folder of a run, received {str(folder)!r}: there is no such folder.")
    if not (run.folder / "config.yaml").is_file():
        raise UserError(f"Expected the folder of a run, {folder} holds no config.yaml.{_below(folder)}")
    if not run.finished:
        raise UserError(
            f"The run in {folder} is not finished. "
            f"Start it again with `agl train {run.folder / 'config.yaml'}`; it resumes."
        )
    return run


def _below(folder: str | Path) -> str:
    found = sorted(str(file.parent) for file in Path(folder).rglob("result.json"))
    return f" Below it there are {len(found)}, the first is {found[0]}." if found else ""


def find_runs(*folders: str | Path) -> list[Run]:
    """All finished runs in and below some folders, in the order of their paths."""
    found: dict[Path, Run] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(f"Expected a folder of runs, received {str(folder)!r}: there is no such folder.")
        for file in sorted(folder.rglob("result.json")):
            found.setdefault(file.parent.resolve(), Run(file.parent))
    if not found:
        begun = unfinished(*folders)
        also = f" and {len(begun)} unfinished, the first {begun[0]}" if begun else ""
        raise UserError(
            f"Expected finished runs below {', '.join(map(str, folders))}, found none{also}. "
            "Train some with `agl train`."
        )
    return list(found.values())


def unfinished(*folders: str | Path) -> list[Path]:
    """Folders of runs without a result, in and below some folders: failed, interrupted, or still at work."""
    begun = {file.parent for folder in map(Path, folders) for file in folder.rglob("config.yaml")}
    return sorted(folder for folder in begun if not Run(folder).finished)


def execute(experiment: Experiment, *, progress: Progress | None = None) -> Run:
    """Train, score and write one run; a finished one is returned as it is.

    `experiment.config` must be complete (see `agl.training.experiment.complete`) and name a fold.
    """
    from agl.training.parallel import current

    run, ranks = Run(folder_of(experiment.config, experiment.dataset)), current()
    if ranks.agreed(run.finished):
        return run
    if not ranks.leads:
        return _follow(run, experiment, ranks)
    run.folder.mkdir(parents=True, exist_ok=True)
    with locked(run.folder):
        if not ranks.agreed(run.finished):  # another process may have finished it while this one waited
            ranks.wait()  # until the others have read what an interrupted attempt left
            with _begun_or_gone(run.folder):
                _write(run, experiment, progress)
            ranks.wait()
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
    if not ranks.agreed(None):
        with tempfile.TemporaryDirectory(prefix="agl-") as scratch:
            own = Run(Path(scratch) / "run")
            shutil.copytree(run.folder, own.folder)
            ranks.wait()
            _write(own, experiment, None)
        ranks.wait()
    return run


def folder_of(config: Config, dataset: Dataset) -> Path:
    """`output/name/<loss>.<gene set>.<model>.f<fold>.s<seed>.<hash>`; readable, and unique by the hash."""
    words = [config.loss.name, config.auxiliary.genes.name, config.model.name]
    readable = ".".join(Path(word.replace(":", "-")).name.replace(".py-", "-") for word in words if word)
    return (
        Path(config.output) / config.name / f"{readable}.f{config.fold}.s{config.seed}.{fingerprint(config, dataset)}"
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process a run: a second one is told so at once. The lock dies with its process."""
    import fcntl

    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise RunIsBusy(
                f"{folder} is being trained by process {file.read().strip() or '?'}. Wait for it, or stop it first."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class RunIsBusy(UserError):
    """Another process holds this run."""


def _write(run: Run, experiment: Experiment, progress: Progress | None) -> None:
    from agl.training.scoring import gene_table, summary

    started = time.perf_counter()
    write_text(run.folder / "config.yaml", yaml.safe_dump(experiment.config.to_dict(), sort_keys=False))
    write_panel(run.folder, experiment)  # early, so that a look into a running run shows its genes
    fitted = fit(run.folder, experiment, progress)
    write_panel(run.folder, experiment, fitted.weights)
    test = experiment.split.test
    dataset, n_primary = experiment.dataset, len(experiment.panel.primary)
    scores = fitted.predict(test)[:, :n_primary]
    if not bool(scores.isfinite().all()):
        raise UserError(
            f"Expected finite scores of the test spots, received NaN or infinity: the training of {run.folder} has "
            "diverged. Lower training.learning_rate or set training.clip=1."
        )
    counts = dataset.dense_counts(test, experiment.panel.primary)
    write_predictions(run.folder / "predictions.npz", experiment, scores)
    names = np.asarray(dataset.slide_names)[np.asarray(dataset.slide_codes)[test]]
    table = gene_table(scores, _tensor(counts), np.asarray(dataset.library_size)[test], names, experiment.primary_names)
    write_text(run.folder / "per_gene.csv", table.to_csv(index=False))
    write_json(run.folder / "provenance.json", run_provenance(experiment, time.perf_counter() - started))
    result = summary(table) | fitted.numbers | {"optimistic": experiment.split.optimistic}
    write_hparams(run.folder / "tb", experiment.config, result)
    write_json(run.folder / "result.json", result)


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


def write_predictions(path: Path, experiment: Experiment, scores: Any) -> None:
    """Scores and counts of the primary genes on the test spots, with where the spots are."""
    dataset, test = experiment.dataset, experiment.split.test
    spots = dataset.spots.iloc[test]
    part = path.with_suffix(".part.npz")
    np.savez_compressed(
        part,
        scores=np.asarray(scores, dtype=np.float32),
        counts=dataset.dense_counts(test, experiment.panel.primary).astype(np.int32),
        library_size=np.asarray(dataset.library_size)[test],
        genes=np.asarray(experiment.primary_names, dtype=str),
        slide=spots.slide.to_numpy(str),
        barcode=spots.barcode.to_numpy(str),
        x=spots.x.to_numpy(float),
        y=spots.y.to_numpy(float),
    )
    part.replace(path)


def _tensor(array: Any) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
