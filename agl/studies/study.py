"""A study: cells in a queue, in Optuna's storage, for any number of workers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agl.errors import UserError, did_you_mean
from agl.studies.address import Address, parse_storage
from agl.studies.heartbeats import Heartbeats
from agl.studies.ledger import CARRIED, RETRIES, Cell, cells_of, original_of, requeue_lost, sampled
from agl.studies.outages import storage_errors
from agl.studies.storage import open_storage

Direction = Literal["minimize", "maximize"]

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial

    from agl.runs.folder import Run
    from agl.studies.search import Search

logging.getLogger("optuna").setLevel(logging.ERROR)  # the study's own display says it better


@dataclass(frozen=True)
class Entry:
    """A cell to be done: its name (equal cells have equal names), its overrides, its whole config.

    In a search the config is the one all trials share, and the sampler adds the rest when a worker takes the trial.
    """

    name: str
    words: tuple[str, ...]
    config: dict[str, Any]


class Study:
    """An Optuna study whose trials are cells. Open one with `open_study`, make one with `create_study`."""

    def __init__(self, address: Address, storage: BaseStorage, study: optuna.Study) -> None:
        self.address, self.storage, self.optuna = address, storage, study
        with storage_errors(address):
            self.attrs = dict(study.user_attrs)

    @property
    def name(self) -> str:
        """The name it goes by in its storage."""
        return self.optuna.study_name

    @property
    def kind(self) -> str:
        """`grid` or `search`."""
        return str(self.attrs["kind"])

    @property
    def retries(self) -> int:
        """How often a failed cell is tried again."""
        return int(self.attrs.get("retries", RETRIES))

    @property
    def search(self) -> Search | None:
        """What is searched for, and how; None for a grid."""
        if self.kind != "search":
            return None
        from agl.studies.search import Search

        return Search.model_validate(self.attrs["search"])

    def cells(self) -> list[Cell]:
        """Every cell and its state, in order."""
        with storage_errors(self.address):
            return cells_of(self.optuna.get_trials(deepcopy=False), retries=self.retries)

    def runs(self, names: Sequence[str] | None = None) -> list[Run]:
        """Runs of the finished cells, each once, in the order of `names` (default: of the cells)."""
        from pathlib import Path

        from agl.runs.folder import Run

        done = {cell.name: cell for cell in self.cells() if cell.state == "done"}
        order = list(done) if names is None else [name for name in names if name in done]
        folders = dict.fromkeys(folder for name in order for folder in done[name].runs)
        return [Run(Path(folder)) for folder in folders]

    def set_attr(self, key: str, value: Any) -> None:
        """Store something with the study."""
        with storage_errors(self.address):
            if self.attrs.get(key) != value:
                self.optuna.set_user_attr(key, value)
                self.attrs[key] = value

    def add(self, entries: Sequence[Entry]) -> int:
        """Put cells the study does not know into the queue, and give failed ones of these a fresh start; how many."""
        known = {cell.name: cell for cell in self.cells()}
        last = max((cell.order for cell in known.values()), default=-1)
        new = [entry for entry in entries if entry.name not in known]
        with storage_errors(self.address):
            for order, entry in enumerate(new, start=last + 1):
                attrs = {"queued": True, "cell": entry.name, "order": order, "words": list(entry.words)}
                self.optuna.enqueue_trial({}, user_attrs=attrs | {"config": entry.config})
            for entry in entries:
                if entry.name in known and known[entry.name].state == "failed":
                    old = known[entry.name].trial
                    attrs = {key: old.user_attrs[key] for key in CARRIED if key in old.user_attrs}
                    attrs |= {"fresh": True, "config": entry.config}
                    self.optuna.enqueue_trial(sampled(old), user_attrs=attrs)
        return len(new)

    def take(self, heartbeats: Heartbeats) -> Trial | None:
        """The next waiting cell, now this worker's; None where nothing waits. Repeated ones are struck off."""
        from optuna.trial import Trial, TrialState

        with storage_errors(self.address):
            for waiting in self.optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                heartbeats.claim(waiting.number)
                try:
                    mine = self.storage.set_trial_state_values(waiting._trial_id, state=TrialState.RUNNING)
                except _already_finished():
                    continue
                if not mine:
                    continue
                original = original_of(waiting, self.optuna.get_trials(deepcopy=False))
                if original is None:
                    return Trial(self.optuna, waiting._trial_id)
                self.close(waiting, duplicate_of=original)
        return None

    def complete(self, trial: Trial, values: Sequence[float], **attrs: Any) -> None:
        """A cell is done."""
        from optuna.trial import TrialState

        with self._unless_taken_away():
            for key, value in attrs.items():
                trial.set_user_attr(key, value)
            self.optuna.tell(trial, list(values), state=TrialState.COMPLETE)

    def prune(self, trial: Trial) -> None:
        """A trial was given up for lack of promise."""
        from optuna.trial import TrialState

        with self._unless_taken_away():
            self.optuna.tell(trial, state=TrialState.PRUNED)

    def close(self, trial: Trial | FrozenTrial, **attrs: Any) -> None:
        """A trial has come to nothing; `attrs` say why. Its cell may get another one."""
        from optuna.trial import TrialState

        with self._unless_taken_away():
            for key, value in attrs.items():
                self.storage.set_trial_user_attr(trial._trial_id, key, value)
            self.storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)

    def repair(self, heartbeats: Heartbeats, *, also_failed: bool = False) -> int:
        """Find trials whose worker is gone, and put every cell back that nobody has; how many were put back."""
        from optuna.trial import TrialState

        with storage_errors(self.address):
            running = self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            for trial in heartbeats.dead(running):
                self.close(trial)
            return requeue_lost(self.optuna, also_failed=also_failed)

    @contextmanager
    def _unless_taken_away(self) -> Iterator[None]:
        """A worker that was silent for too long finds its trial closed by another. The run's folder has the result."""
        try:
            with storage_errors(self.address):
                yield
        except _already_finished():
            return
        except ValueError as error:
            if "Cannot tell a" not in str(error):
                raise


def create_study(
    storage: str, name: str, *, kind: str, directions: Sequence[Direction] = ("maximize",), **attrs: Any
) -> Study:
    """The study of this name in a storage, made if it is not there yet; `attrs` are stored with it."""
    import optuna

    address = parse_storage(storage)
    opened = open_storage(address, create=True)
    with storage_errors(address), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = optuna.create_study(
                storage=opened, study_name=name, directions=list(directions), load_if_exists=True
            )
        except optuna.exceptions.DuplicatedStudyError:  # by another process, just now
            made = optuna.load_study(study_name=name, storage=opened)
        old = made.user_attrs
        if old.get("kind", kind) != kind:
            raise UserError(
                f"Expected a {kind} of the name {name!r} in {address.shown}, found a {old['kind']}. Set another name=."
            )
        for key, value in ({"kind": kind} | attrs).items():
            if old.get(key) != value:
                made.set_user_attr(key, value)
    return Study(address, opened, made)


def open_study(storage: str, name: str | None = None) -> Study:
    """A study that exists; without a name, the only one there is."""
    import optuna

    address = parse_storage(storage)
    opened = open_storage(address)
    with storage_errors(address), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = [str(study.study_name) for study in opened.get_all_studies()]
        if name is None and len(names) == 1:
            name = names[0]
        if name is None:
            raise UserError(f"Expected the name of a study in {address.shown}.{did_you_mean('', names)}")
        if name not in names:
            hint = did_you_mean(name, names) or " It holds none yet."
            raise UserError(
                f"Expected a study in {address.shown}, received {name!r}: there is none of that name.{hint}"
            )
        found = optuna.load_study(study_name=name, storage=opened)
    if "kind" not in found.user_attrs:
        raise UserError(f"Expected a study made by `agl grid` or `agl search`, received {name!r} in {address.shown}.")
    return Study(address, opened, found)


def _already_finished() -> type[Exception]:
    """What Optuna raises when a trial has ended already; a plain RuntimeError in its first 4.x versions."""
    import optuna

    return getattr(optuna.exceptions, "UpdateFinishedTrialError", RuntimeError)
