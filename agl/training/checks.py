"""What sampler, model and loss give during training: a sentence to the author of one that gives something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from agl.errors import UserError


def batches_of(sampler: Callable[..., Any], slides: np.ndarray, size: int, rng: np.random.Generator) -> Any:
    """What a sampler deals, positions in `slides`, as it dealt them."""
    try:
        batches = sampler(slides, size, rng)
        edges = [(int(np.min(rows)), int(np.max(rows))) for rows in batches]
    except ZeroDivisionError:
        raise UserError("Expected whole numbers above 0 as arguments of training.sampler, received a 0.") from None
    except (TypeError, ValueError) as error:
        raise UserError(
            f"Expected a list of batches, each positions of spots, from training.sampler, it failed ({error}). "
            "Look at its arguments."
        ) from error
    if not edges or min(edges)[0] < 0 or max(high for _, high in edges) >= len(slides):
        raise UserError(
            f"Expected batches of positions from 0 to {len(slides) - 1} from training.sampler, received "
            f"{'others' if edges else 'none'}. Return positions in the `slides` it is given."
        )
    return batches


def check_scores(scores: Any, n_spots: int, n_genes: int) -> None:
    """A model's output for a batch."""
    shape = tuple(scores.shape) if isinstance(scores, Tensor) else kind_of(scores)
    if shape != (n_spots, n_genes):
        raise UserError(
            f"Expected scores [spot, gene] of shape {(n_spots, n_genes)} from the model, received {shape}. "
            "Give its last layer n_genes outputs."
        )


def check_losses(losses: Any, n_genes: int) -> None:
    """A loss's value for a batch."""
    shape = tuple(losses.shape) if isinstance(losses, Tensor) else kind_of(losses)
    if shape != (n_genes,):
        raise UserError(
            f"Expected the loss to give one value per gene, shape ({n_genes},), received {shape}. Reduce over spots "
            "only, in torch; `agl.testing.check_loss` tests a loss of your own."
        )


def kind_of(value: Any) -> str:
    """What something is, in words.

    >>> kind_of([1, 2]), kind_of(()), kind_of(None), kind_of(3.0)
    ('a list of int', 'an empty tuple', 'None', 'float')
    """
    if isinstance(value, (list, tuple)):
        name = type(value).__name__
        return f"a {name} of {type(value[0]).__name__}" if value else f"an empty {name}"
    return "None" if value is None else type(value).__name__


def check_whole_slides(model: Any, slides: np.ndarray, batches: Sequence[np.ndarray], processes: int) -> None:
    """Refuse batches that a model which looks at a slide as a whole would take for one.

    Args:
        slides: `[spot]` codes.
        batches: positions in `slides`.
        processes: that share a batch.
    """
    if not getattr(model, "whole_slides", False):
        return
    if processes > 1:
        raise UserError(
            f"Expected one process for a model that looks at a slide as a whole, received {processes}, which would "
            "share its spots. Start it without torchrun."
        )
    mixed = max((len(np.unique(slides[batch])) for batch in batches), default=1)
    if mixed > 1:
        raise UserError(
            "Expected batches of one slide each for a model that looks at a slide as a whole, received one of "
            f"{mixed} slides. Set training.sampler=slides."
        )
