"""Finding, for every spot, its row in a file of features or patches: by barcode, else by place, never by order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agl.data.reading.barcodes import by_barcode, example, probable_cause, refuse_row_numbers
from agl.data.reading.by_place import by_place
from agl.data.reading.places import agree, doubts_about_nearest, doubts_about_places
from agl.data.reading.rows import Match, Rows, Spots
from agl.errors import DataError

MIN_MATCHED = 0.5  # share of the spots that a file has to have rows for


def join(spots: Spots, rows: Rows, *, tolerance: float | None = None, min_matched: float = 0.0) -> Match:
    """Match the spots of a slide to the rows of a file.

    By barcode when the file has them; where it has coordinates too, the places have to agree
    (`places.doubts_about_places`). Otherwise by coordinates: a spot takes the row whose patch centre (corner + half the
    patch size) is nearest, if it is within `tolerance` full-res pixels. The default tolerance is a quarter of the
    median distance between neighbouring spots, which is about half a spot on Visium and ST arrays.

    Args:
        min_matched: share of the spots on tissue that need a row.

    Raises:
        DataError: neither barcodes nor coordinates, repeated barcodes, row numbers for barcodes, no spot or too few
            spots matched, the places of another slide, x and y exchanged.

    >>> file = Rows("f.h5", np.array(["b", "c"], object))
    >>> found = join(Spots("A", np.array(["a", "b"], object), np.zeros((2, 2))), file)
    >>> found.rows.tolist(), found.to_dict()["unused_rows"]
    ([-1, 0], 1)
    """
    if rows.barcodes is not None and not np.isfinite(spots.xy).all():
        match = by_barcode(spots, rows)  # nobody knows where the spots are, so there is nothing to compare
        _refuse_few(spots, rows, match, min_matched)
        return match
    if rows.barcodes is not None:
        match = by_barcode(spots, rows)
        if not agree(spots, rows, match):
            refuse_row_numbers(spots, rows)
    elif rows.corners is not None:
        match = by_place(spots, rows, tolerance)
    else:
        raise DataError(
            f"Expected barcodes or coordinates with the rows of {rows.where}, found neither; rows are never "
            "joined by order: put one barcode a line, in row order, into a file next to it with the same "
            "name and the ending .barcodes.txt."
        )
    _refuse_few(spots, rows, match, min_matched)
    doubts = doubts_about_places if rows.barcodes is not None else doubts_about_nearest
    return replace(match, warnings=match.warnings + doubts(spots, rows, match))


def _refuse_few(spots: Spots, rows: Rows, match: Match, least: float) -> None:
    """A handful of spots is enough to train on, and hardly ever what was meant."""
    needed = np.ones(len(match.rows), dtype=bool) if spots.on_tissue is None else spots.on_tissue
    if not needed.any():
        needed = np.ones(len(match.rows), dtype=bool)
    matched, n = int((match.rows[needed] >= 0).sum()), int(needed.sum())
    if match.matched and matched >= least * n:
        return
    which = " on tissue" if n < len(match.rows) else ""
    share = f"{100 * matched / n:.2g} %, expected at least {100 * least:.2g} %"
    lower = "or lower data.min_matched if that is all there is"
    if rows.barcodes is None:
        raise DataError(
            f"Expected patches cut at the spots of slide '{spots.slide}' in {rows.where}, {matched} of {n} "
            f"spots{which} have one ({match.how}; {share}): is it a grid of tiles that was not cut at the spots? "
            f"extract features at the spots, {lower}."
        )
    mine, theirs = np.asarray(spots.barcodes)[needed], np.asarray(rows.barcodes)
    few = f"only {matched} of {n}{which} match ({share})" if match.matched else f"none of {n}{which} matches"
    cause = probable_cause(mine, theirs)
    if cause:
        end = f"{cause}; write them alike."
    elif not match.matched:
        end = "is it another slide's file?"
    elif not match.unused_rows:
        end = f"it has no more rows; extract features for the other spots too, {lower}."
    else:
        end = f"is it another slide's file? extract the features of this slide's spots, {lower}."
    raise DataError(
        f"Expected the barcodes of slide '{spots.slide}' (such as {example(mine, theirs)}) in {rows.where}, "
        f"received {example(theirs, mine)}; {few}: {end}"
    )


__all__ = ["MIN_MATCHED", "Match", "Rows", "Spots", "join"]
