"""The stain model against a plain loop, autograd, finite differences and sections whose stains are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from agl import registry
from agl.data.images.stain import render, stain_matrix
from agl.errors import UserError
from agl.models import stain
from agl.models.stain import GeneStains, SharedStains, nsl, sample_pixels, seen_vectors

TRUE = stain_matrix((0.74, 0.60, 0.31), (0.40, 0.81, 0.43), dtype=torch.float64)

PUBLISHED = stain_matrix(dtype=torch.float64)


def pictures(spots: int, side: int = 8, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(20, 250, (spots, side, side, 3)).astype(np.uint8))


def plain_score(image: np.ndarray, vectors: list[list[float]], weights: list[float], bias: float,
                mean: list[float], spread: list[float]) -> float:  # fmt: skip
    """One spot and gene, pixel by pixel, the inverse by cofactors."""
    unit = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in vectors]
    (a, b, c), (d, e, f), (g, h, i) = unit
    det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    inverse = [
        [(e * i - f * h) / det, (c * h - b * i) / det],
        [(f * g - d * i) / det, (a * i - c * g) / det],
        [(d * h - e * g) / det, (b * g - a * h) / det],
    ]
    total, pixels = [0.0, 0.0], image.reshape(-1, 3)
    for pixel in pixels:
        density = [-math.log10((float(value) + 1) / 256) for value in pixel]
        for k in range(2):
            total[k] += max(0.0, sum(density[channel] * inverse[channel][k] for channel in range(3)))
    return bias + sum(weights[k] * (total[k] / len(pixels) - mean[k]) / spread[k] for k in range(2))


@pytest.mark.parametrize("shared", [False, True])
def test_scores_are_those_of_a_plain_loop(shared):
    torch.manual_seed(0)
    images = pictures(3)
    model = nsl(2, shared=shared, pixels=64).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.calibrate(pictures(20, seed=1).numpy())
    head, trunk = (model.head, model.trunk) if shared else (model, model)
    scores = model(images)
    for gene in range(2):
        vectors = trunk.vectors if shared else trunk.vectors[gene]
        expected = [
            plain_score(image, vectors.tolist(), head.weight[gene].tolist(), head.bias[gene].item(),
                        trunk.mean.tolist(), trunk.spread.tolist())
            for image in images.numpy()
        ]  # fmt: skip
        assert scores[:, gene].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("at_once", [1, 50, 1 << 22])
def test_gradients_in_parts_are_autograds(monkeypatch, at_once):
    monkeypatch.setattr(stain, "AT_ONCE", at_once)
    density = torch.rand(3, 11, 3, dtype=torch.float64)
    columns = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: stain._MeanAmounts.apply(density, d), (columns,))
    expected = torch.relu(density @ columns).mean(1)
    torch.testing.assert_close(stain._MeanAmounts.apply(density, columns), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
def test_gradients_of_all_weights_are_finite_differences(shared):
    torch.manual_seed(1)
    model = nsl(2, shared=shared, pixels=16).double()
    images, target = pictures(4), torch.randn(4, 2, dtype=torch.float64)

    def loss() -> torch.Tensor:
        return ((model(images) - target) ** 2).sum()

    loss().backward()
    for parameter in model.parameters():
        flat, step = parameter.data.view(-1), 1e-6
        for i in range(0, len(flat), 3):
            flat[i] += step
            above = loss().item()
            flat[i] -= 2 * step
            below = loss().item()
            flat[i] += step
            assert parameter.grad.view(-1)[i].item() == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-6)


def test_eleven_weights_a_gene_and_nine_shared_ones():
    def count(model):
        return sum(weight.numel() for weight in model.parameters())

    assert count(nsl(50)) == 50 * (9 + 2 + 1)  # the bias beside the eleven
    assert count(nsl(50, shared=True)) == 9 + 50 * (2 + 1)
    assert count(nsl(50, shared=True).trunk) == 9
    assert nsl(5, shared=True).shares
    assert not nsl(5).shares


def test_genes_do_not_depend_on_each_other():
    torch.manual_seed(0)
    model, one = nsl(4, pixels=64), nsl(1, pixels=64)
    with torch.no_grad():
        model.vectors += 0.1 * torch.randn_like(model.vectors)
        one.vectors.copy_(model.vectors[2:3])
        one.weight.copy_(model.weight[2:3])
    images = pictures(5)
    torch.testing.assert_close(model(images)[:, 2:3], one(images), rtol=1e-5, atol=1e-6)


def stained(spots: int, seed: int, vectors: torch.Tensor = TRUE) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches rendered with known vectors, some pixels of one stain only; and the mean amounts `[spot, 2]`."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.3, 1.5, (spots, 1, 2))
    amounts = level * rng.gamma(2.0, 0.15, (spots, 144, 2))
    amounts *= rng.random((spots, 144, 2)) < 0.6
    density = torch.from_numpy(np.concatenate([amounts, np.zeros((spots, 144, 1))], 2))
    images = render(density, vectors).round().clamp(0, 255).to(torch.uint8).view(spots, 12, 12, 3)
    return images, torch.from_numpy(amounts.mean(1)).float()


def fitted(model, images, target, steps=500):
    model.calibrate(images.numpy())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / steps)
        loss = ((model(images) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss)


def degrees(found: torch.Tensor, true: torch.Tensor) -> list[float]:
    cosine = (found.double() * true).sum(-1) / (found.double().norm(dim=-1) * true.norm(dim=-1))
    return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))).tolist()


@pytest.mark.parametrize("shared", [True, False])
def test_the_stain_vectors_are_recovered_from_between_them(shared):
    """Vectors that are mixtures of the true ones clip pixels of one stain, so the data push them apart again.

    (From outside nothing clips: amounts that are positive mixtures of the true ones read out just as well. So the
    vectors are known up to such mixtures, and the start decides among them.)
    """
    torch.manual_seed(0)
    images, amounts = stained(300, 0)
    target = (amounts - amounts.mean(0)) / amounts.std(0)
    model = nsl(2, shared=shared, pixels=144)
    start = torch.stack([0.75 * TRUE[0] + 0.25 * TRUE[1], 0.25 * TRUE[0] + 0.75 * TRUE[1], TRUE[2]]).float()
    with torch.no_grad():
        trunk = model.trunk if shared else model
        trunk.vectors.copy_(start)
    fitted(model, images, target)
    begun = seen_vectors(start, trunk.plane)
    assert min(degrees(begun, TRUE[:2])) > 5
    found = seen_vectors(trunk.vectors.detach(), trunk.plane)
    if shared:
        assert max(degrees(found, TRUE[:2])) < 2.5
    else:  # a gene of one stain says where it sees none: that is the other stain's vector
        assert degrees(found[0, 1], TRUE[1]) < 2.5
        assert degrees(found[1, 0], TRUE[0]) < 2.5


@pytest.mark.parametrize("shared", [True, False])
def test_amounts_are_read_off_from_the_published_vectors_on(shared):
    torch.manual_seed(0)
    between = torch.stack(
        [0.9 * PUBLISHED[0] + 0.1 * PUBLISHED[1], 0.4 * PUBLISHED[0] + 0.6 * PUBLISHED[1], PUBLISHED[2]]
    )
    images, amounts = stained(300, 0, between)
    target = (amounts - amounts.mean(0)) / amounts.std(0)
    model = nsl(2, shared=shared, pixels=144)
    assert fitted(model, images, target) < 0.01
    again, fresh = stained(200, 1, between)
    scores = model(again).detach()
    for gene in range(2):
        assert np.corrcoef(scores[:, gene], fresh[:, gene])[0, 1] > 0.99


@pytest.mark.parametrize("shape", [(100, 100), (7, 30), (224, 224), (1, 1)])
@pytest.mark.parametrize("pixels", [1, 256, 10_000])
def test_pixels_lie_on_a_grid_over_the_whole_patch(shape, pixels):
    image = np.zeros((1, *shape, 3), np.uint8)
    image[0, ..., 0], image[0, ..., 1] = np.indices(shape)
    chosen = sample_pixels(image, pixels)[0]
    assert len(np.unique(chosen, axis=0)) == len(chosen) <= max(1, pixels) + 2 * math.isqrt(pixels) + 1
    if pixels > 1:
        assert chosen[:, :2].max(0).tolist() == [shape[0] - 1, shape[1] - 1]


def test_reduced_pixels_give_the_same_scores():
    model = nsl(3, pixels=16)
    images = pictures(6)
    assert torch.equal(model(images), model(torch.from_numpy(model.reduce(images.numpy()))))


@pytest.mark.parametrize(
    "inputs", [torch.zeros(3, 8), torch.zeros(2, 8, 8, 3), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)]
)
def test_anything_but_patches_is_refused(inputs):
    with pytest.raises(UserError, match=r"data\.features=none"):
        nsl(2)(inputs)


@pytest.mark.parametrize("pixels", [0, 1.5, "many"])
def test_a_wrong_number_of_pixels(pixels):
    with pytest.raises(UserError, match="number of pixels"):
        nsl(2, pixels=pixels)


def test_the_factory_gives_either():
    assert isinstance(nsl(2), GeneStains)
    assert isinstance(nsl(2, shared=True), SharedStains)


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    """Three small sections with patches."""
    from agl.data.simulate.task import simulate

    folder = tmp_path_factory.mktemp("patched") / "task"
    return simulate(folder, n_patients=3, spots_per_slide=30, n_genes=120, patch_size=24, seed=3)


def words(root: Path, *more: str) -> list[str]:
    return [
        f"data.root={root}",
        "data.features=none",
        "model=nsl",
        "model.pixels=64",
        "training.epochs=2",
        "fold=0",
        *more,
    ]


@pytest.mark.parametrize("loss", registry.names("loss"))
def test_it_trains_with_every_loss(agl, patched, loss):
    code, out, err = agl("train", *words(patched, f"loss={loss}", "primary.k=5", "--json"))
    assert code == 0, err
    assert np.isfinite(json.loads(out)["methods"][0]["scc"])


@pytest.mark.parametrize("more", [
    ["auxiliary.genes=all"],
    ["auxiliary.genes=all", "model.shared=true", "auxiliary.gate=trunk"],
    ["auxiliary.genes=dkgsb", "model.shared=true"],
    ["auxiliary.genes=influence_gates", "model.shared=true"],
])  # fmt: skip
def test_it_carries_auxiliary_genes(agl, patched, more):
    code, out, err = agl("train", *words(patched, *more, "primary.k=5", "--json"))
    assert code == 0, err
    assert np.isfinite(json.loads(out)["methods"][0]["scc"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["auxiliary.genes=dkgsb"], "share"),
        (["auxiliary.genes=all", "auxiliary.gate=trunk"], "model.shared=true"),
        (["data.features=builtin"], "data.features=none"),
        (["model.pixels=0"], "number of pixels"),
        (["model.pixel=9"], "Did you mean 'pixels'"),
    ],
)
def test_mistakes_are_one_sentence(agl, patched, more, said):
    code, _, err = agl("train", *words(patched, "primary.k=5", *more))
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_the_report_shows_the_learned_stains(agl, patched, tmp_path):
    for shared in ("false", "true"):
        code, _, err = agl(
            "train", *words(patched, "primary.k=5", f"model.shared={shared}", f"output={tmp_path / 'runs'}")
        )
        assert code == 0, err
    code, _, err = agl("report", tmp_path / "runs", "--out", tmp_path / "report")
    assert code == 0, err
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("Learned stains of") >= 2
    tables = sorted((tmp_path / "report" / "tables").glob("stains*.csv"))
    by_gene, shared_rows = sorted((pd.read_csv(file) for file in tables), key=len, reverse=True)
    assert (len(by_gene), len(shared_rows)) == (2 * 6, 2 * 2)
    assert np.allclose(by_gene[["red", "green", "blue"]].pow(2).sum(axis=1), 1)
    assert by_gene.angle.between(0, 180).all()
    assert (by_gene.angle[by_gene.gene == "start"] < 1e-3).all()


def test_seen_vectors_lie_in_the_plane_and_hold_one_stain_each():
    torch.manual_seed(0)
    vectors = PUBLISHED + 0.1 * torch.randn(4, 3, 3, dtype=torch.float64)
    plane = torch.linalg.qr(torch.randn(3, 2, dtype=torch.float64)).Q.T
    seen = seen_vectors(vectors, plane)
    amounts = torch.einsum("gkc,gcs->gks", seen, stain.deconvolution(vectors))
    assert amounts[:, 0, 1].abs().max() < 1e-10
    assert amounts[:, 1, 0].abs().max() < 1e-10
    torch.testing.assert_close(seen @ plane.T @ plane, seen)
