"""Derivatives of one optimiser step, in the same arithmetic as `inner`.

Forward: tangents of parameter, gradient and slots in, tangents after the step out. Backward: adjoints after the step
in, adjoints of parameter, gradient and slots out. Where v is exactly 0 its square root counts as constant.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agl.bilevel.inner import Rule, Slots, step_


def step_with_tangents_(
    rule: Rule,
    parameter: Tensor,
    gradient: Tensor,
    slots: Slots,
    count: int,
    parameter_tangents: Tensor,
    gradient_tangents: Tensor,
    slot_tangents: Slots,
) -> None:
    """Take step number `count` in place, and its tangents `[tangent, ...]` with it.

    The gradient and its tangents serve as scratch space and hold nothing useful afterwards.
    """
    if rule.l2:
        gradient.add_(parameter, alpha=rule.l2)
        gradient_tangents.add_(parameter_tangents, alpha=rule.l2)
    if rule.kind == "sgd":
        _sgd_(rule, parameter, gradient, slots, count, parameter_tangents, gradient_tangents, slot_tangents)
        return
    (first, second), (first_tangents, second_tangents) = slots, slot_tangents
    if rule.kind == "adamw" and rule.weight_decay:
        parameter.mul_(rule.shrink)
        parameter_tangents.mul_(rule.shrink)
    beta1, beta2 = rule.betas
    first_tangents.lerp_(gradient_tangents, 1 - beta1)
    second_tangents.mul_(beta2).addcmul_(gradient_tangents, gradient, value=2 * (1 - beta2))
    first.lerp_(gradient, 1 - beta1)
    second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)

    scale, size = rule.root_scale(count), rule.step_size(count)
    root = torch.sqrt(second)
    denominator = torch.div(root, scale, out=gradient).add_(rule.eps)
    direction = first / denominator
    parameter.add_(direction, alpha=-size)
    # d(m / denominator) = (dm - direction * d(denominator)) / denominator, d(denominator) = dv / (2 root scale)
    bend = direction.div_(root.clamp_min_(_smallest_root(root)))
    change = torch.mul(second_tangents, bend, out=gradient_tangents).mul_(-0.5 / scale).add_(first_tangents)
    parameter_tangents.addcdiv_(change, denominator, value=-size)


def _sgd_(
    rule: Rule,
    parameter: Tensor,
    gradient: Tensor,
    slots: Slots,
    count: int,
    parameter_tangents: Tensor,
    gradient_tangents: Tensor,
    slot_tangents: Slots,
) -> None:
    # The step is linear: tangents take the same step as values.
    plain = Rule("sgd", rule.lr, momentum=rule.momentum, dampening=rule.dampening, nesterov=rule.nesterov)
    step_(plain, parameter, gradient, slots, count)
    step_(plain, parameter_tangents, gradient_tangents, slot_tangents, count)


def step_adjoint(
    rule: Rule,
    parameter: Tensor,
    gradient: Tensor,
    slots: Slots,
    count: int,
    parameter_adjoint: Tensor,
    slot_adjoints: Slots,
) -> tuple[Tensor, Tensor, Slots]:
    """Adjoints of parameter, gradient and slots before step number `count`, from those after it.

    `parameter`, `gradient` and `slots` are the values before the step; nothing is changed in place, but the parameter's
    adjoint may be handed back as it came. It does not yet hold what flows through the gradient's own dependence on
    the parameter.
    """
    if rule.l2:
        gradient = gradient.add(parameter, alpha=rule.l2)
    if rule.kind == "sgd":
        along = parameter_adjoint * -rule.lr
        slot_adjoints_before: Slots = ()
        if rule.momentum:
            buffer = slot_adjoints[0] + along * (rule.momentum if rule.nesterov else 1.0)
            along = buffer * rule.damping(count) + (along if rule.nesterov else 0.0)
            slot_adjoints_before = (buffer * rule.momentum,)
        return parameter_adjoint + rule.l2 * along, along, slot_adjoints_before
    beta1, beta2 = rule.betas
    first = torch.lerp(slots[0], gradient, 1 - beta1)
    second = (slots[1] * beta2).addcmul_(gradient, gradient, value=1 - beta2)
    scale, size = rule.root_scale(count), rule.step_size(count)
    root = second.sqrt()
    denominator = (root / scale).add_(rule.eps)
    through = (parameter_adjoint / denominator).mul_(-size)
    bend = first.div_(denominator).div_(root.clamp_min_(_smallest_root(root))).mul_(-0.5 / scale)
    second_adjoint = torch.addcmul(slot_adjoints[1], through, bend)
    first_adjoint = through.add_(slot_adjoints[0])
    along = (first_adjoint * (1 - beta1)).addcmul_(second_adjoint, gradient, value=2 * (1 - beta2))
    before = parameter_adjoint if rule.shrink == 1 else parameter_adjoint * rule.shrink
    before = before.add(along, alpha=rule.l2) if rule.l2 else before
    return before, along, (first_adjoint.mul_(beta1), second_adjoint.mul_(beta2))


def _smallest_root(tensor: Tensor) -> float:
    return torch.finfo(tensor.dtype).tiny ** 0.5
