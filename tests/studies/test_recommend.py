"""`agl recommend`: from a folder to a config, chosen on training spots alone, kept where it is finished."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from agl.config import load
from agl.data.dataset import Dataset
from agl.estimators.committee import Committee
from agl.estimators.inside import folds_inside, score_by_slide
from agl.estimators.options import Options, factor
from agl.progress import display
from agl.runs.folder import Run
from agl.runs.resolve import complete
from agl.studies import recommend as study
from agl.studies.factorial import panels_of, score_options
from agl.studies.options import options_for
from agl.training.experiment import sample_of

Agl = Callable[..., tuple[int, str, str]]
QUICK = ["data.features=latent", "primary.k=8", "training.epochs=2"]


@pytest.fixture(scope="module")
def plan(sections: Path) -> study.Plan:
    return study.plan(sections, QUICK)


@pytest.fixture(scope="module")
def inside(plan: study.Plan) -> tuple[dict[str, Dataset], np.ndarray]:
    """The data, and the spots that choose for the first fold."""
    datasets = {name: each.experiments[0].dataset for name, each in plan.committee.items()}
    split = plan.first.experiments[0].split
    return datasets, np.union1d(split.train, split.validation)


def test_a_question_is_answered_by_its_means_and_ties_go_to_the_simpler() -> None:
    options = Options((factor("a", "xy", "a", "xy"), factor("b", "pqr", "b", "pqr")))
    base = np.array([0.1, 0.3, 0.2, 0.4])  # by unit
    gain = {("x", "p"): 0, ("x", "q"): 0.05, ("x", "r"): 0.05, ("y", "p"): 0, ("y", "q"): 0.05, ("y", "r"): 0.05}
    wobble = np.array([0.01, -0.01, 0.01, -0.01])
    scores = np.array([[base + gain[a, b] + wobble * (a == "y") for b in "pqr"] for a in "xy"])
    assert options.choose(scores) == (0, 1)  # y is no better than x; q and r gain .05, and q is the simpler
    assert options.words((0, 1)) == ('a="x"', 'b="q"')
    assert list(options)[4] == {"a": "y", "b": "q"}
    np.testing.assert_allclose(options.by_factor(scores, 1)[2], base + 0.05 + wobble / 2)


def test_combinations_are_the_committees_they_stand_for(plan, inside) -> None:
    """Sums of shared parts against each combination fitted on its own, as a run fits it."""
    datasets, spots = inside
    found = score_options(plan.first.config, datasets, spots, plan.options)
    assert found.scores.shape == (*plan.options.shape, len(found.units))
    assert found.unit == "slides"
    panels = panels_of(plan.first.config, datasets["train"], spots)
    for number in (0, 7, 22, plan.options.shape[0] * 18 - 1):
        answers = list(plan.options)[number]
        config = plan.first.config.with_(f"loss={answers['loss']}", f"auxiliary.genes={answers['genes']}")
        sample = sample_of(config, datasets[answers["normalise"]], panels[answers["genes"]], spots)
        views = dict(sample.views) if answers["context"] != "own" else {"own": sample.views["own"]}
        sample = replace(sample, views=views)
        expected = []
        for kept, held in folds_inside(sample):
            left = sample.at(held)
            scores = Committee().fit(sample.at(kept)).predict(left.features, left.slides)
            expected.append(score_by_slide(torch.from_numpy(scores)[None], left)[0])
        own = found.scores.reshape(-1, len(found.units))[number]
        np.testing.assert_allclose(own, np.concatenate(expected), atol=1e-6)


def test_the_test_spots_of_a_fold_have_no_part_in_its_choice(plan, inside) -> None:
    datasets, spots = inside
    honest = score_options(plan.first.config, datasets, spots, plan.options)
    corrupted = {}
    for name, dataset in datasets.items():
        counts = sparse.lil_matrix(dataset.counts)
        test = plan.first.experiments[0].split.test
        counts[test] = np.random.default_rng(0).poisson(50, (len(test), counts.shape[1]))
        total = np.asarray(counts.tocsr().sum(1)).ravel()
        library = np.where(np.isin(np.arange(len(total)), test), total, dataset.library_size)
        corrupted[name] = replace(dataset, counts=sparse.csr_matrix(counts), library_size=library)
    again = score_options(plan.first.config, corrupted, spots, plan.options)
    np.testing.assert_array_equal(honest.scores, again.scores)
    assert honest.genes == again.genes
    everything = np.arange(len(datasets["train"]))
    whole = score_options(plan.first.config, corrupted, everything, plan.options)
    assert not np.array_equal(whole.scores[..., :2], honest.scores[..., :2])  # it would show


def test_from_a_folder_to_a_config_that_trains(agl: Agl, sections: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["recommend", sections, *QUICK]
    status, out, err = agl(*words)
    assert status == 0, err
    folder = Path("runs/recommend/task")
    for part in ("Recommended:", "Too few for any claim: 3 patients", "Go on with: agl train", "chosen inside"):
        assert part in out
    assert len(list((folder / "choices").iterdir())) == 4
    answer = json.loads((folder / study.ANSWER).read_text())
    assert {each["method"] for each in answer["runs"]} == {
        study.RIDGE, study.DEFAULT, study.CHOSEN, study.CONTROL
    }  # fmt: skip
    page = (folder / "report" / "report.html").read_text()
    assert "Recommendation for task" in page
    _numbers_are_those_of_the_runs(folder, answer, page)

    written = {file: file.stat().st_mtime_ns for file in folder.rglob("result.json")}
    with monkeypatch.context() as forbidding:
        forbidding.setattr("agl.studies.factorial.score_options", _never)
        forbidding.setattr("agl.runs.execute._write", _never)
        status, again, err = agl(*words)
    assert (status, again) == (0, out), err
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("result.json")} == written
    method, overrides = answer["recommended"]["method"], answer["recommended"]["words"]
    shared = [f"data.root={sections}", "name=recommend/task", "split=leave_one_patient_out", *QUICK]
    assert load([folder / study.CONFIG]) == load([*shared, *overrides])
    genes = (folder / study.AUXILIARY).read_text().split()
    assert genes == answer["final"]["genes"][complete(load([folder / study.CONFIG])).auxiliary.genes.name]
    status, out, err = agl("train", folder / study.CONFIG, "fold=0")
    assert status == 0, err
    tested = next(each["run"] for each in answer["runs"] if each["method"] == method)
    assert method == study.CHOSEN or (err.startswith("kept") and tested in err)


@pytest.mark.parametrize(
    ("ridge", "default", "chosen", "recommended"),
    [
        ([0.10, 0.20, 0.15], [0.12, 0.22, 0.17], [0.15, 0.18, 0.19], study.DEFAULT),  # choosing gains on the whole
        ([0.10, 0.20, 0.15], [0.12, 0.22, 0.17], [0.15, 0.25, 0.21], study.CHOSEN),  # and here everywhere
        ([0.10, 0.20, 0.15], [0.16, 0.15, 0.16], [0.09, 0.19, 0.14], study.RIDGE),  # a gain smaller than its error
        ([0.10, 0.20, None], [0.12, 0.22, 0.17], [0.11, 0.21, None], study.DEFAULT),  # an undefined fold says nothing
    ],
)
def test_the_simplest_of_the_best_is_recommended(tmp_path: Path, ridge, default, chosen, recommended: str) -> None:
    runs = []
    for method, scores in ((study.RIDGE, ridge), (study.DEFAULT, default), (study.CHOSEN, chosen)):
        for fold, score in enumerate(scores):
            run = f"{method}{fold}"
            (tmp_path / run).mkdir()
            (tmp_path / run / "result.json").write_text(json.dumps({"scc": score}))
            runs.append({"method": method, "fold": str(fold), "run": run})
    assert study._recommended(tmp_path, runs) == recommended


def test_the_genes_told_are_those_of_the_config_written(plan, tmp_path, monkeypatch) -> None:
    """Whatever is recommended, and although all spots may choose other genes than the default has."""
    asked = replace(plan, words=(*plan.words, f"output={tmp_path}"))
    for method in study.COMPARED:
        monkeypatch.setattr(study, "_recommended", lambda *_, method=method: method)
        with display() as progress:
            answer = study.recommend(asked, progress)
        config = complete(load([asked.folder / study.CONFIG]))
        run = next(Run(asked.folder / each["run"]) for each in answer["runs"] if each["method"] == method)
        assert config.model == run.config.model
        told = (asked.folder / study.AUXILIARY).read_text().split()
        assert told == answer["final"]["genes"][config.auxiliary.genes.name]
        assert (config.auxiliary.genes.name == "coexpressed") or method != study.DEFAULT


def test_without_places_no_run_asks_for_surroundings(plan: study.Plan) -> None:
    methods = replace(plan, context=False).methods(["loss=mse"])
    for method in (study.DEFAULT, study.CONTROL):
        assert load(methods[method]).data.context == ()
    assert load(plan.methods([])[study.DEFAULT]).data.context is None  # the default's own


def _never(*args: object, **given: object) -> None:
    raise AssertionError("computed again")


def _numbers_are_those_of_the_runs(folder: Path, answer: dict, page: str) -> None:
    """SCC and paired differences in the page, recomputed from the files."""
    means: dict[str, list[pd.Series]] = {}
    for each in answer["runs"]:
        table = pd.read_csv(folder / each["run"] / "per_gene.csv")
        table = table[table.slide != "(pooled)"].set_index(["slide", "gene"]).scc
        means.setdefault(each["method"], []).append(table)
    chosen, ridge = (pd.concat(means[name]) for name in (study.CHOSEN, study.RIDGE))
    gain = (chosen - ridge).groupby("slide").mean()  # a slide a patient
    assert f"{gain.mean():+.3f}".replace("-", "−") in page
    assert f"{np.mean([table.mean() for table in means[study.CHOSEN]]):.3f}" in page
    assert f"higher in {(gain > 0).sum()} of 3 patients), by options that no test spot" in page


def test_it_goes_on_where_it_was_killed(plan, tmp_path: Path, sections: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    from agl.runs import execute

    real, done = execute._write, []

    def dies_at_the_seventh(*args: object) -> None:
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(args)
        real(*args)

    monkeypatch.setattr(execute, "_write", dies_at_the_seventh)
    with pytest.raises(KeyboardInterrupt), display() as progress:
        study.recommend(plan, progress)
    assert not (plan.folder / study.ANSWER).exists()
    monkeypatch.setattr(execute, "_write", lambda *args: (done.append(args), real(*args)))
    with display() as progress:
        answer = study.recommend(plan, progress)
    assert len(done) == len({each["run"] for each in answer["runs"]})  # nothing was trained twice
    (whole,) = (tmp_path / "whole",)
    other = replace(plan, words=(*plan.words, f"output={whole}"))
    with display() as progress:
        assert study.recommend(other, progress) == answer


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["loss=mse"], "received 'loss=mse': this is what is found out."),
        (["auxiliary.genes.k=5"], "this is what is found out."),
        (["data.context=[8]"], "this is what is found out."),
        (["study.yaml"], "Expected key=value after the folder, received 'study.yaml'."),
        (["data.features=none"], "Expected features to choose with"),
        (["splti=random_spots"], "Unknown key 'splti' in the config. Did you mean 'split'?"),
    ],
)
def test_bad_words_are_one_sentence(agl: Agl, sections: Path, words: list[str], part: str) -> None:
    status, _, err = agl("recommend", sections, *words)
    assert status == 2
    assert part in err
    assert len(err.strip().splitlines()) == 1


def test_a_folder_that_is_none_is_one_sentence(agl: Agl, tmp_path: Path) -> None:
    status, _, err = agl("recommend", tmp_path / "nothing")
    assert status == 2
    assert "nothing" in err
    assert len(err.strip().splitlines()) == 1


def test_what_can_be_asked_depends_on_the_data() -> None:
    names = [factor.name for factor in options_for(["builtin"], context=False).factors]
    assert names == ["normalise", "loss", "genes"]
    first, *others = options_for(["builtin", "emb/uni"], context=True).factors
    assert (first.answers, len(others)) == (("builtin", "uni", "all"), 4)
    assert load([*first.words[2]]).data.features == ("builtin", "emb/uni")
    assert load([*others[0].words[1]]).data.context == (8, 24)


@pytest.mark.parametrize(
    ("patients", "slides", "rule", "speaks"),
    [
        (2, 2, "leave_one_patient_out", ""),
        (1, 3, "leave_one_slide_out", "patients"),
        (1, 1, "spatial_blocks", "slides"),
    ],
)
def test_the_split_is_the_strictest_there_is(patients: int, slides: int, rule: str, speaks: str) -> None:
    found, why = study.usual_split(patients, slides)
    assert found == rule
    assert speaks in why
