"""`choose:`: decided by training spots alone, as by hand, kept, resumed, recorded, and exported as what was chosen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
from scipy import sparse

from agl.config import Config, load
from agl.errors import UserError
from agl.estimators.convex import Convex
from agl.estimators.inside import score_by_slide, simplest_of_the_best
from agl.runs import choosing
from agl.runs.execute import execute
from agl.runs.folder import Run
from agl.runs.model import model_of
from agl.runs.options import options_of_config
from agl.runs.resolve import complete
from agl.runs.train import prepare
from agl.training.experiment import Experiment

SHARED = ["data.features=latent", "primary.k=8", "primary.min_detection=0", "fold=0"]
LOSSES = ["model=convex", "model.penalty=0.3", "choose.loss=[mse, listwise]"]
NETWORK = ["choose.model=[{name: convex, penalty: 1}, {name: mlp, hidden: [4]}]", "training.epochs=2", "loss=mse"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patients with a small section each. Read-only by convention."""
    from agl.data.simulate.task import simulate

    root = tmp_path_factory.mktemp("choosing") / "task"
    return simulate(root, n_patients=4, slides_per_patient=1, spots_per_slide=25, n_genes=80, features="latent", seed=2)


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> Callable[..., Config]:
    return lambda *words: load([f"data.root={folder}", f"output={tmp_path / 'runs'}", *SHARED, *words])


def first(config: Config) -> Experiment:
    return prepare(config).experiments[0]


def test_the_table_is_that_of_fits_by_hand(config: Callable[..., Config]) -> None:
    experiment = first(config(*LOSSES))
    run = execute(experiment)
    choice = json.loads((run.folder / "choice.json").read_text())
    assert choice["left_out"] == "3 folds of patients"
    sample = first(config("model=convex", "model.penalty=0.3")).sample()
    rows = []
    for loss in ("mse", "listwise"):
        mine = replace(sample, loss=load([f"loss={loss}"]).loss)
        found = {}
        for slide in np.unique(sample.slides):
            rest, left = (mine.at(np.flatnonzero(part)) for part in (mine.slides != slide, mine.slides == slide))
            scores = Convex(penalty=0.3).fit(rest).predict(left.features)
            found[experiment.dataset.slide_names[slide]] = score_by_slide(torch.from_numpy(scores[None]), left)[0, 0]
        rows.append([found[slide] for slide in choice["slides"]])
    np.testing.assert_allclose([option["scores"] for option in choice["options"]], rows, atol=1e-6)
    best = ("mse", "listwise")[simplest_of_the_best(np.array(rows))]
    assert choice["chosen"] == {"loss": best} == run.result["chosen"]
    assert run.fitted_config.loss.name == best
    plain = execute(first(config("model=convex", "model.penalty=0.3", f"loss={best}")))
    assert (run.folder / "per_gene.csv").read_bytes() == (plain.folder / "per_gene.csv").read_bytes()
    assert run.folder != plain.folder


@pytest.mark.parametrize("words", [LOSSES, NETWORK], ids=["solved", "network"])
def test_the_test_slide_has_no_say(config: Callable[..., Config], folder: Path, tmp_path: Path, words: list) -> None:
    asked = config(*words)
    experiment = first(asked)
    clean = execute(experiment)
    shutil.copytree(folder, tmp_path / "task")
    name = experiment.dataset.slide_names[experiment.dataset.slide_codes[experiment.split.test[0]]]
    path = tmp_path / "task/adata" / f"{name}.h5ad"
    section = anndata.read_h5ad(path)
    section.X = sparse.csr_matrix(np.random.default_rng(0).poisson(5.0, section.shape).astype(np.float32))
    section.write_h5ad(path)
    other = execute(first(asked.with_(f"data.root={tmp_path / 'task'}")))
    assert other.folder != clean.folder
    mine, theirs = (choosing.read_choice(run.folder) for run in (clean, other))
    assert mine is not None
    assert theirs is not None
    for option in (*mine["options"], *theirs["options"]):
        option.pop("seconds")
    assert mine == theirs
    best = "checkpoints/best.safetensors"
    assert (clean.folder / best).read_bytes() == (other.folder / best).read_bytes()


def test_an_interrupted_choice_goes_on(config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config(*NETWORK)
    whole = execute(first(asked.with_("name=whole")))
    score, calls = choosing._score, []

    def dies(*args: object) -> dict:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(*args)

    monkeypatch.setattr(choosing, "_score", dies)
    with pytest.raises(KeyboardInterrupt):
        execute(first(asked))
    run = execute(first(asked))
    assert len(calls) == 3 + 4  # two of six were kept
    assert run.result == whole.result
    assert not (run.folder / "inside").exists()


def test_what_was_chosen_predicts_and_is_given_away(config: Callable[..., Config], tmp_path: Path) -> None:
    run = execute(first(config(*NETWORK[1:], "choose.model=[{name: mlp, hidden: [4]}]")))
    model = model_of(run)
    assert model.config.model.args["hidden"] == [4]
    model.save(tmp_path / "model")
    from agl.runs.predict import evaluate_again

    assert evaluate_again(run.folder)["as_recorded"]


def test_features_left_open_are_part_of_the_hash(config: Callable[..., Config]) -> None:
    words = ["model=convex", "model.penalty=1", "loss=mse"]
    one = first(config(*words, "choose.data.context=[[], [4]]"))
    two = first(config(*words, "choose.data.context=[[], [8]]"))
    assert len({one.dataset.key, two.dataset.key, first(config(*words)).dataset.key}) == 3
    run = execute(one)
    assert run.fitted_config.data.context in ((), (4,))
    assert Run(run.folder).recipe["context"] == list(run.fitted_config.data.context)


def test_complete_twice_is_complete(config: Callable[..., Config]) -> None:
    once = complete(config("choose.loss=[mse, margin_ranking]", "model=mlp"))
    assert complete(once) == once
    assert "choose" not in complete(config()).to_dict()


def test_several_keys_at_once() -> None:
    options = options_of_config(load(["choose.learner=[{loss: mse, model.rank: 2}, {loss: listwise, model.rank: 1}]"]))
    assert options.words((1,)) == ('loss="listwise"', "model.rank=1")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("choose.primary=[moran, dispersion]", "Expected a key of model, loss"),
        ("choose.training.monitor=[scc, pcc]", "by which score"),
        ("choose.loss=[]", "Expected values to choose from at choose.loss"),
        ("choose.loss=[mse, mse]", "Expected different values at choose.loss"),
        ("choose.loss=[mse, listwize]", "Did you mean 'listwise'"),
        ("choose.modl=[mlp]", "Did you mean 'model'"),
    ],
)
def test_what_cannot_be_chosen(config: Callable[..., Config], word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        complete(config(word))
