"""The inner optimiser as arithmetic: one step of SGD, Adam or AdamW exactly as torch.optim takes it.

A `Rule` is the formula with its constants. Its state is a tuple of slots shaped like the parameter, momentum for SGD
and (m, v) for Adam, and the number of steps taken. `adam_higher` is the formula of the package `higher` 0.2.1, which
adds eps before the bias correction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from agl.errors import UserError, did_you_mean

Slots = tuple[Tensor, ...]
KINDS = ("sgd", "adam", "adamw", "adam_higher")


@dataclass(frozen=True)
class Rule:
    """One parameter's update formula; see `torch.optim.SGD`, `Adam` and `AdamW` for the constants."""

    kind: str
    lr: float
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    @property
    def n_slots(self) -> int:
        """How many state tensors a parameter has."""
        return (1 if self.momentum else 0) if self.kind == "sgd" else 2

    @property
    def shrink(self) -> float:
        """Factor of a decoupled weight decay."""
        return 1 - self.lr * self.weight_decay if self.kind == "adamw" else 1.0

    @property
    def l2(self) -> float:
        """Factor of a weight decay that is added to the gradient."""
        return 0.0 if self.kind == "adamw" else self.weight_decay

    def step_size(self, count: int) -> float:
        """Adam's factor before m / denominator at step `count` (1 for the first)."""
        size = self.lr / (1 - self.betas[0] ** count)
        return size * (1 - self.betas[1] ** count) ** 0.5 if self.kind == "adam_higher" else size

    def root_scale(self, count: int) -> float:
        """The number sqrt(v) is divided by before eps is added."""
        return 1.0 if self.kind == "adam_higher" else (1 - self.betas[1] ** count) ** 0.5

    def damping(self, count: int) -> float:
        """How much of the gradient enters SGD's momentum; the first step takes it whole."""
        return 1.0 if count == 1 else 1 - self.dampening


def step_(rule: Rule, parameter: Tensor, gradient: Tensor, slots: Slots, count: int) -> None:
    """Take step number `count`, in place in parameter and slots, with torch.optim's order of operations."""
    if rule.l2:
        gradient = gradient.add(parameter, alpha=rule.l2)
    if rule.kind == "sgd":
        if rule.momentum:
            slots[0].mul_(rule.momentum).add_(gradient, alpha=rule.damping(count))
            gradient = gradient.add(slots[0], alpha=rule.momentum) if rule.nesterov else slots[0]
        parameter.add_(gradient, alpha=-rule.lr)
        return
    first, second = slots
    if rule.kind == "adamw" and rule.weight_decay:
        parameter.mul_(rule.shrink)
    first.lerp_(gradient, 1 - rule.betas[0])
    second.mul_(rule.betas[1]).addcmul_(gradient, gradient, value=1 - rule.betas[1])
    denominator = second.sqrt().div_(rule.root_scale(count)).add_(rule.eps)
    parameter.addcdiv_(first, denominator, value=-rule.step_size(count))


def step(rule: Rule, parameter: Tensor, gradient: Tensor, slots: Slots, count: int) -> tuple[Tensor, Slots]:
    """The parameter and its slots after step number `count`, as new tensors.

    >>> rule = Rule("adam", lr=0.1)
    >>> zero = torch.zeros(1)
    >>> step(rule, torch.ones(1), torch.tensor([5.0]), (zero, zero), 1)[0]
    tensor([0.9000])
    """
    parameter, slots = parameter.clone(), tuple(slot.clone() for slot in slots)
    step_(rule, parameter, gradient, slots, count)
    return parameter, slots


def rule_of(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> Rule:
    """The rule of one parameter group of a live optimiser."""
    for option in ("amsgrad", "maximize"):
        if group.get(option):
            raise UserError(f"Expected an inner optimiser without {option}, received {option}=True; switch it off.")
    if isinstance(optimizer, torch.optim.SGD):
        names = ("weight_decay", "momentum", "dampening", "nesterov")
        return Rule("sgd", lr=float(group["lr"]), **{name: group[name] for name in names})
    if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
        decoupled = isinstance(optimizer, torch.optim.AdamW) or group.get("decoupled_weight_decay", False)
        betas = (float(group["betas"][0]), float(group["betas"][1]))
        kind = "adamw" if decoupled else "adam"
        return Rule(kind, float(group["lr"]), float(group["weight_decay"]), betas=betas, eps=float(group["eps"]))
    raise UserError(
        f"Expected SGD, Adam or AdamW as the training optimiser of a bi-level run, "
        f"received {type(optimizer).__name__}; "
        "train with one of them."
    )


def rules_for(
    parameters: Iterable[Tensor],
    optimizer: torch.optim.Optimizer | None,
    inner_optimizer: str | None = None,
    inner_lr: float | None = None,
) -> list[Rule | None]:
    """The rule of every parameter; None for one that the optimiser does not train.

    Args:
        optimizer: the live training optimiser, or None.
        inner_optimizer: another formula for the look-ahead; None is the training optimiser's own.
        inner_lr: another learning rate.
    """
    if inner_optimizer is not None and inner_optimizer not in KINDS:
        hint = did_you_mean(inner_optimizer, KINDS)
        raise UserError(f"Expected an inner optimiser, received {inner_optimizer!r}.{hint}")
    if optimizer is None:
        if inner_optimizer is None or inner_lr is None:
            raise UserError("Expected a training optimiser, received none; give inner_optimizer and inner_lr instead.")
        return [Rule(inner_optimizer, inner_lr) if p.requires_grad else None for p in parameters]
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
    return [
        _adapted(optimizer, groups[id(p)], inner_optimizer, inner_lr) if id(p) in groups else None for p in parameters
    ]


def _adapted(optimizer: torch.optim.Optimizer, group: Mapping[str, Any], kind: str | None, lr: float | None) -> Rule:
    if kind is None:
        rule = rule_of(optimizer, group)
    elif _is_adam(optimizer) and kind != "sgd":
        rule = replace(rule_of(optimizer, group), kind=kind)
    elif isinstance(optimizer, torch.optim.SGD) and kind == "sgd":
        rule = rule_of(optimizer, group)
    elif lr is None:
        raise UserError(
            f"Expected inner_lr with inner_optimizer={kind}, received none; "
            f"the learning rate of {type(optimizer).__name__} does not carry over to another kind of optimiser."
        )
    else:
        rule = Rule(kind, lr)
    return rule if lr is None else replace(rule, lr=lr)


def state_of(rule: Rule, parameter: Tensor, optimizer: torch.optim.Optimizer | None, warm: bool) -> tuple[Slots, int]:
    """Slots and number of steps taken: the live optimiser's own tensors when warm and of the same kind, else zeros."""
    live = optimizer.state.get(parameter, {}) if optimizer is not None and warm else {}
    if rule.kind == "sgd":
        buffer = live.get("momentum_buffer")
        if rule.momentum and buffer is not None:
            return (buffer.detach(),), 1
    elif "exp_avg" in live:
        return (live["exp_avg"].detach(), live["exp_avg_sq"].detach()), int(live["step"])
    return tuple(torch.zeros_like(parameter.detach()) for _ in range(rule.n_slots)), 0


def _is_adam(optimizer: torch.optim.Optimizer) -> bool:
    return isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW))
