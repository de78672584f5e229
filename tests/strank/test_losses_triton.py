"""The kernel for a GPU, run by Triton's interpreter where there is none, beside the torch version."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

import strank
from strank.losses import native, on_gpu

COMPARE = """
import torch, strank
from strank.losses import native, triton_lists
from tests.strank.conftest import make_batch
native.library = None
for n_spots, n_genes, n_slides in ((30, 4, 4), (70, 100, 1), (5, 2, 5)):
    batch = make_batch(n_spots, n_genes, n_slides)
    scores, counts, size = batch.scores.float(), batch.counts.float(), batch.library_size.float()
    for slides in (None, batch.slides):
        for power in (1.0, 0.5):
            for library in (None, size):
                keep, offset = (None, None) if library is None else (library != 0, library.clamp(min=1).log())
                found = triton_lists.multinomial(scores, counts.int(), slides, keep, offset, power)
                given = scores.clone().requires_grad_()
                value = strank.listwise_nll(given, counts, slides=slides, library_size=library, count_power=power)
                value.sum().backward()
                torch.testing.assert_close(found.value, value.detach(), rtol=1e-5, atol=1e-5)
                torch.testing.assert_close(found.gradient * found.scale, given.grad, rtol=1e-4, atol=1e-6)
print("agree")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_interpreted_kernel_agrees() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", COMPARE], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "agree", done.stderr


def test_scores_on_the_cpu_never_ask_for_triton() -> None:
    assert not on_gpu.serves(torch.zeros(2, 2))


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
