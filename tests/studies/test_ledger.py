"""The rules of a study's ledger, on trials written by hand."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from agl.studies.ledger import DEATHS, cells_of, original_of, requeue_lost

FAIL, DONE, RUNNING, WAITING, PRUNED = (
    TrialState.FAIL, TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING, TrialState.PRUNED,
)  # fmt: skip


def trial(number: int, state: TrialState, cell: str = "a", **attrs: Any) -> FrozenTrial:
    made = create_trial(
        state=state, value=1.0 if state == DONE else None, user_attrs={"cell": cell, "order": 0, **attrs}
    )
    made.number = number
    return made


@pytest.mark.parametrize(
    ("trials", "state", "attempts"),
    [
        ([trial(0, WAITING)], "waiting", 0),
        ([trial(0, RUNNING)], "running", 0),
        ([trial(0, DONE)], "done", 1),
        ([trial(0, PRUNED)], "pruned", 1),
        ([trial(0, FAIL)], "lost", 1),
        ([trial(0, FAIL, error="x")], "lost", 1),
        ([trial(0, FAIL, error="x", hopeless=True)], "failed", 1),
        ([trial(0, FAIL, interrupted="x")], "lost", 0),
        ([trial(0, FAIL, error="x"), trial(1, WAITING)], "waiting", 1),
        ([trial(0, FAIL, error="x"), trial(1, FAIL), trial(2, DONE)], "done", 3),
        ([trial(i, FAIL, error="x") for i in range(3)], "failed", 3),
        ([trial(i, FAIL, error="x") for i in range(2)], "lost", 2),
        ([trial(i, FAIL) for i in range(DEATHS)], "lost", DEATHS),
        ([trial(i, FAIL) for i in range(DEATHS + 1)], "failed", DEATHS + 1),
        ([trial(i, FAIL, interrupted="x") for i in range(50)], "lost", 0),
        ([*[trial(i, FAIL, error="x") for i in range(3)], trial(3, FAIL, fresh=True)], "lost", 1),
        ([trial(0, RUNNING), trial(1, FAIL, duplicate_of=0)], "running", 0),
    ],
    ids=lambda value: None if isinstance(value, int) else str(value)[:40],
)
def test_the_state_of_one_cell(trials: list[FrozenTrial], state: str, attempts: int) -> None:
    (cell,) = cells_of(trials, retries=2)
    assert (cell.state, cell.attempts) == (state, attempts)


def test_the_reason_is_the_last_error_told() -> None:
    (cell,) = cells_of([trial(0, FAIL, error="first"), trial(1, FAIL, error="last"), trial(2, FAIL)], retries=1)
    assert (cell.state, cell.error) == ("failed", "last")
    (cell,) = cells_of([trial(i, FAIL) for i in range(9)])
    assert cell.error == "its worker died 9 times"


def test_cells_come_in_the_order_they_were_asked_for() -> None:
    trials = [trial(0, DONE, "b", order=1), trial(1, DONE, "a", order=0), trial(2, DONE, "c", order=2)]
    stranger = create_trial(state=DONE, value=0.0)
    assert [cell.name for cell in cells_of([*trials, stranger])] == ["a", "b", "c"]


def test_which_of_several_trials_counts() -> None:
    waiting, dead, running = trial(3, WAITING), trial(0, FAIL), trial(1, RUNNING)
    other, later = trial(2, DONE, "b"), trial(5, RUNNING)
    assert original_of(waiting, [dead, running, other, waiting, later]) == 1
    assert original_of(waiting, [dead, other, waiting, later]) is None
    assert original_of(running, [dead, running, waiting]) is None


states = st.sampled_from([FAIL, DONE, RUNNING, WAITING, PRUNED])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(states, st.sampled_from("abc"), st.sampled_from([{}, {"error": "x"}, {"interrupted": "x"}]))))
def test_after_a_repair_nothing_is_lost_and_a_second_one_does_nothing(rows: list) -> None:
    study = optuna.create_study()
    for state, name, attrs in rows:
        value = 1.0 if state == DONE else None
        study.add_trial(
            create_trial(state=state, value=value, user_attrs={"cell": name, "config": {"n": name}, **attrs})
        )
    before = {cell.name: cell.state for cell in cells_of(study.get_trials())}
    assert requeue_lost(study) == list(before.values()).count("lost")
    after = {cell.name: cell.state for cell in cells_of(study.get_trials())}
    assert after == {name: "waiting" if state == "lost" else state for name, state in before.items()}
    assert requeue_lost(study) == 0
    assert all(trial.user_attrs["config"] == {"n": trial.user_attrs["cell"]} for trial in study.get_trials())
    assert requeue_lost(study, also_failed=True) == list(after.values()).count("failed")


def test_a_requeued_trial_keeps_what_the_sampler_gave_it() -> None:
    study = optuna.create_study()
    study.enqueue_trial({}, user_attrs={"cell": "a"})
    first = study.ask()
    values = first.suggest_float("x", 0, 1), first.suggest_categorical("c", ["u", "v"])
    study.tell(first, state=FAIL)
    for _ in range(2):  # the second time the values come from the repeated trial
        assert requeue_lost(study) == 1
        again = study.ask()
        assert (again.suggest_float("x", 0, 1), again.suggest_categorical("c", ["u", "v"])) == values
        study.tell(again, state=FAIL)
    requeue_lost(study)
    unused = study.ask()
    study.tell(unused, state=FAIL)  # dies before it asks for anything
    requeue_lost(study)
    assert study.ask().suggest_float("x", 0, 1) == values[0]
