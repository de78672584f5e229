"""Everything a report is made from, read once: runs, their scores per gene and slide, and what could not be read."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from agl.analysis.methods import named
from agl.analysis.tables import runs_frame
from agl.errors import UserError
from agl.places import regular_file
from agl.scoring import POOLED, PREDICTABILITY

if TYPE_CHECKING:
    from agl.runs.folder import Run

CELL = ["slide", "gene", "spots", "scc", "pcc", "mean_count", "zero_fraction"]
CEILING = "ceiling"


@dataclass(frozen=True)
class Results:
    """Runs and their scores.

    Attributes:
        runs: the finished runs.
        frame: one row a run, in the order of `runs`; see `agl.analysis.tables.runs_frame` and `methods.named`.
        cells: one row a run, slide and gene: run (position), block, method, fold, seed, slide, gene, spots, scc, pcc,
            mean_count, zero_fraction, ceiling and predictability (NaN for runs of before they were recorded).
        notes: sentences about what is missing.
    """

    runs: list[Run]
    frame: pd.DataFrame
    cells: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks: runs of one data set, split and choice of primary genes."""
        return list(dict.fromkeys(self.frame.block))

    def methods(self, block: str) -> list[str]:
        """The methods of a block, best mean over slides first."""
        here = self.frame[self.frame.block == block]
        by_fold = here.groupby(["method", "fold"], dropna=False).scc.mean()
        means = by_fold.groupby("method").mean().sort_values(ascending=False, kind="stable")
        return [str(name) for name in means.index]

    @cached_property
    def provenance(self) -> list[dict[str, Any]]:
        """Of every run; empty where there is none."""
        return [run.provenance if (run.folder / "provenance.json").is_file() else {} for run in self.runs]

    @cached_property
    def patients(self) -> dict[str, dict[str, str]]:
        """Block -> slide -> patient, as the import found it; slides whose patient nobody recorded are left out."""
        found: dict[str, dict[str, str]] = {block: {} for block in self.blocks}
        for block, provenance in zip(self.frame.block, self.provenance, strict=True):
            sections = provenance.get("data", {}).get("report", {}).get("sections", {})
            for slide, said in sections.items():
                if said.get("patient") and said.get("patient_source") != "slide name":
                    found[block][slide] = str(said["patient"])
        return found

    def splits(self, block: str) -> list[dict[str, Any]]:
        """How the runs of a block were split, as far as they say."""
        here = (self.frame.block == block).to_list()
        said = [each.get("split") for each, mine in zip(self.provenance, here, strict=True) if mine]
        return [split for split in said if split]


def read_results(runs: Sequence[Run]) -> Results:
    """Read run folders; a file that is missing or broken costs its part of the report, not the report."""
    frame = named(runs_frame(runs))
    notes: list[str] = []
    parts = []
    for position, run in enumerate(runs):
        table = _per_gene(run.folder, notes)
        if table is not None and len(table):
            row = frame.iloc[position]
            about = {name: row[name] for name in ("block", "method", "fold", "seed")}
            parts.append(table.assign(run=position, **about))
    columns = ["run", "block", "method", "fold", "seed", *CELL, CEILING, PREDICTABILITY]
    cells = pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
    return Results(list(runs), frame, cells, notes)


def gene_means(cells: pd.DataFrame, score: str = "scc") -> pd.DataFrame:
    """[gene, method] mean over slides of the mean over seeds (and folds that share a slide).

    Args:
        cells: those of one block.
    """
    per_slide = cells.groupby(["method", "gene", "slide"])[score].mean()
    return per_slide.groupby(["gene", "method"]).mean().unstack("method")


def gene_reach(cells: pd.DataFrame, method: str) -> pd.DataFrame:
    """[gene] a method's scc and its ceiling, over the slides that have both; genes without a ceiling are left out."""
    here = cells[cells.method == method].dropna(subset=["scc", CEILING])
    return here.groupby(["gene", "slide"])[["scc", CEILING]].mean().groupby("gene").mean()


def gene_predictability(cells: pd.DataFrame, method: str) -> pd.DataFrame:
    """[gene] a method's scc and the gene's predictability without training, over the slides that have both."""
    here = cells[cells.method == method].dropna(subset=["scc", PREDICTABILITY])
    return here.groupby(["gene", "slide"])[["scc", PREDICTABILITY]].mean().groupby("gene").mean()


def gene_abundance(cells: pd.DataFrame) -> pd.DataFrame:
    """[gene] mean count a spot and fraction of spots without a count, over the test slides, weighted by their spots."""
    once = cells.drop_duplicates(["slide", "fold", "gene"])
    spots = once.spots.groupby(once.gene).sum()
    return pd.DataFrame(
        {name: (once[name] * once.spots).groupby(once.gene).sum() / spots for name in ("mean_count", "zero_fraction")}
    )


def difference_matrix(cells: pd.DataFrame, method: str, baseline: str, score: str = "scc") -> tuple[pd.DataFrame, str]:
    """Paired differences [slide, gene] of one block, and how seeds were paired, in words.

    Each difference is of one fold, slide, gene and seed, then averaged over seeds (and over folds that share a slide).
    Where the two methods were not run with the same seeds, each one's mean over its own seeds is taken first.
    """
    keys = ["fold", "slide", "gene"]
    mine, theirs = (cells[cells.method == name] for name in (method, baseline))
    seeds = [sorted(set(part.seed)) for part in (mine, theirs)]
    if seeds[0] == seeds[1]:
        keys = [*keys, "seed"]
        words = f"paired by seed ({len(seeds[0])})"
    else:
        words = f"means over {len(seeds[0])} and {len(seeds[1])} seeds"
    both = pd.concat(
        {"mine": mine.groupby(keys)[score].mean(), "theirs": theirs.groupby(keys)[score].mean()}, axis=1, join="inner"
    )
    difference = (both.mine - both.theirs).groupby(["slide", "gene"]).mean()
    return difference.unstack("gene"), words


@dataclass(frozen=True)
class Predictions:
    """What predictions.npz holds: scores and counts [spot, gene] of the test spots, and where they lie."""

    scores: np.ndarray
    counts: np.ndarray
    library_size: np.ndarray
    genes: list[str]
    slide: np.ndarray
    barcode: np.ndarray
    x: np.ndarray
    y: np.ndarray


def read_predictions(folder: Path) -> Predictions:
    """The test predictions of a run."""
    path = folder / "predictions.npz"
    if not path.is_file():
        raise UserError(f"Expected predictions.npz in {folder}, found none. Train that run again to draw its maps.")
    try:
        with np.load(path, allow_pickle=False) as saved:
            parts = {name: saved[name] for name in Predictions.__dataclass_fields__}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise UserError(
            f"Expected the arrays of a run in {path}, received something else ({error}). Remove that folder and "
            "train the run again."
        ) from None
    return Predictions(**parts | {"genes": [str(gene) for gene in parts["genes"]]})


def _per_gene(folder: Path, notes: list[str]) -> pd.DataFrame | None:
    path = folder / "per_gene.csv"
    empty = {"scc": [""], "pcc": [""], CEILING: [""], PREDICTABILITY: [""]}  # a gene may be called NA
    try:
        regular_file(path, "the scores of a run")
        table = pd.read_csv(path, dtype={"slide": str, "gene": str}, keep_default_na=False, na_values=empty)
        missing = [name for name in CELL if name not in table.columns]
        wrong = f"has no column {', '.join(missing)}" if missing else ""
    except (UserError, OSError, ValueError, pd.errors.ParserError) as error:
        wrong = "is missing" if not path.is_file() else f"is not readable ({error})"
    if wrong:
        notes.append(f"{folder.name}: per_gene.csv {wrong}; the run counts in the main table only")
        return None
    for name in (CEILING, PREDICTABILITY):
        table = table if name in table.columns else table.assign(**{name: np.nan})
    return table[table.slide != POOLED]
