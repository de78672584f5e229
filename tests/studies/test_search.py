"""Searches: ranges, objectives, samplers that go on where they stopped, and the many ways to write them wrongly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agl.errors import UserError
from agl.runs.folder import Run
from agl.studies.board import best_trials, study_rows
from agl.studies.launch import Launched, queue_search
from agl.studies.search import number_of_genes, read_search, validation
from agl.studies.study import open_study
from agl.studies.worker import work

SPACE = {
    "auxiliary.genes.k": {"low": 2, "high": 512, "log": True},
    "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "loss": ["mse", {"name": "listwise", "count_power": 0.5}],
}


def no_name(config: Any, _: object) -> str:
    return "x"


@pytest.fixture
def search_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.chdir(tmp_path)

    def write(parameters: Any = SPACE, /, name: str = "s", rest: dict | None = None, **search: Any) -> Path:
        tree = {"name": name, "auxiliary": {"genes": "coexpressed"}, **(rest or {})}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**tree, "search": {"parameters": parameters, **search}}))
        return path

    return write


class Hill:
    """A score that is highest, 1, at k = 32 and a learning rate of 0.01; as many genes as k."""

    def __init__(self, epochs: int = 0) -> None:
        self.configs: list[Any] = []
        self.epochs = epochs

    def __call__(self, config: Any, *, folds: Any, report: Any, progress: Any) -> list[Run]:
        self.configs.append(config)
        k, rate = config.auxiliary.genes.args["k"], config.training.learning_rate
        score = 1 - 0.1 * abs(math.log2(k / 32)) - 0.1 * abs(math.log10(rate / 0.01))
        for epoch in range(self.epochs):
            if report is not None:
                report(epoch, score * (epoch + 1) / self.epochs)
        folder = Path(config.output) / f"{len(self.configs)}-{k}-{rate}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps({"validation": score, "k": k}))
        return [Run(folder)]

    @property
    def points(self) -> list[tuple]:
        return [(c.auxiliary.genes.args["k"], c.training.learning_rate, c.loss.name) for c in self.configs]


def run(launched: Launched, train: Any = None) -> Hill:
    hill = train or Hill()
    work(open_study(f"journal:runs/{launched.study.name}/study.journal"), train=hill)
    return hill


def test_what_is_tried_lies_in_the_ranges_and_is_what_the_trial_says(search_file: Callable) -> None:
    launched = queue_search(search_file(trials=12, sampler="random"), identify=no_name)
    hill = run(launched)
    assert len(hill.points) == 12
    assert all(2 <= k <= 512 and isinstance(k, int) and 1e-4 <= rate <= 1e-1 for k, rate, _ in hill.points)
    assert {c.loss.name for c in hill.configs} == {"mse", "listwise"}
    assert all(c.loss.args == ({"count_power": 0.5} if c.loss.name == "listwise" else {}) for c in hill.configs)
    cells = launched.study.cells()
    assert [(c.trial.params["auxiliary.genes.k"], c.trial.params["training.learning_rate"]) for c in cells] == [
        point[:2] for point in hill.points
    ]
    assert cells[0].words[0] == f"auxiliary.genes.k={hill.points[0][0]}"
    (best,) = best_trials(launched.study)
    assert best.value == max(cell.score for cell in cells)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_a_resumed_search_goes_on_and_equals_one_that_was_not_stopped(search_file: Callable, sampler: str) -> None:
    options = {"sampler": sampler, "startup": 4}
    n = 6 if sampler == "gp" else 12
    whole = run(queue_search(search_file(name="whole", trials=n, **options), identify=no_name))
    first = run(queue_search(search_file(name="parts", trials=3, **options), identify=no_name))
    second = run(queue_search(search_file(name="parts", trials=n, **options), identify=no_name))
    assert first.points + second.points == whole.points
    assert len({point[1] for point in whole.points}) >= n - 1  # nothing is drawn again
    other = run(queue_search(search_file(name="other", trials=4, seed=1, **options), identify=no_name))
    assert not set(other.points) & set(whole.points)


@pytest.mark.parametrize(("sampler", "trials"), [("tpe", 40), ("gp", 14)])
def test_samplers_learn(search_file: Callable, sampler: str, trials: int) -> None:
    """Where the search spends its last trials, the score is higher than where it began, by chance."""
    hill = run(queue_search(search_file(trials=trials, sampler=sampler, startup=8), identify=no_name))
    miss = [abs(math.log2(k / 32)) + abs(math.log10(rate / 0.01)) for k, rate, _ in hill.points]
    assert sum(miss[-6:]) / 6 < 0.8 * sum(miss[:8]) / 8


def test_two_objectives_give_a_front(search_file: Callable) -> None:
    launched = queue_search(
        search_file(trials=20, objective=["validation_scc", "genes"], sampler="random"), identify=no_name
    )
    run(launched)
    values = {cell.name: cell.trial.values for cell in launched.study.cells()}
    assert all(len(both) == 2 for both in values.values())
    front = {
        name
        for name, (score, genes) in values.items()
        if not any(s >= score and g <= genes and (s, g) != (score, genes) for s, g in values.values())
    }
    assert set(study_rows(launched.study)["best"]) == front
    assert launched.study.optuna.directions[1].name == "MINIMIZE"


def test_hopeless_trials_are_given_up_and_are_no_results(search_file: Callable) -> None:
    launched = queue_search(search_file(trials=25, sampler="random", pruner="median"), identify=no_name)
    hill = run(launched, Hill(epochs=6))
    cells = launched.study.cells()
    pruned = [cell for cell in cells if cell.state == "pruned"]
    assert 3 < len(pruned) < 20
    assert all(cell.runs == [] and cell.score is None for cell in pruned)
    assert len(hill.points) == 25
    assert len(launched.study.runs()) == 25 - len(pruned)
    best = max(cells, key=lambda cell: cell.score or -1)
    assert best.trial.number == best_trials(launched.study)[0].number


def test_a_killed_trial_keeps_its_parameters(search_file: Callable) -> None:
    launched = queue_search(search_file(trials=6, sampler="tpe", startup=2), identify=no_name)
    hill = Hill()

    def cell(config: Any, **words: Any) -> list[Run]:
        runs = hill(config, **words)
        if len(hill.configs) == 4:
            raise KeyboardInterrupt
        return runs

    with pytest.raises(KeyboardInterrupt):
        run(launched, cell)
    run(launched, hill)
    assert len(hill.points) == 7
    assert hill.points[3] == hill.points[6] or hill.points[3] in hill.points[4:]
    assert [cell.state for cell in launched.study.cells()] == ["done"] * 6


def test_another_search_of_the_same_name_is_refused(search_file: Callable) -> None:
    queue_search(search_file(trials=2), identify=no_name)
    queue_search(search_file(trials=3, sampler="random"), identify=no_name)
    with pytest.raises(
        UserError, match=r"Expected the search that the study 's' in .* holds, received another .* Set another name="
    ):
        queue_search(search_file({"auxiliary.strength": {"low": 0.0, "high": 1.0}}, trials=2), identify=no_name)
    with pytest.raises(UserError, match="holds, received another"):
        queue_search(search_file(trials=2), ["seed=1"], identify=no_name)
    with pytest.raises(UserError, match="holds, received another"):
        queue_search(search_file(trials=2), identify=lambda *_: "other data")


KEY = "auxiliary.genes.k"
K = {KEY: {"low": 2, "high": 9}}


@pytest.mark.parametrize(
    ("parameters", "search", "sentence"),
    [
        (
            {KEY: {"low": 9, "high": 2}},
            {},
            "low <= high in the range of auxiliary.genes.k, received low=9",
        ),
        (
            {KEY: {"low": 0, "high": 2, "log": True}},
            {},
            "low above 0 in the range of auxiliary.genes.k",
        ),
        (
            {KEY: {"low": 2, "hihg": 9}},
            {},
            "Expected auxiliary.genes.k: {low: 5, high: 500, log: true}",
        ),
        ({KEY: {"low": 2, "high": 9, "logg": 1}}, {}, "Did you mean 'log'?"),
        ({KEY: {"low": "a", "high": 9}}, {}, "Expected numbers in the range of auxiliary.genes.k"),
        ({KEY: {"low": 1, "high": 9, "step": 2, "log": True}}, {}, "Expected a possible range of"),
        ({KEY: []}, {}, "received an empty list"),
        ({}, {}, "at least one key with a range"),
        ({"auxilary.strength": {"low": 0.1, "high": 1.0}}, {}, "Did you mean 'auxiliary'?"),
        ({"training.learning_rate": {"low": 0.0, "high": 1.0}}, {}, "'training.learning_rate'"),
        (K, {"trails": 3}, "Did you mean 'trials'?"),
        (K, {"trials": 0}, "'search.trials'"),
        (K, {"sampler": "cma"}, "'search.sampler'"),
        (K, {"objective": "scc"}, "a score on test spots"),
        (K, {"objective": ["validation_scc", "pcc_pooled"]}, "leaves no honest test. Set objective: validation_scc."),
        (K, {"objective": "validation_sc"}, "Did you mean 'validation_scc'?"),
        (K, {"objective": []}, "Expected one objective or two"),
        (K, {"objective": ["genes", "genes"]}, "Expected one objective or two"),
        (
            K,
            {"objective": ["genes", "validation_scc"], "pruner": "median"},
            "by the validation score alone. Set it, or pruner: none.",
        ),
        (K, {"sampler": "gp", "pruner": "median"}, "Expected pruner: none with sampler: gp"),
        (
            K,
            {"rest": {"training": {"monitor": "pcc"}}},
            "Expected training.monitor=scc with the objective validation_scc",
        ),
    ],
)
def test_searches_written_wrongly(search_file: Callable, parameters: Any, search: dict, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        read_search(search_file(parameters, **search))
    assert sentence in str(error.value)


def test_overrides_reach_the_search_and_the_config(search_file: Callable) -> None:
    found = read_search(search_file(), ["search.trials=7", "search.parameters.loss=[mse]", "training.epochs=3"])
    assert (found.search.trials, found.search.parameters["loss"]) == (7, ["mse"])
    assert {config.training.epochs for config in found.corners()} == {3}
    assert {config.auxiliary.genes.args["k"] for config in found.corners()} == {2, 512}
    with pytest.raises(UserError, match="Write key=value without spaces"):
        read_search(search_file(), ["trials", "=7"])


def test_what_a_run_is_worth(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"validation": 0.25, "scc": 0.9}')
    rows = ["gene,role,weight", "a,primary,1", "b,auxiliary,1", "c,auxiliary,0.2", "d,auxiliary,0.5"]
    (tmp_path / "panel.csv").write_text("\n".join(rows))
    run = Run(tmp_path)
    assert (validation(run), number_of_genes(run)) == (0.25, 2.0)
    (tmp_path / "result.json").write_text('{"validation": null, "k": 7}')
    assert number_of_genes(run) == 7.0
    with pytest.raises(UserError, match="Expected a validation score in"):
        validation(run)


def test_the_shipped_search_over_k(sections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """configs/search_k.yaml as it is, on small sections: k in its range, whole, more than one tried."""
    monkeypatch.chdir(tmp_path)
    path = Path(__file__).parents[2] / "configs" / "search_k.yaml"
    words = [f"data.root={sections}", "data.features=latent", "fold=0", "primary.k=10", "training.epochs=2"]
    launched = queue_search(path, [*words, "search.trials=3"])
    work(launched.study)
    sizes = [cell.trial.params["auxiliary.genes.k"] for cell in launched.study.cells()]
    assert [cell.state for cell in launched.study.cells()] == ["done"] * 3
    assert len(set(sizes)) > 1
    assert all(5 <= k <= 1000 for k in sizes)
    for run, k in zip(launched.study.runs(), sizes, strict=True):
        assert run.config.auxiliary.genes.args["k"] == k
        assert number_of_genes(run) <= k
