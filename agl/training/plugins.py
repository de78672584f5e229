"""What may happen around the loop. A plugin overrides the events it cares about; the trainer knows none by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from agl.errors import UserError, refuse_to_write
from agl.leftovers import replacing
from agl.training.trainer import Trainer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Plugin:
    """Base of all plugins: every event does nothing, and there is nothing to remember.

    A plugin may read and change the trainer and the record of an epoch. What it must remember across an interruption
    goes into `state_dict` (tensors, numbers, strings, lists and dicts of them).
    """

    def fit_start(self, trainer: Trainer) -> None:
        """Before the first epoch, or before the first one after a resume."""

    def epoch_start(self, trainer: Trainer) -> None:
        """Before an epoch's first batch."""

    def step_end(self, trainer: Trainer, primary: Tensor, auxiliary: Tensor) -> None:
        """After an optimiser step; the batch's losses per primary and per auxiliary gene."""

    def epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """After an epoch's validation; `record` is what the history will hold."""

    def fit_end(self, trainer: Trainer) -> None:
        """After the last epoch."""

    def summary(self) -> dict[str, Any]:
        """Numbers and words for the run's result, after the last epoch."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What must survive an interruption."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""


class EarlyStopping(Plugin):
    """Stop when the validation score has not risen for `patience` epochs; end with the best epoch's weights.

    An undefined (NaN) score is no improvement. If no epoch had a defined score, the last weights stay.

    Args:
        from_start: the weights before the first epoch are a candidate, too, as epoch 0.
    """

    def __init__(self, *, patience: int = 30, monitor: str = "scc", from_start: bool = False) -> None:
        self.patience, self.monitor, self.from_start = patience, monitor, from_start
        self.best, self.best_epoch = -math.inf, 0
        self.best_model: dict[str, Tensor] | None = None

    def fit_start(self, trainer: Trainer) -> None:
        if self.from_start and trainer.epoch == 0:
            self._compare(trainer, trainer.validate()[self.monitor])

    def epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self._compare(trainer, record[self.monitor])
        trainer.stop = trainer.stop or trainer.epoch - self.best_epoch >= self.patience

    def _compare(self, trainer: Trainer, score: float) -> None:
        if score > self.best:
            self.best, self.best_epoch = score, trainer.epoch
            self.best_model = {k: v.detach().clone() for k, v in trainer.task.model.state_dict().items()}

    def fit_end(self, trainer: Trainer) -> None:
        if self.best_model is not None:
            trainer.task.model.load_state_dict(self.best_model)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "best_model": self.best_model}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch, self.best_model = state["best"], state["best_epoch"], state["best_model"]


def _is_whole(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


class History(Plugin):
    """One JSON line an epoch. After a resume, lines of epochs that will be trained again are dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fit_start(self, trainer: Trainer) -> None:
        lines = self.path.read_text(errors="replace").splitlines()[: trainer.epoch] if self.path.exists() else []
        if (whole := sum(map(_is_whole, lines))) < trainer.epoch:
            raise UserError(
                f"Expected a line for each of the {trainer.epoch} epochs trained in {self.path}, received {whole} "
                "whole ones. Delete the run's folder to train anew."
            )
        with replacing(self.path) as part:
            part.write_text("".join(line + "\n" for line in lines))

    def epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        line = json.dumps(plain, default=refuse_to_write)
        with self.path.open("a") as file:
            file.write(line + "\n")


class Checkpoint(Plugin):
    """The whole training state, every few epochs, in one file that is either the old one or the new one."""

    def __init__(self, path: Path, *, every: int = 10) -> None:
        self.path, self.every = path, every

    def epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        if trainer.epoch % self.every == 0 or trainer.stop:
            with replacing(self.path) as part, part.open("wb") as file:
                torch.save(trainer.state_dict(), file)


class TensorBoard(Plugin):
    """Every number of the history as a scalar."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fit_start(self, trainer: Trainer) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder), purge_step=trainer.epoch + 1 if trainer.epoch else None)

    def epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        for name, value in record.items():
            if isinstance(value, (int, float)) and name != "epoch":
                self.writer.add_scalar(name, value, trainer.epoch)

    def fit_end(self, trainer: Trainer) -> None:
        self.writer.close()


class ProgressBar(Plugin):
    """One line in a progress display that may hold several."""

    def __init__(self, progress: Progress, label: str) -> None:
        self.progress, self.label = progress, label
        self.task: TaskID | None = None

    def fit_start(self, trainer: Trainer) -> None:
        self.task = self.progress.add_task(self.label, total=trainer.settings.epochs, completed=trainer.epoch, note="")

    def epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        assert self.task is not None
        note = f"val scc {record['scc']:.3f}" + (f"  k {record['k']}" if "k" in record else "")
        self.progress.update(self.task, completed=trainer.epoch, note=note)

    def fit_end(self, trainer: Trainer) -> None:
        assert self.task is not None
        self.progress.remove_task(self.task)
