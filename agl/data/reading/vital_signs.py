"""Are features alive? Rows never written, a slide that got one picture's features, numbers on another scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agl.errors import DataError

LARGEST = 1e16  # a million squares of it still fit float32, in which the learners add them up
_REPEATED = 0.1  # share of spots with the features of another spot; sections of real tissue have none
_NARROW = 8  # features below which spots may well be equal: counts of cells, labels
_OUTLIER = (
    1e6  # times the other spots' mean size: no feature varies like this, and its spread would be that of one spot
)
_FLAT = 1e-6  # of a feature's size: as much as float32 rounds
_SPREAD = 10.0  # times the other slides': pixels not divided by 255 give 255; her2st's sections differ by 1.6
_SHIFT = 5.0  # usual spreads between a slide's mean and the other slides'; her2st's sections differ by .7
_ENOUGH = 5  # spots whose mean and spread say something


class Vitals:
    """What is measured of one slide's features while they stream by.

    >>> signs = Vitals("S1", "f.h5", 2)
    >>> signs.add(np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 5.0]]), ["a", "b", "c"])
    >>> signs.mean.round(2).tolist(), signs.doubts()
    ([1.33, 2.33], ['The features of 1 of 3 spots are all 0 in f.h5: was their extraction interrupted?'])
    """

    def __init__(self, slide: str, where: str, width: int) -> None:
        self.slide, self.where, self.width, self.n, self.zeros = slide, where, width, 0, 0
        self.mean, self._squares = np.zeros(width), np.zeros(width)
        self._size, self._largest = np.zeros(width), np.zeros(width)
        self._rows: set[int] = set()

    def add(self, values: np.ndarray, names: Sequence[str] | np.ndarray) -> None:
        """Take in features `[spot, feature]` of the spots with these names.

        Raises:
            DataError: NaN, infinite, or so large that sums of their squares would be.
        """
        if not len(values):
            return
        self._refuse(values, names)
        block = np.asarray(values, dtype=np.float64)
        absolute, n, before = np.abs(block), len(block), self.n
        mean = block.mean(axis=0)
        self._squares += ((block - mean) ** 2).sum(axis=0) + (mean - self.mean) ** 2 * (before * n / (before + n))
        self.mean += (mean - self.mean) * (n / (before + n))
        self._size += absolute.sum(axis=0)
        self._largest = np.maximum(self._largest, absolute.max(axis=0))
        filled = absolute.any(axis=1)
        self.n, self.zeros = before + n, self.zeros + int((~filled).sum())
        self._rows.update(hash(row.tobytes()) for row in np.ascontiguousarray(values)[filled])

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation `[feature]` over the spots."""
        return np.sqrt(self._squares / max(self.n, 1))

    @property
    def flat(self) -> bool:
        """No feature varies between spots."""
        return self.n >= _ENOUGH and bool((self.spread <= _FLAT * self._largest).all())

    def doubts(self) -> list[str]:
        """What looks wrong with this slide's features, a sentence each."""
        if self.flat:
            return [
                f"The features of all {self.n} spots are the same in {self.where}: was one picture read again and "
                "again?"
            ]
        found = []
        if self.zeros:
            found.append(
                f"The features of {self.zeros} of {self.n} spots are all 0 in {self.where}: was their extraction "
                "interrupted?"
            )
        repeated = self.n - self.zeros - len(self._rows)
        if self.width >= _NARROW and repeated >= max(_REPEATED * self.n, 3):
            found.append(
                f"The features of {repeated} of {self.n} spots are those of another spot in {self.where}: was one "
                "picture read again and again?"
            )
        others = (self._size - self._largest) / max(self.n - 1, 1)
        wild = np.flatnonzero((others > 0) & (self._largest > _OUTLIER * others))
        if len(wild):
            found.append(
                f"Feature {wild[0]} is {self._largest[wild[0]]:.3g} at one spot in {self.where} and about "
                f"{others[wild[0]]:.3g} at the others ({len(wild)} such features): is the file damaged?"
            )
        return found

    def _refuse(self, values: np.ndarray, names: Sequence[str] | np.ndarray) -> None:
        finite = np.isfinite(values)
        bad = np.flatnonzero(~finite.all(axis=1))
        if bad.size:
            raise DataError(
                f"Expected finite features for slide '{self.slide}', spot {names[bad[0]]} has NaN or infinite values "
                f"in {self.where} ({bad.size} such spots in its block); extract them again or leave the spots out."
            )
        size = np.abs(values).max(axis=1).astype(np.float64)
        bad = np.flatnonzero(size > LARGEST)
        if bad.size:
            raise DataError(
                f"Expected features whose squares can be added up, for slide '{self.slide}' spot {names[bad[0]]} has "
                f"{size[bad[0]]:.3g} in {self.where} ({bad.size} such spots in its block); extract them again or leave "
                "the spots out."
            )


def refuse_lifeless(slides: Mapping[str, Vitals]) -> None:
    """Nothing can be learnt where features vary in no slide.

    Raises:
        DataError: every slide has the same features for all its spots.
    """
    if slides and all(signs.flat for signs in slides.values()):
        raise DataError(
            "Expected features that vary between the spots of a slide, received the same for all spots of every slide; "
            "extract them again."
        )


def odd_scales(slides: Mapping[str, Vitals]) -> list[tuple[str, str]]:
    """(slide, what is wrong) for slides whose features are on another scale than those of the others.

    A slide is compared feature by feature with the median of all slides, and the median over features decides: tissues
    and laboratories differ in some features, another preparation of the images in most.
    """
    signs = {slide: s for slide, s in slides.items() if s.n >= _ENOUGH and not s.flat}
    if len(signs) < 2:
        return []
    means, spreads = (np.stack([getattr(s, what) for s in signs.values()]) for what in ("mean", "spread"))
    varies = (spreads > 0).all(axis=0)
    if not varies.any():
        return []
    means, logs = means[:, varies], np.log(spreads[:, varies])
    usual = np.median(logs, axis=0)
    found = []
    for slide, mean, log in zip(signs, means, logs, strict=True):
        factor = float(np.exp(np.median(log - usual)))
        shift = float(np.median(np.abs(mean - np.median(means, axis=0)) / np.exp(np.maximum(usual, log))))
        if max(factor, 1 / factor) > _SPREAD:
            what = f"spread {factor:.3g} times as wide as usual in the other slides"
        elif shift > _SHIFT:
            what = f"lie {shift:.3g} times their spread from those of the other slides"
        else:
            continue
        why = "were its images prepared in another way (not divided by 255, another encoder)?"
        found.append((slide, f"Its features {what}: {why}"))
    return found
