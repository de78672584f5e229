"""What can be learnt: patches carry the programmes, helping genes help and harmful ones do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agl.data.images.builtin import extract
from agl.data.simulate.counts import PlantedGenes
from agl.data.simulate.settings import CLASSES, settings_of
from tests.data.simulate.worlds import correlation, drawn


def ridge(train: np.ndarray, wanted: np.ndarray, test: np.ndarray, strength: float = 30.0) -> np.ndarray:
    mean, std = train.mean(0), train.std(0) + 1e-9
    x = (train - mean) / std
    weights = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ (wanted - wanted.mean(0)))
    return (test - mean) / std @ weights


def test_built_in_features_of_patches_carry_the_visible_programmes_across_patients() -> None:
    """Measured over seeds 0-1, leaving each patient out: programmes .15-.77 (mean .56), hidden ones -.12-.06;
    counts of useful genes .33-.35, of independent ones .34-.38, of noise and harmful ones about 0."""
    genes, sections = drawn("standard", 0, features="patches", n_spots=120)
    features = [extract(s.patches) for s in sections]
    train = np.concatenate(features[1:])
    logs = [np.log1p(s.counts / s.counts.sum(1, keepdims=True) * 1e4) for s in sections]
    hidden = settings_of("standard").hidden_programmes
    read = ridge(train, np.concatenate([s.activity for s in sections[1:]]), features[0])
    found = np.diag(correlation(read, sections[0].activity))
    assert found[:-hidden].mean() > 0.35
    assert np.abs(found[-hidden:]).max() < 0.3
    read = ridge(train, np.concatenate([y - y.mean(0) for y in logs[1:]]), features[0])
    with np.errstate(invalid="ignore"):
        found = np.diag(correlation(read, logs[0]))
    by_class = {name: np.nanmean(found[genes.classes == name]) for name in CLASSES}
    assert 0.2 < by_class["useful"] < 0.6
    assert 0.2 < by_class["independent"] < 0.6
    assert by_class["primary"] > 0.02
    assert abs(by_class["noise"]) < 0.06
    assert abs(by_class["harmful"]) < 0.1


def test_patches_look_like_hematoxylin_and_eosin() -> None:
    _, sections = drawn("standard", 3, features="patches", n_spots=60)
    for section in sections:
        grey = section.patches.reshape(-1, 3).astype(float)
        red, green, blue = grey.mean(0)
        assert blue > green + 15  # purple and pink: green is absorbed most
        assert red > green + 5
        nuclei = grey[grey.sum(1) < np.quantile(grey.sum(1), 0.05)].mean(0)
        assert nuclei[2] > nuclei[0] + 10  # nuclei are blue-purple
        assert nuclei.mean() < 0.6 * grey.mean()
    means = np.array([s.patches.reshape(-1, 3).mean(0) for s in sections])
    assert means.std(0).max() > 3  # slides are stained differently
    assert sections[0].patches.std(axis=(1, 2)).mean() > 20


def trained_score(genes: PlantedGenes, sections: list, chosen: np.ndarray, seed: int) -> float:
    """Test Pearson with the true log-rates of the primary genes; an MLP trunk, list loss, patient 0 held out."""
    primary = np.flatnonzero(genes.classes == "primary")
    panel = np.concatenate([primary, chosen])
    train = sections[1:]
    x = np.concatenate([s.features for s in train])
    mean, std = x.mean(0), x.std(0)
    inputs = torch.from_numpy((x - mean) / std)
    counts = torch.from_numpy(np.concatenate([s.counts[:, panel] for s in train])).float()
    library = torch.from_numpy(np.concatenate([s.counts.sum(1) for s in train])).float()
    slides = torch.arange(len(train)).repeat_interleave(len(train[0].counts))
    torch.manual_seed(seed)
    trunk = [torch.nn.Linear(x.shape[1], 128), torch.nn.GELU(), torch.nn.Linear(128, 128), torch.nn.GELU()]
    model = torch.nn.Sequential(*trunk, torch.nn.Linear(128, len(panel)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(8):
        for batch in torch.randperm(len(inputs)).split(64):
            total = torch.zeros(len(panel))
            scores, y = model(inputs[batch]) + library[batch].log()[:, None], counts[batch]
            for slide in range(len(train)):
                inside = slides[batch] == slide
                nll = -(y[inside] * scores[inside].log_softmax(0)).sum(0)
                total = total + nll / y[inside].sum(0).clamp(min=1)
            loss = total[: len(primary)].mean()
            if len(chosen):
                loss = loss + total[len(primary) :].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        read = model(torch.from_numpy((sections[0].features - mean) / std)).numpy()[:, : len(primary)]
    return float(np.diag(correlation(read, sections[0].log_rates[:, primary])).mean())


@pytest.mark.slow
def test_useful_genes_help_a_shared_trunk_and_harmful_ones_do_not() -> None:
    """The long form of this, with early stopping and five seeds, is in the docstring of `simulate_settings`."""
    gains = {"useful": [], "harmful": []}
    for seed in range(3):
        genes, sections = drawn("standard", seed)
        alone = trained_score(genes, sections, np.array([], int), seed)
        for name, found in gains.items():
            found.append(trained_score(genes, sections, np.flatnonzero(genes.classes == name), seed) - alone)
    assert min(gains["useful"]) > 0
    assert np.mean(gains["useful"]) > 0.02
    assert np.mean(gains["harmful"]) < 0.5 * np.mean(gains["useful"])
