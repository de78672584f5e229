"""Several processes on one training, started by `torchrun`: the result of one process, up to the order of sums.

Every process holds the whole model and knows every batch's spots and counts. It computes the scores of its share of the
spots, all processes exchange scores, and each computes the whole loss on them: lists of a slide stay whole however
the spots are divided. The gradient for its own scores goes back through its own part of the graph, and the gradients
of the model are added up. Look-aheads of an outer step, and spots to predict, are taken in turn.

Batch norm exchanges its moments too (`shared_norm`). Only dropout differs: each process draws the noise of its share.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from agl.machine import under_torchrun


@dataclass(frozen=True)
class Ranks:
    """The processes of a training: which one this is, of how many.

    >>> Ranks().share(5), Ranks(1, 2).share(5)
    (slice(0, 5, None), slice(3, 5, None))
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of n things, as even as can be, the first ones larger."""
        ends = [-(-n * part // self.size) for part in range(self.size + 1)]
        return slice(ends[self.rank], ends[self.rank + 1])

    def gather(self, own: Tensor, n: int) -> Tensor:
        """All rows `[n, ...]` from each process's `share`; the gradient goes back to the own ones."""
        if self.size == 1:
            return own
        gathered: Tensor = _Gather.apply(own, n, self)
        return gathered

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum every `.grad` over the processes."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def round_robin(self, n: int) -> range:
        """Which of n things are this process's, every process taking one in turn."""
        return range(self.rank, n, self.size)

    def all_gather(self, own: list[Any]) -> list[Any]:
        """All results in order, from each process's `round_robin` ones; anything that can be pickled."""
        if self.size == 1:
            return own
        hands: list[list[Any]] = [[] for _ in range(self.size)]
        torch.distributed.all_gather_object(hands, own)
        return [hands[i % self.size][i // self.size] for i in range(sum(map(len, hands)))]

    def broadcast(self, value: Any) -> Any:
        """The leader's value, in every process."""
        return self.all_gather([value])[0] if self.size > 1 else value

    def barrier(self) -> None:
        """Wait for all others."""
        if self.size > 1:
            torch.distributed.barrier()


_current = Ranks()


def current() -> Ranks:
    """The processes of this training; one alone unless `torchrun` started more."""
    return _current


@contextmanager
def together(device: str) -> Iterator[Ranks]:
    """Join the other processes that `torchrun` started, if it did, until the work is done."""
    global _current
    if not under_torchrun():
        yield _current
        return
    # Its functions have the group that exists when it is imported as a default argument, and torch imports it in the
    # first step of an optimiser. After that no group ends before the interpreter does, whose end its threads do not
    # survive ("terminate called without an active exception").
    import torch.distributed.nn.functional

    gpu = device != "cpu" and torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if gpu else "gloo")
    before = _current
    _current = Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    try:
        yield _current
    finally:
        _current = before
        torch.distributed.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """What a process computes by itself: `current` is one alone for a while."""
    global _current
    before, _current = _current, Ranks()
    try:
        yield
    finally:
        _current = before


def total(values: Tensor) -> Tensor:
    """The sum over processes, and of the gradients on the way back."""
    summed: Tensor = _Total.apply(values)
    return summed


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        torch.distributed.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        torch.distributed.all_reduce(gradient)
        return gradient


class _Gather(torch.autograd.Function):
    """All shares, one below the other. Every process computes the same loss, so the own rows' gradient is complete."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, n: int, ranks: Ranks) -> Tensor:
        ctx.mine = ranks.share(n)
        lengths = [Ranks(rank, ranks.size).share(n) for rank in range(ranks.size)]
        widest = max(part.stop - part.start for part in lengths)
        padded = own.new_zeros(widest, *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in lengths]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[: at.stop - at.start] for part, at in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.mine].contiguous(), None, None
