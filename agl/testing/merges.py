"""Does a merge of gradients fit? For ours, and for yours.

>>> from agl.training.merges import pcgrad
>>> check_merge(pcgrad)
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from agl.registry import taking

SIZES, STEPS = [3, 5, 1], 6


def check_merge(merge: Callable[..., Any], **options: Any) -> None:
    """Assert the contract of a merge: `gradients [task, parameter]` -> `[parameter]`, `losses`, `sizes` if it asks.

    Finite, also where a gradient, or all, are 0; the gradients are left as they were; scaled with all of them; of genes
    that add nothing nothing remains but the primary genes' direction; it points up no task of two that agree; the same
    bits every time, and after its state went through a file.
    """
    made = partial(_made, merge, options)
    tasks = 1 + getattr(made(), "groups", 1)
    given = [_gradients(tasks, step) for step in range(STEPS)]
    found = _merged(made(), given)
    for each in found:
        assert each.shape == (sum(SIZES),), f"Expected shape ({sum(SIZES)},), received {tuple(each.shape)}."
        assert bool(each.isfinite().all()), "Expected a finite gradient."
    same = "Expected the same bits from the same gradients: draw nothing, or from a seed of the step."
    assert all(torch.equal(a, b) for a, b in zip(found, _merged(made(), given), strict=True)), same
    _check_scale(made, given, found)
    _check_zeros(made, given)
    agreeing = [g.abs() for g in given]
    for each, gradients in zip(_merged(made(), agreeing), agreeing, strict=True):
        assert bool((gradients @ each > 0).all()), "Expected tasks that agree to go down all of them."
    _check_resume(made, given, found)


def _made(merge: Callable[..., Any], options: dict[str, Any]) -> Any:
    return merge(**options) if inspect.isclass(merge) else partial(merge, **options)


def _gradients(tasks: int, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    rows = torch.randn(tasks, sum(SIZES), generator=generator, dtype=torch.float64)
    return rows * torch.logspace(0, 1, tasks, dtype=torch.float64)[:, None]


def _merged(merge: Any, given: list[Tensor], start: int = 0) -> list[Tensor]:
    found = []
    for step, gradients in enumerate(given, start):
        before = gradients.clone()
        losses = torch.linspace(1, 2, len(gradients), dtype=torch.float64) * 0.9**step
        found.append(taking(merge, "losses", "sizes")(gradients, losses=losses, sizes=SIZES))
        assert torch.equal(before, gradients), "Expected the gradients to be left as they were."
    return found


def _check_scale(made: Callable[[], Any], given: list[Tensor], found: list[Tensor]) -> None:
    for a, b in zip(found, _merged(made(), [8 * g for g in given]), strict=True):
        torch.testing.assert_close(8 * a, b, rtol=1e-6, atol=1e-9, msg="Expected gradients times 8 to give 8 times it.")


def _check_zeros(made: Callable[[], Any], given: list[Tensor]) -> None:
    alone = [torch.cat([g[:1], torch.zeros_like(g[1:])]) for g in given]
    for each, gradients in zip(_merged(made(), alone), alone, strict=True):
        cosine = torch.cosine_similarity(each, gradients[0], dim=0)
        assert float(cosine) > 1 - 1e-9, "Expected the primary genes' direction where no other gene adds anything."
    for each in _merged(made(), [torch.zeros_like(g) for g in given]):
        assert not bool(each.any()), "Expected no gradient (and no NaN) from gradients of 0."


def _check_resume(made: Callable[[], Any], given: list[Tensor], found: list[Tensor]) -> None:
    first, second = made(), made()
    if not hasattr(first, "state_dict"):
        return
    half = STEPS // 2
    _merged(first, given[:half])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    went_on = _merged(second, given[half:], half)
    assert all(torch.equal(a, b) for a, b in zip(found[half:], went_on, strict=True)), (
        "Expected a loaded state to go on with the same bits; is all of it in state_dict?"
    )
