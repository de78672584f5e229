"""The losses of a linear head at the edges: nothing, half precision, memory, arguments; one battery for all of them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import scipy.sparse
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from agl.testing.losses import check_loss
from tests.strank.linear_losses import (
    CASES,
    N_GENES,
    Inputs,
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
@pytest.mark.parametrize(("n_spots", "n_genes"), [(0, 3), (5, 0), (0, 0), (1, 3)])
@pytest.mark.parametrize("sparse", [False, True])
def test_little_or_nothing(case, n_spots, n_genes, sparse):
    features = torch.ones(n_spots, 2, requires_grad=True)
    weight, bias = torch.ones(n_genes, 2, requires_grad=True), torch.ones(n_genes, requires_grad=True)
    counts = torch.ones(n_spots, n_genes)
    table = scipy.sparse.csr_matrix(counts.numpy()) if sparse else counts
    slides, library = torch.zeros(n_spots, dtype=torch.long), torch.full((n_spots,), 9.0)
    given = Inputs(features, weight, bias, table, slides, library)
    found, expected = fused(case, given), apart(case, given._replace(counts=counts))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found.sum(), given), gradients(expected.sum(), given))


@every
def test_without_bias_slides_and_library(case, inputs):
    bare = inputs._replace(bias=None, slides=None, library_size=None)
    found, expected = fused(case, bare), apart(case, bare)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients(found.sum(), bare), gradients(expected.sum(), bare), rtol=1e-10, atol=1e-11)
    with torch.no_grad():
        torch.testing.assert_close(fused(case, bare), expected, rtol=1e-10, atol=1e-10)


@every
def test_the_same_bits_twice_and_a_second_backward(case, inputs):
    single = Inputs(*(t.detach().float().requires_grad_() for t in inputs[:3]), *inputs[3:])
    found = [fused(case, single) for _ in range(2)]
    first, second = (torch.autograd.grad(value.sum(), single.learnt, retain_graph=True) for value in found)
    again = torch.autograd.grad(found[0].sum(), single.learnt)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(first, second, again, strict=True))


@every
def test_half_precision(case, make_batch):
    batch = make_batch(n_spots=40, n_genes=N_GENES, n_slides=3)
    for dtype, tolerance in ((torch.bfloat16, 0.05), (torch.float16, 0.01)):
        half = of_batch(batch, dtype)
        exact = Inputs(*(t.detach().double().requires_grad_() for t in half[:3]), *of_batch(batch)[3:])
        found, expected = fused(case, half), apart(case, exact)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
        for ours, theirs in zip(gradients(found.mean(), half), gradients(expected.mean(), exact), strict=True):
            assert ours.dtype == dtype
            assert float((ours.double() - theirs).norm()) < 3 * tolerance * (
                float(theirs.norm()) + 0.1 * scale_of(theirs)
            )


def test_autocast_decides_the_precision_of_the_products(inputs):
    single = Inputs(*(t.detach().float().requires_grad_() for t in inputs[:3]), *inputs[3:])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fused(CASES["listwise"], single)
    expected = apart(CASES["listwise"], single)
    assert 0 < float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())
    for ours, theirs in zip(gradients(found.sum(), single), gradients(expected.sum(), single), strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - theirs).norm()) < 0.05 * float(theirs.norm()) + 1e-2


class Widest(TorchDispatchMode):
    """The largest tensor of two dimensions and more that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        view = func.__name__.split(".")[0] in ("expand", "detach", "t", "slice", "view", "transpose", "alias")
        for tensor in [] if view else found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(tensor, Tensor) and tensor.ndim > 1:
                self.numel = max(self.numel, tensor.numel())
        return found


@every
@pytest.mark.parametrize("layout", ["dense", "scipy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_as_large_as_a_table_is_made(case, layout, dtype, make_batch):
    wide = of_batch(make_batch(n_spots=16, n_genes=1280, n_slides=2), dtype, n_features=3)
    table = scipy.sparse.csr_matrix(wide.counts.numpy()) if layout == "scipy" else wide.counts
    with Widest() as largest:
        fused(case, wide._replace(counts=table)).mean().backward()
    assert 0 < largest.numel <= max(1280 * 3, 18 * 64)  # the gradient of the weight, or a tile and some rows


@every
def test_the_contract_of_losses_with_the_identity_as_head(case):
    drawn = ["generator"] if "n_partners" in case.options else []

    def loss(scores: Tensor, counts: Tensor, *, slides=None, library_size=None, **more: Any) -> Tensor:
        one = torch.eye(scores.shape[1], dtype=scores.dtype)
        return case.fused(scores, one, None, counts, slides=slides, library_size=library_size, **case.options, **more)

    def drawing(scores: Tensor, counts: Tensor, *, slides=None, library_size=None, generator=None) -> Tensor:
        return loss(scores, counts, slides=slides, library_size=library_size, generator=generator)

    check_loss(drawing if drawn else loss)


@every
def test_arguments_are_those_of_the_loss(case):
    mine = inspect.signature(case.fused).parameters
    theirs = inspect.signature(case.apart).parameters
    assert set(theirs) - {"scores"} - set(mine) <= {"list_size", "generator"}
    assert set(mine) - set(theirs) <= {"features", "weight", "bias", "gene_weights", "n_partners", "generator"}


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"features": torch.ones(24, 4, dtype=torch.float64)}, ValueError, "features .spot, feature. and weight"),
        ({"bias": torch.ones(3)}, ValueError, "bias of shape .gene. = .150,."),
        ({"counts": torch.ones(24, 3)}, ValueError, "counts of one shape"),
        ({"counts": scipy.sparse.csc_matrix((24, N_GENES))}, TypeError, "compressed sparse rows"),
        ({"counts": [[1]]}, TypeError, "received list"),
        ({"slides": torch.ones(24)}, TypeError, "integer slide codes"),
        ({"library_size": torch.ones(3)}, ValueError, "library_size of shape"),
        ({"weight": torch.ones(N_GENES, 5)}, TypeError, "of one dtype"),
        ({"gene_weights": torch.ones(2)}, ValueError, "gene_weights as a tensor"),
        ({"gene_weights": torch.full((N_GENES,), -1.0)}, ValueError, "gene_weights of 0 or more"),
        ({"gene_weights": [1.0] * N_GENES}, ValueError, "received list"),
    ],
)
@every
def test_what_does_not_fit_is_refused(case, inputs, changed, error, words):
    more = {name: changed[name] for name in changed if name == "gene_weights"}
    given = inputs._replace(**{name: value for name, value in changed.items() if name not in more})
    with pytest.raises(error, match=words):
        fused(case, given, **more)
