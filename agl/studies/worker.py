"""A worker: takes cells from a study's queue until there is none, and puts back what it cannot finish."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from agl.config import Config, validate
from agl.errors import UserError
from agl.studies.heartbeats import Heartbeats, beating, heartbeats_of
from agl.studies.outages import NO_ROOM, StorageGone, storage_errors
from agl.studies.side_by_side import AUTO, sharing_of
from agl.studies.stops import StopSignals
from agl.studies.study import Study
from agl.trees import apply_override

if TYPE_CHECKING:
    from optuna.trial import Trial
    from rich.progress import Progress

    from agl.runs.folder import Run
    from agl.studies.ledger import Cell

Shown = Callable[[list["Cell"]], None]
OPEN = ("waiting", "running", "lost")


class TrainCell(Protocol):
    """What turns a config into runs; `agl.studies.cell.train_cell`, unless a test says otherwise."""

    def __call__(
        self,
        config: Config,
        *,
        folds: Sequence[int] | None,
        report: Callable[[int, float], None] | None,
        progress: Progress | None,
    ) -> list[Run]: ...


def work(
    study: Study,
    *,
    train: TrainCell | None = None,
    wait: bool = True,
    progress: Progress | None = None,
    shown: Shown | None = None,
    side_by_side: str = AUTO,
) -> None:
    """Do cells until all are done, pruned or given up.

    Args:
        study: from `open_study`.
        train: what a cell is; the real thing if not said.
        side_by_side: what the cells of this worker have in common, see `agl.studies.side_by_side`.
        wait: stay while other workers still have cells, to take over from one that dies; else leave when none waits.
        progress: a display for the epochs of the run in hand.
        shown: called with the cells whenever they may have changed.

    Raises:
        UserError: the storage or the output folder cannot be used any more. The cell in hand has been put back if the
            storage could still be reached.
    """
    train = train or _real(side_by_side)
    search = study.search
    if search is not None:
        from agl.studies.sampling import make_pruner, make_sampler

        study.optuna.sampler, study.optuna.pruner = make_sampler(search), make_pruner(search)
    pause = 0.05
    with _heartbeats(study) as heartbeats, StopSignals() as stops:
        while True:
            stops.check()
            study.repair(heartbeats)
            trial = study.take(heartbeats)
            if shown is not None:
                shown(study.cells())
            if trial is not None:
                with beating(heartbeats, _frozen(study, trial), study.address):
                    do_cell(study, trial, train, stops, progress)
                pause = 0.05
            elif not wait or not any(cell.state in OPEN for cell in study.cells()):
                break
            else:
                with stops.interruptible():
                    time.sleep(pause)
                pause = min(2 * pause, 2.0)


def repair_study(study: Study, *, also_failed: bool = False, on_message: Callable[[str], None] = print) -> int:
    """Put back what nobody has. Where only time tells the dead from the living, it takes the grace period."""
    with _heartbeats(study) as heartbeats:
        back = study.repair(heartbeats, also_failed=also_failed)
        if study.address.kind in ("journal", "sqlite") or all(cell.state != "running" for cell in study.cells()):
            return back
        on_message(f"Listening for {study.address.grace:.0f} s to the workers of {study.name!r} ...")
        deadline = time.monotonic() + study.address.grace + 1
        while time.monotonic() < deadline:
            time.sleep(min(1.0, study.address.grace / 4))
            back += study.repair(heartbeats)
    return back


def do_cell(study: Study, trial: Trial, train: TrainCell, stops: StopSignals, progress: Progress | None = None) -> None:
    """Train one cell and enter what came of it."""
    from optuna.exceptions import TrialPruned

    search = study.search
    before = set() if progress is None else set(progress.task_ids)
    try:
        config = _config(study, trial)
        with stops.interruptible():
            runs = train(
                config,
                folds=None if search is None else search.folds,
                report=_reporter(study, trial) if search is not None and search.pruner != "none" else None,
                progress=progress,
            )
        score = _mean_validation(runs)
        values = [score if score is not None else -math.inf] if search is None else search.values(runs)
    except TrialPruned:
        study.prune(trial)
    except StorageGone:
        raise
    except UserError as error:  # the same config would come to the same end
        study.close(trial, error=str(error), hopeless=True)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            _put_back(study, trial, error)
            raise
        sentence = " ".join(f"{type(error).__name__}: {error}".split())
        study.close(trial, error=sentence[:500], traceback=traceback.format_exc()[-4000:])
    except BaseException as stop:  # Ctrl-C, a cluster's SIGTERM
        _put_back(study, trial, stop)
        raise
    else:
        study.complete(trial, values, runs=[str(run.folder) for run in runs], validation=score)
    finally:
        if progress is not None:  # an interrupted training leaves its bar behind
            for task in set(progress.task_ids) - before:
                progress.remove_task(task)


def _real(side_by_side: str) -> TrainCell:
    """The real thing, which imports torch."""
    from agl.studies.cell import train_cell

    return partial(train_cell, sharing=sharing_of(side_by_side))


def _config(study: Study, trial: Trial) -> Config:
    """The cell's config; in a search, what the sampler proposes laid over the shared one."""
    tree: dict[str, Any] = dict(trial.user_attrs["config"])
    if study.search is not None:
        with storage_errors(study.address):
            words = study.search.suggest(trial)
            trial.set_user_attr("words", words)
        for word in words:
            apply_override(tree, word)
    return validate(tree)


def _reporter(study: Study, trial: Trial) -> Callable[[int, float], None]:
    from optuna.exceptions import TrialPruned

    def report(step: int, score: float) -> None:
        with storage_errors(study.address):
            trial.report(score, step)
            if trial.should_prune():
                raise TrialPruned

    return report


def _mean_validation(runs: Sequence[Run]) -> float | None:
    scores = [run.result.get("validation") for run in runs]
    known = [float(score) for score in scores if score is not None]
    return sum(known) / len(known) if known and len(known) == len(scores) else None


def _put_back(study: Study, trial: Trial, reason: BaseException) -> None:
    """Not the cell's fault: it waits again, unless the storage is what broke; then the next worker finds it."""
    try:
        study.close(trial, interrupted=type(reason).__name__)
        from agl.studies.ledger import requeue_lost

        requeue_lost(study.optuna)
    except Exception:  # the reason we are here matters more, and a dead worker's cell is found anyway
        return


def _frozen(study: Study, trial: Trial) -> Any:
    with storage_errors(study.address):
        return study.storage.get_trial(trial._trial_id)


@contextmanager
def _heartbeats(study: Study) -> Iterator[Heartbeats]:
    heartbeats = heartbeats_of(study.address, study.storage, study.optuna)
    try:
        yield heartbeats
    finally:
        heartbeats.close()
