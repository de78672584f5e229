"""Gradients and curvatures in the scores, against autograd through strank's own losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import strank
from agl.convex.losses import read_loss
from agl.convex.spots import FittedSpots, prepare

CURVED = [
    ("listwise", {}),
    ("listwise", {"count_power": 0.3}),
    ("pairwise", {}),
    ("pairwise", {"count_power": 0.3}),
    ("poisson", {}),
    ("negative_binomial", {"dispersion": 0.7}),
]


def strank_sum(name: str, options: dict[str, Any], scores: Tensor, data: Any, spots: FittedSpots) -> Tensor:
    """strank's loss of the caller's full tables, times the number of spots; scores of empty spots are 0."""
    n_spots, n_genes = data.counts.shape
    full = torch.zeros(n_spots, n_genes, dtype=torch.float64).index_copy(0, spots.rows, scores.T)
    loss = getattr(strank, f"{name}_nll")
    counts, library = torch.as_tensor(data.counts), torch.as_tensor(data.library_size)
    if name == "pairwise":  # slide by slide, with all others of the slide as partners
        total = torch.zeros(n_genes, dtype=torch.float64)
        for code in np.unique(data.slides):
            rows = torch.as_tensor(np.flatnonzero((data.slides == code) & (data.library_size > 0)))
            if len(rows) > 1:
                some = {**options, "n_partners": len(rows) - 1, "library_size": library[rows]}
                total = total + loss(full[rows], counts[rows], **some) * len(rows)
        return total
    return loss(full, counts, slides=torch.as_tensor(data.slides), library_size=library, **options) * n_spots


@pytest.mark.parametrize(("name", "options"), CURVED)
def test_derivatives_are_those_of_strank(name: str, options: dict[str, Any], make_data: Any) -> None:
    data = make_data(24)
    choice = read_loss(name, options)
    spots = prepare(data.x, data.library_size, data.slides, within=choice.within)
    everyone = slice(0, data.counts.shape[1])
    assert choice.curved is not None
    curved = choice.curved(spots.gene_major(data.counts, everyone), spots, everyone)
    generator = torch.Generator().manual_seed(0)
    shape = (data.counts.shape[1], len(spots))
    scores = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    direction = torch.randn(shape, generator=generator, dtype=torch.float64)

    value = strank_sum(name, options, scores, data, spots)
    gradient = torch.autograd.grad(value.sum(), scores, create_graph=True)[0]
    bent = torch.autograd.grad((gradient * direction).sum(), scores)[0]
    local = curved.at(scores.detach())
    torch.testing.assert_close(local.gradient, gradient.detach(), rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(local.curve(direction), bent, rtol=1e-10, atol=1e-11)
    own = choice.value(scores.detach().T, spots.gene_major(data.counts, everyone).T, spots, everyone) * len(spots)
    torch.testing.assert_close(own, value.detach(), rtol=1e-12, atol=1e-12)

    some = torch.tensor([2, 0])
    narrow = curved.narrow(some).at(scores.detach()[some])
    torch.testing.assert_close(narrow.gradient, local.gradient[some])
    torch.testing.assert_close(narrow.curve(direction[some]), local.curve(direction)[some])


@pytest.mark.parametrize("power", [1.0, 0.4])
def test_the_mass_makes_the_curvature_of_a_spot_about_one(power: float, make_data: Any) -> None:
    """At scores of 0, d' H d / (n m) is the variance of d inside slides, weighted by expected counts."""
    data = make_data(200)
    spots = prepare(data.x, None, data.slides, within=True)
    everyone = slice(0, 3)
    direction = torch.randn(3, len(spots), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for name, factor in (("listwise", 1.0), ("pairwise", 0.5)):
        curve = read_loss(name, {"count_power": power}).curved
        assert curve is not None
        loss = curve(spots.gene_major(data.counts, everyone), spots, everyone)
        found = (direction * loss.at(torch.zeros_like(direction)).curve(direction)).sum(1) / loss.mass / len(spots)
        torch.testing.assert_close(found, torch.full_like(found, factor), rtol=0.35, atol=0)


def test_poisson_goes_on_in_a_straight_line(make_data: Any) -> None:
    data = make_data(24)
    spots = prepare(data.x, None, None, within=False)
    curve = read_loss("poisson").curved
    assert curve is not None
    loss = curve(spots.gene_major(data.counts, slice(0, 1)), spots, slice(0, 1))
    far = loss.at(torch.full((1, 24), 1e4, dtype=torch.float64))
    counts = torch.as_tensor(data.counts[:, 0]).double()
    torch.testing.assert_close(far.gradient[0], math.exp(20) - counts)
    assert not far.curve(torch.ones(1, 24, dtype=torch.float64)).any()
