"""Inner steps taken for their values, with a record of where each one started."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from agl.bilevel import heads as head_blocks
from agl.bilevel import trunk as trunk_passes
from agl.bilevel.heads import HeadBlock
from agl.bilevel.inner import Slots, step
from agl.bilevel.lookahead import Lookahead, with_ones
from agl.bilevel.problem import BatchLike


@dataclass
class Step:
    """One inner step: the state before it, and the trunk's gradient in it.

    Args:
        done: how many steps came before.
        trunk, slots, gradient: the trunk's parameters, optimiser state and gradient.
        heads: weight and optimiser state of every block; no state where the heads stay where they are.
        tables: of every block `[spot, gene]`, what the way back asks for: the slopes g in the first step, which nobody
            differentiates again, and the scores in every other.
        pulled: the gradient for the hidden features.
    """

    done: int
    batch: BatchLike
    trunk: dict[str, Tensor]
    slots: dict[str, Slots]
    gradient: dict[str, Tensor] = field(default_factory=dict)
    heads: list[tuple[Tensor, Slots]] = field(default_factory=list)
    tables: list[Tensor] = field(default_factory=list)
    pulled: Tensor = field(default_factory=lambda: torch.empty(0))


def roll_out(
    lookahead: Lookahead, blocks: list[HeadBlock], batches: list[BatchLike]
) -> tuple[list[Step], dict[str, Tensor]]:
    """Take the inner steps: a record of each, and the trunk after them. The blocks hold the heads after them.

    In the last step auxiliary heads stay where they are: nothing looks at them again.
    """
    trunk = lookahead.trunk
    slots = {name: lookahead.slots[f"trunk.{name}"] for name in trunk}
    records = []
    for done, batch in enumerate(batches):
        record = Step(done, batch, trunk, slots)
        trunk, slots = _take(record, lookahead, blocks, last=done == len(batches) - 1)
        records.append(record)
    return records, trunk


def _take(
    record: Step, lookahead: Lookahead, blocks: list[HeadBlock], *, last: bool
) -> tuple[dict[str, Tensor], dict[str, Slots]]:
    def heads(hidden: Tensor) -> Tensor:
        pulled = torch.zeros_like(hidden)
        for block in blocks:
            moves = block.primary or not last
            weight = block.own(lookahead) if moves else block.table(lookahead)
            record.heads.append((weight, block.slots))
            h = with_ones(hidden, weight)
            scores = h @ weight.T
            g = head_blocks.slope(lookahead.problem, scores, record.batch, block.genes, lookahead.seed + record.done)
            record.tables.append(scores if record.done else g)
            pulled.addmm_(block.in_trunk * g, weight[:, : hidden.shape[1]])
            if moves:
                block.weight, block.slots = weight.clone(), tuple(slot.clone() for slot in block.slots)
                head_blocks.update_(lookahead, block, (block.in_head * g).T @ h, record.done)
        record.pulled = pulled
        return pulled

    record.gradient = trunk_passes.gradient(lookahead, record.trunk, record.batch, record.done, heads)
    trunk, slots = {}, {}
    for name, gradient in record.gradient.items():
        rule, count = lookahead.rules[f"trunk.{name}"], lookahead.counts[f"trunk.{name}"] + record.done + 1
        trunk[name], slots[name] = step(rule, record.trunk[name], gradient, record.slots[name], count)
    return trunk, slots
