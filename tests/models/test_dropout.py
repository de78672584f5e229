"""Our dropout is torch's to the bit, and leaves the generator where torch's would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from agl.models import dropout
from agl.models.dropout import Dropout
from agl.models.predictor import mlp

compiled = pytest.mark.skipif(not dropout.serves(), reason="needs the compiled version, with torch's draws")


@contextmanager
def drawn(before: int) -> Iterator[None]:
    """A seeded default generator from which some numbers have been taken."""
    torch.manual_seed(11)
    torch.rand(before)
    yield


@pytest.mark.parametrize("p", [0.3, 0.5, 0.999, 1e-9])
@pytest.mark.parametrize("before", [0, 1, 311, 623, 624, 1248])
@pytest.mark.parametrize("shape", [(1,), (7, 3), (104, 3), (166, 256)])
def test_same_entries_same_gradient_same_generator(p: float, before: int, shape: tuple[int, ...]) -> None:
    found = []
    for layer in (Dropout(p), nn.Dropout(p)):
        with drawn(before):
            x = torch.linspace(-1, 1, int(np.prod(shape))).view(shape).requires_grad_()
            once, twice = layer(x), layer(x)
            (once * twice).sum().backward()
            assert x.grad is not None
            found.append((once, twice, x.grad, torch.default_generator.get_state(), torch.randn(5)))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


@compiled
def test_kept_entries_are_those_of_a_twister_written_out() -> None:
    """NumPy's Mersenne Twister: two words make 53 bits, kept where below (1 - p) 2^53."""
    ours = dropout.kept(torch.Size((1001,)), 0.4, torch.Generator().manual_seed(77))
    words = np.random.RandomState(77).randint(0, 2**32, 2002, dtype=np.uint32).astype(np.uint64)
    numbers = ((words[0::2] & np.uint64(0x1FFFFF)) << np.uint64(32)) | words[1::2]
    wanted = np.where(numbers < 0.6 * 2**53, np.float32(1) / np.float32(0.6), np.float32(0))
    assert np.array_equal(ours.numpy(), wanted.astype(np.float32))


@compiled
def test_the_compiled_version_is_the_one_that_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    kept = dropout.kept
    monkeypatch.setattr(dropout, "kept", lambda *given: called.append(given[0]) or kept(*given))
    mlp(4, 2, hidden=(8,))(torch.zeros(3, 4))
    assert called == [torch.Size((3, 8))]


def test_without_the_compiled_version_torch_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropout, "library", None)
    dropout.serves.cache_clear()
    try:
        assert not dropout.serves()
        with drawn(3):
            ours = Dropout(0.3)(torch.ones(40))
        with drawn(3):
            assert torch.equal(ours, nn.Dropout(0.3)(torch.ones(40)))
    finally:
        monkeypatch.undo()
        dropout.serves.cache_clear()


def test_other_inputs_are_torchs() -> None:
    """Evaluation, no and certain loss, in place, other precisions and layouts, nothing, tangents, batches of vmap."""
    x = torch.ones(6, 4)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    for p, given in ((0.0, x), (1.0, x), (0.5, x.double()), (0.5, x.T), (0.5, x[:0]), (0.5, x.bfloat16())):
        with drawn(0):
            ours = Dropout(p)(given)
        with drawn(0):
            assert torch.equal(ours, nn.Dropout(p)(given))
    own = torch.ones(50)
    Dropout(0.5, inplace=True)(own)
    assert set(own.tolist()) == {0.0, 2.0}
    with drawn(0):
        plain = Dropout(0.5)(x)
    with drawn(0):
        value, tangent = torch.func.jvp(Dropout(0.5), (x,), (x,))
    assert torch.equal(value, plain)
    assert torch.equal(tangent, plain)
    assert torch.func.vmap(Dropout(0.5), randomness="different")(x).shape == x.shape
