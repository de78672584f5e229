"""What there is to compute on: cores, devices, other processes of one training. Light: torch is imported when asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agl.errors import UserError

if TYPE_CHECKING:
    import torch


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def under_torchrun() -> bool:
    """Whether this is one of several processes that `torchrun` started."""
    return {"RANK", "MASTER_ADDR"} <= set(os.environ) and int(os.environ.get("WORLD_SIZE", "1")) > 1


def pick_device(name: str, setting: str) -> torch.device:
    """A device torch has here; `auto` is a GPU where there is one.

    Raises:
        UserError: another kind of device, or no GPU here; names the `setting` to mend.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"Expected the device cpu or cuda[:n], received {name!r}; use {setting}=cpu.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"Expected a GPU for the device {name}, found none; use {setting}=cpu.")
    return device
