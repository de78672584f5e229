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
from agl.data.reading.remarks import about_empty, about_genes, about_join, about_patient, about_places
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
        "remarks": [
            *about_patient(section.patient_source),
            *about_places(header),
            *about_empty(int((totals[spots] == 0).sum())),
        ],
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
        said = [*s["remarks"], *s["count_doubts"]]
        for table in ("features", "patches"):
            if s[table]:
                needed = table == "features" or s["features"] is None
                said += s[table].get("warnings", ())
                said += about_join(s[table]["matched_spots"], s["spots_measured"], table, needed=needed)
        said += s["feature_doubts"]
        found += [f"{slide}: {remark}" for remark in said]
    fewest = min(s["genes_measured"] for s in report["sections"].values())
    return found + about_genes(report["genes"]["kept"], fewest)
