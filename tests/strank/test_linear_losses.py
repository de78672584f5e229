"""The losses of a linear head in one piece, beside the head and the loss apart: one battery for all of them."""

from __future__ import annotations

import pytest
import scipy.sparse
import torch
from torch import Tensor

from strank.losses import head, native
from tests.strank.linear_losses import (
    CASES,
    N_GENES,
    apart,
    every,
    fused,
    gradients,
    inputs,
    narrow,
    of_batch,
    scale_of,
)

__all__ = ["inputs", "narrow"]


@every
@pytest.mark.parametrize("layout", ["dense", "integers", "torch", "scipy", "scipy_unsorted"])
def test_values_and_gradients_are_those_of_head_and_loss(case, layout, inputs):
    expected = apart(case, inputs)
    table = {
        "dense": lambda c: c,
        "integers": lambda c: c.long(),
        "torch": lambda c: c.to_sparse_csr(),
        "scipy": lambda c: scipy.sparse.csr_matrix(c.int().numpy()),
        "scipy_unsorted": lambda c: unsorted(scipy.sparse.csr_matrix(c.numpy())),
    }[layout](inputs.counts)
    found = fused(case, inputs._replace(counts=table))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(gradients(found.mean(), inputs), gradients(expected.mean(), inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@every
def test_a_bias_that_changes_nothing_has_no_gradient(case, inputs):
    """The same number for all spots of a gene moves neither ranks nor centred squares; where it does, it is learnt."""
    name = next(name for name, known in CASES.items() if known is case)
    found = gradients(fused(case, inputs).sum(), inputs)[2]
    assert bool((found == 0).all()) == (name not in ("poisson", "mse"))


def unsorted(table: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    for start, stop in zip(table.indptr, table.indptr[1:], strict=False):
        table.indices[start:stop], table.data[start:stop] = (
            table.indices[start:stop][::-1],
            table.data[start:stop][::-1],
        )
    table.has_sorted_indices = False
    return table


@every
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("layout", ["dense", "torch", "scipy"])
def test_single_precision(case, compiled, layout, make_batch, monkeypatch):
    if not compiled:
        monkeypatch.setattr(native, "library", None)
    batch = make_batch(n_spots=40, n_genes=N_GENES, n_slides=3)
    exact, single = of_batch(batch), of_batch(batch, torch.float32)
    expected = apart(case, exact)
    table = {
        "dense": lambda c: c,
        "torch": lambda c: c.to_sparse_csr(),
        "scipy": lambda c: scipy.sparse.csr_matrix(c.int().numpy()),
    }[layout](single.counts)
    found = fused(case, single._replace(counts=table))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=2e-6)
    for ours, theirs in zip(gradients(found.sum(), single), gradients(expected.sum(), exact), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=2e-4, atol=2e-5 * scale_of(theirs))


@every
def test_losses_may_be_multiplied_one_by_one(case, inputs):
    outer = torch.linspace(-1, 2, N_GENES, dtype=torch.float64)
    expected = gradients(apart(case, inputs) @ outer, inputs)
    torch.testing.assert_close(gradients(fused(case, inputs) @ outer, inputs), expected, rtol=1e-10, atol=1e-11)
    frozen = inputs._replace(features=inputs.features.detach())
    torch.testing.assert_close(gradients(fused(case, frozen) @ outer, frozen), expected[1:], rtol=1e-10, atol=1e-11)


@every
@pytest.mark.parametrize("layout", ["dense", "scipy"])
def test_gene_weights_multiply_and_their_zeros_are_left_out(case, layout, inputs, monkeypatch):
    weights = torch.rand(N_GENES, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    weights[::3] = 0
    weights[70:130] = 0
    seen = []
    made = head._scores
    monkeypatch.setattr(head, "_scores", lambda h, w, *rest: seen.append(len(w)) or made(h, w, *rest))
    given = inputs._replace(counts=scipy.sparse.csr_matrix(inputs.counts.numpy())) if layout == "scipy" else inputs
    found = fused(case, given, gene_weights=weights)
    assert sum(seen) == int(weights.count_nonzero())
    expected = apart(case, inputs) * weights
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert found[weights == 0].tolist() == [0.0] * int((weights == 0).sum())
    torch.testing.assert_close(
        gradients(found.sum(), inputs), gradients(expected.sum(), inputs), rtol=1e-10, atol=1e-11
    )


@every
def test_no_weight_at_all(case, inputs):
    found = fused(case, inputs, gene_weights=torch.zeros(N_GENES))
    assert not found.any()
    assert not any(gradient.any() for gradient in gradients(found.sum(), inputs))


@every
def test_derivatives_of_both_orders_and_forward(case, make_batch):
    few = of_batch(make_batch(n_spots=7, n_genes=2, n_slides=2), n_features=2)

    def function(*learnt: Tensor) -> Tensor:
        return fused(case, few._replace(features=learnt[0], weight=learnt[1], bias=learnt[2]))

    assert torch.autograd.gradcheck(function, few.learnt, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, few.learnt)


@every
def test_second_derivatives_of_sparse_counts(case, make_batch):
    few = of_batch(make_batch(n_spots=9, n_genes=N_GENES, n_slides=2), n_features=2)

    def bent(value: Tensor) -> list[Tensor]:
        first = torch.autograd.grad(value.sum(), few.learnt, create_graph=True)
        return gradients(sum((part * part).sum() for part in first), few)

    sparse = few._replace(counts=few.counts.to_sparse_csr())
    torch.testing.assert_close(bent(fused(case, sparse)), bent(apart(case, few)), rtol=1e-9, atol=1e-9)
