"""Events of a model that is solved: every penalty, and every step of a selector, counts as an epoch of its history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agl.training.events import Listener


@dataclass
class Solving:
    """What listeners see in the place of a trainer: where the solving stands. There are no batches and no steps.

    Attributes:
        epoch: records so far.
        stop: whether somebody asked to stop; a solver goes on, for half a path is no result.
    """

    plugins: Sequence[Listener] = ()
    epoch: int = 0
    step: int = 0
    stop: bool = False

    def begin(self) -> None:
        """Before the first record."""
        for plugin in self.plugins:
            plugin.fit_start(self)

    def report(self, record: dict[str, Any]) -> None:
        """One more record, which plugins may add to."""
        for plugin in self.plugins:
            plugin.epoch_start(self)
        self.epoch += 1
        record = {"epoch": self.epoch, **record}
        for plugin in self.plugins:
            plugin.epoch_end(self, record)

    def end(self) -> dict[str, Any]:
        """After the last record; what the plugins have to say."""
        for plugin in self.plugins:
            plugin.fit_end(self)
        return {key: value for plugin in self.plugins for key, value in plugin.summary().items()}
