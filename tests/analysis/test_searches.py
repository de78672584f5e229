"""Optuna studies, read from their journals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from agl.analysis.searches import find_searches, read_journal, slice_curve, smooth
from agl.reporting.figures.searches import draw_search, on_front

optuna.logging.set_verbosity(optuna.logging.CRITICAL)


def make_study(path: Path, *, objectives: tuple[str, ...] = ("validation_scc",), trials: int = 20) -> Path:
    """A search over k with its best near 50, with a failed and a pruned trial."""
    path.parent.mkdir(parents=True, exist_ok=True)
    directions = ["maximize", "minimize"][: len(objectives)]
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))), study_name="size", directions=directions,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )  # fmt: skip
    study.set_user_attr("kind", "search")
    study.set_user_attr("search", {"objective": list(objectives)})

    def objective(trial: optuna.Trial) -> float | tuple[float, ...]:
        k = trial.suggest_int("auxiliary.genes.k", 5, 500, log=True)
        rate = trial.suggest_float("training.learning_rate", 1e-4, 1e-2, log=True)
        trial.set_user_attr("runs", [f"elsewhere/run{trial.number}"])
        if trial.number == 3:
            trial.set_user_attr("error", "the disk was full")
            raise RuntimeError
        if trial.number == 5 and len(objectives) == 1:
            raise optuna.TrialPruned
        score = 0.3 - 0.02 * np.log(k / 50) ** 2 - 1e-4 * np.log10(rate) ** 2
        return (score, k)[: len(objectives)] if len(objectives) > 1 else score

    study.optimize(objective, n_trials=trials, catch=(RuntimeError,))
    return path


def test_a_search_is_read_as_optuna_wrote_it(tmp_path: Path) -> None:
    path = make_study(tmp_path / "runs" / "study.journal")
    before = path.read_bytes()
    (found,), notes = find_searches([tmp_path])
    assert notes == []
    assert path.read_bytes() == before  # never written to
    assert (found.name, found.kind, found.objectives) == ("size", "search", {"validation_scc": True})
    assert found.states() == {"complete": 18, "fail": 1, "pruned": 1}
    truth = optuna.load_study(study_name="size", storage=JournalStorage(JournalFileBackend(str(path))))
    assert found.best["number"] == truth.best_trial.number
    assert found.best["runs"] == [f"run{truth.best_trial.number}"]
    assert found.size == "auxiliary.genes.k"
    assert found.importance.index[0] == "auxiliary.genes.k"
    assert found.importance.sum() == pytest.approx(1)
    assert found.trials.set_index("number").error[3] == "the disk was full"


def test_figures_and_their_data(tmp_path: Path) -> None:
    (found,) = read_journal(make_study(tmp_path / "study.journal"))
    drawn = draw_search(found, tmp_path / "figures")
    assert [figure.title for figure in drawn] == ["History", "Importance", "Selection size"]
    for figure in drawn:
        for ending in ("svg", "png", "csv"):
            assert (tmp_path / "figures" / f"{figure.name}.{ending}").stat().st_size > 0


def test_two_objectives_have_a_front(tmp_path: Path) -> None:
    (found,) = read_journal(make_study(tmp_path / "study.journal", objectives=("validation_scc", "genes"), trials=8))
    assert found.objectives == {"validation_scc": True, "genes": False}
    assert "Front" in [figure.title for figure in draw_search(found, tmp_path / "figures")]


def test_front_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, (2, 40)).astype(float)
    slow = [
        not any(a[j] >= a[i] and b[j] >= b[i] and (a[j] > a[i] or b[j] > b[i]) for j in range(40)) for i in range(40)
    ]
    assert on_front(a, b).tolist() == slow


def test_smoothing_reproduces_straight_lines_and_follows_weighted_least_squares() -> None:
    rng = np.random.default_rng(1)
    x, y, at = rng.uniform(5, 500, 30), rng.normal(size=30), np.array([7.0, 50.0, 400.0])
    u = np.log(x)
    width = 1.06 * u.std() * 30**-0.2
    slow = []
    for point in np.log(at):
        weight = np.exp(-0.5 * ((u - point) / width) ** 2)
        slow.append(np.polyfit(u - point, y, 1, w=np.sqrt(weight))[1])
    assert smooth(x, y, at, log=True) == pytest.approx(slow)
    assert smooth(x, 3 * np.log(x) - 1, at, log=True) == pytest.approx(3 * np.log(at) - 1)


def test_the_band_holds_the_curve() -> None:
    rng = np.random.default_rng(2)
    x = np.exp(rng.uniform(np.log(5), np.log(500), 60))
    curve = slice_curve(x, -(np.log(x / 50) ** 2) + rng.normal(size=60) * 0.3, rng, log=True)
    assert (curve.low <= curve.high).all()
    assert ((curve.low - 0.05 <= curve.curve) & (curve.curve <= curve.high + 0.05)).all()
    assert curve.x[curve.curve.argmax()] == pytest.approx(50, rel=0.4)
    assert curve.x.between(x.min() * 0.999, x.max() * 1.001).all()  # no extrapolation


def test_a_damaged_journal_is_told_and_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "study.journal").write_text('{"op_code": 0, "worker_id": "x"}\n{"op_code": 99, "study_id": 5}\n')
    (tmp_path / "other.log").write_text("epoch 1\n")
    found, notes = find_searches([tmp_path])
    assert found == []
    assert len(notes) == 1
    assert "study.journal: the study's journal is not readable" in notes[0]


def test_a_study_without_finished_trials_has_no_figures(tmp_path: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    optuna.create_study(storage=storage, study_name="empty").enqueue_trial({"k": 3})
    (found,) = read_journal(tmp_path / "study.journal")
    assert found.best is None
    assert draw_search(found, tmp_path / "figures") == []
