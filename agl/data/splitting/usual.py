"""The split that a folder is good for, where nobody says which."""

from __future__ import annotations


def usual_split(patients: int, slides: int) -> tuple[str, str]:
    """The strictest rule there are patients, or slides, enough for; and a warning where it is not by patient.

    >>> usual_split(3, 5)
    ('leave_one_patient_out', '')
    """
    if patients > 1:
        return "leave_one_patient_out", ""
    if slides > 1:
        return "leave_one_slide_out", "One patient: slides are left out, and nothing here speaks for other patients."
    return "spatial_blocks", "One slide: parts of it are left out, and nothing here speaks for other slides."
