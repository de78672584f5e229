"""The losses of a linear head in one piece, beside the head and the loss apart: one battery for all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import strank
from agl.testing.losses import check_loss
from strank.losses import head, native

N_GENES = 150  # three tiles of 64 at most


def all_pairs(
    scores: Tensor,
    counts: Tensor,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    count_power: float = 1.0,
) -> Tensor:
    """By its formula, a pair at a time."""
    size = torch.ones(len(scores), dtype=scores.dtype) if library_size is None else library_size
    codes = torch.zeros(len(scores)) if slides is None else slides
    value = 0.0 * scores.sum(0)
    for i in range(len(scores)):
        others = [j for j in range(len(scores)) if j != i and codes[j] == codes[i] and size[j] > 0 and size[i] > 0]
        for j in others:
            log_p = F.logsigmoid(scores[i] - scores[j] + (size[i] / size[j]).log())
            mean = (counts[i] + counts[j]) / 2
            weight = torch.where(mean > 0, torch.where(mean > 0, mean, 1.0) ** (count_power - 1), 0.0)
            value = value - counts[i] * log_p * weight / len(others)
    return value / max(1, len(scores))


class Case(NamedTuple):
    fused: Callable[..., Tensor]
    apart: Callable[..., Tensor]
    options: dict[str, Any] = {}  # noqa: RUF012

    def more(self) -> dict[str, Any]:
        drawn = {"generator": torch.Generator().manual_seed(1)} if "n_partners" in self.options else {}
        return self.options | drawn


CASES = {
    "listwise": Case(strank.linear_listwise_nll, strank.listwise_nll),
    "listwise_weak": Case(strank.linear_listwise_nll, strank.listwise_nll, {"count_power": 0.5}),
    "all_pairs": Case(strank.linear_pairwise_nll, all_pairs),
    "all_pairs_weak": Case(strank.linear_pairwise_nll, all_pairs, {"count_power": 0.5}),
    "pairwise": Case(strank.linear_pairwise_nll, strank.pairwise_nll, {"n_partners": 2}),
    "pearson": Case(strank.linear_pearson_loss, strank.pearson_loss),
    "pearson_pooled": Case(strank.linear_pearson_loss, strank.pearson_loss, {"pooled": True}),
    "poisson": Case(strank.linear_poisson_nll, strank.poisson_nll),
    "mse": Case(strank.linear_mse, strank.mse),
    "mse_centred": Case(strank.linear_mse, strank.mse, {"centred": True}),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


class Inputs(NamedTuple):
    features: Tensor
    weight: Tensor
    bias: Tensor | None
    counts: Any
    slides: Tensor | None
    library_size: Tensor | None

    @property
    def learnt(self) -> list[Tensor]:
        return [t for t in self[:3] if t is not None and t.requires_grad]


@pytest.fixture
def inputs(make_batch) -> Inputs:
    return of_batch(make_batch(n_spots=24, n_genes=N_GENES, n_slides=3))


def of_batch(batch, dtype: torch.dtype = torch.float64, n_features: int = 5) -> Inputs:
    generator = torch.Generator().manual_seed(3)
    n_spots, n_genes = batch.counts.shape
    made = [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((n_spots, n_features), (n_genes, n_features), (n_genes,))
    ]
    return Inputs(*made, batch.counts.to(dtype), batch.slides, batch.library_size.to(dtype))


@pytest.fixture(autouse=True)
def narrow(monkeypatch) -> None:
    monkeypatch.setitem(head.BLOCK, "cpu", 1)  # tiles as narrow as can be, so that there are several


def fused(case: Case, inputs: Inputs, **more: Any) -> Tensor:
    slides, library_size = inputs[4:]
    return case.fused(*inputs[:4], slides=slides, library_size=library_size, **case.more(), **more)


def apart(case: Case, inputs: Inputs) -> Tensor:
    scores = F.linear(inputs.features, inputs.weight, inputs.bias)
    return case.apart(scores, inputs.counts, slides=inputs.slides, library_size=inputs.library_size, **case.more())


def gradients(value: Tensor, inputs: Inputs) -> list[Tensor]:
    return list(torch.autograd.grad(value, inputs.learnt))


def scale_of(gradient: Tensor) -> float:
    """A size to compare errors with: most losses do not see a gene's level, so that the bias has gradient 0."""
    return max(float(gradient.abs().max()), 0.1 if gradient.ndim == 1 else 0.0)


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
