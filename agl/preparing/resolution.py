"""How large a pixel of the image is: the image's tags, the spacing of the spots, or what the user says."""

from __future__ import annotations

from dataclasses import dataclass

from agl.data.geometry import pitch
from agl.errors import UserError
from agl.preparing.images.image import PIXELS
from agl.preparing.section import Section

_ALIKE = 0.1  # share by which two statements may differ


@dataclass(frozen=True)
class Resolution:
    """um a px, who says so, and a sentence where two contradict each other."""

    um_per_px: float
    source: str
    remarks: tuple[str, ...] = ()


def resolution(section: Section, tagged: float | None, given: float | None) -> Resolution:
    """What the user gave, else the tags of the image, else the source, else the spacing of the spots.

    Tags that contradict the spacing of the spots are not believed: spots lie where they are in px of the image, and
    how far apart they are is known.

    Raises:
        UserError: nobody knows it, or no slide can have such pixels.
    """
    by_spots = spacing(section)
    if given is not None:
        if not PIXELS[0] <= given <= PIXELS[1]:
            raise UserError(
                f"Expected a pixel of {PIXELS[0]} to {PIXELS[1]} um, received {given}; --mpp is um per px, such as 0.5."
            )
        return Resolution(given, "--mpp", _contradicted("--mpp", given, by_spots, "kept, since you gave it"))
    if tagged is not None and by_spots is not None and not _agree(tagged, by_spots):
        said = _contradicted("the tags of the image", tagged, by_spots, "the spacing is believed; --mpp overrules both")
        return Resolution(by_spots, "spacing of the spots", said)
    for value, source in (
        (tagged, "tags of the image"),
        (section.um_per_px, section.kind),
        (by_spots, "spacing of the spots"),
    ):
        if value is not None:
            return Resolution(value, source)
    raise UserError(
        f"Expected to find how large the pixels of section '{section.name}' are, neither its image nor its spots tell; "
        "give --mpp, um per px of the image, such as 0.5."
    )


def spacing(section: Section) -> float | None:
    """um a px by the distance of neighbouring spots, where the technology fixes it and there are enough of them."""
    if section.pitch_um is None or len(section) < 2:
        return None
    apart = pitch(section.xy)
    return section.pitch_um / apart if apart > 0 else None


def _agree(first: float, second: float) -> bool:
    return abs(first - second) <= _ALIKE * max(first, second)


def _contradicted(who: str, value: float, by_spots: float | None, so: str) -> tuple[str, ...]:
    if by_spots is None or _agree(value, by_spots):
        return ()
    return (
        f"A px is {value:.4g} um wide by {who}, {by_spots:.4g} um by the spacing of the spots: {so}. Is it the image "
        "that the spots were placed on?",
    )
