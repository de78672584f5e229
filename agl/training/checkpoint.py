"""Weights and training state on disk."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

from agl.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from agl.training.trainer import Trainer


def resume(trainer: Trainer, state_file: Path) -> bool:
    """Take up an interrupted training where its last checkpoint left it; False if there is none."""
    import torch

    if not state_file.is_file():
        return False
    try:
        state = torch.load(state_file, map_location=trainer.device, weights_only=True)
        trainer.load_state_dict(state)
    except (RuntimeError, pickle.UnpicklingError, KeyError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{state_file} cannot be resumed from ({reason}). Delete the run's folder to train anew."
        ) from None
    return True


def save_weights(trainer: Trainer, path: Path) -> None:
    """The predictor's weights and buffers, in one step."""
    from safetensors.torch import save_file

    part = path.with_suffix(".part")
    state = {key: value.detach().cpu().contiguous() for key, value in trainer.task.model.state_dict().items()}
    save_file(state, str(part))
    part.replace(path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Read them back into a model of the same shape."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError(f"Expected weights at {path}, found none. Was this run trained to its end?")
    try:
        model.load_state_dict(load_file(str(path)))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{path} does not hold this model's weights: {str(error).splitlines()[0]}") from None
