"""However a batch is cut into blocks of genes and lists, the loss is the same: small blocks cross every seam."""

from __future__ import annotations

import pytest
import torch

import strank
from strank import groups
from strank.losses import analytic

LOSSES = {
    "mse": (strank.mse, {"centred": True}),
    "poisson": (strank.poisson_nll, {}),
    "negative_binomial": (strank.negative_binomial_nll, {"dispersion": torch.linspace(0.5, 4, 150)}),
    "pairwise": (strank.pairwise_nll, {"n_partners": 2}),
    "margin": (strank.margin_ranking, {}),
    "listwise": (strank.listwise_nll, {"count_power": 0.5}),
    "pearson": (strank.pearson_loss, {}),
}


@pytest.mark.parametrize("layout", ["random", "sorted", "sorted, even", "one slide", "empty spots"])
@pytest.mark.parametrize("name", LOSSES)
def test_seams_do_not_show(name, layout, make_batch, monkeypatch):
    batch = make_batch(n_spots=40, n_genes=150, n_slides=5)
    slides, library_size = batch.slides, batch.counts.sum(1) + 5
    if layout == "sorted":
        slides = slides.sort().values
    elif layout == "sorted, even":
        slides = torch.arange(8).repeat_interleave(5)
    elif layout == "one slide":
        slides = torch.zeros_like(slides)
    elif layout == "empty spots":
        library_size = batch.library_size

    loss, options = LOSSES[name]
    if "n_partners" in loss.__kwdefaults__:
        options = options | {"generator": torch.Generator()}

    def run():
        if "generator" in options:
            options["generator"].manual_seed(0)
        scores = batch.scores.clone().requires_grad_()
        value = loss(scores, batch.counts, slides=slides, library_size=library_size, **options)
        return value.detach(), torch.autograd.grad(value.sum(), scores)[0]

    whole = run()
    monkeypatch.setattr(analytic, "BLOCK", 1)  # 64 genes at a time, the least there is
    monkeypatch.setattr(groups, "_STEP_COST", 0)  # no padding: lists of each length on their own
    in_pieces = run()
    monkeypatch.setattr(groups, "_STEP_COST", 1 << 60)  # all lists in one block
    padded = run()
    for found in (in_pieces, padded):
        torch.testing.assert_close(found, whole, rtol=1e-9, atol=1e-12)
