"""Training and checkpoints: torch's schedulers, a loop in torch.nn, resuming, curves that a reader can trust."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

import strank
from agl.errors import UserError
from agl.papers.strank_synthetic import networks
from agl.papers.strank_synthetic import study as study_module
from agl.papers.strank_synthetic.settings import METHODS, StudySettings, read_study
from agl.papers.strank_synthetic.study import run_study, trainings_frame
from agl.papers.strank_synthetic.training import CHUNK, MethodTraining, StudyData, learning_rate

SMALL = ["functions=[0, 2]", "seeds=[0, 1]", "spots=300", "evaluation_spots=120", "hidden=[8]", "epochs=4"]


def small(*words: str) -> StudySettings:
    return read_study([*SMALL, *words])


@pytest.mark.parametrize(("schedule", "epochs"), [("cosine", 13), ("restarts", 75)])
def test_learning_rates_are_those_of_torchs_schedulers(schedule, epochs):
    study = StudySettings(schedule=schedule, epochs=epochs, learning_rate=3e-3)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-3)
    schedulers = torch.optim.lr_scheduler
    if schedule == "cosine":
        expected = schedulers.CosineAnnealingLR(optimizer, epochs)
    else:
        expected = schedulers.CosineAnnealingWarmRestarts(optimizer, 10, 2, eta_min=3e-4)
    for epoch in range(epochs):
        assert learning_rate(study, epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        expected.step()


@pytest.mark.parametrize("label", ["MSE", "ListSTRank", "PCC per tissue", "NB, learned dispersion"])
def test_an_epoch_is_an_epoch_of_each_network_alone(label, as_module):
    """A case's network after two epochs, and the same network in torch.nn fed batch by batch with that case only."""
    study = small(f"methods={label!r}" if "," not in label else f"methods=['{label}']", "standardise=true")
    data = StudyData(study)
    training = MethodTraining(study, study.methods[0])
    number = 3
    module = as_module(training.networks, number).float()
    loss = strank.NegativeBinomialLoss(n_genes=1) if "NB" in label else None
    learned = [] if loss is None else list(loss.parameters())
    optimizer = torch.optim.AdamW([*module.parameters(), *learned], lr=1e-3)
    for epoch in range(2):
        batches = list(data.batches(epoch))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(study, epoch)
        for batch in batches:
            x = torch.empty_like(batch.points.rising).scatter_(1, batch.points.order, batch.points.rising)
            scores, counts = module(x[number][:, None]), batch.counts[:, number : number + 1]
            if loss is not None:
                value = loss(scores, counts)
            elif label == "MSE":
                value = ((scores - torch.log1p(counts)) ** 2).mean()
            else:
                call = strank.listwise_nll if label == "ListSTRank" else strank.pearson_loss
                value = call(scores, counts, slides=batch.slides)
            optimizer.zero_grad()
            value.sum().backward()
            optimizer.step()
        training.train_epoch(batches, epoch)
    x = data.test.x
    expected = module(data.inputs(x)[number][:, None])[:, 0].detach()
    # A loss of one tissue's order leaves the last bias to rounding: compare what is not free.
    found = training.scores(data, x)[:, number]
    torch.testing.assert_close(found - found.mean(), expected - expected.mean(), rtol=1e-3, atol=2e-5)
    if loss is not None:
        assert loss.dispersion.item() != 1.0
        assert training.loss.dispersion[number].item() == pytest.approx(loss.dispersion.item(), rel=1e-4)


def test_every_spot_of_both_tissues_is_seen_once_an_epoch():
    study = small("batch_size=64")
    data = StudyData(study)
    for epoch in (0, 1):
        batches = list(data.batches(epoch))
        assert sum(len(batch.slides) for batch in batches) == 600
        assert sum(float(batch.counts.sum()) for batch in batches) == float(data.training.counts.sum())
        assert torch.cat([batch.slides for batch in batches]).bincount().tolist() == [300, 300]
    first, second = (torch.cat([b.counts for b in data.batches(epoch)]) for epoch in (0, 1))
    assert not torch.equal(first, second)


def test_curves_are_spearmans_of_scipy():
    study = small("evaluation_spots=1100", "methods=[ListSTRank]")
    assert study.evaluation_spots > CHUNK  # several pieces
    data = StudyData(study)
    training = MethodTraining(study, study.methods[0])
    training.train_epoch(list(data.batches(0)), 0)
    training.evaluate(data, 1)
    for number in range(len(study.cases)):
        for stream, truth in (("oracle", data.oracle), ("test", data.test)):
            scores = training.scores(data, truth.x)[:, number]
            expected = spearmanr(scores, truth.signal[number]).statistic
            assert getattr(training.curves, stream)[0][number] == pytest.approx(expected)
        validation = data.validation
        scores = training.scores(data, validation.x)[:, number]
        by_tissue = [
            spearmanr(scores[here], validation.counts[number, here]).statistic
            for here in (validation.slides == 0, validation.slides == 1)
        ]
        assert training.curves.honest[0][number] == pytest.approx(np.mean(by_tissue))


def test_the_checkpoints_are_the_best_epochs_of_their_own_curve():
    study = small("methods=[MSE]", "functions=[0]", "samplings=[uniform]", "seeds=[0, 1]")
    training = MethodTraining(study, study.methods[0])
    curves = training.curves
    curves.epochs = [2, 4, 6]
    curves.oracle = [np.array([0.1, np.nan]), np.array([0.3, np.nan]), np.array([0.2, 0.0])]
    curves.honest = [np.array([0.4, 0.1]), np.array([0.3, 0.2]), np.array([0.2, 0.3])]
    curves.test = [np.array([0.01, 0.04]), np.array([0.02, 0.05]), np.array([0.03, 0.06])]
    frame = trainings_frame(study, [training])
    assert frame[["oracle", "honest", "last"]].values.tolist() == [[0.02, 0.01, 0.03], [0.06, 0.06, 0.06]]
    assert frame[["oracle_epoch", "honest_epoch", "last_epoch"]].values.tolist() == [[4, 2, 6], [6, 6, 6]]


def test_a_method_does_not_depend_on_the_others(tmp_path):
    alone = run_study(small("methods=[PairSTRank]", f"output={tmp_path}", "name=a"))
    among = run_study(small("methods=[published]", f"output={tmp_path}", "name=b"))
    one, many = (pd.read_csv(folder / "trainings.csv") for folder in (alone, among))
    picked = many[many.method == "PairSTRank"].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, picked)


def test_killed_and_resumed_gives_the_same_bits(tmp_path, monkeypatch):
    words = ["methods=['PairSTRank', 'NB, learned dispersion', 'List of 4']"]
    whole = run_study(small(*words, f"output={tmp_path / 'whole'}"))
    real = MethodTraining.train_epoch

    def dies(self, batches, epoch):
        if epoch == 2 and self.method.label == "List of 4":
            raise KeyboardInterrupt
        real(self, batches, epoch)

    study = small(*words, f"output={tmp_path / 'cut'}")
    monkeypatch.setattr(MethodTraining, "train_epoch", dies)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, save_after=0)
    assert (study.folder / "state.pt").is_file()
    assert not (study.folder / "table.md").exists()
    epochs = []

    def counted(self, batches, epoch):
        epochs.append(epoch)
        real(self, batches, epoch)

    monkeypatch.setattr(MethodTraining, "train_epoch", counted)
    cut = run_study(study)
    assert set(epochs) == {2, 3}
    assert not (cut / "state.pt").exists()
    for name in ("trainings.csv", "table.md"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    with np.load(cut / "curves.npz") as mine, np.load(whole / "curves.npz") as theirs:
        assert all(np.array_equal(mine[key], theirs[key], equal_nan=True) for key in theirs.files)


def test_a_planted_state_is_a_sentence_and_runs_nothing(tmp_path):
    """What pretends to be the state of an interrupted study is data, whatever it holds."""

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "hacked"),)

    study = small("methods=[ListSTRank]", f"output={tmp_path}")
    study.folder.mkdir(parents=True)
    state = study.folder / "state.pt"
    for content in ({"epochs": 1, "trainings": Attack()}, {"epochs": Attack(), "trainings": []}, Attack(), [], {}):
        torch.save(content, state)
        with pytest.raises(UserError, match=r"it could not be read .* Delete the file to start again"):
            run_study(study)
        state.write_bytes(pickle.dumps(content))
        with pytest.raises(UserError, match="it could not be read"):
            run_study(study)
    assert not (tmp_path / "hacked").exists()


def test_cases_in_several_parts_are_the_same_cases(monkeypatch):
    study = small("methods=[ListSTRank]", "hidden=[6, 5]")
    data = StudyData(study)
    monkeypatch.setattr(networks, "serves", lambda _: False)
    found = []
    for size in (16, 3):
        monkeypatch.setitem(networks.AT_ONCE, 2, size)
        training = MethodTraining(study, study.methods[0])
        assert len(training.networks._walks) == -(-len(study.cases) // size)
        training.train_epoch(list(data.batches(0)), 0)
        found.append(training.scores(data, data.test.x))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_a_finished_study_is_left_alone(tmp_path, monkeypatch):
    study = small("methods=[MSE]", f"output={tmp_path}")
    folder = run_study(study)
    monkeypatch.setattr(study_module, "_train", lambda *_: pytest.fail("trained again"))
    assert run_study(study) == folder


def test_a_damaged_state_is_one_sentence(tmp_path):
    study = small("methods=[MSE]", f"output={tmp_path}")
    study.folder.mkdir()
    (study.folder / "state.pt").write_bytes(b"half")
    with pytest.raises(UserError, match="Delete the file to start again"):
        run_study(study)


def test_a_loss_of_your_own_in_one_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def absolute(scores, counts, *, power=1.0):\n    return ((scores - counts).abs() ** power).mean(0)\n"
    )
    methods = f"methods=[{{label: mine, loss: {{name: '{file}:absolute', power: 1.5}}}}, MSE]"
    frame = pd.read_csv(run_study(small(methods, f"output={tmp_path}")) / "trainings.csv")
    assert frame.method.unique().tolist() == ["mine", "MSE"]
    assert frame[["oracle", "honest", "last"]].notna().all().all()


@pytest.mark.parametrize("label", METHODS)
def test_every_built_in_method_learns_an_easy_tissue(label):
    """One slow wave and hardly any noise: after a few epochs the order of spots is mostly right."""
    words = "functions=[1] seeds=[1] samplings=[uniform] r=[1000] scales=[300] offsets=[0] spots=2000"
    words += " evaluation_spots=400 hidden=[128] standardise=true learning_rate=0.02 schedule=cosine epochs=12"
    study = read_study([*words.split(), f"methods=['{label}']"])
    data = StudyData(study)
    training = MethodTraining(study, study.methods[0])
    for epoch in range(study.epochs):
        training.train_epoch(list(data.batches(epoch)), epoch)
    training.evaluate(data, study.epochs)
    assert training.curves.oracle[0][0] > 0.3
