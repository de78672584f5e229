"""What a model's inputs are made of, and whether a new slide's inputs are of the same kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from agl.data.surroundings import Surroundings
from agl.errors import ModelError

SHIFT = 2.0, 6.0  # median over columns of |mean - training mean| / training sd, from which on it is said, and refused
STRETCH = 2.5, 6.0  # the same of the ratio of sds, either way; slides of other patients differ by 1.1 and 1.8
ALIKE = 0.3  # correlation over columns with the training means, and log sds: below it they are another encoder's
COLUMNS = 12  # fewer tell too little for a correlation over them
BLOCK = 4096


@dataclass(frozen=True)
class Recipe:
    """How inputs are made, and what they were like on the training spots.

    Attributes:
        encoders: name and width of each, in the order they are joined; none for a model of patches.
        context, normalise, places: see `agl.data.surroundings.Surroundings`.
        patch_shape: height, width, channels of a model of patches.
        mean, sd: `[own feature]`, of the training spots before anything was made of them; of a patch's channels.
    """

    encoders: tuple[tuple[str, int], ...]
    context: tuple[int, ...]
    normalise: str
    patch_shape: tuple[int, int, int] | None
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    places: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The encoders' names."""
        return tuple(name for name, _ in self.encoders)

    @property
    def surroundings(self) -> Surroundings:
        """As `surround` takes them."""
        return Surroundings.of(self.context, self.normalise, self.places)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {key: value for key, value in asdict(self).items() if key != "places" or value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """What `to_dict` gave, also after JSON."""
        shape = values["patch_shape"]
        return cls(
            tuple((str(name), int(width)) for name, width in values["encoders"]),
            tuple(values["context"]),
            str(values["normalise"]),
            None if shape is None else tuple(shape),
            tuple(values["mean"]),
            tuple(values["sd"]),
            bool(values.get("places", False)),
        )

    def check_widths(self, slide: str, widths: Sequence[int]) -> None:
        """Refuse features of another width than in training."""
        for (name, width), received in zip(self.encoders, widths, strict=True):
            if received != width:
                raise ModelError(
                    f"Expected {width} features of {name!r} as in training, received {received} for slide {slide!r}. "
                    "Give this slide's features of the same encoder."
                )

    def distance(self, own: np.ndarray) -> tuple[float, float]:
        """How far a slide's inputs `[spot, own feature]` are from those in training, medians over features.

        Returns:
            how many training spreads the mean is away, and how many times as much they vary; NaN where none varied.
        """
        before, spread = np.asarray(self.mean), np.asarray(self.sd)
        known = spread > 0
        if not known.any() or len(own) < 2:
            return float("nan"), float("nan")
        mean, sd = moments(own)
        return _distance(mean[known], sd[known], before[known], spread[known])

    def compare(self, slide: str, own: np.ndarray) -> list[str]:
        """What is odd about a slide's inputs `[spot, own feature]`, in sentences; none where they are as in training.

        Means and spreads of columns differ a little from slide to slide, with the stain; by several spreads, or in
        another pattern over the columns, they are of another encoder or scale.

        Raises:
            ModelError: inputs that do not vary, or that cannot be of the kind the model was trained on.
        """
        mean, sd = moments(own)
        if len(own) > 1 and not (sd > 0).any():
            raise ModelError(
                f"Expected features that vary over slide {slide!r}, received {len(own)} spots that are all alike "
                f"(the first value is {own[0, 0]:g}). Extract them again."
            )
        zeros = int((np.asarray(own) == 0).all(axis=1).sum())
        found = [f"{slide}: {zeros} of {len(own)} spots have features that are all 0"] if zeros else []
        before, spread = np.asarray(self.mean), np.asarray(self.sd)
        known = spread > 0
        if not known.any() or len(own) < 2:
            return found
        mean, sd, before, spread = mean[known], sd[known], before[known], spread[known]
        shift, times = _distance(mean, sd, before, spread)
        stretch = max(times, 1 / times)
        told = (
            f"{slide}: features are not like those in training: their mean is {shift:.1f} training spreads away and "
            f"they vary {times:.2g} times as much (medians over {known.sum()} features)"
        )
        if shift > SHIFT[1] or stretch > STRETCH[1] or _other_pattern(mean, sd, before, spread):
            raise ModelError(
                f"{told}. Expected features of {' and '.join(self.names) or 'patches'} as in training, received others "
                "under that name: another encoder, another scale, another layer? Give the same, or say that you mean "
                "it (--anyway)."
            )
        return [*found, told] if shift > SHIFT[0] or stretch > STRETCH[0] else found


def _distance(mean: np.ndarray, sd: np.ndarray, before: np.ndarray, spread: np.ndarray) -> tuple[float, float]:
    shift = float(np.median(np.abs(mean - before) / spread))
    return shift, float(np.exp(np.median(np.log(np.maximum(sd, 1e-12 * spread) / spread))))


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of columns `[spot, feature]`, in two passes over blocks."""
    parts = [slice(start, start + BLOCK) for start in range(0, len(values), BLOCK)]
    mean = sum(np.asarray(values[part], dtype=np.float64).sum(0) for part in parts) / len(values)
    square = sum(((np.asarray(values[part], dtype=np.float64) - mean) ** 2).sum(0) for part in parts) / len(values)
    return np.asarray(mean), np.sqrt(square)


def _other_pattern(mean: np.ndarray, sd: np.ndarray, before: np.ndarray, spread: np.ndarray) -> bool:
    """Whether neither which columns are large nor which vary much is as it was."""
    if len(mean) < COLUMNS:
        return False
    pairs = ((mean, before), (np.log(np.maximum(sd, 1e-12 * spread)), np.log(spread)))
    return all(_correlation(a, b) < ALIKE for a, b in pairs)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; 1 where one of them does not vary, which tells nothing."""
    if np.ptp(a) <= 1e-9 * np.abs(a).max() or np.ptp(b) <= 1e-9 * np.abs(b).max():
        return 1.0
    return float(np.corrcoef(a, b)[0, 1])
