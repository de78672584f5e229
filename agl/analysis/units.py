"""What one unit of a comparison is, and whether anything may be claimed at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNITS = ("auto", "patient", "slide")


@dataclass(frozen=True)
class Unit:
    """What n counts.

    Attributes:
        name: "patient" or "slide".
        words: what it is, and what a claim would hold for, in a sentence.
        bar: why nothing may be claimed; "" where something may.
    """

    name: str
    words: str
    bar: str = ""


def choose_unit(
    slides: Sequence[str], patients: Mapping[str, str], asked: str = "auto", left_out: str = "patient"
) -> Unit:
    """The highest level that was left out: patients where every slide's is known and there are several.

    Slides nested in patients are no repetitions (a signed-rank test over 3 x 4 of them rejects a true null in 10 to
    33 of 100 cases), so where nobody knows the patients, nothing is claimed.

    Args:
        slides: the test slides.
        patients: slide -> patient, where it is known.
        asked: "auto", "patient" or "slide". "slide" is the user's word that slides of unknown patients are of one each.
        left_out: what no test spot shared with training: "patient", "slide" or "spot"; see `left_out_level`.
    """
    known = [patients[slide] for slide in slides if slide in patients]
    n, complete = len(set(known)), len(known) == len(slides)
    bar = "test spots lie on slides that were trained on" if left_out == "spot" else ""
    seen = " Their other slides were trained on: nothing here speaks for patients of whom no slide was."
    if asked == "slide":
        alone = n == len(known)  # every known patient has one slide here
        words = "One unit is a slide, as asked for; a claim holds if every slide is of another patient."
        return Unit("slide", words, bar or ("" if alone or n == 1 else "slides of one patient are no repetitions"))
    if complete and n > 1:
        words = "One unit is a patient: slides of a patient, and genes of a slide, are no repetitions."
        return Unit("patient", words + (seen if left_out == "slide" else ""), bar)
    if complete and n == 1:
        words = "One unit is a slide; all are of one patient, so nothing here speaks for other patients."
        return Unit("slide", words, bar)
    words = (
        "One unit is a slide, for not every slide's patient is recorded; slides of one patient are no repetitions, so "
        "nothing is claimed. Name the patients in sections.csv, or say with --unit slide that every slide is of "
        "another patient."
    )
    return Unit("slide", words, bar or "patients unknown")


def left_out_level(splits: Iterable[Mapping[str, Any]], patients: Mapping[str, str]) -> str:
    """The highest level of which no test spot shared anything with training and validation, in the worst fold.

    Args:
        splits: of provenance.json, with `slides`: part -> names.

    >>> left_out_level([{"slides": {"train": ["A1"], "test": ["A2", "B1"]}}], {"A1": "A", "A2": "A", "B1": "B"})
    'slide'
    """
    order = ("spot", "slide", "patient")
    worst = "patient"
    for split in splits:
        slides = split.get("slides", {})
        seen, test = {*slides.get("train", []), *slides.get("validation", [])}, set(slides.get("test", []))
        owners = [{patients[slide] for slide in part if slide in patients} for part in (seen, test)]
        level = "spot" if seen & test else "slide" if owners[0] & owners[1] else "patient"
        worst = min(worst, level, key=order.index)
    return worst
