"""Weights and training state on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agl.errors import UserError, first_line
from agl.leftovers import replacing

if TYPE_CHECKING:
    from torch import nn

    from agl.training.trainer import Trainer


def resume(trainer: Trainer, state_file: Path) -> bool:
    """Take up an interrupted training where its last checkpoint left it; False if there is none."""
    import torch

    if not state_file.is_file():
        return False
    try:
        trainer.load_state_dict(torch.load(state_file, map_location=trainer.device, weights_only=True))
    except Exception as error:  # a damaged pickle fails in any way it likes
        reason = first_line(error)
        raise UserError(
            f"Expected a training state in {state_file}, received something else ({reason}). Delete the run's "
            "folder to train anew."
        ) from None
    return True


def save_weights(trainer: Trainer, path: Path) -> None:
    """The predictor's weights and buffers, in one step."""
    from safetensors.torch import save_file

    state = {key: value.detach().cpu().contiguous() for key, value in trainer.task.model.state_dict().items()}
    with replacing(path) as part:
        save_file(state, str(part))


def load_weights(model: nn.Module, path: Path) -> None:
    """Read them back into a model of the same shape."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError(f"Expected weights at {path}, found none. Was this run trained to its end?")
    try:
        model.load_state_dict(load_file(str(path)))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(
            f"Expected this model's weights in {path}, received others ({first_line(error)}). Train the run again."
        ) from None
