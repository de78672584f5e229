"""Run a study to its end, from wherever it stopped: curves, one row a training, the table beside the published one."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import Progress

from agl.errors import UserError
from agl.machine import pick_device
from agl.papers.strank_synthetic.settings import StudySettings
from agl.papers.strank_synthetic.tables import comparison, markdown
from agl.papers.strank_synthetic.training import STREAMS, MethodTraining, StudyData
from agl.runs.files import write_json, write_text
from agl.runs.folder import locked

SAVE_AFTER = 60.0  # seconds of work that may be lost
EACH = 10  # first epochs that are all evaluated


def run_study(study: StudySettings, *, progress: Progress | None = None, save_after: float = SAVE_AFTER) -> Path:
    """Train what is missing and write the study's folder; a finished one is left alone.

    The folder holds `study.json`, `trainings.csv` (one row a method and case), `curves.npz` and `table.md`. Killed at
    any time, the same call goes on from the last saved epoch and ends with the same bits.
    """
    pick_device(study.device, "device")
    folder = study.folder
    if (folder / "table.md").is_file():
        return folder
    # A mistake ends here, before anything is written.
    trainings = [MethodTraining(study, method) for method in study.methods]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        write_json(folder / "study.json", study.model_dump(mode="json"))
        _train(study, trainings, folder / "state.pt", progress, save_after)
        frame = trainings_frame(study, trainings)
        _write_curves(folder / "curves.npz", trainings)
        frame.to_csv(folder / "trainings.csv.part", index=False, float_format="%.6f")
        (folder / "trainings.csv.part").replace(folder / "trainings.csv")
        write_text(folder / "table.md", markdown(comparison(frame)))
        (folder / "state.pt").unlink(missing_ok=True)
    return folder


def trainings_frame(study: StudySettings, trainings: list[MethodTraining]) -> pd.DataFrame:
    """One row a method and case: test SCC with the weights each checkpoint keeps, and the epoch it keeps.

    `oracle` keeps the epoch of the best SCC against the noise-free signal (the released script), `honest` the best SCC
    against counts of validation spots (what a user could do), `last` the last. Test spots choose nothing.
    """
    rows = []
    for training in trainings:
        curves = training.curves
        test = np.array(curves.test)
        kept = {"oracle": _best(curves.oracle), "honest": _best(curves.honest)}
        kept["last"] = np.full(test.shape[1], len(test) - 1)
        for number, case in enumerate(study.cases):
            row = {"method": training.method.label, **vars(case), "epochs": curves.epochs[-1]}
            for name, at in kept.items():
                row[name] = test[at[number], number]
                row[f"{name}_epoch"] = curves.epochs[at[number]]
            rows.append(row)
    return pd.DataFrame(rows)


def is_evaluated(study: StudySettings, epoch: int) -> bool:
    """Each of the first epochs, where a method that drifts is at its best, then every `evaluate_every`th, and the last.

    >>> [epoch for epoch in range(1, 31) if is_evaluated(StudySettings(epochs=30, evaluate_every=7), epoch)]
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 21, 28, 30]
    """
    return epoch <= EACH or epoch % study.evaluate_every == 0 or epoch == study.epochs


def _best(scores: list[np.ndarray]) -> np.ndarray:
    """The evaluation with the best score, by case; an undefined score never is the best."""
    return np.nan_to_num(np.array(scores), nan=-np.inf).argmax(0)


def _train(
    study: StudySettings,
    trainings: list[MethodTraining],
    state_file: Path,
    progress: Progress | None,
    save_after: float,
) -> None:
    data = StudyData(study)
    done = _resume(trainings, state_file, study.device)
    task = None if progress is None else progress.add_task(study.name, total=study.epochs, completed=done)
    saved = time.monotonic()
    for epoch in range(done, study.epochs):
        batches = list(data.batches(epoch))
        for training in trainings:
            training.train_epoch(batches, epoch)
            if is_evaluated(study, epoch + 1):
                training.evaluate(data, epoch + 1)
            if progress is not None and task is not None:
                progress.update(task, note=training.method.label)
        if progress is not None and task is not None:
            progress.advance(task)
        if time.monotonic() - saved >= save_after and epoch + 1 < study.epochs:
            _save(trainings, epoch + 1, state_file)
            saved = time.monotonic()


def _save(trainings: list[MethodTraining], epochs: int, file: Path) -> None:
    part = file.with_name(file.name + ".part")
    torch.save({"epochs": epochs, "trainings": [training.state() for training in trainings]}, part)
    part.replace(file)


def _resume(trainings: list[MethodTraining], file: Path, device: str) -> int:
    """Load a saved state; how many epochs it holds."""
    if not file.is_file():
        return 0
    try:
        state = torch.load(file, map_location=device, weights_only=True)
        for training, saved in zip(trainings, state["trainings"], strict=True):
            training.load(saved)
        return int(state["epochs"])
    except Exception as error:  # a damaged file, or one from elsewhere, fails in any way it likes
        raise UserError(
            f"Expected the state of an interrupted study in {file}, it could not be read ({type(error).__name__}). "
            "Delete the file to start again."
        ) from error


def _write_curves(file: Path, trainings: list[MethodTraining]) -> None:
    arrays = {"epochs": np.array(trainings[0].curves.epochs)}
    for number, training in enumerate(trainings):
        for stream in STREAMS:
            arrays[f"{number}.{stream}"] = np.array(getattr(training.curves, stream), dtype=np.float32)
    part = file.with_name(file.name + ".part")
    with part.open("wb") as out:
        np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    part.replace(file)
