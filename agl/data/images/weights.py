"""Weights files: tensors by name, and never any code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agl.errors import DataError


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors `{name: tensor}` of a `.safetensors` file, or of any file that `torch.save` wrote.

    Unwrapped from a `state_dict` or `model` entry and from the `module.` prefix of data-parallel training.

    Raises UserError when the file is missing, damaged, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"Expected a weights file, but {path} does not exist; give a .pt, .pth or .safetensors.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own kinds of failure; the user needs the one sentence
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"Expected {path} to be a weights file that holds tensors only, but reading it failed "
            f"({reason}); download it again, or save its state_dict with torch.save or safetensors."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DataError(f"Expected a state dict (names to tensors) in {path}; save model.state_dict() there.")
    return {str(name).removeprefix("module."): value for name, value in content.items()}
