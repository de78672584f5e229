"""Optuna studies beside the runs: read from their journal files, never written to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import optuna

FEWEST_FOR_IMPORTANCE = 8
SIZE_KEYS = ("auxiliary.genes.k", "auxiliary.genes.size", "auxiliary.genes.n")


@dataclass(frozen=True)
class SearchStudy:
    """One study.

    Attributes:
        name, kind: its name; "search" or "grid".
        objectives: names of its objectives, and whether each is maximised.
        trials: one row a trial: number, state, a column an objective, a column a parameter, error, runs
            (names of their folders).
        parameters: names of the parameters.
        importance: share of the objective's variance a parameter explains, largest first; empty where it is unknown.
    """

    name: str
    kind: str
    objectives: dict[str, bool]
    trials: pd.DataFrame
    parameters: list[str]
    importance: pd.Series

    @property
    def complete(self) -> pd.DataFrame:
        """Finished trials with a value, in the order they were started."""
        done = self.trials[self.trials.state == "COMPLETE"]
        return done.dropna(subset=list(self.objectives))

    @property
    def size(self) -> str | None:
        """The parameter that is the selection's size."""
        last = {name.rpartition(".")[2]: name for name in self.parameters}
        return next((name for name in SIZE_KEYS if name in self.parameters), last.get("k"))

    @property
    def best(self) -> pd.Series | None:
        """The finished trial with the best first objective."""
        name, maximise = next(iter(self.objectives.items()))
        done = self.complete
        if done.empty:
            return None
        return done.iloc[int((done[name] if maximise else -done[name]).to_numpy(float).argmax())]

    def states(self) -> dict[str, int]:
        """How many trials are in which state."""
        return {str(state).lower(): int(n) for state, n in self.trials.state.value_counts().items()}


def find_searches(folders: Sequence[Path]) -> tuple[list[SearchStudy], list[str]]:
    """The studies in journal files in and a little below some folders, and sentences about files that are damaged."""
    found, notes = [], []
    for path in dict.fromkeys(path.resolve() for folder in folders for path in journals(folder)):
        try:
            found += read_journal(path)
        except Exception as error:  # whatever a damaged journal raises costs its section only
            notes.append(f"{path.name}: the study's journal is not readable ({type(error).__name__}: {error})")
    return found, notes


def journals(folder: Path) -> list[Path]:
    """Files that begin as Optuna's journals do."""
    places = [folder, *sorted(place for place in folder.glob("*") if place.is_dir())]
    files = [file for place in places for file in sorted(place.glob("*")) if file.is_file()]
    return [file for file in files if file.suffix in (".journal", ".log", "") and _is_journal(file)]


def read_journal(path: Path) -> list[SearchStudy]:
    """Every study of a journal file."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(path)))
    summaries = optuna.get_all_study_summaries(storage)
    return [_read(optuna.load_study(study_name=each.study_name, storage=storage)) for each in summaries]


def smooth(x: np.ndarray, y: np.ndarray, at: np.ndarray, *, log: bool) -> np.ndarray:
    """Local linear regression of y on x (its logarithm where `log`), at the points `at`.

    Weights are Gaussian; the bandwidth is Silverman's for x, so that it narrows as trials grow many.

    >>> smooth(np.arange(5.0), 2 * np.arange(5.0) + 1, np.array([1.5]), log=False).round(6).tolist()
    [4.0]
    """
    u, v = (np.log(x), np.log(at)) if log else (np.asarray(x, float), np.asarray(at, float))
    spread = u.std() or 1.0
    width = 1.06 * spread * len(u) ** -0.2
    distance = u[None, :] - v[:, None]
    weight = np.exp(-0.5 * (distance / width) ** 2)
    s0, s1, s2 = weight.sum(1), (weight * distance).sum(1), (weight * distance**2).sum(1)
    t0, t1 = weight @ y, (weight * distance) @ y
    determinant = s0 * s2 - s1**2
    flat = determinant <= 1e-9 * s0 * s2 + 1e-300  # all weight on one place: the local mean
    return np.where(flat, t0 / s0, (s2 * t0 - s1 * t1) / np.where(flat, 1, determinant))


def slice_curve(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, *, log: bool) -> pd.DataFrame:
    """The score's curve over one parameter and its 90% band, from trials drawn again with replacement 400 times."""
    ends = (np.log(x.min()), np.log(x.max())) if log else (x.min(), x.max())
    at = np.linspace(*ends, 60)
    at = np.exp(at) if log else at
    curves = []
    for _ in range(400):
        drawn = rng.integers(0, len(x), len(x))
        if len(np.unique(x[drawn])) > 1:
            curves.append(smooth(x[drawn], y[drawn], at, log=log))
    low, high = np.quantile(curves, [0.05, 0.95], axis=0) if curves else (np.full(60, np.nan),) * 2
    return pd.DataFrame({"x": at, "curve": smooth(x, y, at, log=log), "low": low, "high": high})


def _read(study: optuna.Study) -> SearchStudy:
    attrs = study.user_attrs
    names = list(attrs.get("search", {}).get("objective", []))
    if len(names) != len(study.directions):
        names = (
            ["objective"] if len(study.directions) == 1 else [f"objective {i}" for i in range(len(study.directions))]
        )
    objectives = {name: way.name == "MAXIMIZE" for name, way in zip(names, study.directions, strict=True)}
    rows = []
    trials = study.get_trials(deepcopy=False)
    parameters = list(dict.fromkeys(name for trial in trials for name in trial.params))
    for trial in trials:
        if "duplicate_of" in trial.user_attrs:
            continue
        values = trial.values if trial.values is not None else [np.nan] * len(names)
        row: dict[str, Any] = {"number": trial.number, "state": trial.state.name}
        row |= dict(zip(names, values, strict=True))
        row |= {name: trial.params.get(name) for name in parameters}
        runs = [Path(folder).name for folder in trial.user_attrs.get("runs", [])]
        rows.append(row | {"error": trial.user_attrs.get("error", ""), "runs": runs})
    columns = ["number", "state", *names, *parameters, "error", "runs"]
    table = pd.DataFrame(rows, columns=columns)
    return SearchStudy(
        study.study_name,
        str(attrs.get("kind", "search")),
        objectives,
        table,
        parameters,
        _importance(study, parameters),
    )


def _importance(study: optuna.Study, parameters: list[str]) -> pd.Series:
    """fANOVA's importances for the first objective; seeded, so that the same study gives the same numbers."""
    import warnings

    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < FEWEST_FOR_IMPORTANCE or len(parameters) < 2:
        return pd.Series(dtype=float)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = get_param_importances(
                study, evaluator=FanovaImportanceEvaluator(seed=0), target=lambda trial: trial.values[0]
            )
    except (ValueError, RuntimeError):  # all values equal, or parameters that no two trials share
        return pd.Series(dtype=float)
    return pd.Series(found, dtype=float).sort_values(ascending=False)


def _is_journal(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline(100_000)
        return "op_code" in json.loads(first)
    except (OSError, ValueError, TypeError):
        return False
