"""t-statistics against SciPy, sign agreement by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from agl.bilevel.diagnostics import agreement, beyond_chance, primary_share
from agl.errors import UserError
from agl.testing.engines import small_problem


def test_t_is_students() -> None:
    rows = np.random.default_rng(0).normal(0.3, 1, (9, 4))
    found = agreement([torch.from_numpy(row) for row in rows])
    expected = scipy.stats.ttest_1samp(rows, 0).statistic
    np.testing.assert_allclose(found.t.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(found.sign.numpy(), (np.sign(rows) == np.sign(rows.mean(0))).mean(0))
    assert found.batches == 9


def test_edges() -> None:
    assert bool(agreement([torch.ones(1)]).t.isnan())
    cancelling = agreement([torch.ones(1), -torch.ones(1)])
    assert float(cancelling.t) == 0.0
    assert bool(cancelling.sign.isnan())
    with pytest.raises(UserError, match="received none; run an engine first"):
        agreement([])


def test_primary_share_by_hand() -> None:
    problem, _ = small_problem(strength=0.5)
    share = primary_share(problem, torch.full((3,), 2.0), torch.full((8,), 4.0), torch.ones(8))
    assert share == pytest.approx(2.0 / (2.0 + 0.5 * 4.0), rel=1e-6)
    assert primary_share(problem, torch.ones(3), torch.ones(8), torch.zeros(8)) == 1.0
    assert primary_share(problem, torch.zeros(3), torch.zeros(8), torch.ones(8)) == 1.0


def test_beyond_chance_is_the_definition() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        t, rate = rng.normal(0.5, 1, 40).round(1), rng.choice([0.05, 0.1, 0.3])  # with ties, and some zeros
        passed = [
            (t >= c).sum() for c in np.unique(np.abs(t)) if c > 0 and (1 + (t <= -c).sum()) <= rate * (t >= c).sum()
        ]
        assert beyond_chance(torch.from_numpy(t), rate) == max(passed, default=0)
    assert beyond_chance(torch.zeros(30), 0.1) == 0
    assert beyond_chance(torch.full((9,), 5.0), 0.1) == 0
    assert beyond_chance(torch.full((10,), 5.0), 0.1) == 10
