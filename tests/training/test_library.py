"""`data.library=ignored`: log1p of raw counts to learn from, rank genes by and score; depth stays known beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import strank
from agl.config import Config
from agl.data.batches import SpotLoader
from agl.data.expression import expression
from agl.data.splitting.splits import Split
from agl.errors import UserError
from agl.nuisances import nuisance_scores
from agl.runs.provenance import spots_key
from agl.testing.plugins import example_dataset
from agl.training.loading import as_deep

SPLIT = Split("fold", np.arange(60), np.arange(60, 80), np.arange(80, 120), "random spots", True)


def test_losses_and_scores_see_log1p_of_counts() -> None:
    dataset = as_deep(Config().with_("data.library=ignored"), example_dataset(), SPLIT)
    batch = SpotLoader(dataset, np.arange(12))(np.arange(5))
    scores = torch.zeros(5, 12)
    found = strank.mse(scores, batch.counts, library_size=batch.library_size)
    plain = np.log1p(dataset.counts.toarray()[:5])
    np.testing.assert_allclose(found, (plain**2).mean(0), rtol=1e-6)
    np.testing.assert_allclose(expression(batch.counts, dataset.library_size[:5]), plain, rtol=1e-12)


def test_depth_alone_is_still_scored_as_it_was_measured() -> None:
    measured = example_dataset()
    ignored = as_deep(Config().with_("data.library=ignored", "data.thin=0.5"), measured, SPLIT)
    thinned = as_deep(Config().with_("data.thin=0.5"), measured, SPLIT)
    found = nuisance_scores(ignored, SPLIT.train, SPLIT.test, np.arange(3), ())["depth"]
    np.testing.assert_allclose(found[:, 0], np.log(measured.library_size[SPLIT.test]))
    assert (ignored.subset(SPLIT.train).depth == thinned.library_size[SPLIT.train]).all()
    assert len(set(ignored.library_size)) == 1


def test_another_truth_is_not_compared_with_the_measured_one() -> None:
    assert spots_key(example_dataset()) != spots_key(example_dataset(), 1.0, "ignored")


def test_taking_depth_out_and_leaving_it_in_is_refused() -> None:
    with pytest.raises(UserError, match=r"Expected data.library=measured with scoring.depth=partial"):
        as_deep(Config().with_("data.library=ignored", "scoring.depth=partial"), example_dataset(), SPLIT)


def test_runs_of_before_the_keys_have_the_same_config() -> None:
    tree = Config().to_dict()
    assert "library" not in tree["data"]
    assert not {"per", "inner_scale", "statistics", "augment"} & tree["auxiliary"]["outer"].keys()
    assert Config().with_("auxiliary.outer.per=batch").to_dict()["auxiliary"]["outer"]["per"] == "batch"
