"""Our AdamW is torch's, and does not load the compiler."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from agl.training.adamw import AdamW


def steps(kind: type[torch.optim.Optimizer], n: int, state: dict[str, Any] | None = None) -> tuple[torch.Tensor, Any]:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, 3))
    optimizer = kind([{"params": [weight]}], lr=0.1, weight_decay=0.03, fused=True)  # type: ignore[call-arg]
    if state is not None:
        optimizer.load_state_dict(state)
    for _ in range(n):
        optimizer.zero_grad()
        (weight**2 + weight).sum().backward()
        optimizer.step()
    return weight.detach(), optimizer.state_dict()


def test_it_steps_and_saves_as_torch_does() -> None:
    (ours, saved), (torchs, wanted) = steps(AdamW, 3), steps(torch.optim.AdamW, 3)
    assert torch.equal(ours, torchs)
    assert saved["param_groups"] == wanted["param_groups"]
    assert all(torch.equal(saved["state"][0][key], value) for key, value in wanted["state"][0].items())
    assert torch.equal(steps(AdamW, 2, saved)[0], steps(torch.optim.AdamW, 2, wanted)[0])


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_are_forgotten(set_to_none: bool) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    AdamW([weight]).zero_grad(set_to_none=set_to_none)
    assert weight.grad is None if set_to_none else torch.equal(weight.grad, torch.zeros(2))


def test_the_compiler_is_not_loaded() -> None:
    code = """
import sys, torch
from agl.training.adamw import AdamW
weight = torch.nn.Parameter(torch.ones(2))
optimizer = AdamW([weight], fused=True)
weight.grad = torch.ones(2)
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
