"""A study's ledger: Optuna's trials read as cells. Every cell is waiting, running, done, pruned, failed or lost.

A cell may have had several trials, because a killed or failed one is put into the queue again. All rules about that
are here, as functions of the list of trials alone, so that any worker comes to the same verdict:

* of several live trials of one cell the one with the lowest number counts, the others are discarded when taken;
* a cell whose trials have all failed goes back into the queue until it has failed or died too often;
* what a user must mend (`hopeless`) is not tried again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    import optuna

State = Literal["waiting", "running", "done", "pruned", "failed", "lost"]
DEATHS = 5  # a cell that killed its worker more often than that is not given to another
RETRIES = 2
CARRIED = ("queued", "cell", "order", "words", "config")  # what a cell's next trial takes over
LIVE = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Cell:
    """One cell, and the trial that decides its state."""

    name: str
    order: int
    state: State
    trial: FrozenTrial
    failures: int = 0
    deaths: int = 0

    @property
    def attempts(self) -> int:
        """How often it was begun and came to an end."""
        return self.failures + self.deaths + (self.state in ("done", "pruned"))

    @property
    def words(self) -> list[str]:
        """What tells it from its neighbours, as dotted overrides."""
        return list(self.trial.user_attrs.get("words", []))

    @property
    def runs(self) -> list[str]:
        """Folders of its runs."""
        return list(self.trial.user_attrs.get("runs", []))

    @property
    def error(self) -> str:
        """Why it failed, in a sentence."""
        if self.state != "failed":
            return ""
        return str(self.trial.user_attrs.get("error") or f"its worker died {self.deaths} times")

    @property
    def score(self) -> float | None:
        """Mean validation score of its runs, if it has one."""
        value = self.trial.user_attrs.get("validation")
        return None if value is None else float(value)


def cells_of(trials: Iterable[FrozenTrial], *, retries: int = RETRIES) -> list[Cell]:
    """The cells, in the order they were asked for."""
    groups: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        name = trial.user_attrs.get("cell")
        if name is not None and "duplicate_of" not in trial.user_attrs:
            groups.setdefault(name, []).append(trial)
    found = [_cell(name, group, retries) for name, group in groups.items()]
    return sorted(found, key=lambda cell: (cell.order, cell.trial.number))


def original_of(trial: FrozenTrial, trials: Iterable[FrozenTrial]) -> int | None:
    """The number of the trial that this one repeats, if it does: an earlier one of its cell that has not failed."""
    name = trial.user_attrs["cell"]
    earlier = [
        other.number
        for other in trials
        if other.user_attrs.get("cell") == name and other.number < trial.number and other.state in LIVE
    ]
    return min(earlier, default=None)


def requeue_lost(study: optuna.Study, *, also_failed: bool = False) -> int:
    """Put every cell back that nobody has, and with `also_failed` those given up on too; how many."""
    retries = int(study.user_attrs.get("retries", RETRIES))
    wanted = ("lost", "failed") if also_failed else ("lost",)
    back = [c for c in cells_of(study.get_trials(deepcopy=False), retries=retries) if c.state in wanted]
    for cell in back:
        again = {key: cell.trial.user_attrs[key] for key in CARRIED if key in cell.trial.user_attrs}
        fresh = {"fresh": True} if cell.state == "failed" else {}
        study.enqueue_trial(sampled(cell.trial), user_attrs=again | fresh)
    return len(back)


def sampled(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters a sampler gave to a trial or to the one it repeats, so that they are not drawn again."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _cell(name: str, trials: Sequence[FrozenTrial], retries: int) -> Cell:
    order = int(trials[0].user_attrs.get("order", trials[0].number))
    states: list[tuple[TrialState, State]] = [
        (TrialState.COMPLETE, "done"),
        (TrialState.PRUNED, "pruned"),
        (TrialState.RUNNING, "running"),
        (TrialState.WAITING, "waiting"),
    ]
    failures, deaths, hopeless = _failures(trials)
    for trial_state, state in states:
        for trial in trials:
            if trial.state == trial_state:
                return Cell(name, order, state, trial, failures, deaths)
    over = hopeless or failures > retries or deaths > DEATHS
    failed = [trial for trial in trials if "error" in trial.user_attrs]
    last = failed[-1] if over and failed else trials[-1]
    return Cell(name, order, "failed" if over else "lost", last, failures, deaths)


def _failures(trials: Sequence[FrozenTrial]) -> tuple[int, int, bool]:
    """Errors and deaths since the cell last got a fresh start, and whether trying again makes no sense."""
    failures = deaths = 0
    hopeless = False
    for trial in trials:
        attrs = trial.user_attrs
        if attrs.get("fresh"):
            failures, deaths, hopeless = 0, 0, False
        if trial.state == TrialState.FAIL and "interrupted" not in attrs:
            failures += "error" in attrs
            deaths += "error" not in attrs
            hopeless = hopeless or bool(attrs.get("hopeless"))
    return failures, deaths, hopeless
