"""AdamW as torch has it, without what only `torch.compile` and its profiler need."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import Optimizer


def _plain(method: Any) -> Any:
    """The method inside torch's wrappers, which import the compiler (2 to 3 s of a process) to keep it away."""
    return getattr(method, "__wrapped__", method)


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`: the same steps to the bit, the same saved state. Made to be stepped, not to be compiled.

    >>> weight = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = AdamW([weight], lr=0.5, weight_decay=0.0)
    >>> weight.grad = torch.ones(1)
    >>> optimizer.step()
    >>> weight.data
    tensor([0.5000])
    """

    add_param_group = _plain(Optimizer.add_param_group)
    state_dict = _plain(Optimizer.state_dict)
    load_state_dict = _plain(Optimizer.load_state_dict)
    step = torch.no_grad()(_plain(torch.optim.AdamW.step))
    step.hooked = True  # to torch: nothing to be measured, nobody to be told

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None if set_to_none or parameter.grad is None else torch.zeros_like(parameter)
