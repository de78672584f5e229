"""What an import says about itself: per slide what was measured, kept, joined and lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agl.data.reading.formats.base import FeatureFile
from agl.data.reading.header import Header
from agl.data.reading.join import Match
from agl.data.reading.names import NOT_MEASURED, Harmonised
from agl.data.reading.patches import PatchFile
from agl.data.reading.sections import TissueSection


@dataclass(frozen=True)
class Tables:
    """The tables of one slide that are joined to its spots."""

    features: FeatureFile | None
    patches: PatchFile | None


def describe(
    section: TissueSection,
    header: Header,
    tables: Tables,
    matches: Mapping[str, Match],
    totals: np.ndarray,
    spots: np.ndarray,
    genes: Harmonised,
) -> dict[str, Any]:
    """One slide's entry in `Dataset.report`; `totals` [spot] are the library sizes, `spots` the positions kept."""
    reasons = genes.lost["reason"][genes.lost["slide"] == section.slide]
    lost = reasons.where(~reasons.str.startswith(NOT_MEASURED), f"{NOT_MEASURED} another slide").value_counts()
    return {
        "patient": section.patient,
        "patient_source": section.patient_source,
        "counts_source": header.counts_source,
        "library_size_source": header.library_size_source,
        "spots_measured": len(header.barcodes),
        "spots_kept": len(spots),
        "zero_count_spots": int((totals[spots] == 0).sum()),
        "median_counts": float(np.median(totals)),
        "genes_measured": len(header.genes.names),
        "genes_kept": len(genes.genes),
        "genes_lost": {str(reason): int(n) for reason, n in lost.items()},
        "features": {"kind": tables.features.kind, **matches["features"].to_dict()} if tables.features else None,
        "patches": {"shape": list(tables.patches.shape), **matches["patches"].to_dict()} if tables.patches else None,
    }


def warnings_of(report: Mapping[str, Any]) -> list[str]:
    """Sentences about an import that went through but deserves a look."""
    found = []
    for slide, s in report["sections"].items():
        if s["patient_source"] == "slide name":
            found.append(f"{slide}: no patient recorded, the slide counts as its own patient")
        if s["zero_count_spots"]:
            found.append(f"{slide}: {s['zero_count_spots']} spots without any count are kept (min_counts=1 drops them)")
        for table in ("features", "patches"):
            missing = (s[table] or {}).get("unmatched_spots", 0)
            if missing:
                found.append(f"{slide}: {missing} of {s['spots_measured']} spots have no {table}")
            found += [f"{slide}: {sentence}" for sentence in (s[table] or {}).get("warnings", ())]
        found += [f"{slide}: {sentence}" for sentence in s.get("feature_doubts", ())]
    return found
