"""The budgeted top-k: its budget, its limits, its derivatives against finite differences and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit

from agl.errors import UserError
from agl.genes.selectors import budgeted_topk
from agl.genes.selectors.topk import find_cut

scores_of = st.lists(st.floats(-50, 50), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(scores_of, st.floats(0.01, 0.99), st.floats(0.05, 10))
def test_the_weights_are_scipys_root(values, share, tau):
    scores, k = np.array(values), share * len(values)
    cut = brentq(
        lambda c: expit((scores - c) / tau).sum() - k, scores.min() - 60 * tau, scores.max() + 60 * tau, xtol=1e-13
    )
    ours = budgeted_topk(torch.tensor(scores, dtype=torch.float64), k, tau).numpy()
    np.testing.assert_allclose(ours, expit((scores - cut) / tau), atol=1e-6)
    assert ours.sum() == pytest.approx(k, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(scores_of, st.floats(0.01, 0.99), st.floats(-20, 20), st.randoms(use_true_random=False))
def test_a_shift_changes_nothing_and_weights_follow_their_genes(values, share, shift, random):
    scores = torch.tensor(values, dtype=torch.float64)
    k = share * len(values)
    order = list(range(len(values)))
    random.shuffle(order)
    weights = budgeted_topk(scores, k, 0.5)
    torch.testing.assert_close(budgeted_topk(scores + shift, k, 0.5), weights, atol=1e-7, rtol=0)
    torch.testing.assert_close(budgeted_topk(scores[order], k, 0.5), weights[order], atol=1e-9, rtol=0)


@pytest.mark.parametrize("k", [1, 7, 49])
def test_cold_is_the_hard_top_k(k):
    scores = torch.randn(50, generator=torch.Generator().manual_seed(0))
    weights = budgeted_topk(scores, k, 1e-4)
    assert set(torch.where(weights >= 0.5)[0].tolist()) == set(scores.topk(k).indices.tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("k", "value"), [(0, 0.0), (-3, 0.0), (5, 1.0), (9.5, 1.0)])
def test_no_gene_and_all_genes(k, value, dtype):
    scores = torch.arange(5, dtype=dtype, requires_grad=True)
    weights = budgeted_topk(scores, k, 0.1)
    assert weights.tolist() == [value] * 5
    assert weights.dtype == dtype
    weights.sum().backward()
    assert scores.grad.tolist() == [0.0] * 5


def test_no_candidates():
    assert budgeted_topk(torch.empty(0), 3, 0.1).shape == (0,)


def test_equal_scores_share_the_budget():
    assert budgeted_topk(torch.full((4,), 7.0), 1, 0.1).tolist() == pytest.approx([0.25] * 4, rel=1e-5)


def test_first_and_second_derivatives_in_both_modes():
    scores = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    k = torch.tensor(3.3, dtype=torch.float64, requires_grad=True)
    tau = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(budgeted_topk, (scores, k, tau), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(budgeted_topk, (scores, k, tau), check_fwd_over_rev=True)


def test_the_jacobian_is_the_implicit_function_theorems():
    """dw_i = a_i / tau (ds_i - dc), dc = (a . ds - tau dk) / sum a, with a = w (1 - w)."""
    scores = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    k, tau = torch.tensor(2.0, dtype=torch.float64), 0.7
    a = budgeted_topk(scores, k, tau)
    a = a * (1 - a)
    by_scores = (torch.diag(a) - torch.outer(a, a) / a.sum()) / tau
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        found = jacobian(lambda s, b: budgeted_topk(s, b, tau), argnums=(0, 1))(scores, k)
        torch.testing.assert_close(found[0], by_scores)
        torch.testing.assert_close(found[1], a / a.sum())


def test_scores_far_apart_have_finite_gradients():
    scores = torch.tensor([0.0, 1e4, -1e4, 2e4], requires_grad=True)
    weights = budgeted_topk(scores, 2, 1e-3)
    assert weights.tolist() == pytest.approx([0.0, 1.0, 0.0, 1.0])
    weights.sum().backward()
    assert torch.isfinite(scores.grad).all()


def test_twenty_thousand_genes_in_float32_keep_the_budget():
    scores = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    for k in (1.0, 300.0, 19_999.0):
        assert float(budgeted_topk(scores, k, 0.05).double().sum()) == pytest.approx(k, rel=1e-4)


def test_the_cut_is_inside_the_bracket():
    scores = torch.tensor([0.0, 5.0, 9.0])
    assert 5.0 < float(find_cut(scores, torch.tensor(1.0), torch.tensor(0.1))) < 9.0


def test_a_table_of_scores_is_refused():
    with pytest.raises(UserError, match=r"one dimension \[gene\], received shape \(2, 3\)"):
        budgeted_topk(torch.zeros(2, 3), 1, 0.1)
