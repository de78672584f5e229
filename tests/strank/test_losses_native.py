"""The compiled losses beside their torch versions, which are the reference."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import strank
from strank.losses import native

LOSSES = {
    "listwise": strank.listwise_nll,
    "pearson": strank.pearson_loss,
    "mse": strank.mse,
    "poisson": strank.poisson_nll,
    "pairwise": lambda *a, **k: strank.pairwise_nll(*a, **k, generator=torch.Generator().manual_seed(1)),
    "several partners": lambda *a, **k: strank.pairwise_nll(
        *a, **k, n_partners=3, generator=torch.Generator().manual_seed(1)
    ),
}
TOO_SMALL = ("all alone", "in twos")
LAYOUTS = ("as it is", "sorted", "one slide", *TOO_SMALL, "all empty", "transposed", "integer counts", "cut out")
needs_compiled = pytest.mark.skipif(native.library is None, reason="the package was installed without a compiler")


def run(loss, batch, **options) -> tuple[Tensor, Tensor]:
    scores = batch.scores.detach().requires_grad_()
    value = loss(scores, batch.counts, slides=batch.slides, library_size=batch.library_size, **options)
    value.mean().backward()
    return value.detach(), scores.grad


def compare(monkeypatch, loss, batch, **options) -> None:
    calls = []
    wrapped = SimpleNamespace(**{name: _noted(getattr(native.library, name), calls) for name in native._ARGUMENTS})
    wrapped.strank_line_up = native.library.strank_line_up
    monkeypatch.setattr(native, "library", wrapped)
    value, gradient = run(loss, batch, **options)
    assert calls, "the compiled version was not used"
    monkeypatch.setattr(native, "library", None)
    expected, expected_gradient = run(loss, batch, **options)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
    size = expected_gradient.nan_to_num().abs().max()
    torch.testing.assert_close(gradient, expected_gradient, rtol=2e-5, atol=2e-6 * float(size) + 1e-9, equal_nan=True)


def _noted(function, calls):
    return lambda *arguments: calls.append(1) or function(*arguments)


def laid_out(batch, layout: str):
    scores, counts = batch.scores.float(), batch.counts.float()
    slides, size = batch.slides, batch.library_size.float()
    if layout == "sorted":
        order = slides.argsort()
        scores, counts, slides, size = scores[order], counts[order], slides[order], size[order]
    elif layout == "one slide":
        slides = None
    elif layout == "all alone":
        slides = torch.arange(len(scores))
    elif layout == "in twos":
        slides = torch.arange(len(scores)) // 2
    elif layout == "all empty":
        size = torch.zeros_like(size)
    elif layout == "transposed":
        scores, counts = scores.T.contiguous().T, counts.T.contiguous().T
    elif layout == "integer counts":
        counts = counts.long()
    elif layout == "cut out":
        counts = torch.cat([counts, counts], 1)[:, : counts.shape[1]]
    return SimpleNamespace(scores=scores, counts=counts, slides=slides, library_size=size)


@needs_compiled
@pytest.mark.parametrize("shape", [(30, 4), (70, 1), (300, 77), (2600, 40), (40, 1100)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", LOSSES)
def test_compiled_and_torch_agree(name, layout, shape, make_batch, monkeypatch):
    compare(monkeypatch, LOSSES[name], laid_out(make_batch(*shape), layout))


@needs_compiled
@pytest.mark.parametrize("power", [0.0, 0.5])
@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("mse", "poisson")])
def test_count_power(name, power, make_batch, monkeypatch):
    compare(monkeypatch, LOSSES[name], laid_out(make_batch(200, 30), "as it is"), count_power=power)


@needs_compiled
@pytest.mark.parametrize("factor", [1e-6, 30.0, 1e4])
@pytest.mark.parametrize("name", LOSSES)
def test_small_and_extreme_scores(name, factor, make_batch, monkeypatch):
    batch = laid_out(make_batch(200, 30), "as it is")
    batch.scores *= factor
    compare(monkeypatch, LOSSES[name], batch)


@needs_compiled
@pytest.mark.parametrize("where", ["scores", "counts"])
@pytest.mark.parametrize("name", LOSSES)
def test_nan_shows_in_the_same_places(name, where, make_batch, monkeypatch):
    batch = laid_out(make_batch(60, 20), "as it is")
    getattr(batch, where)[7, 3] = torch.nan
    assert run(LOSSES[name], batch)[0].isnan().nonzero().flatten().tolist() == [3]
    compare(monkeypatch, LOSSES[name], batch)


@needs_compiled
@pytest.mark.parametrize("layout", TOO_SMALL)
@pytest.mark.parametrize("name", LOSSES)
def test_nan_in_a_slide_that_is_too_small(name, layout, make_batch, monkeypatch):
    batch = laid_out(make_batch(60, 20), layout)
    batch.scores[7, 3] = torch.nan
    compare(monkeypatch, LOSSES[name], batch)


@needs_compiled
@pytest.mark.parametrize("kept", [None, 0.7, 0.0])
@pytest.mark.parametrize(
    "codes",
    [[3, 1, 1, 2, 3, 3], [0] * 5, [-7, 5, -7], [2**62, -(2**62)], [2**63 - 1, 2**63 - 2], [-(2**63), 2**63 - 1], [4]],
)
def test_lists_by_counting_are_those_by_sorting(codes, kept):
    groups, n = torch.tensor(codes), len(codes)
    keep = None if kept is None else torch.rand(n, generator=torch.Generator().manual_seed(0)) < kept
    order, lengths = native.line_up(groups, n, keep)
    expected = [[i for i in range(n) if codes[i] == code and (keep is None or keep[i])] for code in sorted(set(codes))]
    expected = [spots for spots in expected if spots]
    assert lengths.tolist() == [len(spots) for spots in expected]
    order = torch.arange(n) if order is None else order
    assert [sorted(part.tolist()) for part in order[: int(lengths.sum())].split(lengths.tolist())] == expected


@needs_compiled
@pytest.mark.parametrize("name", LOSSES)
def test_threads_change_nothing(name, make_batch, monkeypatch):
    batch = laid_out(make_batch(64, 500), "as it is")
    alone = run(LOSSES[name], batch)
    monkeypatch.setattr(native, "_WORTH_A_THREAD", 1 << 10)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = run(LOSSES[name], batch)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_without_a_compiled_file_torch_serves(make_batch, monkeypatch):
    monkeypatch.setattr(native, "library", None)
    batch = laid_out(make_batch(), "as it is")
    assert not native.serves(batch.scores)
    assert run(strank.listwise_nll, batch)[0].isfinite().all()
