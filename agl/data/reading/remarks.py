"""What deserves a look in sections that can be used, one rule each: said by `agl check` and `agl train` alike."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from agl.data.reading.header import Header
from agl.data.reading.patients import ALONE
from agl.errors import DataError


def about_patient(source: str) -> list[str]:
    """`source`: where the patient's name was found."""
    return ["No patient known, counts as its own; add obs['patient'] or sections.csv."] if source == ALONE else []


def about_places(header: Header) -> list[str]:
    """Spots beside the tissue, too few of them, and several at one place."""
    found = []
    if outside := header.spots.off_tissue:
        found.append(
            f"{outside} of {len(header.xy)} spots have in_tissue = 0 but are kept, and telling tissue from glass is "
            "easy; drop them."
        )
    if len(header.xy) < 3:
        found.append(f"Only {len(header.xy)} spots: correlations are undefined; leave it out.")
    repeated = int(pd.DataFrame(header.xy).duplicated().sum())
    if repeated:
        found.append(f"{repeated} spots lie exactly on another; check obsm['spatial'].")
    return found


def about_empty(spots: int) -> list[str]:
    """`spots`: how many without any count are kept."""
    return [f"{spots} spots without any count; min_counts=1 drops them."] if spots else []


def about_join(matched: int, spots: int, what: str, *, needed: bool) -> list[str]:
    """`needed`: whether a spot without is left out."""
    left_out = " and are left out" if needed else ""
    return [f"{spots - matched} of {spots} spots have no {what}{left_out}."] if matched < spots else []


def refuse_blindness(slides: Sequence[str], without: Sequence[str]) -> None:
    """Refuse to learn without features where `without`, some of the slides, have no patches either.

    Raises:
        DataError: nothing that says what a spot looks like.
    """
    if without and len(without) == len(slides):
        raise DataError(
            "Expected patches or features to learn from, found neither; cut patches/<slide>.h5, or name a folder of "
            "feature files (agl check --features FOLDER, agl train data.features=FOLDER)."
        )
    if without:
        raise DataError(
            f"Expected patches for every slide where there are no features, found none for '{without[0]}'; add "
            f"patches/{without[0]}.h5 or leave the slide out."
        )


def about_genes(shared: int, fewest: int) -> list[str]:
    """`fewest`: genes of the section that measures the fewest."""
    return [f"{shared} genes are shared, the smallest section has {fewest}."] if shared < fewest / 2 else []
