"""Would a training start? The folds, leaks and genes that `agl train` begins with, by the functions it uses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from scipy import sparse

from agl.data.checking.report import CheckReport
from agl.data.checking.section import Findings, Seen
from agl.data.reading.counts import count_blocks, move_columns
from agl.data.reading.header import Header
from agl.data.reading.locate import BUILTIN, NONE
from agl.data.reading.remarks import refuse_blindness
from agl.data.splitting import splits
from agl.data.splitting.audit import audit, refuse_leaks
from agl.data.splitting.splits import Split
from agl.data.splitting.twins import Twins, find_twins
from agl.data.splitting.usual import usual_split
from agl.genes.training import TrainingSpots
from agl.genes.variability import normalised_dispersion

PRIMARY, DETECTED = 50, 0.10  # as the default rule of primary genes has it
_PLENTY = 4 * PRIMARY  # genes detected often enough in all, from which on every fold has enough
RULES: dict[str, Callable[[pd.DataFrame], list[Split]]] = {
    "leave_one_patient_out": splits.leave_one_patient_out,
    "leave_one_slide_out": splits.leave_one_slide_out,
    "spatial_blocks": splits.spatial_blocks,
}


def examine_start(report: CheckReport, kind: str, found: Findings, seen: Seen) -> None:
    """Split as `agl train` would and look at every fold; then say with which words a training starts."""
    if kind == NONE:
        slides = [section.slide for section in report.sections]
        without = [section.slide for section in report.sections if section.patches is None]
        found.attempt(None, partial(refuse_blindness, slides, without))
    if not seen.kept or len(seen.kept) < len(report.sections):
        return  # a section that cannot be read may be what a fold lacks
    spots = pd.concat([_table(seen.headers[s.slide], seen.kept[s.slide], s.patient) for s in report.sections])
    spots = spots.reset_index(drop=True)
    rule, why = usual_split(spots["patient"].nunique(), spots["slide"].nunique())
    found.warn(None, [f"{why} Train with split={rule}."] if why else [])
    folds = found.attempt(None, partial(RULES[rule], spots)) or []
    _examine_twins(spots, folds, found, seen)
    words = [f"data.root={_word(report.path)}", *([] if kind == BUILTIN else [f"data.features={_word(kind)}"])]
    words += [f"split={rule}"] if why else []
    words += ["model=resnet18"] if kind == NONE else []
    report.train = words + _examine_genes(spots, folds, found, seen)


def _examine_twins(spots: pd.DataFrame, folds: list[Split], found: Findings, seen: Seen) -> None:
    """Sections that are one: an error where a fold would train on what it tests, a warning elsewhere."""
    twins = find_twins({slide: np.concatenate(parts) for slide, parts in seen.signatures.items()})
    if all(found.attempt(None, partial(_without_leaks, spots, fold, twins)) for fold in folds):  # to the first leak
        found.warn(None, [pair.words for pair in twins])


def _without_leaks(spots: pd.DataFrame, fold: Split, twins: list[Twins]) -> bool:
    refuse_leaks(audit(spots, fold, twins))
    return True


def _examine_genes(spots: pd.DataFrame, folds: list[Split], found: Findings, seen: Seen) -> list[str]:
    """Whether every fold has genes enough to be scored; else the word that asks for fewer."""
    often = sum(seen.detected.values()) >= DETECTED / 2 * len(spots)
    if seen.genes is None or not folds or np.sum(often) >= _PLENTY:
        return []
    slides = spots["slide"].unique()
    counts = sparse.vstack([_counts(seen.headers[slide], seen.kept[slide], seen) for slide in slides], format="csr")
    least = min(_usable(counts, seen.genes.genes, np.union1d(fold.train, fold.validation)) for fold in folds)
    if least == 0:
        found.note(
            "error", None, "No gene varies and is detected in 10 % of the training spots; add spots or sections."
        )
    elif least < PRIMARY:
        found.warn(
            None,
            [
                f"{least} genes vary and are detected in 10 % of the training spots, fewer than the {PRIMARY} that are "
                f"scored; train with primary.k={least}."
            ],
        )
        return [f"primary.k={least}"]
    return []


def _usable(counts: sparse.csr_matrix, genes: tuple[str, ...], spots: np.ndarray) -> int:
    """How many genes the default rule of primary genes could choose on these spots."""
    rows, n = counts[spots], len(spots)
    library = np.asarray(rows.sum(1)).ravel().astype(np.int64)
    training = TrainingSpots(rows, library, np.zeros(n, int), np.zeros((n, 2)), genes)
    often = (training.detection >= DETECTED) & (training.detection > 0)
    return int(np.isfinite(normalised_dispersion(training, among=often))[often].sum()) if often.any() else 0


def _counts(header: Header, kept: np.ndarray, seen: Seen) -> sparse.csr_matrix:
    """Counts `[kept spot, shared gene]` of one section, read again."""
    assert seen.genes is not None
    columns, n_genes = seen.genes.columns[header.slide], len(seen.genes.genes)
    blocks = ((start, move_columns(block, columns, n_genes)) for start, block in count_blocks(header))
    merged = []
    for start, block in blocks:
        block.sum_duplicates()
        merged.append(block[kept[start : start + block.shape[0]]])
    return sparse.csr_matrix(sparse.vstack(merged, format="csr"))


def _word(text: str) -> str:
    """A value of a config as one would type it: quoted where YAML would read something else."""
    return text if re.fullmatch(r"[\w./-]*[^\W\d][\w./-]*", text) else json.dumps(text)


def _table(header: Header, kept: np.ndarray, patient: str | None) -> pd.DataFrame:
    """The spots that would be kept, as a split sees them."""
    return pd.DataFrame(
        {
            "barcode": header.barcodes[kept],
            "slide": header.slide,
            "patient": patient or header.slide,
            "x": header.xy[kept, 0],
            "y": header.xy[kept, 1],
        }
    )
