"""Simulated tasks: the files, the planted structure, the count model, and that helping genes really help."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from agl.data.images.builtin import extract
from agl.data.simulate.counts import Genes, draw_counts, plant_genes
from agl.data.simulate.settings import CLASSES, PRESETS, settings_of
from agl.data.simulate.task import draw_section, simulate
from agl.data.simulate.tissue import lattice, programmes
from agl.errors import UserError

anndata = pytest.importorskip("anndata")


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "task"
    return simulate(folder, n_patients=3, slides_per_patient=2, spots_per_slide=20, n_genes=120, patch_size=32, seed=5)


def drawn(preset: str, seed: int, *, n_slides: int = 4, n_spots: int = 150, features: str = "latent") -> tuple:
    settings = settings_of(preset)
    genes = plant_genes(settings, 600, 50, np.random.default_rng([seed, 0]))
    sections = [
        draw_section(settings, genes, patient=k, slide=0, n_spots=n_spots, features=features, side=64, seed=seed)
        for k in range(n_slides)
    ]
    return genes, sections


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson of every column pair, [column of a, column of b]."""
    a, b = a - a.mean(0), b - b.mean(0)
    return (a.T @ b) / np.sqrt(np.outer((a * a).sum(0), (b * b).sum(0)))


# ---- files ----------------------------------------------------------------------------------------------------------


def test_layout_is_hest_benchs(task: Path) -> None:
    names = [f"P{p}S{s}" for p in (1, 2, 3) for s in (1, 2)]
    assert sorted(path.stem for path in (task / "adata").iterdir()) == names
    truth = pd.read_csv(task / "truth.csv")
    for name in names:
        data = anndata.read_h5ad(task / "adata" / f"{name}.h5ad")
        assert data.shape == (20, 120)
        assert data.X.format == "csr"
        assert data.X.dtype == np.int32
        assert data.X.min() >= 0
        assert list(data.var_names) == list(truth["gene"])
        assert set(data.obs["patient"]) == {name[:2]}
        assert set(data.obs["section"]) == {name}
        assert data.obs_names.is_unique
        with h5py.File(task / "patches" / f"{name}.h5") as file:
            assert file["img"].shape == (20, 32, 32, 3)
            assert file["img"].dtype == np.uint8
            assert [b.decode() for b in file["barcode"][:, 0]] == list(data.obs_names)
            # Patches are cut around the spot: coords are their top-left corner.
            np.testing.assert_array_equal(file["coords"][:] + 16, data.obsm["spatial"])
        np.testing.assert_array_equal(
            data.obsm["spatial"], data.obs[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()
        )
        np.testing.assert_array_equal(data.obsm["spatial"], data.obs[["array_col", "array_row"]].to_numpy() * 100)
        with np.load(task / "truth" / f"{name}.npz") as hidden:
            assert hidden["log_rates"].shape == (20, 120)
            assert list(hidden["barcodes"]) == list(data.obs_names)
    assert json.loads((task / "var_50genes.json").read_text())["genes"] == list(truth["gene"][truth["primary"]])
    assert json.loads((task / "truth.json").read_text())["seed"] == 5


def test_splits_hold_one_patient_out(task: Path) -> None:
    for fold in range(3):
        test, train = (pd.read_csv(task / "splits" / f"{part}_{fold}.csv") for part in ("test", "train"))
        assert list(test["sample_id"]) == [f"P{fold + 1}S1", f"P{fold + 1}S2"]
        assert len(train) == 4
        assert not set(train["sample_id"].str[:2]) & set(test["sample_id"].str[:2])
        for path in [*test["patches_path"], *test["expr_path"]]:
            assert (task / path).is_file()


@pytest.mark.parametrize("features", ["patches", "latent"])
def test_same_seed_same_bytes_other_seed_other_data(tmp_path: Path, features: str) -> None:
    small = {"n_patients": 2, "spots_per_slide": 9, "n_genes": 70, "patch_size": 16, "features": features}
    first, again = (digest(simulate(tmp_path / name, seed=1, **small)) for name in ("first", "again"))
    other = digest(simulate(tmp_path / "other", seed=2, **small))
    assert first == again
    assert first.keys() == other.keys()
    changed = [name for name in first if first[name] != other[name] and not name.startswith("splits")]
    assert len(changed) == len(first) - 4


def test_more_slides_leave_the_others_as_they_were(tmp_path: Path) -> None:
    few = digest(simulate(tmp_path / "few", n_patients=1, spots_per_slide=9, n_genes=70, features="latent"))
    more = digest(
        simulate(
            tmp_path / "more", n_patients=2, slides_per_patient=2, spots_per_slide=9, n_genes=70, features="latent"
        )
    )
    for name in ("adata/P1S1.h5ad", "embeddings/latent/P1S1.h5", "truth/P1S1.npz", "truth.csv"):
        assert few[name] == more[name]


def test_latent_features_need_no_patches(tmp_path: Path) -> None:
    root = simulate(tmp_path / "task", n_patients=1, spots_per_slide=9, n_genes=70, features="latent")
    assert not (root / "patches").exists()
    with h5py.File(root / "embeddings" / "latent" / "P1S1.h5") as file:
        assert set(file) == {"embeddings", "barcodes", "coords"}
        assert file["embeddings"].shape == (9, settings_of("standard").latent_features)
        assert file["embeddings"].dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"preset": "standrad"}, "Did you mean 'standard'"),
        ({"n_patients": 0}, "n_patients to be a whole number of at least 1, received 0"),
        ({"n_genes": 50}, "n_genes to be a whole number of at least 54"),
        ({"spots_per_slide": 2.5}, "spots_per_slide to be a whole number"),
        ({"patch_size": 8}, "patch_size to be a whole number of at least 16"),
        ({"patch_size": 102}, "at most 100 px"),
        ({"patch_size": 33}, "even patch_size"),
        ({"features": "none"}, "'patches' or 'latent'"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments_leave_nothing(tmp_path: Path, arguments: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        simulate(tmp_path / "task", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_only_an_earlier_simulation_is_replaced(tmp_path: Path) -> None:
    small = {"n_patients": 1, "spots_per_slide": 4, "n_genes": 60, "features": "latent"}
    target = simulate(tmp_path / "task", seed=1, **small)
    with pytest.raises(UserError, match="overwrite=True"):
        simulate(target, seed=2, **small)
    simulate(target, seed=2, overwrite=True, **small)
    assert json.loads((target / "truth.json").read_text())["seed"] == 2
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match="not overwritten"):
        simulate(tmp_path / "thesis", overwrite=True, **small)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task", "thesis"]


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("agl.data.simulate.task.write_task", full_disk)
    with pytest.raises(OSError, match="No space"):
        simulate(tmp_path / "task", n_patients=1, spots_per_slide=4, n_genes=60, features="latent")
    assert list(tmp_path.iterdir()) == []


# ---- model ----------------------------------------------------------------------------------------------------------


def test_lattice_is_connected_and_of_the_asked_size() -> None:
    for n_spots in (3, 50, 400):
        places = lattice(n_spots, np.random.default_rng(n_spots))
        assert len(np.unique(places, axis=0)) == n_spots
        distance = np.abs(places[:, None] - places[None]).sum(-1)
        reached = {0}
        while True:
            wider = set(np.flatnonzero((distance[sorted(reached)] <= 1).any(axis=0)))
            if wider == reached:
                break
            reached = wider
        assert len(reached) > 0.95 * n_spots


def test_programmes_are_smooth_with_the_stated_share() -> None:
    settings = settings_of("standard")
    places = lattice(2000, np.random.default_rng(0))
    activity = programmes(places, settings, np.random.default_rng(1))
    activity = activity - activity.mean(0)
    at = {tuple(place): row for row, place in enumerate(places)}
    pairs = np.array([(row, at[(y, x + 1)]) for (y, x), row in at.items() if (y, x + 1) in at])
    neighbour = np.mean([np.corrcoef(z[pairs[:, 0]], z[pairs[:, 1]])[0, 1] for z in activity.T])
    # Squared-exponential kernel at distance 1, times the share that neighbours have in common.
    expected = (1 - settings.local_share) * np.exp(-0.5 / settings.length_scale**2)
    assert neighbour == pytest.approx(expected, abs=0.03)
    assert activity.var(0) == pytest.approx(1.0, abs=0.15)


def test_counts_have_the_stated_mean_and_variance() -> None:
    settings = settings_of("standard")
    genes = plant_genes(settings, 200, 50, np.random.default_rng(0))
    n = 20_000
    counts, rates, draws = draw_counts(
        genes, np.zeros((n, genes.loadings.shape[1])), settings, np.random.default_rng(1)
    )
    np.testing.assert_allclose(rates, np.broadcast_to(np.log(genes.mean_count), rates.shape))
    level = draws["scale"] * genes.mean_count + draws["offset"]
    depth = draws["depth"]
    mean = level * depth.mean()
    # Law of total variance: Poisson + negative-binomial part given the depth, plus the spread of the depth.
    variance = mean + genes.dispersion * level**2 * (depth**2).mean() + level**2 * depth.var()
    np.testing.assert_allclose(counts.mean(0), mean, rtol=0.08)
    np.testing.assert_allclose(np.median(counts.var(0) / variance), 1.0, atol=0.03)
    np.testing.assert_allclose(counts.var(0), variance, rtol=0.4)
    # A gene at one depth is scipy's negative binomial.
    flat = replace(settings, depth_spread=0.0)
    counts, _, draws = draw_counts(genes, np.zeros((n, genes.loadings.shape[1])), flat, np.random.default_rng(2))
    mu, alpha = (draws["scale"] * genes.mean_count + draws["offset"])[7], genes.dispersion[7]
    observed = np.bincount(counts[:, 7], minlength=12)[:12] / n
    np.testing.assert_allclose(observed, stats.nbinom.pmf(np.arange(12), 1 / alpha, 1 / (1 + alpha * mu)), atol=0.01)


def test_scale_and_offset_keep_the_order_of_the_spots() -> None:
    genes, (section, *_) = drawn("standard", 0, n_slides=1, n_spots=60)
    draws = section.draws
    expected = draws["scale"] * np.exp(section.log_rates) + draws["offset"]
    for gene in range(0, 600, 50):
        assert (np.argsort(expected[:, gene]) == np.argsort(section.log_rates[:, gene])).all()
    signal = section.activity @ genes.loadings.T * draws["sign"]
    np.testing.assert_allclose(section.log_rates, np.log(genes.mean_count) + signal)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_classes_follow_their_own_programmes(preset: str) -> None:
    settings = settings_of(preset)
    genes, sections = drawn(preset, 1)
    numbers = pd.Series(genes.classes).value_counts()
    assert numbers["primary"] == 50
    for name in CLASSES[1:]:
        assert numbers[name] == pytest.approx(settings.classes[name].share * 550, abs=2)
    target, visible = settings.target_programmes, settings.target_programmes + settings.other_programmes
    used = {name: np.flatnonzero(genes.loadings[genes.classes == name].any(axis=0)) for name in CLASSES}
    assert used["primary"].tolist() == used["useful"].tolist() == list(range(target))
    assert used["independent"].tolist() == list(range(target, visible))
    assert used["noise"].tolist() == []
    assert min(used["harmful"]) >= target
    best = {}
    for name in ("useful", "independent", "harmful"):
        per_slide = [
            np.abs(correlation(s.log_rates[:, genes.classes == name], s.log_rates[:, genes.classes == "primary"]))
            for s in sections
        ]
        best[name] = np.mean([r.max(axis=1).mean() for r in per_slide])
    assert best["useful"] > 0.95
    assert best["independent"] < 0.45
    assert best["harmful"] < 0.45


def area_under_curve(useful: np.ndarray, scores: np.ndarray) -> float:
    """The chance that a useful gene outranks another one (Mann-Whitney)."""
    ranks = stats.rankdata(scores)
    n, m = useful.sum(), (~useful).sum()
    return float((ranks[useful].sum() - n * (n + 1) / 2) / (n * m))


def ranking_power(preset: str, seed: int) -> dict[str, float]:
    """How well four simple priors tell useful from other auxiliary genes, on counts."""
    genes, sections = drawn(preset, seed)
    auxiliary, primary = genes.classes != "primary", genes.classes == "primary"
    useful = genes.classes[auxiliary] == "useful"
    counts = np.concatenate([s.counts for s in sections]).astype(float)
    logs = [np.log1p(s.counts / s.counts.sum(1, keepdims=True) * 1e4) for s in sections]

    def coexpression(values: np.ndarray) -> np.ndarray:
        squares = correlation(values[:, auxiliary], values[:, primary]) ** 2
        return np.sort(squares, axis=1)[:, -5:].mean(axis=1)

    priors = {
        "mean": counts.mean(0)[auxiliary],
        "dispersion": (counts.var(0) / counts.mean(0))[auxiliary],
        "pooled": coexpression(np.concatenate(logs)),
        "within": np.mean([coexpression(values) for values in logs], axis=0),
    }
    return {name: area_under_curve(useful, scores) for name, scores in priors.items()}


def test_priors_mislead_where_they_should() -> None:
    standard, misleading, easy = (ranking_power(preset, 2) for preset in ("standard", "misleading", "easy"))
    assert standard["within"] > 0.97
    assert easy["within"] > 0.97
    assert easy["dispersion"] > 0.8
    # Useless genes have the highest mean and dispersion; slide batch effects spoil co-expression over pooled slides.
    assert misleading["mean"] < 0.3
    assert misleading["dispersion"] < 0.2
    assert misleading["within"] > 0.9
    assert misleading["pooled"] < misleading["within"] - 0.1


# ---- signal ---------------------------------------------------------------------------------------------------------


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


def trained_score(genes: Genes, sections: list, chosen: np.ndarray, seed: int) -> float:
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
