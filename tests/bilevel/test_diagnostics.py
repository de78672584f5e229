"""t-statistics against SciPy, sign agreement by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from agl.bilevel.diagnostics import agreement, primary_share
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
