"""Do the places in a file agree with the spots? Visium's barcodes are one list for all slides, so names alone would
join the features of another slide without a word."""

from __future__ import annotations

import numpy as np

from agl.data.geometry import pitch
from agl.data.reading.place_fits import NEAR, at_others, distances, halves, irregular, scale_and_shift, shift
from agl.data.reading.rows import Match, Rows, Spots
from agl.errors import DataError

FAR = 0.9  # pitches from which on rows lie nearer to a neighbour's place: rows moved by one spot are at 1
_STRANGERS = (
    0.05  # share of the spots, and of the rows, without partner: filters leave some on one side, rarely on both
)
_UNIT_LATTICE = 2.0  # px; spots this near to each other are numbered places, no pixels


def doubts_about_places(spots: Spots, rows: Rows, match: Match) -> tuple[str, ...]:
    """Compare the centres of spots with the places that the file gives to their rows.

    A row's place may be a corner or a centre. What they differ by is named where it can be: moved, at another
    resolution, x and y exchanged. A scale and a shift fit the places of *any* other slide of the same kind of array, so
    of these two only a pure scale is believed, and only where the spots' irregularities are those of the slide.

    Returns:
        A sentence about each doubt: a shift between a quarter of a pitch and a pitch, places at another resolution,
        some rows far from their spots, irregularities of another slide.

    Raises:
        DataError: the median distance is about a pitch or more, and no change of units explains it; or irregularities,
            names and their number are those of another slide.

    >>> xy = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    >>> names = np.array(["a", "b", "c"], object)
    >>> rows = Rows("f.h5", names, xy - 20.0 - [30.0, 0.0], 40.0)
    >>> doubts_about_places(Spots("A", names, xy), rows, Match(np.arange(3), "barcode", 0))[0][:44]
    'The places in f.h5 lie 30 px from the spots '
    """
    step, (joined, places) = pitch(spots.xy), _joined(rows, match)
    xy = spots.xy[joined]
    if not np.isfinite(step) or not len(xy):
        return ()
    distance = distances(places, xy, rows.patch_size, step)
    median = float(np.median(distance))
    apart = f"spots are {step:.4g} px apart"
    if median <= NEAR * step:
        found = []
        far, near = np.flatnonzero(distance > FAR * step), distance <= FAR * step
        if len(far):
            worst = far[np.argmax(distance[far])]
            found.append(
                f"{len(far)} of {len(xy)} rows of {rows.where} lie farther than the next spot from the spots of their "
                f"barcodes ({spots.barcodes[joined[worst]]}: {distance[worst]:.4g} px): are they another slide's?"
            )
        if left := irregular(places[near], xy[near], step):
            found.append(_of_another(spots, rows, match, left, apart))
        return tuple(found)
    what, harmless = _difference(places, xy, rows.patch_size, step)
    if harmless:
        return (f"The places in {rows.where} {what}; rows were joined by barcode.",)
    if median < FAR * step and not at_others(places, xy, rows.patch_size, step):
        return (
            f"The places in {rows.where} lie {median:.4g} px from the spots of the same barcodes (median; {apart}): "
            "they "
            f"{what}; were the patches cut at the spots?",
        )
    raise DataError(
        f"Expected the places of slide '{spots.slide}' in {rows.where}, its rows lie {median:.4g} px from the spots "
        f"of the same barcodes (median; {apart}) and {what}: the file of another slide, or of another image of this "
        "one; slides of one kind of array share their barcodes, so give this slide's own file, or remove the "
        "coordinates from the file if they are what is wrong."
    )


def doubts_about_nearest(spots: Spots, rows: Rows, match: Match) -> tuple[str, ...]:
    """The same for rows that were joined by their places: they are near, but are they at the spots?"""
    step, (joined, places) = pitch(spots.xy), _joined(rows, match)
    left = irregular(places, spots.xy[joined], step) if np.isfinite(step) else 0.0
    return (_of_another(spots, rows, match, left, f"spots are {step:.4g} px apart"),) if left else ()


def agree(spots: Spots, rows: Rows, match: Match) -> bool:
    """Whether the file has places, and they show that most rows belong to the spots they were joined to."""
    step, (joined, places) = pitch(spots.xy), _joined(rows, match)
    if not len(joined) or not np.isfinite(step):
        return False
    return bool(np.median(distances(places, spots.xy[joined], rows.patch_size, step)) <= NEAR * step)


def _joined(rows: Rows, match: Match) -> tuple[np.ndarray, np.ndarray]:
    """The spots whose row has a place, and these places."""
    spots = np.flatnonzero(match.rows >= 0)
    if rows.corners is None or rows.corners.ndim != 2 or rows.corners.shape[1] != 2:
        return spots[:0], np.zeros((0, 2))
    places = rows.corners[match.rows[spots]]
    known = np.isfinite(places).all(axis=1)
    return spots[known], places[known]


def _of_another(spots: Spots, rows: Rows, match: Match, left: float, apart: str) -> str:
    """Irregularities of another slide: the doubt, or, where names on both sides have no partner either, the error."""
    what = f"{left:.3g} px (median; {apart}) after any shift, scale and turn, where one cut at them is off by rounding"
    lonely_spots, lonely_rows = len(match.rows) - match.matched, match.unused_rows
    if rows.barcodes is not None and min(lonely_spots, lonely_rows) >= _STRANGERS * len(match.rows):
        raise DataError(
            f"Expected the places of slide '{spots.slide}' in {rows.where}, they are off by {what}, {lonely_spots} "
            f"spots have no row and {lonely_rows} rows no spot: the file of another slide of the same kind of array? "
            "give this slide's own file, or remove the coordinates from the file if they are what is wrong."
        )
    return f"The places in {rows.where} are off by {what}: of another slide, or not cut at the spots?"


def _difference(places: np.ndarray, xy: np.ndarray, patch_size: float | None, step: float) -> tuple[str, bool]:
    """What turns the file's places into the spots', in words, and whether that only changes units or their order."""
    move, off = shift(places, xy)
    if off <= NEAR * step:
        even = patch_size is None and min(move) > 0 and abs(move[0] - move[1]) <= NEAR * step
        hint = " (half a patch? then set the attribute 'patch_size_level0' of its coordinates)" if even else ""
        move = min((move - half for half in halves(places, xy, patch_size, step)), key=np.linalg.norm)
        return f"fit them when moved by ({move[0]:.4g}, {move[1]:.4g}) px{hint}", False
    if left := irregular(places, xy, step):
        return f"fit them under no shift, scale and turn better than to {left:.3g} px", False
    if np.median(distances(places[:, ::-1], xy, patch_size, step)) <= NEAR * step:
        return "are those of the spots with x and y exchanged: either they or obsm['spatial'] are (y, x)", True
    scale, move, off = scale_and_shift(places, xy)
    if off > NEAR * step or scale <= 0:
        return "fit them under no scale and shift either", False
    origin = np.median(distances(scale * places, xy, None, step))  # one origin, but for half a patch
    numbered = min(step, step / scale) <= _UNIT_LATTICE
    if abs(np.log(scale)) > 0.1 and (numbered or origin <= NEAR * step):
        return (
            f"fit the spots when multiplied by {scale:.3g}: they, or obsm['spatial'], are at another resolution",
            True,
        )
    return f"fit them only when multiplied by {scale:.3g} and moved by ({move[0]:.4g}, {move[1]:.4g}) px", False
