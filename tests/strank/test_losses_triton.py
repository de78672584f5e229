"""The kernels for a GPU beside the torch versions: on a GPU, and by Triton's interpreter where there is none."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

import strank
from strank.losses import correlation, listwise, native, on_gpu, pointwise, tiles
from strank.losses.analytic import Kernel
from strank.losses.inputs import read_factor, read_library
from strank.losses.lineup import LineUp
from tests.strank.conftest import make_batch

SHAPES = ((30, 4, 4), (70, 100, 1), (5, 2, 5), (600, 3, 2))
POWERS = (1.0, 0.5)


def kernels(counts, slides, library_size, power) -> dict[str, Kernel]:
    """Those that have a version for a GPU."""
    library, (factor, keep) = read_library(library_size, torch.float32), read_factor(library_size, torch.float32)
    relative = read_library(library_size, torch.float32, relative=True)
    return {
        "listwise": listwise.Multinomial(counts, slides, library, power),
        "pearson": correlation.Pearson(counts, slides, keep, factor, power),
        "squares": pointwise.SquaredError(counts, None, keep, factor, False),
        "poisson": pointwise.Poisson(counts, relative),
    }


def compare(device: str = "cpu", shapes=SHAPES, powers=POWERS) -> None:
    """Value and gradient of every kernel, its gradient also written over the scores, and the value alone."""
    native.library = None
    for n_spots, n_genes, n_slides in shapes:
        batch = make_batch(n_spots, n_genes, n_slides)
        scores, counts = batch.scores.float().to(device), batch.counts.int().to(device)
        if n_spots > 30:
            scores[:, 0] = 0.3  # constant: no correlation
        for slides in (None, batch.slides.to(device)):
            for size in (None, batch.library_size.float().to(device)):
                for power in powers:
                    for name, kernel in kernels(counts, slides, size, power).items():
                        expected = kernel.by_blocks(scores, gradient=True)
                        close = partial(
                            torch.testing.assert_close, rtol=2e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}"
                        )
                        for over in (False, True):
                            room = scores.clone() if over else None
                            found = kernel.on_gpu(scores if room is None else room, gradient=True, out=room)
                            close(found.value, expected.value)
                            close(found.gradient * found.scale, expected.gradient * expected.scale)
                        close(kernel.on_gpu(scores, gradient=False, out=None).value, expected.value)


def compare_filling(device: str = "cpu") -> None:
    """Some genes of a sparse table, laid out; an entry that is there twice counts twice."""
    from strank.losses.triton_fill import fill

    dense = make_batch(30, 40, 2).counts.int()
    rows = tiles.read_counts(dense.to_sparse_csr())
    assert isinstance(rows, tiles.Sparse)
    genes = torch.tensor([2, 5, 30])
    place = torch.full((40,), -1, dtype=torch.int32)
    place[genes] = torch.arange(3, dtype=torch.int32)
    found = torch.zeros(30, 3, device=device)
    fill(*(t.to(device) for t in (rows.indices, rows.values, rows.start[:-1], rows.start[1:], place)), found)
    torch.testing.assert_close(found.cpu(), dense[:, genes].float())


def interpretable() -> bool:
    """Triton is here, and its interpreter still works: it turns arrays of one number into numbers, NumPy no longer."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        return int(np.zeros(1)) == 0
    except TypeError:
        return False


@pytest.mark.skipif(not interpretable(), reason="Triton's interpreter is not here, or not for this NumPy")
def test_the_interpreted_kernels_agree() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    program = "from tests.strank import test_losses_triton as t; t.compare(); t.compare_filling(); print('agree')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "agree", done.stderr


def test_scores_on_the_cpu_never_ask_for_triton() -> None:
    assert not on_gpu.serves(torch.zeros(2, 2))


def test_chunks_cover_every_list_once() -> None:
    slides = torch.tensor([3] * 700 + [1] * 2 + [9] * 40_000)
    order, table, lengths = LineUp(slides, None).chunks(len(slides), torch.device("cpu"))
    assert lengths.tolist() == [2, 700, 40_000]
    assert order is not None
    spots = [slides[order[begin : begin + n]].unique().tolist() for begin, n, *_ in table.tolist()]
    assert all(found == [[1, 3, 9][nth]] for found, nth in zip(spots, table[:, 2].tolist(), strict=True))
    assert int(table[:, 1].sum()) == len(slides)
    assert (table[:, 2].bincount() == torch.tensor([1, 6, 64])).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_kernels_agree_on_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(native, "library", native.library)
    compare("cuda", (*SHAPES, (3000, 130, 3)), powers=(0.5,))  # each combination is compiled, in a second or more
    compare_filling("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_a_gpu(make_batch, dtype, monkeypatch) -> None:
    batch = make_batch(300, 130, 5)
    monkeypatch.setattr(native, "library", None)
    here = batch.scores.to(dtype).requires_grad_()
    there = here.detach().cuda().requires_grad_()
    values = [
        strank.listwise_nll(
            scores,
            batch.counts.to(scores.device).float(),
            slides=batch.slides.to(scores.device),
            library_size=batch.library_size.to(scores.device).float(),
            count_power=0.5,
        )
        for scores in (here, there)
    ]
    for value in values:
        value.sum().backward()
    torch.testing.assert_close(values[1].cpu(), values[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(there.grad.cpu(), here.grad, rtol=2e-2, atol=1e-4)
